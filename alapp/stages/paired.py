"""Whether two models differ by more than chance on the same patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from alapp.domain import InstanceScores
from alapp.stages.jackknife import combined, spread
from alapp.stages.metrics import MIN_PATCHES, pool

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """F1 at IoU 0.5, all objects pooled, before and after, on `n` patches; `interval` is the 95% interval of
    `after - before`, None below `MIN_PATCHES` patches."""

    n: int
    before: float
    after: float
    interval: tuple[float, float] | None

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before

    @property
    def better(self) -> bool:
        """Whether it rose by more than chance."""
        return self.interval is not None and self.interval[0] > 0

    @property
    def worse(self) -> bool:
        """Whether it fell by more than chance."""
        return self.interval is not None and self.interval[1] < 0


def paired_difference(before: Sequence[InstanceScores], after: Sequence[InstanceScores]) -> Difference:
    """The difference between two models that were scored on the same patches, in the same order.

    The interval is Student's t with the jackknife over patches, which are left out in pairs, so that what makes a patch
    hard for both cancels out. It is never narrower than if every object that only one of them found had been found by
    chance (McNemar 1947): patches that happen to agree do not make a difference certain. Raises `ValueError` for lists
    that are empty or differ in length.
    """
    if len(before) != len(after):
        raise ValueError(f"The models have scores on different patches: {len(before)} and {len(after)}.")
    first, second = pool(before).f1_50, pool(after).f1_50
    if len(before) < MIN_PATCHES:
        return Difference(len(before), first, second, None)
    both = np.hstack([counts(before), counts(after)])
    half = max(spread(both, lambda sums: f1_of_sums(sums[..., 2:]) - f1_of_sums(sums[..., :2])).half, _floor(both))
    change = second - first
    return Difference(len(before), first, second, (max(change - half, -1.0), min(change + half, 1.0)))


def _floor(both: np.ndarray) -> float:
    """Half the width of the 95% interval if every object, of float (n, 4) `counts` by two models, that only one of them
    found were found by chance. F1 is the share of objects found, if what was only missed, or invented, counts half."""
    found, mistakes = np.abs(both[:, 2:] - both[:, :2]).sum(axis=0)
    sums = both.sum(axis=0)
    of = max(sums[0] + sums[1] / 2, sums[2] + sums[3] / 2, 1)
    return float(ndtri(0.975) * np.sqrt(max(found + mistakes / 2, 1) / 2) / of)


def probability_lower(first: Sequence[InstanceScores], second: Sequence[InstanceScores]) -> float:
    """How likely F1 of `second` is lower than that of `first`, in [0, 1], by the bootstrap over patches, drawn in
    pairs (Efron 1979); ties count half.

    With few patches it is too sure of itself. Raises `ValueError` for lists that are empty or differ in length.
    """
    if not first or len(first) != len(second):
        raise ValueError(f"A paired comparison needs the same images: {len(first)} and {len(second)} were given.")
    rows = np.random.default_rng(0).integers(0, len(first), (RESAMPLES, len(first)))
    before, after = (f1_of_sums(counts(parts)[rows].sum(axis=1)) for parts in (first, second))
    return float(np.mean(after < before) + 0.5 * np.mean(after == before))


def unpaired_interval(first: Sequence[InstanceScores], second: Sequence[InstanceScores]) -> tuple[float, float]:
    """The 95% interval of F1 of `first` minus F1 of `second`, of different patches: Student's t with the jackknife over
    the patches of each, not narrower than `chance_variance` allows. Raises `ValueError` for fewer than two patches of
    either."""
    tables = [counts(parts) for parts in (first, second)]
    least = sum(chance_variance(table.sum(axis=0)) for table in tables)
    half = max(combined([spread(table, f1_of_sums) for table in tables]).half, float(ndtri(0.975) * np.sqrt(least)))
    change = pool(first).f1_50 - pool(second).f1_50
    return max(change - half, -1.0), min(change + half, 1.0)


def chance_variance(sums: np.ndarray) -> float:
    """The variance of F1 of (2,) `counts` if every object were found or not for itself: patches that happen to agree do
    not make a score certain. Half an object is added to those found and to those not (Anscombe 1956)."""
    found, missed = sums[0] + 0.5, sums[1] / 2 + 0.5
    return float(found * missed / (found + missed) ** 3)


def counts(parts: Sequence[InstanceScores]) -> np.ndarray:
    """float64 (n, 2) at IoU 0.5: objects found, and mistakes (missed and invented), of each patch."""
    return np.array([(part.tp_50, part.fp_50 + part.fn_50) for part in parts], dtype=float)


def f1_of_sums(sums: np.ndarray) -> np.ndarray:
    """F1 of float (..., 2) `counts`. Nothing of both is perfect."""
    tp, wrong = np.moveaxis(sums, -1, 0)
    return np.where(tp + wrong > 0, 2 * tp / np.maximum(2 * tp + wrong, 1), 1.0)
