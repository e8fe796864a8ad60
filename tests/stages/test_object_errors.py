"""Merges, splits and invented objects on made maps."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.stages.object_errors import object_errors


def two_squares() -> np.ndarray:
    labels = np.zeros((20, 40), np.int32)
    labels[5:15, 5:15] = 3
    labels[5:15, 15:25] = 7
    return labels


def test_the_same_map_has_no_mistakes():
    found = object_errors(two_squares(), two_squares())
    assert (found.merges, found.splits, found.invented) == (0, 0, 0)
    assert found.true_sizes == found.found_sizes == (100, 100)


def test_two_objects_in_one_are_a_merge_and_the_reverse_is_a_split():
    whole = (two_squares() > 0).astype(np.int32)
    merged, cut = object_errors(two_squares(), whole), object_errors(whole, two_squares())
    assert (merged.merges, merged.splits, merged.invented) == (1, 0, 0)
    assert (cut.merges, cut.splits, cut.invented) == (0, 1, 0)


def test_a_neighbour_that_is_only_touched_is_not_merged():
    shifted = np.where(np.roll(two_squares(), 3, axis=1) == 3, 1, 0).astype(np.int32)  # 30% of the second square
    found = object_errors(two_squares(), shifted)
    assert (found.merges, found.splits, found.invented) == (0, 0, 0)


def test_an_object_on_background_is_invented():
    guess = two_squares()
    guess[5:15, 28:38] = 9
    assert object_errors(two_squares(), guess).invented == 1


def test_empty_maps_and_stacks():
    empty = np.zeros((20, 40), np.int32)
    assert object_errors(empty, empty).true_sizes == ()
    assert object_errors(empty, two_squares()).invented == 2
    stack = np.stack([two_squares()] * 3)
    assert object_errors(stack, (stack > 0).astype(np.int32)).merges == 1
    with pytest.raises(ValueError, match="different shapes"):
        object_errors(stack, empty)
