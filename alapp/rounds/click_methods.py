"""What may answer a project's clicks: each method, with each of its models, and whether it can on this computer.

The choice is kept in the project as "auto", as a method's name, or as "micro_sam:MODEL".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alapp.domain import BackendState, Modality, Status
from alapp.environment import home_relative
from alapp.errors import InputError, NotReadyError
from alapp.stages.annotate.base import CLICK_SEGMENTERS, ClickSegmenter, choose_automatically
from alapp.stages.foundation import states
from alapp.stages.foundation.catalogue import MICRO_SAM, MODELS, Model, fit_for
from alapp.storage import catalogue
from alapp.storage.db import Store

AUTO = "auto"
BUILT_IN = "watershed"
BETWEEN = ":"


@dataclass(frozen=True)
class Choice:
    """Something that may answer clicks. `value` is what the project keeps, `model` the published model's name."""

    value: str
    title: str
    suits: str
    status: Status
    model: str = ""


def choices(modality: Modality) -> list[Choice]:
    """Every method, then micro_sam with each model that fits the modality or is on this computer anyway."""
    found = []
    for name in CLICK_SEGMENTERS:
        backend = CLICK_SEGMENTERS.load(name)
        title = f"{backend.title}, with the model that fits" if name == MICRO_SAM else backend.title
        found.append(Choice(name, title, backend.suits, backend.status(modality)))
    fit = [model.name for model in fit_for(modality)]
    for model in MODELS.values():
        if model.backend == MICRO_SAM and model.clicks and (model.name in fit or model.paths[0].is_file()):
            value = f"{MICRO_SAM}{BETWEEN}{model.name}"
            found.append(Choice(value, f"{model.title} ({model.name})", model.suits, _clicks_alone(model), model.name))
    return found


def choice(value: str, modality: Modality) -> Choice:
    """The choice that a project keeps as `value`, not "auto". Raises `InputError` if there is none."""
    name, _, model = value.partition(BETWEEN)
    for each in choices(modality):
        if each.value == value:
            return each
    if name == MICRO_SAM and model in MODELS:  # of the other modality: chosen before the project's was changed
        known = MODELS[model]
        return Choice(value, f"{known.title} ({model})", known.suits, _clicks_alone(known), model)
    raise InputError(f"There is no click method called {value!r}. Choose another one in the settings of the project.")


def automatic(modality: Modality) -> tuple[Choice, str]:
    """What "auto" stands for on this computer, and why, as a sentence."""
    name, reason = choose_automatically(modality)
    return choice(name, modality), reason


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
    """A click method for `value`, not "auto"; weights are loaded at the first click. Raises `InputError`."""
    name, _, model = value.partition(BETWEEN)
    return CLICK_SEGMENTERS.create(name, modality=modality, **(_weights(choice(value, modality)) if model else {}))


def _weights(wanted: Choice) -> dict[str, Any]:
    model = MODELS[wanted.model]
    return {"checkpoint": model.paths[0], "model_type": model.architecture}


def _clicks_alone(model: Model) -> Status:
    """The state of a published model where its decoder is not asked for: clicks do without."""
    status = states.status(model)
    if status.state is BackendState.WEIGHTS_MISSING and model.paths[0].is_file():
        return Status(BackendState.READY, f"Weights {home_relative(model.paths[0])} are on this computer.")
    return status
