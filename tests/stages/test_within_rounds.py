"""Averages over rounds, and how far they can be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.stages import within_rounds
from alapp.stages.paired import f1_of_sums


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def values(*numbers):
    """Patches of a round, whose mean is that of `numbers`."""
    return np.array([(number, 1) for number in numbers], float)


def test_a_round_with_a_single_patch_of_a_kind_counts_little():
    assert within_rounds.weights([(4, 4)]) == pytest.approx([1])
    assert within_rounds.weights([(100, 1), (2, 2)]) == pytest.approx([0.5, 0.5], abs=0.01)


def test_rounds_are_averaged_by_their_weights():
    found = within_rounds.average([values(1, 3), values(10)], np.array([0.75, 0.25]), mean)
    assert found == pytest.approx(0.75 * 2 + 0.25 * 10)


def test_what_differs_between_rounds_only_does_not_spread():
    rounds = [values(1, 1, 1), values(9, 9)]
    assert within_rounds.spread(rounds, np.array([0.5, 0.5]), mean).variance == pytest.approx(0)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 1, 1, 1), (3, 1), (1, 3), (2, 1, 1, 2), (1, 2, 1)])
def test_single_patches_vary_too(sizes):
    rng = np.random.default_rng(0)
    rounds = [values(*rng.normal(0, 1, size)) for size in sizes]
    found = within_rounds.spread(rounds, np.full(len(sizes), 1 / len(sizes)), mean)
    assert found.variance > 0
    assert 1 <= found.freedom <= sum(sizes) - 1


def test_the_spread_is_as_wide_as_that_of_new_patches():
    rng, weight, made, said = np.random.default_rng(0), np.full(4, 0.25), [], []
    for _ in range(500):
        rounds = [values(*rng.normal(level, 1, 2)) for level in (0, 5, 9, 11)]
        made.append(within_rounds.average(rounds, weight, mean))
        said.append(within_rounds.spread(rounds, weight, mean).variance)
    assert np.mean(said) == pytest.approx(1 / 8, rel=0.1)
    assert np.var(made) == pytest.approx(1 / 8, rel=0.15)


def test_one_patch_tells_nothing_of_the_others():
    with pytest.raises(ValueError, match="two patches"):
        within_rounds.spread([values(1)], np.ones(1), mean)


def test_nothing_found_where_nothing_is_is_perfect():
    assert f1_of_sums(np.array([[0, 0], [2, 4], [0, 3]])) == pytest.approx([1, 0.5, 0])
