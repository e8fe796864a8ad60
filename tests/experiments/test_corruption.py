"""Corruptions do what they say, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from alapp.errors import InputError
from alapp.experiments import corruption


@pytest.fixture
def labels():
    """Ten squares of 36 pixels in two rows."""
    made = np.zeros((40, 100), np.int32)
    for number in range(10):
        y, x = 5 + 20 * (number // 5), 5 + 20 * (number % 5)
        made[y : y + 6, x : x + 6] = number + 1
    return made


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", corruption.CORRUPTIONS)
def test_without_strength_nothing_changes(labels, rng, name):
    assert np.array_equal(corruption.CORRUPTIONS[name](labels, 0.0, rng), labels)


@pytest.mark.parametrize("name", corruption.CORRUPTIONS)
def test_an_empty_map_stays_empty_and_a_stack_is_taken(labels, rng, name):
    change = corruption.CORRUPTIONS[name]
    assert not change(np.zeros((20, 20), np.int32), 0.5, rng).any()
    stack = change(np.stack([labels, labels]), 0.5, rng)
    assert stack.shape == (2, *labels.shape)
    assert stack.dtype == np.int32
    assert stack.any()


@pytest.mark.parametrize("name", corruption.CORRUPTIONS)
def test_the_given_map_is_not_changed(labels, rng, name):
    before = labels.copy()
    corruption.CORRUPTIONS[name](labels, 1.0, rng)
    assert np.array_equal(labels, before)


def test_dropped_objects_are_gone_and_the_others_stay(labels, rng):
    found = corruption.drop(labels, 0.3, rng)
    assert found.max() == 7
    assert np.array_equal(ndimage.label(found > 0)[0] > 0, found > 0)
    assert ((found > 0) <= (labels > 0)).all()


def test_merged_objects_are_one_connected_object(labels, rng):
    found = corruption.merge(labels, 1.0, rng)
    assert found.max() < 10
    assert ((labels > 0) <= (found > 0)).all()
    for key in range(1, found.max() + 1):
        assert ndimage.label(found == key)[1] == 1


def test_shifted_objects_keep_their_size_but_not_their_place(labels, rng):
    found = corruption.shift(labels, 0.8, rng)
    assert np.mean((labels > 0)[found > 0] == 0) > 0.5
    assert np.isin(np.bincount(found.ravel())[1:], range(10, 37)).all()


def test_wrong_objects_lie_where_none_was(labels, rng):
    found = corruption.wrong(labels, 1.0, rng)
    assert found.any()
    assert not (found > 0)[labels > 0].any()


@pytest.mark.parametrize("start", ["none", "auto", "reference", "log_watershed", "reference:drop=0.5", "auto:shift=1"])
def test_starts_are_parsed(start):
    method, name, strength = corruption.parse(start)
    assert method == start.partition(":")[0]
    assert (name is None) == (":" not in start)
    assert (strength > 0) == (":" in start)


@pytest.mark.parametrize("start", ["", "magic", "auto:drop", "auto:drop=", "none:drop=0.5", "auto:melt=1"])
def test_what_is_no_start_is_told(start):
    with pytest.raises(InputError, match=r"Choose one of|Write one like"):
        corruption.parse(start)
