"""The protocol of a pseudo-labeller, and the list of them. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np

from alapp.domain import Modality, Parameter, Status
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

    def label(self, image: np.ndarray, params: Mapping[str, float]) -> np.ndarray:
        """Instances of `image` (Y, X, C) or (Z, Y, X, C), any numeric dtype -> int32 (Y, X) or (Z, Y, X).

        `params` holds values for some of `parameters` by name; the rest take their defaults. An image
        without objects gives zeros. Raises `BackendError` with a sentence when the model fails.
        """


PSEUDO_LABELLERS: Registry[PseudoLabeller] = Registry(
    "pseudo-label method",
    {
        "log_watershed": "alapp.stages.pseudolabel.log_watershed:LogWatershed",
        "em_dark_blobs": "alapp.stages.pseudolabel.em_blobs:EmDarkBlobs",
        "cellsam": "alapp.stages.pseudolabel.cellsam:CellSam",
        "micro_sam": "alapp.stages.pseudolabel.microsam:MicroSamAutomatic",
    },
)

BUILT_IN = {Modality.LIGHT: "log_watershed", Modality.EM: "em_dark_blobs"}


def choose_automatically(modality: Modality) -> tuple[str, str]:
    """The method for `auto`, and the reason as a sentence. Never downloads."""
    for name in ("cellsam", "micro_sam"):
        backend = PSEUDO_LABELLERS.load(name)
        if modality in backend.modalities and backend.status(modality).ready:
            return name, f"{backend.title} is installed with its weights."
    name = BUILT_IN[modality]
    return name, "No foundation model has its weights on this computer, so the built-in method is used."
