"""How varied a batch is, and how well it represents the images, against random batches of the same size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RANDOM_BATCHES = 200
COVERED_PATCHES = 2000
"""Coverage is measured on at most this many patches, drawn at random, so that a large project takes no longer."""


@dataclass(frozen=True)
class Variety:
    """`spread`: mean cosine distance between two patches of the batch; `cover`: mean cosine distance of all patches to
    the nearest labelled one, the batch included. `random_spread` and `random_cover` float64 (`RANDOM_BATCHES`,): the
    same of random batches."""

    spread: float
    cover: float
    random_spread: np.ndarray
    random_cover: np.ndarray


def variety(batch: np.ndarray, pool: np.ndarray, labelled: np.ndarray, seed: int = 0) -> Variety:
    """Compare a batch with what chance would have picked. Deterministic for a seed.

    float32 rows of length 1: `batch` (k, D) with k of at least 2; `pool` (N, D) of all patches it could be picked from,
    the batch among them; `labelled` (M, D) of the patches that were labelled before, M may be 0.
    """
    rng = np.random.default_rng(seed)
    n = len(pool)
    drawn = [pool[np.sort(rng.permutation(n)[: len(batch)])] for _ in range(RANDOM_BATCHES)]
    sample = np.asarray(pool[np.sort(rng.permutation(n)[:COVERED_PATCHES])])
    base = nearest(sample, labelled)

    def covered(by: np.ndarray) -> float:
        return float(np.minimum(base, nearest(sample, by)).mean())

    return Variety(
        spread(batch),
        covered(batch),
        np.array([spread(one) for one in drawn]),
        np.array([covered(one) for one in drawn]),
    )


def spread(vectors: np.ndarray) -> float:
    """Mean cosine distance of all pairs of rows (k, D) of length 1; k is at least 2."""
    k, total = len(vectors), vectors.sum(axis=0, dtype=np.float64)
    alike = (total @ total - (np.asarray(vectors, np.float64) ** 2).sum()) / (k * (k - 1))
    return float(1 - alike)


def nearest(points: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float (N,): cosine distance of each row of `points` (N, D) to the nearest of `chosen` (M, D); rows have length 1.
    2, the largest distance there is, where `chosen` is empty."""
    return 1 - (points @ chosen.T).max(axis=1) if len(chosen) else np.full(len(points), 2.0)
