"""Where a learning curve leads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MIN_SIZES = 3
"""A power law has two unknowns; only from three sizes on can it be more than a line through the points."""

DIP = 0.05
"""A curve whose newest score is further below its best one does not follow a power law: training went wrong, and no
extrapolation says anything."""

_PERFECT = 0.99
"""Better scores are taken for this: the logarithm would make one lucky round decide the slope."""


def extrapolate(curve: Sequence[tuple[int, float]], size: int) -> float | None:
    """The score with `size` patches, if 1 - score falls by a power of their number, as learning curves do (Hestness et
    al. 2017, arXiv 1712.00409).

    `curve` has (patches trained on, score in [0, 1]) in order. None before there are `MIN_SIZES` different sizes, and
    when the newest score is more than `DIP` below the best. Never below the newest score: a curve that falls a little
    by chance says nothing about more labels.
    """
    points = [(n, min(score, _PERFECT)) for n, score in curve if n > 0]
    if len({n for n, _ in points}) < MIN_SIZES or curve[-1][1] < max(score for _, score in curve) - DIP:
        return None
    sizes, wrong = np.log([n for n, _ in points]), np.log([1 - score for _, score in points])
    slope, start = np.polyfit(sizes, wrong, 1)
    return max(float(1 - np.exp(start + slope * np.log(max(size, 1)))), curve[-1][1])
