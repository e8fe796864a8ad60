"""Whether two models differ by more than chance on the same patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alapp.domain import InstanceScores
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

    The interval is the percentile bootstrap over patches, which are drawn in pairs (Efron 1979), so that what makes
    a patch hard for both cancels out. Deterministic. Raises `ValueError` for lists that are empty or differ in length.
    """
    if len(before) != len(after):
        raise ValueError(f"The models have scores on different patches: {len(before)} and {len(after)}.")
    interval = None
    if len(before) >= MIN_PATCHES:
        rows = np.random.default_rng(0).integers(0, len(before), (RESAMPLES, len(before)))
        low, high = np.quantile(resampled_f1(after, rows) - resampled_f1(before, rows), (0.025, 0.975))
        interval = (float(low), float(high))
    return Difference(len(before), pool(before).f1_50, pool(after).f1_50, interval)


def probability_lower(first: Sequence[InstanceScores], second: Sequence[InstanceScores]) -> float:
    """How likely F1 of `second` is lower than that of `first`, in [0, 1], by the bootstrap of `paired_difference`; ties
    count half.

    With few patches it is too sure of itself. Raises `ValueError` for lists that are empty or differ in length.
    """
    if not first or len(first) != len(second):
        raise ValueError(f"A paired comparison needs the same images: {len(first)} and {len(second)} were given.")
    rows = np.random.default_rng(0).integers(0, len(first), (RESAMPLES, len(first)))
    before, after = resampled_f1(first, rows), resampled_f1(second, rows)
    return float(np.mean(after < before) + 0.5 * np.mean(after == before))


def unpaired_interval(first: Sequence[InstanceScores], second: Sequence[InstanceScores]) -> tuple[float, float]:
    """The 95% interval of F1 of `first` minus F1 of `second`, of different patches: both are resampled, each for
    itself. Raises `ValueError` for empty lists."""
    if not first or not second:
        raise ValueError("There is nothing to resample.")
    rng = np.random.default_rng(0)
    drawn = [resampled_f1(parts, rng.integers(0, len(parts), (RESAMPLES, len(parts)))) for parts in (first, second)]
    low, high = np.quantile(drawn[0] - drawn[1], (0.025, 0.975))
    return float(low), float(high)


def resampled_f1(parts: Sequence[InstanceScores], rows: np.ndarray) -> np.ndarray:
    """float64 (resamples,): pooled F1 of each row of indices into `parts`."""
    counts = np.array([(part.tp_50, part.fp_50 + part.fn_50) for part in parts], dtype=float)
    return f1_of_sums(counts[rows].sum(axis=1))


def f1_of_sums(sums: np.ndarray) -> np.ndarray:
    """F1 of float (..., 2): objects found, and mistakes (missed and invented). Nothing of both is perfect."""
    tp, wrong = np.moveaxis(sums, -1, 0)
    return np.where(tp + wrong > 0, 2 * tp / np.maximum(2 * tp + wrong, 1), 1.0)
