"""Windows that are flooded together give the masks that each gives alone."""

from __future__ import annotations

import numpy as np

from alapp.stages.annotate.flooding import flooded, flooding, tight, window_of


def floodings(rng, gradient):
    """One of every radius around a few clicks, some of them at the border of the slice."""
    for point in ((3, 4), (60, 80), (30, 117)):
        for radius in (5, 9, 16, 31):
            window = window_of(gradient.shape, [point], [(point[0] + 4, point[1] - 3)], radius)
            seeds = (window.positive <= 4) | (rng.random(window.positive.shape) < 0.01)
            yield flooding(gradient, 2.0, window, seeds, window.positive > radius**2)


def test_together_as_alone():
    rng = np.random.default_rng(0)
    # Few levels, so that ties decide: that is where a shared queue could tell.
    gradient = rng.integers(0, 4, (90, 120)).astype(np.float32)
    every = list(floodings(rng, gradient))
    together = flooded(every)
    assert len(together) == len(every)
    for mask, each in zip(together, every, strict=True):
        assert mask.any()
        assert not mask.all()
        np.testing.assert_array_equal(mask, flooded([each])[0])


def test_nothing_to_flood():
    assert flooded([]) == []


def test_holes_are_filled_but_negative_points_stay_out():
    gradient = np.zeros((21, 21), np.float32)
    gradient[8:13, 8:13] = 9
    gradient[4:17, [4, 16]] = gradient[[4, 16], 4:17] = 5
    window = window_of(gradient.shape, [(10, 6)], [(10, 10)], 30)
    mask = flooded([flooding(gradient, 0.0, window, window.positive == 0, window.positive > 14**2)])[0]
    assert mask[10, 9]
    assert not mask[10, 10]


def test_tight():
    mask = np.zeros((9, 12), bool)
    assert tight(mask, 1) == (slice(0, 9), slice(0, 12))
    mask[3:5, 0:2] = True
    assert tight(mask, 1) == (slice(2, 6), slice(0, 3))
