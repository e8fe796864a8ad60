"""The protocol of a click method, and the list of them. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from alapp.domain import Modality, Parameter, Report, Status, silent
from alapp.registry import Registry
from alapp.stages.annotate.embedding_cache import EmbeddingCache
from alapp.stages.foundation import choice

Point = tuple[float, float]
"""(y, x) in pixels of the slice; the centre of the first pixel is (0, 0)."""

ReadSlice = Callable[[int], np.ndarray]
"""`read(z)`: pixels (Y, X, C) of slice `z`, any numeric dtype."""

DOWN, UP = -1, 1


@dataclass(frozen=True)
class Tuning:
    """How a person steers a click method, both in [-1, 1] and 0 by default. `granularity`: of several plausible
    objects under a click a smaller (-1) or larger (+1) one. `looseness`: its border farther in (-1) or out (+1)."""

    granularity: float = 0.0
    looseness: float = 0.0


PLAIN = Tuning()


class ClickSegmenter(Protocol):
    """Makes a mask from clicks on one 2D slice. Safe to call from several threads.

    `key` names the slice: `prepare` may compute and keep features under it (bounded cache), and must be
    called again when `segment` raises `KeyError` (after a restart, or when the cache dropped it).
    """

    title: ClassVar[str]
    suits: ClassVar[str]
    modalities: ClassVar[frozenset[Modality]]
    parameters: ClassVar[tuple[Parameter, ...]]
    uses_prior: ClassVar[bool]
    """Whether `prepare` looks at `prior`; otherwise none is read for it."""

    def __init__(self, modality: Modality | None = None) -> None:
        """`modality`: of the images to come, for a method that has different weights for each."""

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Whether it can run on this machine (for images of `modality`). No download, no torch import."""

    def prepare(self, key: str, image: np.ndarray, prior: np.ndarray | None = None) -> None:
        """Make ready for clicks on `image` (Y, X, C), any numeric dtype. `prior`: foreground probability
        float32 (Y, X) of the current network, or None. A key that is ready stays as it is: another image or prior
        takes another key."""

    def segment(
        self,
        key: str,
        positive: Sequence[Point],
        negative: Sequence[Point],
        box: tuple[float, float, float, float] | None = None,
        previous: np.ndarray | None = None,
        tuning: Tuning = PLAIN,
    ) -> np.ndarray:
        """bool (Y, X): the object under the positive points and not under the negative ones.

        `box` is (y0, x0, y1, x1); `previous` the bool mask of the last answer for the same object, or the
        object that is corrected. Without a positive point, a box or a previous mask the mask is empty. Raises
        `KeyError` when `key` is not prepared.
        """


@runtime_checkable
class Embeds(Protocol):
    """What a click method has besides if it computes for seconds what only depends on a slice and its weights: then
    that is done ahead, by the worker, and kept on disk."""

    def keep_in(self, cache: EmbeddingCache) -> None:
        """Look for what was computed in `cache`, and keep it there, from now on."""

    def is_embedded(self, image: np.ndarray) -> bool:
        """Whether what clicks on `image` (Y, X, C) need is in the cache. Loads no model."""

    def embed(self, image: np.ndarray) -> bool:
        """Compute what clicks on `image` (Y, X, C) will need, and keep it in the cache. False if it was there, or
        could not be kept."""


@runtime_checkable
class Carries(Protocol):
    """What a click method has besides if it has a way of its own to carry an object through a stack."""

    def propagate(
        self,
        key: Callable[[int], str],
        read: ReadSlice,
        volume: np.ndarray,
        z: int,
        replaced: Collection[int] = (),
        directions: Sequence[int] = (DOWN, UP),
        report: Report = silent,
        emptied: Collection[int] = (),
    ) -> np.ndarray:
        """bool (Z, Y, X): the whole object, carried on from slice `z` of `volume` bool (Z, Y, X). Which slices stay
        and how far it goes is as `volume.propagate` says. `key` names the slices as `prepare` takes them; none needs
        to be prepared. `report` is told of each slice, and may raise `Cancelled`."""


CLICK_SEGMENTERS: Registry[ClickSegmenter] = Registry(
    "click method",
    {
        "watershed": "alapp.stages.annotate.watershed:SeededWatershed",
        "micro_sam": "alapp.stages.annotate.microsam:MicroSamClicks",
        "sam2": "alapp.stages.annotate.sam2:Sam2Clicks",
    },
)


def choose_automatically(modality: Modality) -> tuple[str, str]:
    """The method for `auto`, and the reason as a sentence. Never downloads."""
    backend = CLICK_SEGMENTERS.load("micro_sam")
    if modality in backend.modalities and backend.status(modality).ready:
        weights = choice.for_clicks(modality)
        return "micro_sam", f"micro_sam with {weights.name}. {weights.reason}" if weights else "micro_sam is ready."
    return "watershed", "micro_sam has no weights on this computer, so the built-in seeded watershed is used."
