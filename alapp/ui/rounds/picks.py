"""The picks of a round on the Rounds tab, and the panel with one patch: why it was picked, what it is like, where it
lies, and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.domain import PatchRole
from alapp.errors import InputError, NotReadyError
from alapp.rounds.annotate import annotation
from alapp.rounds.select import click_ahead, lane, neighbours, selection
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.rounds import Round, Selected
from alapp.ui.errors import info, told
from alapp.ui.page import Page
from alapp.ui.parts import gallery, tables
from alapp.ui.quiet import QUIET
from alapp.ui.rounds import place
from alapp.wording import counted

NEWEST = 0
"""The choice of the menu that follows the newest round; rounds count from 1."""

EACH_IN_TURN: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_id": "panel", "concurrency_limit": 1}
"""Of the events that show a patch in the panel: each click counts, also one while the last is being answered, and the
last one stays. An event that waits for such an answer would come with the patch of the one before it."""

NO_BATCH = "No batch yet. Choose a strategy and a size, then press the button above."
SELECTING = "The batch is being selected. Its patches appear here when that is done."

BESIDE = 112
"""Pixels of the pictures beside the text: the nearest patch, the place in the image."""


@dataclass(frozen=True)
class Picks:
    """The components of the list of picks."""

    menu: gr.Dropdown
    gallery: gr.Gallery
    hint: gr.HTML


@dataclass(frozen=True)
class Panel:
    """The components of the panel with one patch."""

    row: gr.Row
    picture: gr.Image
    about: gr.HTML
    open_button: gr.Button
    swap_button: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """Those that `show_patch` fills, before the id of the patch."""
        return [self.row, self.picture, self.about, self.open_button, self.swap_button]


def lay_out() -> Picks:
    """The list of picks, in the caller's column."""
    with gr.Row(equal_height=True):
        gr.Markdown("### Picks")
        menu = gr.Dropdown(
            [("newest round", NEWEST)],
            value=NEWEST,
            label="Picks of",
            show_label=False,
            container=False,
            scale=0,
            min_width=220,
            elem_id="picks-round",
        )
    shown = gr.Gallery(
        show_label=False, columns=4, height=280, object_fit="contain", allow_preview=False, buttons=[],
        interactive=False, elem_id="picks", elem_classes="thumbnails",
    )  # fmt: skip
    return Picks(menu, shown, gr.HTML(padding=False))


def lay_out_panel() -> Panel:
    """The panel with one patch, in the caller's column; hidden at first."""
    with gr.Row(visible=False, elem_id="rounds-panel") as row:
        picture = gr.Image(
            show_label=False, height=190, width=190, interactive=False, buttons=[], scale=0, min_width=190
        )
        with gr.Column(min_width=240):
            about = gr.HTML(padding=False)
            open_button = gr.Button("Open in Annotate", variant="primary", size="sm")
            swap_button = gr.Button("Veto, and take the next best instead", size="sm")
    return Panel(row, picture, about, open_button, swap_button)


def connect(page: Page, picks: Picks, panel: Panel, stale: gr.State, chosen: gr.State) -> None:
    """List the picks when `stale` or the menu changes; a click on one shows it in the panel and makes it `chosen`."""
    store = page.store
    inputs = [page.project_id, picks.menu]
    listed = [picks.menu, picks.gallery, picks.hint]
    for trigger in (stale.change, picks.menu.input):
        trigger(
            told(lambda p, number: show_round(store, p, number)), inputs, listed, trigger_mode="always_last", **QUIET
        )

    def on_pick(project: int | None, number: Any, event: gr.SelectData) -> Any:
        return show_pick(store, project, number, event.index)

    picks.gallery.select(told(on_pick), inputs, [*panel.outputs, chosen], **QUIET, **EACH_IN_TURN)
    panel.open_button.click(told(open_patch), chosen, [page.tabs, page.open_patch], **QUIET)
    panel.swap_button.click(
        told(lambda p, one, c: swap(store, p, one, c)),
        [page.project_id, chosen, page.changed],
        [*panel.outputs, chosen, page.changed],
        show_progress="minimal",
        api_visibility="private",
        concurrency_id="panel",
        concurrency_limit=1,
    )


# --- the picks of a round ------------------------------------------------------------------------------------


