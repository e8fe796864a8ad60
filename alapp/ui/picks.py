"""One patch on the Rounds tab: its picture, why it was picked, and what can be done with it."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from alapp.domain import PatchRole
from alapp.errors import InputError, NotReadyError
from alapp.rounds import annotation, click_ahead, selection
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.rounds import Selected
from alapp.ui import gallery, tables


def show_patch(store: Store, project_id: int | None, patch_id: Any) -> tuple[Any, ...]:
    """The panel with one patch: picture, why it was picked, what can be done with it."""
    patch = catalogue.patch(store, int(patch_id))
    if patch.project_id != project_id:
        raise InputError("This patch belongs to another project. Reload the page.")
    pick = round_rows.selected_in_project(store, patch.project_id).get(patch.id)
    state = annotation.patch_states(store, [patch.id]).get(patch.id)
    latest = round_rows.latest(store, patch.project_id)
    may_swap = pick is not None and latest is not None and pick.round_id == latest.id and state == annotation.OPEN
    shown = gallery.best_labels(store, patch)
    lines = [f"Outlines: {gallery.WORDS[shown.kind]}." if shown else "There are no labels of this patch yet."]
    if pick is None:
        lines.insert(0, "Not selected in any round, so it is not annotated.")
    else:
        number = round_rows.round_by_id(store, pick.round_id).number
        lines.insert(0, f"Round {number}, {state_words(pick, state)}: {reason_sentence(store, pick)}.")
    return (
        gr.Row(visible=True),
        gallery.thumbnail(store, patch, gallery.MEDIUM),
        f"<b>{escape(patch.name)}</b>{tables.note(*lines)}",
        gr.Button(interactive=pick is not None),
        gr.Button(visible=may_swap),
        patch.id,
    )


def show_pick(store: Store, project_id: int | None, index: Any) -> tuple[Any, ...]:
    """The panel for a pick of the newest round, by its place in the gallery."""
    latest = round_rows.latest(store, project_id) if project_id else None
    picks = round_rows.picked(store, latest.id) if latest else []
    if not isinstance(index, int) or not 0 <= index < len(picks):
        raise NotReadyError("This pick was changed in the meantime. Reload the page.")
    return show_patch(store, project_id, picks[index].patch_id)


def open_clicked(store: Store, project_id: int | None, patch_id: Any) -> tuple[gr.Tabs, int, int]:
    """Go to the Annotate tab with a patch that was clicked on the map, and remember it as the chosen one."""
    patch = catalogue.patch(store, int(patch_id))
    if patch.project_id != project_id:
        raise InputError("This patch belongs to another project. Reload the page.")
    return *open_patch(patch.id), patch.id


def open_patch(patch_id: int | None) -> tuple[gr.Tabs, int]:
    """Go to the Annotate tab with the chosen patch."""
    if patch_id is None:
        raise NotReadyError("Click a patch on the map or among the picks first.")
    return gr.Tabs(selected="annotate"), patch_id


def swap(store: Store, project_id: int | None, patch_id: int | None, changed: int) -> tuple[Any, int, gr.Row]:
    """Veto the chosen pick and take the next best in its place."""
    latest = round_rows.latest(store, project_id) if project_id else None
    if latest is None or patch_id is None:
        raise NotReadyError("Choose a pick of the newest round first.")
    new = selection.swap_pick(store, latest.id, patch_id)
    click_ahead.queue(store, project_id)
    gr.Info(f"{catalogue.patch(store, new).name} takes its place.")
    return None, changed + 1, gr.Row(visible=False)


def caption(pick: Selected, states: dict[int, str]) -> str:
    """A few words under a pick."""
    number = f"{pick.rank + 1}"
    role = " · validation" if pick.role is PatchRole.VALIDATION else ""
    far = f" · {pick.reason['distance']:.2f}" if "distance" in pick.reason else ""
    done = {annotation.DONE: " ✓", annotation.SKIPPED: " skipped", annotation.STARTED: " …"}
    return f"{number}{role or far}{done.get(states.get(pick.patch_id, ''), '')}"


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
