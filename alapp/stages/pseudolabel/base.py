"""The protocol of a pseudo-labeller, and the list of them. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from alapp.domain import Modality, Parameter, Report, Status, silent
from alapp.registry import Registry


class PseudoLabeller(Protocol):
    """Labels every instance of an image without help.

    Constructed with the project's `modality`, cheaply: weights are loaded at the first `label`.
    """

    title: ClassVar[str]
    suits: ClassVar[str]
    modalities: ClassVar[frozenset[Modality]]
    parameters: ClassVar[tuple[Parameter, ...]]

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Whether it can run on this machine, on images of `modality` (or of any). No download, no torch import."""

    def label(self, image: np.ndarray, params: Mapping[str, Any], report: Report = silent) -> np.ndarray:
        """Instances of `image` (Y, X, C) or (Z, Y, X, C), any numeric dtype -> int32 (Y, X) or (Z, Y, X).

        `params` holds values for some of `parameters` by name; the rest take their defaults. An image
        without objects gives zeros. A method that takes long tells `report` and lets what it raises through.
        Raises `BackendError` with a sentence when the model fails.
        """


@dataclass(frozen=True)
class Provenance:
    """What made labels, beside the method's name and parameters: how the model was used ("AIS"), which weights it has
    by name and by the SHA-256 of their files ("a1…+b2…" where there are several), the package with its version, and
    the `revision` of a method of our own."""

    mode: str = ""
    model: str = ""
    weights: str = ""
    package: str = ""
    revision: int = 1


@runtime_checkable
class Revised(Protocol):
    """A pseudo-labeller of our own. `revision` counts up when the same parameters make other labels."""

    revision: ClassVar[int]


Keep = Callable[[str, Callable[[], np.ndarray]], np.ndarray]
"""`keep(name, make)`: the labels of the part `name` of an image. Where they are kept from before, as int32, these; else
`make()`, integers, which are kept."""


def keep_nothing(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """A `Keep` for callers that do not come back."""
    return make()


@runtime_checkable
class Resumable(Protocol):
    """A pseudo-labeller that goes on with an image where it was stopped. It labels the slices of a stack, or the tiles
    of a large image, by `keep`: `keep_nothing` unless its caller sets another one for this image."""

    keep: Keep


@runtime_checkable
class HasModels(Protocol):
    """What a pseudo-labeller with weights has too. The name of a model is its parameter "model", "" by default."""

    @classmethod
    def models(cls, modality: Modality | None = None) -> list[str]:
        """Names of the weights on this computer to choose from, those fit for `modality` first."""

    def provenance(self, params: Mapping[str, Any]) -> Provenance:
        """What `label` with these parameters would use. Raises `BackendError` where it cannot be used."""


PSEUDO_LABELLERS: Registry[PseudoLabeller] = Registry(
    "pseudo-label method",
    {
        "nested_regions": "alapp.stages.pseudolabel.nested_regions:NestedRegions",
        "log_watershed": "alapp.stages.pseudolabel.log_watershed:LogWatershed",
        "em_dark_blobs": "alapp.stages.pseudolabel.em_blobs:EmDarkBlobs",
        "cellsam": "alapp.stages.pseudolabel.cellsam:CellSam",
        "micro_sam": "alapp.stages.pseudolabel.microsam:MicroSamAutomatic",
        "micro_sam_apg": "alapp.stages.pseudolabel.microsam:MicroSamPrompts",
        "micro_sam_amg": "alapp.stages.pseudolabel.microsam:MicroSamGrid",
    },
)

BUILT_IN = {Modality.LIGHT: "nested_regions", Modality.EM: "em_dark_blobs"}


MODEL = "model"
"""The parameter that names the weights of a `HasModels`."""

PREFERRED = ("cellsam", "micro_sam")
"""Foundation models for `auto`, the best first."""


def automatic_order(modality: Modality) -> list[tuple[str, str]]:
    """The methods that `auto` may use on this computer, with the reason for each as a sentence: the first is used,
    the next one only where it fails. The last one, built in, needs no weights. Never downloads."""
    order = []
    for name in PREFERRED:
        backend = PSEUDO_LABELLERS.load(name)
        if modality in backend.modalities and backend.status(modality).ready:
            order.append((name, f"{backend.title} is installed with its weights."))
    return [
        *order,
        (BUILT_IN[modality], "No foundation model has its weights on this computer, so the built-in method is used."),
    ]


def choose_automatically(modality: Modality) -> tuple[str, str]:
    """The method for `auto`, and the reason as a sentence. Never downloads."""
    return automatic_order(modality)[0]
