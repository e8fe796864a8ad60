"""The choice of what patches are compared by, on the Rounds tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from alapp.errors import NotReadyError
from alapp.rounds.select import embedding
from alapp.stages.embed.base import EMBEDDERS
from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.ui.errors import told
from alapp.ui.page import Page
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET

HELP = (
    "Which patches count as alike decides which ones core-set picks, and where they lie on the map. It takes effect "
    "with the next selection."
)


def build(page: Page) -> list[Any]:
    """Lay out the choice inside the caller's column; returns the outputs of `refresh`."""
    with gr.Accordion("What patches are compared by", open=False, elem_id="rounds-compared-by"):
        choice = gr.Radio(choices(), value=embedding.BACKEND, show_label=False, info=HELP)
        note = gr.HTML(padding=False)
    choice.input(
        told(lambda project, name: keep(page.store, project, name)),
        [page.project_id, choice],
        note,
        trigger_mode="always_last",
        **QUIET,
    )
    return [choice, note]


def choices() -> list[tuple[str, str]]:
    """(what the page shows, name) of every registered embedder."""
    found = [(EMBEDDERS.load(name), name) for name in EMBEDDERS]
    return [(f"{backend.title}: {backend.suits}", name) for backend, name in found]


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of the choice and of the note below it."""
    if project_id is None:
        return [gr.Radio(interactive=False), ""]
    chosen = catalogue.project(store, project_id).embedder
    return [gr.Radio(value=chosen, interactive=True), state_note(store, project_id)]


def keep(store: Store, project_id: int | None, name: str) -> str:
    """Remember the choice for this project; returns the note."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    embedding.choose(store, project_id, name)
    return state_note(store, project_id)


def state_note(store: Store, project_id: int) -> str:
    """What is used in place of a choice that cannot be used yet, and why; "" otherwise."""
    chosen = catalogue.project(store, project_id).embedder
    status = embedding.status(store, project_id, chosen)
    if status.ready:
        return ""
    instead = EMBEDDERS.load(embedding.BACKEND).title
    return tables.note(f"{status.detail} {status.remedy}".strip(), f"Until then, this is used: {instead}.")
