"""The protocol of a selection strategy, and the list of them. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

import numpy as np

from alapp.errors import InputError
from alapp.registry import Registry


class Need(StrEnum):
    """What a strategy may ask to know of every patch; the value names the field of `Context` that holds it."""

    FOREGROUND = "foreground"
    CONTRAST = "contrast"
    CONTENT = "content"
    PLACE = "place"
    UNCERTAINTY = "uncertainty"
    MUTUAL_INFORMATION = "mutual_information"
    CLASS_ENTROPY = "class_entropy"
    COST = "cost"
    ROUND_NUMBER = "round_number"


LIKENESS = frozenset({Need.CONTRAST, Need.CONTENT, Need.PLACE, Need.FOREGROUND})
"""What it takes to avoid patches that are almost empty or show the same (`avoid`)."""


@dataclass(frozen=True)
class Context:
    """What a strategy may know besides the embeddings; None where it is not known or nobody asked for it.

    `foreground`: fraction of foreground in each patch by predictions or pseudo-labels, float (N,).
    `excluded`: bool (N,), patches that must not be picked (validation, vetoed, skipped).
    `contrast`: how much the gray values of each patch differ, pixel noise left out, float (N,), 0 for a uniform one;
    as if all images were exposed alike (`measures.evened`).
    `content`: int64 (N,), equal for patches with equal pixels.
    `place`: int64 (N, 7), where each patch lies: a number of its image, start (z, y, x) and size (z, y, x).
    `uncertainty`: mean over the pixels of each patch of the entropy of the model's prediction, averaged over mirrored
    copies, as a share of the largest possible one, float (N,) in [0, 1]. `mutual_information`: how far the mirrored
    copies disagree, in the same unit. `class_entropy`: `uncertainty` over the pixels that the model gives to each
    class, float (N, K), NaN where there is none; class 0 is the background.
    `cost`: expected seconds of annotation, float (N,), above 0.
    `round_number`: from 1.
    """

    foreground: np.ndarray | None = None
    excluded: np.ndarray | None = None
    contrast: np.ndarray | None = None
    content: np.ndarray | None = None
    place: np.ndarray | None = None
    uncertainty: np.ndarray | None = None
    mutual_information: np.ndarray | None = None
    class_entropy: np.ndarray | None = None
    cost: np.ndarray | None = None
    round_number: int | None = None


@dataclass(frozen=True)
class Pick:
    """Why a patch was picked. `distance` to the nearest labelled or earlier picked patch (cosine, 0..2) and
    the row of that patch, where the strategy knows them."""

    row: int
    reason: str
    distance: float | None = None
    nearest: int | None = None


@dataclass(frozen=True)
class Selection:
    """Picks in order."""

    picks: Sequence[Pick] = field(default_factory=tuple)

    @property
    def rows(self) -> np.ndarray:
        """int64 (k,)"""
        return np.array([pick.row for pick in self.picks], dtype=np.int64)


class Selector(Protocol):
    """Picks patches. Pure: the same arguments give the same picks."""

    title: ClassVar[str]
    suits: ClassVar[str]
    needs: ClassVar[frozenset[Need]]
    """What it looks at in the context. Each takes time to find out, so nothing else is."""
    uses_embeddings: ClassVar[bool]
    """Whether it looks at the embeddings, and not only at how many there are."""

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` rows of `embeddings` float32 (N, D) that are neither `labelled` bool (N,) nor excluded.

        Fewer than `k` when fewer are left; rows never repeat. What the strategy needs may be None in the context
        (before the first model, say): it then falls back, and the reasons say why.
        """


def candidate_rows(embeddings: np.ndarray, labelled: np.ndarray, k: int, context: Context) -> np.ndarray:
    """int64 rows that may be picked: neither labelled nor excluded, ascending.

    Raises `InputError` for a negative `k` and `ValueError` where the shapes do not fit together.
    """
    n = len(embeddings)
    if k < 0:
        raise InputError(f"The number of patches to select must be 0 or more, not {k}.")
    arrays = {name: value for name, value in vars(context).items() if name != Need.ROUND_NUMBER}
    for name, array in {"labelled": labelled, **arrays}.items():
        wide = {Need.CLASS_ENTROPY: np.shape(array)[1:2], Need.PLACE: (7,)}
        expected = (n, *wide.get(name, ()))
        if array is not None and np.shape(array) != expected:
            raise ValueError(f"{name} has shape {np.shape(array)}, expected {expected}")
    free = ~np.asarray(labelled, dtype=bool)
    if context.excluded is not None:
        free &= ~np.asarray(context.excluded, dtype=bool)
    return np.flatnonzero(free)


SELECTORS: Registry[Selector] = Registry(
    "selection strategy",
    {
        "auto": "alapp.stages.select.auto:Auto",
        "coreset": "alapp.stages.select.coreset:CoreSet",
        "typical": "alapp.stages.select.typical:Typical",
        "coreset_uncertainty": "alapp.stages.select.coreset_uncertainty:CoreSetUncertainty",
        "coreset_cost": "alapp.stages.select.coreset_cost:CoreSetCost",
        "entropy": "alapp.stages.select.entropy:Entropy",
        "bald": "alapp.stages.select.bald:Bald",
        "clasp": "alapp.stages.select.clasp:Clasp",
        "foreground_random": "alapp.stages.select.foreground_random:ForegroundRandom",
        "random": "alapp.stages.select.uniform:Random",
    },
)
