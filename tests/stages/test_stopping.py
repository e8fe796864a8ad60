"""Whether one more batch is worth it, on made curves."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.stages import stopping
from alapp.stages.metrics import score_instances
from alapp.stages.paired import MIN_PATCHES
from tests.rounds.made_scores import scored

EASY_TO_HARD = (1.3, 1.1, 1.0, 0.9, 0.8, 1.2, 0.7, 1.0)


def power_law(sizes, exponent, objects=1000, patches=EASY_TO_HARD):
    """Scores of patches whose F1 is 1 - n^-exponent times how hard the patch is."""
    return [[scored(round(objects * (1 - hard * n**-exponent)), objects) for hard in patches] for n in sizes]


def test_a_power_law_is_continued():
    sizes = (8, 16, 24)
    gain = stopping.gain_of_more(sizes, power_law(sizes, 0.5), 8)
    assert gain.expected == pytest.approx(24**-0.5 - 32**-0.5, abs=2e-3)
    assert gain.interval[0] < gain.expected < gain.interval[1]
    assert gain.interval[0] > 0
    assert gain.n == len(EASY_TO_HARD)


def test_a_flat_curve_gains_nothing():
    flat = [[scored(90, 100)] * 6] * 3
    gain = stopping.gain_of_more((8, 16, 24), flat, 8)
    assert gain.expected == pytest.approx(0)
    assert gain.interval == pytest.approx((0, 0))


def test_what_goes_up_and_down_by_patch_has_a_range_around_zero():
    first = [scored(tp, 20) for tp in (10, 14, 8, 12, 16, 10)]
    second = [scored(tp, 20) for tp in (14, 9, 13, 8, 12, 14)]
    low, high = stopping.gain_of_more((8, 16), [first, second], 8).interval
    assert low < 0 < high


def test_perfect_scores_have_no_gain_and_no_infinity():
    gain = stopping.gain_of_more((8, 16), [[scored(19, 20)] * 6, [scored(20, 20)] * 6], 8)
    assert 0 <= gain.expected < 0.01
    assert np.isfinite(gain.interval).all()


def test_it_says_when_it_cannot_know():
    one = [scored(10, 20)] * 6
    assert stopping.gain_of_more((8,), [one], 8) is None
    assert stopping.gain_of_more((0, 8), [one, one], 8) is None
    assert stopping.gain_of_more((8, 8), [one, one], 8) is None
    assert stopping.gain_of_more((8, 16), [[], []], 8) is None
    few = stopping.gain_of_more((8, 16), [one[:3], one[:3]], 8)
    assert few.interval is None
    assert few.n == 3 < MIN_PATCHES


def test_a_curve_on_which_nothing_is_found_yet_tells_no_gain():
    none, some = [scored(0, 20)] * 6, [scored(10, 20)] * 6
    assert stopping.gain_of_more((8, 16), [none, none], 8) is None
    assert stopping.gain_of_more((8, 16), [some, none], 8) is None
    assert stopping.gain_of_more((8, 16), [none, [*none[:5], scored(1, 20)]], 8) is not None
    empty = np.zeros((4, 4), np.int32)
    assert stopping.gain_of_more((8, 16), [[score_instances(empty, empty)] * 6] * 2, 8) is None


def test_reach_shrinks_with_every_round():
    angles = np.deg2rad([0, 20, 60, 90, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1) * [[1], [5], [0.1], [2], [3]]
    first, second, third = stopping.reach_by_round(vectors, np.array([1, 0, 0, 3, 0]), (1, 2, 3))
    assert first.radius == pytest.approx(2)
    assert first == second
    assert third.radius == pytest.approx(1)
    # 20 degrees from the first, 30 and 90 from the fourth.
    assert third.mean == pytest.approx(np.mean([1 - np.cos(a) for a in np.deg2rad([20, 30, 90])]))


def test_reach_without_labels_and_with_nothing_left():
    vectors = np.eye(3)
    assert stopping.reach_by_round(vectors, np.zeros(3, int), (1,)) == [stopping.Reach(2.0, 2.0)]
    assert stopping.reach_by_round(vectors, np.ones(3, int), (1,)) == [stopping.Reach(0.0, 0.0)]


def test_reach_is_the_same_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    vectors, made = rng.normal(size=(50, 4)).astype(np.float32), rng.integers(0, 4, 50)
    whole = stopping.reach_by_round(vectors, made, (1, 2, 3))
    monkeypatch.setattr(stopping, "_BLOCK", 7)
    for one, other in zip(whole, stopping.reach_by_round(vectors, made, (1, 2, 3)), strict=True):
        assert one.radius == pytest.approx(other.radius)
        assert one.mean == pytest.approx(other.mean)


def two_squares():
    before = np.zeros((20, 20), np.int32)
    before[2:8, 2:8], before[12:18, 12:18] = 1, 2
    return before


def test_the_same_predictions_have_settled():
    before = two_squares()
    renumbered = np.where(before > 0, 3 - before, 0)
    change = stopping.changed([(before, renumbered)] * 2)
    assert change == stopping.Change(2, 0.0, 1.0, 0.0)
    assert change.settled


def test_an_object_that_is_gone_is_a_change():
    before = two_squares()
    change = stopping.changed([(before, np.where(before == 1, 1, 0))])
    assert change.pixels == pytest.approx(36 / 400)
    assert change.objects == pytest.approx(1 - 2 / 3)
    # Agreement 0.91; by chance 0.18 x 0.09 + 0.82 x 0.91.
    assert change.kappa == pytest.approx((0.91 - 0.7624) / (1 - 0.7624))
    assert not change.settled


def test_empty_predictions_agree_and_no_patches_say_nothing():
    empty = np.zeros((2, 4, 4), np.int32)
    assert stopping.changed([(empty, empty)]).kappa == 1
    assert stopping.changed([]) is None


def test_models_that_find_nothing_have_not_settled():
    empty = np.zeros((20, 20), np.int32)
    assert stopping.changed([(empty, empty)] * 2).settled is None
    assert stopping.changed([(empty, empty), (two_squares(), two_squares())]).settled
    assert stopping.changed([(empty, two_squares())]).settled is False
