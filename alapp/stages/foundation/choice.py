"""Which weights of micro_sam are used, and why: the user's own, else the published ones on this computer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alapp.domain import Modality
from alapp.environment import machine
from alapp.stages.foundation import own, states
from alapp.stages.foundation.catalogue import MICRO_SAM, MODELS, Model

ON_GPU = ("vit_b", "vit_l", "vit_t", "vit_h")
ON_CPU = ("vit_t", "vit_b", "vit_l", "vit_h")
"""Architectures in the order in which they are tried: a CPU embeds with vit_t in a second, with vit_b in nine."""

_TRAINED = {Modality.LIGHT: "_lm", Modality.EM: "_em_organelles"}
"""Endings of names; tissue, medical and general models are never taken by themselves, only when the user names one."""
_WORDS = {Modality.LIGHT: "light microscopy", Modality.EM: "electron microscopy"}


@dataclass(frozen=True)
class Weights:
    """What `micro_sam.util.get_sam_model` is given. `reason` is a sentence for the user; `own` for one of theirs."""

    name: str
    architecture: str
    path: Path
    decoder: Path | None
    reason: str
    own: bool = False


def for_clicks(modality: Modality | None = None) -> Weights | None:
    """The user's newest checkpoint that suits `modality` (or any), else the fastest published weights; else None.

    Looks at the files only; nothing is downloaded, torch is imported on computers with an NVIDIA driver alone.
    """
    return next(iter(options(modality)), None)


def with_decoder(modality: Modality | None = None) -> Weights | None:
    """As `for_clicks`, among those that can label all by themselves."""
    return next(iter(options(modality, decoder=True)), None)


def options(modality: Modality | None = None, *, decoder: bool = False) -> list[Weights]:
    """All that are here and fit for `modality`, the best first; with `decoder` only those that can label all."""
    mine = [_own(one) for one in own.checkpoints(modality, decoder=decoder) if can_run(one.architecture)]
    return mine + [_published(model, modality) for model in _fit(modality, decoder)]


def named(name: str) -> Weights | None:
    """The weights called `name`, one's own or published; None when they are not here (any more)."""
    for one in own.checkpoints():
        if one.name == name:
            return _own(one)
    model = MODELS.get(name)
    if model is None or model.backend != MICRO_SAM or not model.paths[0].is_file():
        return None
    return _published(model, None)


def can_run(architecture: str) -> bool:
    """Whether the packages of an architecture are installed; the tiny one has a package of its own."""
    return not missing_packages(architecture)


def missing_packages(architecture: str) -> list[str]:
    """The modules that an architecture needs and that are not installed."""
    return states.absent(("micro_sam", "mobile_sam") if architecture == "vit_t" else ("micro_sam",))


def _fit(modality: Modality | None, decoder: bool) -> list[Model]:
    order = ON_GPU if machine().gpu_gb else ON_CPU
    endings = (_TRAINED[modality],) if modality else tuple(_TRAINED.values())
    found = [
        model
        for model in MODELS.values()
        if model.backend == MICRO_SAM
        and model.name.endswith(endings)
        and model.paths[0].is_file()
        and (model.present or not decoder)
        and can_run(model.architecture)
    ]
    return sorted(found, key=lambda model: order.index(model.architecture))


def _own(one: own.OwnModel) -> Weights:
    suits = "any images" if one.modality is None else _WORDS[one.modality]
    reason = f"It is the newest model of your own for {suits}."
    return Weights(one.name, one.architecture, one.weights, one.decoder, reason, own=True)


def _published(model: Model, modality: Modality | None) -> Weights:
    decoder = model.paths[1] if len(model.paths) > 1 and model.paths[1].is_file() else None
    fastest = "" if machine().gpu_gb else ", and it is the fastest of those here without a GPU"
    reason = f"It is on this computer and was trained for {_WORDS[modality]}{fastest}." if modality else "You chose it."
    return Weights(model.name, model.architecture, model.paths[0], decoder, reason)
