"""Typical patches: one from the middle of each group of patches that look alike.

TypiClust: Hacohen, Dekel & Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets",
ICML 2022 (arXiv 2202.02794), algorithm 1. With few labels typical examples teach more than rare ones; core-set, which
looks for what is unlike everything else, begins with the odd ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from alapp.errors import InputError
from alapp.stages.select.avoid import in_order
from alapp.stages.select.base import LIKENESS, Context, Need, Pick, Selection, candidate_rows
from alapp.stages.select.coreset import said

NEIGHBOURS = 20
"""Typicality is measured against so many nearest neighbours (section 3.2.2)."""

MOST_CLUSTERS = 500
SMALLEST_CLUSTER = 5
"""Smaller clusters are taken last (appendix F.1), in a small project those below half of the average size."""

MOST_ROWS = 20_000
"""Larger pools are clustered by a random sample of this size, with everything labelled in it up to a half."""


class Typical:
    """TypiClust: from the largest groups without a labelled patch, the one most like its neighbours."""

    title: ClassVar[str] = "Typical"
    suits: ClassVar[str] = "A good first batch: one ordinary patch from each group of patches that look alike."
    needs: ClassVar[frozenset[Need]] = LIKENESS
    uses_embeddings: ClassVar[bool] = True

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` picks from `embeddings` float (N, D), compared by their direction. Deterministic for `rng`.

        Raises `InputError` for rows that are not finite.
        """
        candidates = candidate_rows(embeddings, labelled, k, context)
        return typical(embeddings, labelled, candidates, min(k, len(candidates)), rng, context)


def typical(
    embeddings: np.ndarray,
    labelled: np.ndarray,
    candidates: np.ndarray,
    k: int,
    rng: np.random.Generator,
    context: Context,
) -> Selection:
    """TypiClust over `candidates`, `k` of them at most."""
    if k == 0:
        return Selection(())
    chosen = np.flatnonzero(labelled)
    sample = _sample(candidates, chosen, rng)
    vectors = _unit_rows(embeddings, sample)
    groups = _groups(vectors, min(len(chosen) + k, MOST_CLUSTERS), int(rng.integers(2**31)))
    is_free, is_labelled = np.isin(sample, candidates), labelled[sample]
    notes: dict[int, str] = {}

    def order() -> Iterator[int]:
        for index, words in _ranked(vectors, groups, is_free, is_labelled):
            notes[int(sample[index])] = words
            yield int(sample[index])
        # Only where the pool is so large that it was sampled, and nearly everything of the sample is taken.
        for row in np.setdiff1d(candidates, sample):
            notes[int(row)] = "from a part of the data set that was not grouped"
            yield int(row)

    found = in_order(order(), k, embeddings, chosen, context)
    return Selection(tuple(Pick(t.row, said(notes[t.row], t), t.distance, t.nearest) for t in found))


def _ranked(
    vectors: np.ndarray, groups: np.ndarray, is_free: np.ndarray, is_labelled: np.ndarray
) -> Iterator[tuple[int, str]]:
    """(index, why) of every free row, best first.

    Turn by turn a group gives its most typical row that is left: first the groups with the fewest labelled rows, of
    these the largest one (algorithm 1); a row that was given counts as labelled.
    """
    waiting: dict[int, list[int]] = {}
    sizes = np.bincount(groups)
    smallest = min(SMALLEST_CLUSTER, len(groups) / np.count_nonzero(sizes) / 2)
    taken = np.bincount(groups, weights=is_labelled, minlength=len(sizes)).astype(int)
    for group in np.unique(groups[is_free]):
        members = np.flatnonzero(groups == group)
        by_typicality = members[np.argsort(-_typicality(vectors[members]), kind="stable")]
        waiting[int(group)] = [int(index) for index in by_typicality if is_free[index]]
    while waiting:
        group = min(waiting, key=lambda g: (sizes[g] < smallest, taken[g], -sizes[g], g))
        index = waiting[group].pop(0)
        without = "" if taken[group] else ", of which none is labelled"
        yield index, f"the most typical of a group of {sizes[group]} patches that look alike{without}"
        taken[group] += 1
        if not waiting[group]:
            del waiting[group]


def _typicality(vectors: np.ndarray) -> np.ndarray:
    """Inverse of the mean distance to the nearest neighbours within a group (equation 3), float (n,); block by block,
    so that a large group needs little memory."""
    n = len(vectors)
    count = min(NEIGHBOURS, n - 1)
    if count == 0:
        return np.zeros(n)
    mean = np.empty(n)
    squares = (vectors**2).sum(axis=1)
    for start in range(0, n, 512):
        part = slice(start, min(start + 512, n))
        distance = np.sqrt(np.maximum(squares[part, None] + squares - 2 * vectors[part] @ vectors.T, 0))
        distance[np.arange(len(distance)), np.arange(part.start, part.stop)] = np.inf
        mean[part] = np.partition(distance, count - 1, axis=1)[:, :count].mean(axis=1)
    return 1 / np.maximum(mean, 1e-12)


def _groups(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The group of each row, int (n,), by k-means; rows that are alike share one."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if count >= len(vectors):
        return np.unique(vectors, axis=0, return_inverse=True)[1].ravel()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # fewer distinct rows than groups
        return KMeans(count, n_init=1, random_state=seed).fit_predict(vectors)


def _sample(candidates: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows to group, ascending: all of them, or a random sample of a large pool."""
    if len(candidates) + len(chosen) <= MOST_ROWS:
        return np.sort(np.concatenate([candidates, chosen]))
    kept = rng.permutation(chosen)[: MOST_ROWS // 2]
    return np.sort(np.concatenate([rng.permutation(candidates)[: MOST_ROWS - len(kept)], kept]))


def _unit_rows(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, float64 (n, D); rows of zeros stay."""
    vectors = np.asarray(embeddings[rows], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(f"The embedding in row {rows[bad[0]]} holds NaN or infinity. Compute the embeddings again.")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)
