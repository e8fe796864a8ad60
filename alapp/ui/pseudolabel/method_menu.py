"""The menu of methods on the Pseudo-labels tab, with the weights and the parameters of the one that is chosen."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from alapp.domain import Modality, Parameter
from alapp.errors import InputError
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.pseudolabel.pseudo import Method
from alapp.stages.pseudolabel.base import MODEL
from alapp.storage import catalogue
from alapp.storage.db import Store

MAX_PARAMETERS = 5


def offered(store: Store, project_id: int) -> list[Any]:
    """What the menu rests on: it changes when models arrive or go, and with the kind of microscopy."""
    modality = catalogue.project(store, project_id).modality
    ready = [(item.name, item.models) for item in _ready(modality)]
    return [project_id, str(modality), pseudo.resolve(pseudo.AUTO, modality), ready]


def follow(store: Store, project_id: int | None, shown: int | None, name: str | None, weights: str | None) -> list[Any]:
    """The project whose menu is shown, and the updates of the menu. Of another project than was `shown` all is as it
    has it; else what was chosen on the page stays, as long as it can be chosen."""
    if project_id is None or project_id != shown:
        return [project_id, *chosen_method(store, project_id)]
    modality = catalogue.project(store, project_id).modality
    choices = _choices(modality)
    if name not in [value for _, value in choices]:
        return [project_id, *chosen_method(store, project_id)]
    menu = _weights(modality, name, weights)
    sliders = [gr.skip()] * MAX_PARAMETERS
    return [project_id, gr.Radio(choices=choices), _why(modality, name), menu, *sliders]


def chosen_method(store: Store, project_id: int | None) -> list[Any]:
    """The method radio and the controls of the method, as the project has them."""
    if project_id is None:
        return [
            gr.Radio(choices=[], value=None),
            "",
            gr.Dropdown(visible=False),
            *[gr.Slider(visible=False)] * MAX_PARAMETERS,
        ]
    project = catalogue.project(store, project_id)
    choices = _choices(project.modality)
    kept = project.pseudo_method if project.pseudo_method in [name for _, name in choices] else pseudo.AUTO
    return [gr.Radio(choices=choices, value=kept), *method_controls(store, project_id, kept)]


def method_controls(store: Store, project_id: int | None, name: str) -> list[Any]:
    """Why `auto` takes what it takes, the weights to choose from and the sliders of a method, with the project's
    values where it was chosen before."""
    if project_id is None:
        raise InputError("Create or open a project first.")
    project = catalogue.project(store, project_id)
    kept = project.pseudo_params if project.pseudo_method == name else {}
    known = parameters(project.modality, name)
    shown = [
        gr.Slider(
            item.minimum,
            item.maximum,
            value=kept.get(item.name, item.default),
            step=item.step,
            label=f"{item.title} ({item.unit})" if item.unit else item.title,
            info=item.help or None,
            visible=True,
        )
        for item in known
    ]
    hidden = [gr.Slider(visible=False)] * (MAX_PARAMETERS - len(shown))
    return [_why(project.modality, name), _weights(project.modality, name, kept.get(MODEL)), *shown, *hidden]


def parameters(modality: Modality, name: str) -> tuple[Parameter, ...]:
    """Parameters of a method, in the order of the sliders."""
    return next((item.parameters for item in pseudo.methods(modality) if item.name == name), ())


def _ready(modality: Modality) -> list[Method]:
    return [item for item in pseudo.methods(modality) if item.status.ready]


def _choices(modality: Modality) -> list[tuple[str, str]]:
    automatic, _ = pseudo.resolve(pseudo.AUTO, modality)
    ready = _ready(modality)
    title = next(item.title for item in ready if item.name == automatic)
    return [(f"Automatic (now: {title})", pseudo.AUTO), *((item.title, item.name) for item in ready)]


def _why(modality: Modality, name: str) -> str:
    reason = pseudo.resolve(name, modality)[1]
    tune = "To set its parameters, choose the method itself."
    return f"<p>{html.escape(f'{reason} {tune}')}</p>" if name == pseudo.AUTO else ""


def _weights(modality: Modality, name: str, chosen: Any) -> gr.Dropdown:
    """The weights of a method to choose from, hidden where there is no choice."""
    weights = next((item.models for item in pseudo.methods(modality) if item.name == name), ())
    return gr.Dropdown(
        [("Those that fit these images", ""), *((item, item) for item in weights)],
        value=chosen if chosen in weights else "",
        visible=bool(weights),
    )
