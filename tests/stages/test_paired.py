"""Differences between models on the same patches, and where curves lead."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.stages.learning_curve import extrapolate
from alapp.stages.paired import paired_difference, unpaired_interval
from alapp.stages.select.variety import nearest, spread, variety
from tests.rounds.made_scores import scored


def test_a_difference_that_all_patches_show_is_no_chance():
    before = [scored(tp, 20) for tp in (4, 10, 12, 16, 8, 15)]
    found = paired_difference(before, [scored(part.tp_50 + 3, 20) for part in before])
    assert found.better
    assert not found.worse
    assert found.change == pytest.approx(0.15)
    assert paired_difference([scored(part.tp_50 + 3, 20) for part in before], before).worse


def test_what_goes_up_and_down_is_chance():
    before = [scored(10, 20)] * 6
    found = paired_difference(before, [scored(tp, 20) for tp in (14, 6, 13, 8, 9, 11)])
    assert not found.better
    assert not found.worse


def test_pairing_sees_what_hides_in_the_spread_between_patches():
    before = [scored(tp, 20) for tp in (2, 5, 9, 14, 18, 19)]
    after = [scored(part.tp_50 + 1, 20) for part in before]
    assert paired_difference(before, after).better
    assert unpaired_interval(after, before)[0] < 0


def test_what_all_patches_show_alike_is_not_certain():
    before = [scored(10, 20)] * 6
    found = paired_difference(before, [scored(12, 20)] * 6)
    assert found.interval[0] < found.change < found.interval[1]
    assert not paired_difference(before, before).better
    assert not paired_difference([scored(1, 2)] * 6, [scored(1, 2)] * 5 + [scored(2, 2)]).better


@pytest.mark.parametrize("n", [5, 12])
def test_the_interval_holds_the_truth_as_often_as_it_says(n):
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        chance = rng.uniform(0.4, 0.9, n)
        pairs = [
            [scored(int(rng.binomial(20, p)), 20) for p in (chance[i], np.clip(chance[i] + rng.normal(0, 0.1), 0, 1))]
            for i in range(n)
        ]
        low, high = paired_difference(*zip(*pairs, strict=True)).interval
        held += low <= 0 <= high
    assert 0.93 <= held / 400 <= 0.98


def test_few_patches_claim_nothing():
    found = paired_difference([scored(0, 20)] * 4, [scored(20, 20)] * 4)
    assert (found.interval, found.better) == (None, False)
    assert found.change == 1
    with pytest.raises(ValueError, match="different patches"):
        paired_difference([scored(1, 2)], [])


def test_a_power_law_is_found_again():
    curve = [(n, 1 - 0.9 * n**-0.4) for n in (8, 16, 32)]
    assert extrapolate(curve, 240) == pytest.approx(1 - 0.9 * 240**-0.4)
    assert extrapolate(curve[:2], 240) is None
    assert extrapolate([(8, 0.63), (16, 0.62), (32, 0.6)], 240) == 0.6  # it never promises less than there is
    assert extrapolate([(8, 0.8), (16, 0.9), (32, 0.6)], 240) is None


def test_variety_of_clustered_and_of_spread_batches():
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(60, 5)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    alike = pool[np.argsort(pool @ pool[0])[-6:]]
    found = variety(alike, pool, pool[:0])
    assert found.spread < found.random_spread.min()
    assert found.cover > np.median(found.random_cover)
    assert spread(np.array([[1, 0], [-1, 0]], np.float32)) == pytest.approx(2)
    assert nearest(pool, pool[:0]).tolist() == [2.0] * 60
    assert nearest(pool, pool).max() == pytest.approx(0, abs=1e-6)
