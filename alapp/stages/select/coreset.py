"""Greedy core-set selection: the patch farthest from everything labelled, again and again.

Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
algorithm 1 (k-centre greedy), with the cosine distance:

    repeat k times:  u = argmax over candidates i of  min over centres j of  d(x_i, x_j);  add u to the centres

`kcentre` computes it exactly, without the n x n matrix.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from alapp.stages.select.avoid import Avoid, Taken, farthest_first, in_order
from alapp.stages.select.base import LIKENESS, Context, Need, Pick, Selection, candidate_rows
from alapp.stages.select.kcentre import NearestCentre

RANDOM_START = 3
"""Patches drawn at random while nothing is labelled."""


class CoreSet:
    """k-centre greedy with cosine distance; the first three picks are random while nothing is labelled."""

    title: ClassVar[str] = "Core-set"
    suits: ClassVar[str] = "Few patches that stand for all: each pick is the one least like what is labelled."
    needs: ClassVar[frozenset[Need]] = LIKENESS
    uses_embeddings: ClassVar[bool] = True

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` picks from `embeddings` float (N, D), which need not be normalised and may be memory-mapped.

        Ties go to the lowest row. Rows of zeros have no direction: they are at distance 0 from each other and 1 from
        everything else. Memory beyond the embeddings is O(N). Raises `InputError` for rows that are not finite.
        """
        candidates = candidate_rows(embeddings, labelled, k, context)
        return weighted(embeddings, labelled, candidates, min(k, len(candidates)), rng, context)


def weighted(
    embeddings: np.ndarray,
    labelled: np.ndarray,
    candidates: np.ndarray,
    k: int,
    rng: np.random.Generator,
    context: Context,
    weights: np.ndarray | None = None,
) -> Selection:
    """Core-set over `candidates`, `k` of them at most, with the distances multiplied by `weights`: float (N,), above 0
    and at most 1."""
    if k == 0:
        return Selection(())
    centres = np.flatnonzero(labelled)
    picks: list[Pick] = []
    if len(centres) == 0:
        size = min(RANDOM_START, k)
        drawn = rng.choice(candidates, size=size, replace=False)
        order = np.concatenate([drawn, rng.permutation(np.setdiff1d(candidates, drawn))])  # in case some are avoided
        start = in_order(order, size, embeddings, centres, context)
        picks = [Pick(taken.row, said("random start", taken)) for taken in start]
        centres = np.array([pick.row for pick in picks])
    nearest = NearestCentre(embeddings, candidates, centres, weights)
    found = farthest_first(nearest, k - len(picks), Avoid(context, len(embeddings), centres))
    against = "everything labelled" if labelled.any() else "everything picked"
    for taken in found:
        reason = f"farthest from {against}: cosine distance {taken.distance:.2f}"
        picks.append(Pick(taken.row, said(reason, taken), taken.distance, taken.nearest))
        against = "everything labelled or picked" if labelled.any() else "everything picked"
    return Selection(tuple(picks))


def instead(
    why: str, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
) -> Selection:
    """Core-set for a strategy that does not know enough yet; every reason begins with `why`."""
    picks = CoreSet()(embeddings, labelled, k, rng, context).picks
    return Selection(tuple(replace(pick, reason=f"{why}, so chosen as by core-set: {pick.reason}") for pick in picks))


def said(reason: str, taken: Taken) -> str:
    """A reason with what there is to say about what was passed over."""
    return f"{reason}; {taken.note}" if taken.note else reason
