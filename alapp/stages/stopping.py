"""Whether one more batch of labels is worth it: what the score would gain, how much of the data the labels reach, and
whether the predictions still change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alapp.domain import InstanceScores
from alapp.stages.jackknife import spread
from alapp.stages.metrics import pool, score_instances
from alapp.stages.paired import MIN_PATCHES, counts, f1_of_sums

SETTLED = 0.99
"""Kappa from which on the predictions of two successive models count as the same (Bloodgood & Vijay-Shanker 2009,
"A Method for Stopping Active Learning Based on Stabilizing Predictions", arXiv 1409.5165)."""

PERFECT = 0.99
"""Better scores are taken for this: the logarithm would make one lucky round decide the slope."""

_BLOCK = 4096


@dataclass(frozen=True)
class Gain:
    """What so many more labelled patches would add to F1 at IoU 0.5, if the curve goes on as it went. `interval`: the
    95% interval of `expected`, None below `MIN_PATCHES` validation patches, of which there are `n`."""

    expected: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Reach:
    """How far the unlabelled patches are from the labelled ones, as cosine distances in [0, 2]: of the patch farthest
    from its nearest labelled one (the radius of the core-set), and of all on average."""

    radius: float
    mean: float


@dataclass(frozen=True)
class Change:
    """What differs between the predictions of two models on the same `n` patches. `pixels`: the share that one calls
    object and the other background; `kappa`: their agreement on pixels beyond chance (Cohen 1960), at most 1;
    `objects`: 1 - F1 at IoU 0.5 of the objects of one against those of the other; `empty`: neither finds an object."""

    n: int
    pixels: float
    kappa: float
    objects: float
    empty: bool = False

    @property
    def settled(self) -> bool | None:
        """Whether the two models say the same; None where neither finds an object: models that learned nothing yet
        agree as well."""
        return None if self.empty else self.kappa >= SETTLED


def gain_of_more(sizes: Sequence[int], scores: Sequence[Sequence[InstanceScores]], more: int) -> Gain | None:
    """What `more` patches on top of `sizes[-1]` would gain.

    `sizes`: labelled patches of each round, ascending; `scores`: of each round's model, on the same validation patches
    in the same order. A power law, 1 - F1 = exp(a) n^b (Hestness et al. 2017, arXiv 1712.00409), is fitted to all
    rounds by least squares on logarithms; the gain is read from the fit at both ends, so that luck of the last round
    does not count twice. The interval is Student's t with the jackknife over validation patches, each left out of
    all rounds: it tells how well the slope is known from so few patches, not how training varies. On made curves it
    holds the true gain in 95 to 99% of cases, in 91 to 97% where F1 of a training varies by 0.02
    (`python -m benchmarks.stopping`).

    None with fewer than two different sizes, without validation patches, and where these show no object or the newest
    model found none of them: a curve that has not begun to rise looks as flat as one that has ended.
    """
    rounds = [(n, list(parts)) for n, parts in zip(sizes, scores, strict=True) if n > 0]
    if len({n for n, _ in rounds}) < 2 or not any(part.tp_50 for part in rounds[-1][1]):
        return None
    n = len(rounds[0][1])
    logs = np.log([size for size, _ in rounds])
    ahead = float(np.log(rounds[-1][0] + more))
    expected = _gains(logs, np.array([[pool(parts).f1_50 for _, parts in rounds]]), ahead)[0]
    if n < MIN_PATCHES:
        return Gain(float(expected), None, n)
    known = np.hstack([counts(parts) for _, parts in rounds])

    def gains(sums: np.ndarray) -> np.ndarray:
        return _gains(logs, f1_of_sums(sums.reshape(*sums.shape[:-1], len(rounds), 2)), ahead)

    half = spread(known, gains).half
    return Gain(float(expected), (float(expected - half), float(expected + half)), n)


def _gains(logs: np.ndarray, f1: np.ndarray, ahead: float) -> np.ndarray:
    """float64 (S,): for each row of `f1` (S, rounds), the fit at `ahead` minus the fit at the last of `logs`."""
    wrong = np.log(1 - np.minimum(f1, PERFECT))
    centred = logs - logs.mean()
    slope = wrong @ centred / (centred @ centred)
    start = wrong.mean(axis=1) - slope * logs.mean()
    return np.exp(start + slope * logs[-1]) - np.exp(start + slope * ahead)


def reach_by_round(vectors: np.ndarray, labelled_in: np.ndarray, rounds: Sequence[int]) -> list[Reach]:
    """How far the labels of each round and all before reached.

    `vectors` float (N, D), need not be normalised, may be memory-mapped; `labelled_in` int (N,): the round in which a
    patch was labelled for training, 0 for one that was not. Memory beyond `vectors` is O(N). A round up to which
    nothing, or everything, is labelled has `Reach(2, 2)` or `Reach(0, 0)`. The radius is that of Sener & Savarese 2018.
    """
    n = len(vectors)
    nearest = np.full(n, 2.0)
    found = []
    before = 0
    for number in rounds:
        added = np.flatnonzero((labelled_in > before) & (labelled_in <= number))
        if len(added):
            centres = _unit(vectors[added])
            for start in range(0, n, _BLOCK):
                distance = 1 - (_unit(vectors[start : start + _BLOCK]) @ centres.T).max(axis=1)
                nearest[start : start + _BLOCK] = np.minimum(nearest[start : start + _BLOCK], np.clip(distance, 0, 2))
        free = (labelled_in == 0) | (labelled_in > number)
        found.append(Reach(float(nearest[free].max()), float(nearest[free].mean())) if free.any() else Reach(0.0, 0.0))
        before = number
    return found


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def changed(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Change | None:
    """What differs between the predictions of two models, all patches pooled; None without patches.

    `pairs`: int32 (Y, X) or (Z, Y, X) of the same patch by either model, 0 background.
    """
    table = np.zeros((2, 2))
    parts: list[InstanceScores] = []
    for before, after in pairs:
        table += np.bincount(2 * (before > 0).ravel() + (after > 0).ravel(), minlength=4).reshape(2, 2)
        parts.append(score_instances(before, after))
    if not parts:
        return None
    shares = table / table.sum()
    same = float(np.trace(shares))
    chance = float(shares.sum(axis=0) @ shares.sum(axis=1))
    # Two models that both see nothing at all, or nothing else, agree.
    kappa = (same - chance) / (1 - chance) if chance < 1 else 1.0
    pooled = pool(parts)
    return Change(len(parts), 1 - same, kappa, 1 - pooled.f1_50, empty=not (pooled.n_true or pooled.n_pred))
