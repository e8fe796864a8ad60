"""Greedy core-set selection: the patch farthest from everything labelled, again and again.

Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
algorithm 1 (k-centre greedy), with the cosine distance:

    repeat k times:  u = argmax over candidates i of  min over centres j of  d(x_i, x_j);  add u to the centres

Exact, without the n x n matrix. A candidate's distance to its nearest centre only shrinks as centres are added, so a
distance that ignores the latest centres is an upper bound. Rows are handled in blocks; a block is brought up to date
only when its largest bound could still win (the lazy evaluation of Minoux 1978, here by blocks). No pair of
row and centre is ever computed twice, so this never costs more than the plain algorithm.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alapp.errors import InputError
from alapp.stages.select.base import Context, Pick, Selection, candidate_rows

RANDOM_START = 3
"""Patches drawn at random while nothing is labelled."""

TIE = 1e-12
"""Distances closer than this are equal: they differ only by the order of the sums in float64."""

_BLOCK_BYTES = 2**19
_SMALL_BYTES = 2**26
_CENTRES_AT_ONCE = 512
_FEW_CENTRES = 4


class CoreSet:
    """k-centre greedy with cosine distance; the first three picks are random while nothing is labelled."""

    title: ClassVar[str] = "Core-set"
    suits: ClassVar[str] = "Covers the whole data set with few patches: each pick is the one least like all labelled."
    uses_foreground: ClassVar[bool] = False

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` picks from `embeddings` float (N, D), which need not be normalised and may be memory-mapped.

        Ties go to the lowest row. Rows of zeros have no direction: they are at distance 0 from each other and 1 from
        everything else. Memory beyond the embeddings is O(N). Raises `InputError` for rows that are not finite.
        """
        candidates = candidate_rows(embeddings, labelled, k, context)
        k = min(k, len(candidates))
        if k == 0:
            return Selection(())
        centres = np.flatnonzero(labelled)
        picks: list[Pick] = []
        if len(centres) == 0:
            start = rng.choice(candidates, size=min(RANDOM_START, k), replace=False)
            picks = [Pick(int(row), "random start") for row in start]
            centres = start
        against = "everything labelled" if labelled.any() else "everything picked"
        nearest = _NearestCentre(embeddings, candidates, centres)
        while len(picks) < k:
            row, distance, centre = nearest.farthest()
            nearest.add(row)
            picks.append(Pick(row, f"farthest from {against}: cosine distance {distance:.2f}", distance, centre))
            against = "everything labelled or picked" if labelled.any() else "everything picked"
        return Selection(tuple(picks))


class _NearestCentre:
    """Upper bounds on every candidate's distance to its nearest centre, made exact where it matters.

    `bound` float64 (N,): -inf for rows that cannot be picked. A block that has seen `seen[b]` centres of
    `centres` has exact distances to those.
    """

    def __init__(self, embeddings: np.ndarray, candidates: np.ndarray, centres: np.ndarray):
        n, width = embeddings.shape
        # Blocks are computed in float64; a small matrix is converted once, a large one block by block.
        self.embeddings = (
            np.asarray(embeddings, dtype=np.float64) if 8 * embeddings.size <= _SMALL_BYTES else embeddings
        )
        self.rows_per_block = max(64, _BLOCK_BYTES // (8 * max(width, 1)))
        self.centres = [int(row) for row in centres]
        self.norms = self._norms()
        self.bound = np.full(n, -np.inf)
        self.bound[candidates] = np.inf
        self.bound[centres] = -np.inf
        self.nearest = np.full(n, -1, dtype=np.int64)
        starts = np.arange(0, n, self.rows_per_block)
        self.block_bound = np.maximum.reduceat(self.bound, starts)
        self.seen = np.zeros(len(starts), dtype=np.int64)

    def farthest(self) -> tuple[int, float, int]:
        """The candidate with the largest distance to its nearest centre: row, distance, row of that centre."""
        while True:
            block = int(np.argmax(self.block_bound))
            best = self.block_bound[block]
            if self.seen[block] == len(self.centres):
                break
            self._update(block)
        for block in np.flatnonzero(self.block_bound >= best - TIE):
            self._update(int(block))
            if self.block_bound[block] >= best - TIE:
                rows = self._rows(int(block))
                row = rows.start + int(np.argmax(self.bound[rows] >= best - TIE))
                return row, float(self.bound[row]), int(self.nearest[row])
        raise AssertionError("the block with the largest bound was up to date")

    def add(self, row: int) -> None:
        """Make `row` a centre."""
        self.centres.append(row)
        self.bound[row] = -np.inf
        block = row // self.rows_per_block
        self.block_bound[block] = self.bound[self._rows(block)].max()

    def _rows(self, block: int) -> slice:
        return slice(block * self.rows_per_block, min((block + 1) * self.rows_per_block, len(self.bound)))

    def _norms(self) -> np.ndarray:
        """Euclidean norm of every row, float64 (N,)."""
        norms = np.empty(len(self.embeddings))
        for start in range(0, len(norms), self.rows_per_block):
            block = np.asarray(self.embeddings[start : start + self.rows_per_block], dtype=np.float64)
            norms[start : start + len(block)] = np.sqrt(np.einsum("ij,ij->i", block, block))
        bad = np.flatnonzero(~np.isfinite(norms))
        if len(bad):
            raise InputError(f"The embedding in row {bad[0]} holds NaN or infinity. Compute the embeddings again.")
        return norms

    def _update(self, block: int) -> None:
        """Bring a block's distances up to date with all centres."""
        rows = self._rows(block)
        values = None
        while self.seen[block] < len(self.centres):
            if values is None:
                values = np.asarray(self.embeddings[rows], dtype=np.float64)
            first = self.seen[block]
            chosen = np.array(self.centres[first : first + _CENTRES_AT_ONCE])
            distance = self._distance(values, self.norms[rows], chosen)
            column = distance.argmin(axis=1)
            smallest = distance[np.arange(len(values)), column]
            closer = smallest < self.bound[rows]
            self.bound[rows][closer] = smallest[closer]
            self.nearest[rows][closer] = chosen[column[closer]]
            self.seen[block] += len(chosen)
        self.block_bound[block] = self.bound[rows].max()

    def _distance(self, values: np.ndarray, norms: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Cosine distance of a block's rows to the centres `chosen`, float64 (rows, centres), in [0, 2]."""
        centres = np.asarray(self.embeddings[chosen], dtype=np.float64)
        if len(chosen) <= _FEW_CENTRES:
            # BLAS would share so little work among threads that waiting for them costs more on a busy machine.
            distance = np.stack([np.einsum("ij,j->i", values, centre) for centre in centres], axis=1)
        else:
            distance = values @ centres.T
        distance /= np.where(norms > 0, norms, 1)[:, None]
        centre_norms = self.norms[chosen]
        distance /= np.where(centre_norms > 0, centre_norms, 1)
        np.subtract(1, distance, out=distance)
        np.maximum(distance, 0, out=distance)
        np.minimum(distance, 2, out=distance)
        if not centre_norms.all():
            distance[np.ix_(norms == 0, centre_norms == 0)] = 0
        return distance
