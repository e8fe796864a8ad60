"""The question "What answers your clicks?": each method and model with its state, and what "automatic" makes of it."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

from alapp.domain import Modality
from alapp.errors import AlappError, InputError, NotReadyError
from alapp.rounds.annotate import click_methods, clicks
from alapp.rounds.annotate.click_methods import AUTO, Choice
from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.ui.errors import told
from alapp.ui.foundation import model_panel
from alapp.ui.page import Page
from alapp.ui.quiet import QUIET

QUESTION = "What answers your clicks?"
WHY = (
    "A click on an object in Annotate is answered with its outline. The built-in method works at once, on every "
    "computer. Foundation models know more about cells, but their weights have to be on this computer."
)


def build(page: Page, name: str = "click-method") -> tuple[list[Any], Callable[[int | None], list[Any]]]:
    """Lay out the question. Returns its outputs and what refreshes them. `name` is its id on the page."""
    store = page.store
    menu = gr.Dropdown([], label=QUESTION, info=WHY, elem_id=name)
    note = gr.HTML(padding=False, elem_id=f"{name}-note")
    model_panel.opener()
    menu.input(
        told(lambda p, value, changed: choose(store, p, value, changed)),
        [page.project_id, menu, page.changed],
        [menu, note, page.changed],
        trigger_mode="always_last",
        **QUIET,
    )
    return [menu, note], lambda project_id: refresh(store, project_id)


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """The menu, and what is to be said about the choice."""
    if project_id is None:
        return [gr.Dropdown([], value=None), ""]
    project = catalogue.project(store, project_id)
    found = click_methods.choices(project.modality)
    now, reason = click_methods.automatic(project.modality)
    options = [
        (f"Automatic · now {_first_lower(now.title)}", AUTO),
        *((option_text(each), each.value) for each in found),
    ]
    if project.click_method not in [value for _, value in options]:
        options.append((project.click_method, project.click_method))
    said = note(project.click_method, project.modality, now, reason)
    failed = clicks.failure(store, project_id)
    return [gr.Dropdown(options, value=project.click_method), refusal(failed) if failed else said]


def choose(store: Store, project_id: int | None, value: Any, changed: int) -> list[Any]:
    """Keep the choice. One that cannot be used yet is not kept; the note says why and what to do, and goes on saying so
    when the menu is left, of which Gradio tells as of an input."""
    if project_id is None:
        raise InputError("Create or open a project first.")
    if value == catalogue.project(store, project_id).click_method:
        return [gr.skip()] * 3
    try:
        click_methods.choose(store, project_id, str(value))
    except NotReadyError as error:
        menu, kept = refresh(store, project_id)
        model = str(value).partition(click_methods.BETWEEN)[2]
        return [menu, refusal(error, model) + kept, changed]
    return [*refresh(store, project_id), changed + 1]


def option_text(option: Choice) -> str:
    """A line of the menu: the title, and its state unless it is built in."""
    return option.title if option.value == click_methods.BUILT_IN else f"{option.title} · {option.status.state}"


def note(value: str, modality: Modality, now: Choice, reason: str) -> str:
    """What answers the clicks, why, and what it suits; or what is wrong with it."""
    if value == AUTO:
        return _paragraph(f"<strong>{html.escape(now.title)}</strong> answers your clicks. {html.escape(reason)}")
    try:
        chosen = click_methods.choice(value, modality)
    except AlappError as error:
        return refusal(error)
    if not chosen.status.ready:
        return refusal(f"You chose {chosen.title}. {chosen.status.detail} {chosen.status.remedy}", chosen.model)
    return _paragraph(f"You chose <strong>{html.escape(chosen.title)}</strong>. {html.escape(chosen.suits)}")


def refusal(sentence: object, model: str = "") -> str:
    """What stands in the way, with a link to the models on this computer, at `model`."""
    button = f'<button type="button" class="open-models" data-model="{html.escape(model)}">Models on this computer …'
    return f'<div class="al-say warn" role="alert"><p>{html.escape(str(sentence))}</p>{button}</button></div>'


def _paragraph(text: str) -> str:
    return f'<div class="al-say"><p>{text}</p></div>'


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
