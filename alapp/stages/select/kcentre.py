"""The row that is farthest from its nearest centre, again and again: the machinery of greedy core-sets.

Exact, without the n x n matrix. A candidate's distance to its nearest centre only shrinks as centres are added, so a
distance that ignores the latest centres is an upper bound. Rows are handled in blocks; a block is brought up to date
only when its largest bound could still win (the lazy evaluation of Minoux 1978, here by blocks). No pair of
row and centre is ever computed twice, so this never costs more than the plain algorithm. Memory beyond the embeddings
is O(N); embeddings that are memory-mapped stay so.
"""

from __future__ import annotations

import numpy as np

from alapp.errors import InputError

TIE = 1e-12
"""Distances closer than this are equal: they differ only by the order of the sums in float64."""

_BLOCK_BYTES = 2**19
_SMALL_BYTES = 2**26
_CENTRES_AT_ONCE = 512
_FEW_CENTRES = 4


class NearestCentre:
    """Upper bounds on every row's cosine distance to its nearest centre, made exact where it matters.

    `embeddings` float (N, D), which need not be normalised; rows of zeros have no direction: they are at distance 0
    from each other and 1 from everything else. `candidates` and `centres` are rows. `weights` float (N,), above 0 and
    at most 1 for candidates, multiply the distances when they are compared; by default all are 1. Raises `InputError`
    for rows that are not finite.
    """

    def __init__(
        self, embeddings: np.ndarray, candidates: np.ndarray, centres: np.ndarray, weights: np.ndarray | None = None
    ):
        # `bound` float64 (N,): inf for rows that no centre was compared with. A block that has seen `seen[b]` centres
        # of `centres` has exact distances to those. `open` bool (N,): rows that may be returned.
        n, width = embeddings.shape
        # Blocks are computed in float64; a small matrix is converted once, a large one block by block.
        self.embeddings = (
            np.asarray(embeddings, dtype=np.float64) if 8 * embeddings.size <= _SMALL_BYTES else embeddings
        )
        self.rows_per_block = max(64, _BLOCK_BYTES // (8 * max(width, 1)))
        self.centres = [int(row) for row in centres]
        self.weights = None if weights is None else np.asarray(weights, dtype=np.float64)
        self.norms = self._norms()
        self.bound = np.full(n, np.inf)
        self.nearest = np.full(n, -1, dtype=np.int64)
        self.open = np.zeros(n, dtype=bool)
        self.seen = np.zeros(-(-n // self.rows_per_block), dtype=np.int64)
        self.block_bound = np.full(len(self.seen), -np.inf)
        self.lightest = 1.0 if weights is None else float(self.weights[candidates].min(initial=1.0))
        self.allow(candidates)

    def allow(self, rows: np.ndarray) -> None:
        """From now on only `rows` that are not centres may be returned."""
        self.open[:] = False
        self.open[rows] = True
        self.open[self.centres] = False
        for block in range(len(self.seen)):
            self.block_bound[block] = self._scores(self._rows(block)).max(initial=-np.inf)

    def farthest(self) -> tuple[int, float, int] | None:
        """The candidate with the largest weighted distance to its nearest centre: row, distance without its weight,
        row of that centre (-1 and a distance of inf without any centre). Ties go to the lowest row. None when no
        candidate is left."""
        while True:
            block = int(np.argmax(self.block_bound)) if len(self.block_bound) else -1
            if block < 0 or self.block_bound[block] == -np.inf:
                return None
            best = self.block_bound[block]
            if self.seen[block] == len(self.centres):
                break
            self._update(block)
        for block in np.flatnonzero(self.block_bound >= best - TIE):
            self._update(int(block))
            if self.block_bound[block] >= best - TIE:
                rows = self._rows(int(block))
                row = rows.start + int(np.argmax(self._scores(rows) >= best - TIE))
                return row, float(self.bound[row]), int(self.nearest[row])
        raise AssertionError("the block with the largest bound was up to date")

    def add(self, row: int) -> None:
        """Make `row` a centre."""
        self.centres.append(row)
        self.drop(row)

    def drop(self, row: int) -> None:
        """Do not return `row` any more."""
        self.open[row] = False
        block = row // self.rows_per_block
        self.block_bound[block] = self._scores(self._rows(block)).max()

    def weight(self, row: int) -> float:
        """By what the distance of a row is multiplied."""
        return 1.0 if self.weights is None else float(self.weights[row])

    def _rows(self, block: int) -> slice:
        return slice(block * self.rows_per_block, min((block + 1) * self.rows_per_block, len(self.bound)))

    def _scores(self, rows: slice) -> np.ndarray:
        """What is compared, float64 (rows,): -inf for rows that may not be returned."""
        weighted = self.bound[rows] if self.weights is None else self.bound[rows] * self.weights[rows]
        return np.where(self.open[rows], weighted, -np.inf)

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
        self.block_bound[block] = self._scores(rows).max()

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
