"""How far a number made of few patches can be trusted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alapp.stages import jackknife
from alapp.stages.jackknife import Spread


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def test_of_a_mean_it_is_students_interval():
    values = np.random.default_rng(0).normal(3, 2, 7)
    found = jackknife.spread(np.column_stack([values, np.ones(7)]), mean)
    assert found.variance == pytest.approx(values.var(ddof=1) / 7)
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert found.half == pytest.approx((high - low) / 2)


def test_influences_add_up_to_nothing_and_tell_which_patch_pulls():
    parts = np.array([(1, 1), (1, 1), (9, 1)], float)
    found = jackknife.influences(parts, mean)
    assert found.sum() == pytest.approx(0)
    assert found.argmax() == 2
    with pytest.raises(ValueError, match="two patches"):
        jackknife.influences(parts[:1], mean)


def test_of_a_difference_it_is_welchs():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, 6), rng.normal(0, 4, 9)
    spreads = [jackknife.spread(np.column_stack([each, np.ones(len(each))]), mean) for each in (first, second)]
    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert jackknife.combined(spreads).half == pytest.approx((interval.high - interval.low) / 2)
    assert jackknife.combined([Spread(0.0, 4), Spread(0.0, 2)]) == Spread(0.0, 2)
