"""The map of patches on the Rounds tab: what its canvas shows, and what it asks the server.

The server's functions take one JSON object from the browser and return one; what comes from there is checked here.
Errors go back as {"error": sentence}, because an exception would reach the page without its message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import InputError
from alapp.rounds.annotate import annotation
from alapp.rounds.select import mapping
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.ui.annotate import annotate_messages as read
from alapp.ui.errors import sentence, told
from alapp.ui.page import Page
from alapp.ui.parts import gallery, tables
from alapp.ui.quiet import QUIET
from alapp.ui.rounds import picks
from alapp.ui.rounds.scatter import scatter

HELP = (
    "Every point is a patch; points that lie close together look alike to the embedding (a network that learned, "
    "without labels, what your images look like). Rest on a point to see its patch; click one that was picked to "
    "annotate it, any other to see where it lies."
)


@dataclass(frozen=True)
class PatchMap:
    """The components of the map. `canvas` has the events `picked` (a patch that no round selected was clicked) and
    `opened` (any other), with `patch`, its id."""

    note: gr.HTML
    canvas: gr.HTML


def lay_out(store: Store) -> PatchMap:
    """The map, inside the caller's column."""
    note = gr.HTML(tables.note(HELP), padding=False)
    return PatchMap(note, scatter(value(None, 0, None), server_functions(store)))


def connect(page: Page, parts: PatchMap, stale: gr.State, chosen: gr.State, panel: picks.Panel) -> None:
    """Fetch the points again when `stale` changes, and put a ring around the patch that is `chosen`, whose `panel` is
    filled by a click on it."""
    store = page.store
    inputs = [page.project_id, stale, chosen]
    stale.change(told(lambda *now: draw_anew(store, *now)), inputs, [parts.canvas, panel.row], **QUIET)
    chosen.change(told(value), inputs, parts.canvas, **QUIET)

    def on_map(project: int | None, event: gr.EventData) -> Any:
        return picks.show_patch(store, project, event.patch)

    def on_open(project: int | None, event: gr.EventData) -> Any:
        return picks.open_clicked(store, project, event.patch)

    parts.canvas.picked(told(on_map), page.project_id, [*panel.outputs, chosen], **QUIET, **picks.EACH_IN_TURN)
    parts.canvas.opened(told(on_open), page.project_id, [page.tabs, page.open_patch, chosen], **QUIET)


def value(project_id: int | None, stamp: float, chosen: int | None) -> dict[str, Any]:
    """What the canvas is told."""
    return {"project": project_id, "stamp": stamp, "chosen": chosen}


def draw_anew(store: Store, project_id: int | None, stamp: float, chosen: int | None) -> tuple[dict[str, Any], Any]:
    """The map after a refresh; the panel closes when its patch is not of this project."""
    ours = None not in (project_id, chosen) and bool(catalogue.patches(store, project_id, ids=[chosen]))
    return value(project_id, stamp, chosen), gr.skip() if ours else gr.Row(visible=False)


def help_note(store: Store, project_id: int) -> str:
    """What the map shows. Starts the job that makes what is missing of it, unless that was tried."""
    wanted = mapping.missing(store, project_id)
    tried = [job for job in jobs.history(store, project_id) if job.kind == "map" and job.params.get("wanted") == wanted]
    if not wanted or (tried and not tried[0].active):
        return tables.note(HELP)
    jobs.enqueue(store, "map", project_id, {"wanted": wanted})
    return tables.note(HELP, "A clearer map is being drawn.")


# --- what the canvas asks ------------------------------------------------------------------------------------


def server_functions(store: Store) -> list[Callable[[dict[str, Any]], dict[str, Any]]]:
    """What the canvas can call, bound to a state folder. Names are those in `scatter.js`."""

    def map_points(message: dict[str, Any]) -> dict[str, Any]:
        return _answer(points, store, message)

    def map_look(message: dict[str, Any]) -> dict[str, Any]:
        return _answer(look, store, message)

    return [map_points, map_look]


def _answer(act: Callable[[Store, dict[str, Any]], dict[str, Any]], store: Store, message: Any) -> dict[str, Any]:
    try:
        if not isinstance(message, dict):
            raise InputError("The page sent something unreadable. Reload it.")
        with store.held():
            return act(store, message)
    except Exception as error:
        return {"error": sentence(error)}


def points(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    """All points of the project of the message, column by column; numbers are short, because there may be many. Where
    there are none, `empty` says why."""
    project_id = read.whole(message, "project")
    found = mapping.patch_map(store, project_id)
    return {
        **({} if found else {"empty": why_empty(store, project_id)}),
        "id": [point.patch_id for point in found],
        "x": [round(point.x, 4) for point in found],
        "y": [round(point.y, 4) for point in found],
        "status": [point.status for point in found],
        "round": [point.round_number for point in found],
        "doubt": [None if point.doubt is None else round(point.doubt, 4) for point in found],
    }


def why_empty(store: Store, project_id: int) -> str:
    """What the map waits for, in words."""
    if any(job.kind == "select" for job in jobs.active(store, project_id)):
        return "The batch is being selected. The map is made with it."
    return "The map is made when you select the first batch."


def look(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    """The card of one patch: its picture and what is known of it, in words."""
    patch = catalogue.patch(store, read.whole(message, "patch"))
    if patch.project_id != read.whole(message, "project"):
        raise InputError("This patch belongs to another project. Reload the page.")
    pick = round_rows.pick_of(store, patch.id)
    doubt = mapping.doubt_of(store, patch)
    words = {"state": "Not selected in any round", "reason": "", "action": "Click to see where it lies."}
    if pick is not None:
        number = round_rows.round_by_id(store, pick.round_id).number
        state = annotation.patch_states(store, [patch.id]).get(patch.id)
        words = {
            "state": f"Round {number}, {picks.state_words(pick, state)}",
            "reason": f"Why: {picks.reason_sentence(store, pick)}",
            "action": "Click to open it in Annotate.",
        }
    return {
        "name": patch.name,
        **words,
        "doubt": "" if doubt is None else f"Doubt of the model: {doubt:.2f}",
        "picture": gallery.data_url(gallery.thumbnail(store, patch)),
    }
