"""Which weights of micro_sam automatic segmentation takes, and how each is asked by its authors."""

from __future__ import annotations

from pathlib import Path

from alapp.domain import Modality
from alapp.errors import WeightsMissingError
from alapp.stages.foundation import choice, own
from alapp.stages.foundation.catalogue import MICRO_SAM, MODELS
from alapp.stages.foundation.choice import Weights

GENERAL = ("vit_t", "vit_b", "vit_l", "vit_h")
"""Segment Anything as it was published, without a decoder."""

SEEDS = {
    "vit_t_lm": (0.5, 0.5, 2.0),
    "vit_b_lm": (0.4, 0.5, 2.0),
    "vit_l_lm": (0.4, 0.4, 1.6),
    "vit_t_em_organelles": (0.4, 0.5, 1.2),
    "vit_b_em_organelles": (0.3, 0.4, 1.2),
    "vit_l_em_organelles": (0.3, 0.4, 1.2),
}
"""What micro_sam's own program sets for a decoder: thresholds on the distance to an object's centre and to its
border, both in 0..1 of the object, and the sigma in pixels with which the distances are smoothed."""

SEEDS_ELSE = (0.5, 0.5, 1.6)

GRID = {
    "vit_t_lm": (0.6, 0.65),
    "vit_b_lm": (0.65, 0.7),
    "vit_l_lm": (0.65, 0.73),
    "vit_t_em_organelles": (0.75, 0.75),
    "vit_b_em_organelles": (0.75, 0.75),
    "vit_l_em_organelles": (0.8, 0.8),
}
"""What micro_sam's own program sets for a grid of clicks: the lowest quality that the model may guess for a mask, and
the lowest stability of the mask when it is cut higher or lower."""

GRID_ELSE = (0.88, 0.95)


def fit(modality: Modality | None, with_decoder: bool) -> Weights | None:
    """The weights to take when nobody chose: the user's own, else those of `choice` that fit for the modality (or
    any); without a decoder also Segment Anything as it was published. None where there are none."""
    found = choice.with_decoder(modality) if with_decoder else choice.for_clicks(modality)
    if found is None and not with_decoder:
        found = next(filter(None, map(_usable, GENERAL)), None)
    return found


def here(modality: Modality | None, with_decoder: bool) -> list[Weights]:
    """All weights on this computer to choose from: those fit for the modality first, then all others."""
    found = {item.name: item for item in choice.options(modality, decoder=with_decoder)}
    others = [one.name for one in own.checkpoints()]
    others += [name for name, model in MODELS.items() if model.backend == MICRO_SAM]
    for name in others:
        item = _usable(name)
        if item is not None and (item.decoder is not None or not with_decoder):
            found.setdefault(name, item)
    return list(found.values())


def chosen(name: str, modality: Modality | None, with_decoder: bool) -> Weights:
    """The weights called `name`; for "" those that fit. Raises `WeightsMissingError` where they are not here."""
    found = _usable(name) if name else fit(modality, with_decoder)
    if found is None:
        what = f"The model {name} is not" if name else "No weights of micro_sam for these images are"
        raise WeightsMissingError(f"{what} on this computer. Choose another one, or bring it back.")
    if with_decoder and found.decoder is None:
        raise WeightsMissingError(f"The model {name} has no decoder on this computer, which this method needs.")
    return found


def files(weights: Weights) -> tuple[Path, ...]:
    """The file of the weights, and that of the decoder if there is one."""
    return (weights.path, weights.decoder) if weights.decoder else (weights.path,)


def _usable(name: str) -> Weights | None:
    found = choice.named(name)
    return found if found is not None and choice.can_run(found.architecture) else None
