"""Which weights of micro_sam are on this computer, and what automatic segmentation can do with each of them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from alapp.domain import Modality
from alapp.errors import InputError, WeightsMissingError
from alapp.stages.annotate.microsam import MODELS, cache_folder

SPECIAL = (
    "vit_b_histopathology",
    "vit_l_histopathology",
    "vit_h_histopathology",
    "vit_b_medical_imaging",
)
"""Published with a decoder, for images that the two modalities do not name: only used where they are chosen."""

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


@dataclass(frozen=True)
class Weights:
    """A checkpoint that can be loaded here. `architecture` is "vit_t", "vit_b", ...; `decoder` is a file of its own
    or None. `name` names published weights, or the user's own ones."""

    name: str
    architecture: str
    checkpoint: Path
    decoder: Path | None = None
    decoder_inside: bool = False
    own: bool = False

    @property
    def automatic(self) -> bool:
        """Whether there is a decoder, which AIS and APG need."""
        return self.decoder is not None or self.decoder_inside

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return (self.checkpoint, self.decoder) if self.decoder else (self.checkpoint,)


def published(name: str) -> Weights | None:
    """Published weights in micro_sam's cache; None where they are not there or their architecture cannot run."""
    file = cache_folder() / name
    if not file.is_file() or not can_run(name):
        return None
    decoder = cache_folder() / f"{name}_decoder"
    return Weights(name, name[:5], file, decoder if decoder.is_file() else None)


def can_run(name: str) -> bool:
    """The tiny models have an architecture of their own, in a package of its own."""
    return not name.startswith("vit_t") or importlib.util.find_spec("mobile_sam") is not None


def fit(modality: Modality | None, with_decoder: bool) -> Weights | None:
    """The weights to take when nobody chose: the fastest fit for the modality (or any); without a decoder also
    Segment Anything as it was published."""
    modalities = [modality] if modality else list(MODELS)
    names = [name for each in modalities for name in MODELS[each]]
    for name in (*names, *(() if with_decoder else GENERAL)):
        found = published(name)
        if found is not None and (found.automatic or not with_decoder):
            return found
    return None


def here(modality: Modality | None, with_decoder: bool) -> list[Weights]:
    """All weights to choose from: those fit for the modality first, then all others that are on this computer."""
    first = [modality] if modality else list(MODELS)
    names = [name for each in (*first, *(other for other in MODELS if other not in first)) for name in MODELS[each]]
    found = [published(name) for name in (*names, *SPECIAL, *GENERAL)]
    return [item for item in found if item is not None and (item.automatic or not with_decoder)]


def chosen(name: str, modality: Modality | None, with_decoder: bool) -> Weights:
    """The weights called `name`; for "" those that fit. Raises `WeightsMissingError` where they are not here and
    `InputError` for a name that cannot be a file's."""
    if not name:
        found = fit(modality, with_decoder)
        if found is None:
            raise WeightsMissingError("micro_sam has no weights for these images on this computer.")
        return found
    if Path(name).name != name:
        raise InputError(f"{name!r} is not the name of a model. Choose one of the list.")
    for item in here(modality, with_decoder):
        if item.name == name:
            return item
    what = "with its decoder is not" if with_decoder else "is not"
    raise WeightsMissingError(f"The model {name} {what} on this computer. Choose another one, or bring it back.")
