"""Deleted projects: they stay on the disk until they are erased, and can be brought back until then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import ConflictError, InputError
from alapp.rounds.train import retention
from alapp.storage import catalogue
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.errors import info, told
from alapp.ui.page import Page
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET
from alapp.wording import counted

EXPLANATION = "They take as much disk space as before, until they are erased."


def build(page: Page) -> tuple[list[Any], Callable[[int | None], list[Any]]]:
    """Lay out the fold, which is hidden while nothing is deleted. Gives its outputs, the fold first, and what their
    updates are while a project is open, or none."""
    store = page.store
    with gr.Accordion("Deleted projects", open=False, visible=False, elem_id="deleted") as fold:
        menu = gr.Dropdown([], label="Project", info=EXPLANATION, elem_id="deleted-menu")
        with gr.Row():
            back = gr.Button("Bring it back", size="sm", min_width=110, elem_id="deleted-back")
            ask = gr.Button("Erase for good …", size="sm", min_width=110, elem_id="deleted-ask")
        question = gr.HTML(padding=False, visible=False, elem_id="deleted-question")
        with gr.Row(visible=False) as answers:
            yes = gr.Button("Yes, erase it", size="sm", variant="stop", min_width=110, elem_id="deleted-yes")
            no = gr.Button("Keep it", size="sm", min_width=110, elem_id="deleted-no")
    asked = gr.State(None)
    panel = [question, answers, asked]
    back.click(
        told(lambda *values: bring_back(store, *values)),
        [menu, page.visitor, page.changed],
        [*panel, page.project_id, page.changed],
        **QUIET,
    )
    ask.click(told(lambda *values: ask_to_erase(store, *values)), [menu, page.visitor], panel, **QUIET)
    no.click(lambda: closed(), None, panel, **QUIET)
    menu.input(follow_menu, [menu, asked], panel, trigger_mode="always_last", **QUIET)
    yes.click(
        told(lambda *values: erase(store, *values)),
        [asked, page.visitor, page.changed],
        [*panel, page.changed],
        **QUIET,
    )
    return [fold, menu], lambda project_id: refresh(store, project_id)


def fields(outputs: list[Any]) -> list[Any]:
    """Those of the outputs that a user chooses from."""
    return outputs[1:]


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of the outputs, in order; the project that was deleted last is chosen. A question that is open stays: it
    names its project, and somebody may be about to answer it."""
    return listed(store, catalogue.project(store, project_id).visitor if project_id is not None else None)


def listed(store: Store, visitor: str | None, **more: Any) -> list[Any]:
    """As `refresh`, for a visitor's projects; `more` is what else becomes of the fold."""
    found = catalogue.projects(store, visitor, deleted=True)
    return [
        gr.Accordion(label=f"Deleted projects ({len(found)})", visible=bool(found), **more),
        gr.Dropdown(choices=_choices(found), value=found[0].id if found else None),
    ]


def bring_back(store: Store, chosen: int | None, visitor: str | None, changed: int) -> list[Any]:
    """Undo the deletion of a project and open it. Returns the updates of the question, its id, and changed + 1. Raises
    `InputError` when its name was taken in the meantime."""
    return [*closed(), catalogue.restore_project(store, _deleted(store, chosen, visitor).id).id, changed + 1]


def ask_to_erase(store: Store, chosen: int | None, visitor: str | None) -> list[Any]:
    """Say what would be gone, and offer to do it."""
    project = _deleted(store, chosen, visitor)
    images = len(catalogue.images(store, project.id))
    size = tables.size(sum(retention.usage(store, project.id).values()))
    text = (
        f"Erase “{project.name}” for good? Its {counted(images, 'image')}, labels, models and exports "
        f"are removed from this app, which frees {size}; the files that you imported stay where they are. This cannot "
        "be undone."
    )
    return [gr.HTML(tables.note(text), visible=True), gr.Row(visible=True), project.id]


def follow_menu(chosen: int | None, asked: int | None) -> list[Any]:
    """A question goes when another project than the one it names is chosen. One that was just asked stays when the menu
    is left for its button, of which Gradio tells as of an input, and whose answer may be the later one."""
    return [gr.skip()] * 3 if asked in (None, chosen) else closed()


def erase(store: Store, asked: int | None, visitor: str | None, changed: int) -> list[Any]:
    """Remove a deleted project with its rows and files. Returns the updates of the question, and changed + 1.

    Raises `ConflictError` while a job of it still runs, which is told to end: what it writes would bring the folder
    back.
    """
    project = _deleted(store, asked, visitor)
    jobs.cancel_all(store, project.id)
    if running := jobs.active(store, project.id):
        raise ConflictError(
            f"“{project.name}” cannot be erased yet: its job “{jobs.kind(running[0].kind).title}” is still ending. "
            "Wait a few seconds, then try again."
        )
    size = sum(retention.usage(store, project.id).values())
    jobs.sweep_uploads(store, project.id)
    catalogue.erase_project(store, project.id)
    info(f"Erased {project.name} and freed {tables.size(size)}.")
    return [*closed(), changed + 1]


def closed() -> list[Any]:
    """No question is open."""
    return [gr.HTML(visible=False), gr.Row(visible=False), None]


def _choices(found: Sequence[Project]) -> list[tuple[str, int]]:
    """Names for the menu; of those with the same name, when they were deleted tells them apart."""
    names = Counter(item.name for item in found)
    times = [f" ({tables.local_time(item.deleted)})" if item.deleted and names[item.name] > 1 else "" for item in found]
    return [(f"{item.name}{time}", item.id) for item, time in zip(found, times, strict=True)]


def _deleted(store: Store, chosen: int | None, visitor: str | None) -> Project:
    """The chosen project, if it is one of the deleted ones of this visitor."""
    if visitor is None and spaces.on_space():
        raise InputError("This page was not loaded completely. Reload it, then try again.")
    found = next((item for item in catalogue.projects(store, visitor, deleted=True) if item.id == chosen), None)
    if found is None:
        raise InputError("Choose a deleted project first. If you did, it was brought back or erased in another tab.")
    return found