def show_round(store: Store, project_id: int | None, number: Any) -> tuple[Any, Any, str]:
    """Menu, pictures and hint of the picks of a round; of the newest where there is no such round."""
    made = round_rows.rounds(store, project_id) if project_id is not None else []
    if not made:
        going_on = project_id is not None and any(job.kind == "select" for job in jobs.active(store, project_id))
        nothing = SELECTING if going_on else NO_BATCH
        return gr.Dropdown(visible=False, value=NEWEST), gr.Gallery(value=[], visible=False), tables.empty(nothing)
    shown = _round(made, number)
    picked = round_rows.picked(store, shown.id)
    states = annotation.patch_states(store, [pick.patch_id for pick in picked])
    with store.held():
        pictures = [
            (gallery.thumbnail(store, catalogue.patch(store, pick.patch_id)), caption(pick, states)) for pick in picked
        ]
    choices = [(f"newest round ({made[-1].number})", NEWEST)]
    choices += [(f"round {item.number}", item.number) for item in reversed(made[:-1])]
    value = NEWEST if shown is made[-1] else shown.number
    return (
        gr.Dropdown(choices, value=value, visible=True, interactive=len(made) > 1),
        gr.Gallery(value=pictures, visible=bool(pictures)),
        hint(shown, picked, states),
    )


def _round(made: list[Round], number: Any) -> Round:
    """The round that the menu names, of all that were made; the newest one where it names none of them."""
    return next((item for item in made if item.number == number), made[-1])


def hint(shown: Round, picks: list[Selected], states: dict[int, str]) -> str:
    """What was selected, and what the picks show."""
    done = sum(states.get(pick.patch_id) in (annotation.DONE, annotation.SKIPPED) for pick in picks)
    numbers = "Numbers are distances to the nearest labelled patch (0: alike, 2: opposite)." if any(
        "distance" in pick.reason for pick in picks
    ) else ""  # fmt: skip
    return tables.note(
        selected_words(shown, picks),
        f"{done} of {len(picks)} finished. Click a pick to see why it was chosen.",
        numbers,
    )


def selected_words(shown: Round, picks: list[Selected]) -> str:
    """What the batch of a round has, and that it is smaller than was asked for, where it is."""
    held = sum(pick.role is PatchRole.VALIDATION for pick in picks)
    text = f"Round {shown.number} has {counted(len(picks), 'patch', 'patches')}: {len(picks) - held} to train on, "
    text += f"{held} for validation."
    return f"{text} You asked for {shown.budget}; there were no more." if len(picks) < shown.budget else text


def caption(pick: Selected, states: dict[int, str]) -> str:
    """A few words under a pick."""
    number = f"{pick.rank + 1}"
    role = " · validation" if pick.role is PatchRole.VALIDATION else ""
    far = f" · {pick.reason['distance']:.2f}" if "distance" in pick.reason else ""
    if lane.is_control(pick):
        far = " · by chance"
    done = {annotation.DONE: " ✓", annotation.SKIPPED: " skipped", annotation.STARTED: " …"}
    return f"{number}{role or far}{done.get(states.get(pick.patch_id, ''), '')}"


def show_pick(store: Store, project_id: int | None, number: Any, index: Any) -> tuple[Any, ...]:
    """The panel for a pick of a round, by its place in the gallery."""
    made = round_rows.rounds(store, project_id) if project_id is not None else []
    picked = round_rows.picked(store, _round(made, number).id) if made else []
    if not isinstance(index, int) or not 0 <= index < len(picked):
        raise NotReadyError("This pick was changed in the meantime. Reload the page.")
    return show_patch(store, project_id, picked[index].patch_id)


# --- one patch -----------------------------------------------------------------------------------------------


def show_patch(store: Store, project_id: int | None, patch_id: Any) -> tuple[Any, ...]:
    """The panel with one patch, and its id."""
    patch = _of_project(store, project_id, patch_id)
    pick = round_rows.selected_in_project(store, patch.project_id).get(patch.id)
    state = annotation.patch_states(store, [patch.id]).get(patch.id)
    latest = round_rows.latest(store, patch.project_id)
    may_swap = pick is not None and latest is not None and pick.round_id == latest.id and state == annotation.OPEN
    return (
        gr.Row(visible=True),
        gallery.thumbnail(store, patch, gallery.MEDIUM),
        about(store, patch, pick, state),
        gr.Button(interactive=pick is not None),
        gr.Button(visible=may_swap),
        patch.id,
    )


