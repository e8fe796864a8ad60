"""The protocol of a selection strategy, and the list of them. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from alapp.errors import InputError
from alapp.registry import Registry


@dataclass(frozen=True)
class Context:
    """What a strategy may know besides the embeddings.

    `foreground`: fraction of foreground in each patch by predictions or pseudo-labels, float (N,), or None.
    `excluded`: bool (N,), patches that must not be picked (validation, vetoed, skipped), or None.
    """

    foreground: np.ndarray | None = None
    excluded: np.ndarray | None = None


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
    uses_foreground: ClassVar[bool]
    """Whether it looks at `Context.foreground`, which takes reading every label map."""

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` rows of `embeddings` float32 (N, D) that are neither `labelled` bool (N,) nor excluded.

        Fewer than `k` when fewer are left; rows never repeat.
        """


def candidate_rows(embeddings: np.ndarray, labelled: np.ndarray, k: int, context: Context) -> np.ndarray:
    """int64 rows that may be picked: neither labelled nor excluded, ascending.

    Raises `InputError` for a negative `k` and `ValueError` where the shapes do not fit together.
    """
    n = len(embeddings)
    if k < 0:
        raise InputError(f"The number of patches to select must be 0 or more, not {k}.")
    for name, array in (("labelled", labelled), ("excluded", context.excluded), ("foreground", context.foreground)):
        if array is not None and np.shape(array) != (n,):
            raise ValueError(f"{name} has shape {np.shape(array)}, expected ({n},)")
    free = ~np.asarray(labelled, dtype=bool)
    if context.excluded is not None:
        free &= ~np.asarray(context.excluded, dtype=bool)
    return np.flatnonzero(free)


SELECTORS: Registry[Selector] = Registry(
    "selection strategy",
    {
        "coreset": "alapp.stages.select.coreset:CoreSet",
        "random": "alapp.stages.select.baselines:Random",
        "foreground_random": "alapp.stages.select.baselines:ForegroundRandom",
    },
)
