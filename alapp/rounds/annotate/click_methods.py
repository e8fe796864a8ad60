"""What may answer a project's clicks: each method, with each of its models, and whether it can on this computer.

The choice is kept in the project as "auto", as a method's name, or as "micro_sam:MODEL", where MODEL is the name of
published weights or of a model of the user's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from alapp.domain import BackendState, Modality, Status
from alapp.environment import home_relative
from alapp.errors import InputError, NotReadyError, WeightsMissingError
from alapp.stages.annotate.base import CLICK_SEGMENTERS, ClickSegmenter, choose_automatically
from alapp.stages.foundation import choice as weights
from alapp.stages.foundation import own, states
from alapp.stages.foundation.catalogue import MICRO_SAM, MODELS, Model, fit_for
from alapp.storage import catalogue
from alapp.storage.db import Store

AUTO = "auto"
BUILT_IN = "watershed"
BETWEEN = ":"


@dataclass(frozen=True)
class Choice:
    """Something that may answer clicks. `value` is what the project keeps, `model` the name of the weights in it."""

    value: str
    title: str
    suits: str
    status: Status
    model: str = ""


def choices(modality: Modality) -> list[Choice]:
    """Every method, then micro_sam with the user's own models and with each published one that fits the modality or
    is on this computer anyway; models that can be used come before those that cannot."""
    methods = []
    for name in CLICK_SEGMENTERS:
        backend = CLICK_SEGMENTERS.load(name)
        title = f"{backend.title}, with the model that fits" if name == MICRO_SAM else backend.title
        methods.append(Choice(name, title, backend.suits, backend.status(modality)))
    fit = [model.name for model in fit_for(modality)]
    published = [
        _published(model)
        for model in MODELS.values()
        if model.backend == MICRO_SAM and model.clicks and (model.name in fit or model.paths[0].is_file())
    ]
    models = [*(_own(one) for one in own.checkpoints()), *published]
    return methods + sorted(models, key=lambda each: not each.status.ready)


def choice(value: str, modality: Modality) -> Choice:
    """The choice that a project keeps as `value`, not "auto". Raises `InputError` if there is none."""
    name, _, model = value.partition(BETWEEN)
    for each in choices(modality):
        if each.value == value:
            return each
    if name == MICRO_SAM and model in MODELS:  # of the other modality: chosen before the project's was changed
        return _published(MODELS[model])
    raise InputError(f"There is no click method called {value!r}. Choose another one in the settings of the project.")


def automatic(modality: Modality) -> tuple[Choice, str]:
    """What "auto" stands for on this computer, and why, as a sentence."""
    name, reason = choose_automatically(modality)
    chosen = choice(name, modality)
    found = weights.for_clicks(modality) if name == MICRO_SAM else None
    return (chosen, reason) if found is None else (replace(chosen, title=f"micro_sam with {found.name}"), found.reason)


def choose(store: Store, project_id: int, value: str) -> None:
    """Keep what answers the clicks from now on. Raises `InputError` for an unknown one, and `NotReadyError` with the
    reason and the remedy for one that cannot be used on this computer."""
    if value != AUTO:
        wanted = choice(value, catalogue.project(store, project_id).modality)
        if not wanted.status.ready:
            raise NotReadyError(
                f"{wanted.title} cannot answer clicks yet. {wanted.status.detail} {wanted.status.remedy}".strip()
            )
    catalogue.update_project(store, project_id, click_method=value)


def create(value: str, modality: Modality) -> ClickSegmenter:
    """A click method for `value`, not "auto"; weights are loaded at the first click. Raises `InputError`, and
    `WeightsMissingError` where the chosen model is gone."""
    name, _, model = value.partition(BETWEEN)
    return CLICK_SEGMENTERS.create(name, modality=modality, **(_weights(model) if model else {}))


def _weights(model: str) -> dict[str, Any]:
    found = weights.named(model)
    if found is None:
        raise WeightsMissingError(
            f"The model {model} that answers your clicks is not on this computer any more. Bring it back, or choose "
            "another one in the settings of the project."
        )
    return {"checkpoint": found.path, "model_type": found.architecture}


def _published(model: Model) -> Choice:
    status = states.status(model)
    if status.state is BackendState.WEIGHTS_MISSING and model.paths[0].is_file():  # clicks need no decoder
        status = Status(BackendState.READY, f"Weights {home_relative(model.paths[0])} are on this computer.")
    return Choice(f"{MICRO_SAM}{BETWEEN}{model.name}", f"{model.title} ({model.name})", model.suits, status, model.name)


def _own(one: own.OwnModel) -> Choice:
    status = Status(BackendState.READY, f"{home_relative(one.weights)} is on this computer.")
    if not weights.can_run(one.architecture):
        missing = "mobile_sam" if not states.absent(("micro_sam",)) else "micro_sam"
        detail = f"The package {missing} is not installed."
        status = Status(BackendState.NOT_INSTALLED, detail, states.HOW_TO_INSTALL[missing])
    suits = f"Your own model, made from {one.source}." if one.source else "Your own model."
    return Choice(f"{MICRO_SAM}{BETWEEN}{one.name}", f"Your own: {one.name}", suits, status, one.name)