def about(store: Store, patch: Patch, pick: Selected | None, state: str | None) -> str:
    """Why a patch was picked, what it took the place of, what it is most like, and where it lies, as HTML."""
    shown = gallery.best_labels(store, patch)
    lines = [f"Outlines: {gallery.WORDS[shown.kind]}." if shown else "There are no labels of this patch yet."]
    if pick is None:
        lines.insert(0, "Not selected in any round, so it is not annotated.")
    else:
        number = round_rows.round_by_id(store, pick.round_id).number
        lines.insert(0, f"Round {number}, {state_words(pick, state)}: {reason_sentence(store, pick)}.")
        lines[1:1] = _replaced(store, pick)
    beside = [(gallery.data_url(place.picture(store, patch)), "Where it lies, among the patches of its image")]
    if near := neighbours.nearest(store, patch.project_id, patch.id):
        other = catalogue.patch(store, near.patch_id)
        when = "" if near.when_picked or pick is None else ", by the embedding of today"
        words = f"Most like it: {other.name}, distance {near.distance:.2f}{when}"
        beside.insert(0, (gallery.data_url(gallery.thumbnail(store, other)), words))
    pictures = "".join(
        f'<figure><img src="{url}" alt="" height="{BESIDE}"><figcaption>{escape(words)}</figcaption></figure>'
        for url, words in beside
    )
    return f'<b>{escape(patch.name)}</b>{tables.note(*lines)}<div class="al-beside">{pictures}</div>'


def _replaced(store: Store, pick: Selected) -> list[str]:
    """What a pick took the place of, in words; [] for one that was picked at once."""
    vetoed = pick.reason.get("vetoed", [])
    if not vetoed:
        return []
    names = [catalogue.patch(store, patch_id).name for patch_id in vetoed]
    return [f"It took the place of {', '.join(names)}, which you vetoed."]


def open_clicked(store: Store, project_id: int | None, patch_id: Any) -> tuple[gr.Tabs, int, int]:
    """Go to the Annotate tab with a patch that was clicked on the map, and remember it as the chosen one."""
    patch = _of_project(store, project_id, patch_id)
    return *open_patch(patch.id), patch.id


def open_patch(patch_id: int | None) -> tuple[gr.Tabs, int]:
    """Go to the Annotate tab with the chosen patch."""
    if patch_id is None:
        raise NotReadyError("Click a patch on the map or among the picks first.")
    return gr.Tabs(selected="annotate"), patch_id


def swap(store: Store, project_id: int | None, patch_id: int | None, changed: int) -> tuple[Any, ...]:
    """Veto the chosen pick, take the next best in its place, and show that one."""
    latest = round_rows.latest(store, project_id) if project_id else None
    if latest is None or patch_id is None:
        raise NotReadyError("Choose a pick of the newest round first.")
    new = selection.swap_pick(store, latest.id, patch_id)
    click_ahead.queue(store, project_id)
    info(f"{catalogue.patch(store, new).name} takes its place.")
    return *show_patch(store, project_id, new), changed + 1


def _of_project(store: Store, project_id: int | None, patch_id: Any) -> Patch:
    """A patch that the browser named. Raises `InputError` for one of another project."""
    patch = catalogue.patch(store, int(patch_id))
    if patch.project_id != project_id:
        raise InputError("This patch belongs to another project. Reload the page.")
    return patch


def reason_sentence(store: Store, pick: Selected) -> str:
    """Why a patch was picked, with the name of the nearest labelled one."""
    sentence = pick.reason.get("sentence", "picked")
    nearest = pick.reason.get("nearest_patch")
    distance = pick.reason.get("distance")
    if distance is not None and f"{distance:.2f}" not in sentence:
        sentence += f": distance {distance:.2f} of at most 2"
    if nearest is not None:
        sentence += f"; nearest labelled or picked: {catalogue.patch(store, nearest).name}"
    return sentence


def state_words(pick: Selected, state: str | None) -> str:
    """Role and state of a pick in words."""
    role = "validation" if pick.role is PatchRole.VALIDATION else "training"
    words = {annotation.DONE: "finished", annotation.SKIPPED: "skipped", annotation.STARTED: "begun"}
    return f"{role}, {words.get(state or '', 'to be annotated')}"
