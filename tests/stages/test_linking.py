"""Faults of single slices stay in their slice; what must stay linked is in test_instances.py too."""

import numpy as np
import pytest
from scipy import ndimage

from alapp.domain import VoxelSize
from alapp.stages.instances import from_probabilities
from alapp.stages.linking import link_slices

SIDE, PITCH = 120, 40


def cells(radius=12.0, ids=range(1, 10)):
    """Nine discs (Y, X), 0 background."""
    y, x = np.indices((SIDE, SIDE))
    away = np.hypot(y % PITCH - PITCH / 2, x % PITCH - PITCH / 2)
    return np.where(away < radius, np.array(ids)[y // PITCH * 3 + x // PITCH], 0)


def columns(slices=9):
    """Nine columns through all slices."""
    return np.stack([cells()] * slices)


def disc(radius, y=30, x=30, shape=(60, 60)):
    rows, cols = np.indices(shape)
    return (np.hypot(rows - y, cols - x) < radius).astype(np.int32)


def pile(*radii):
    """Discs above each other (Z, Y, X), of one id in each slice; none where the radius is 0."""
    return np.stack([disc(radius) for radius in radii])


def same_objects(found, truth):
    """Whether two instance maps differ by their numbers only."""
    pairs = np.unique(np.stack([found.ravel(), truth.ravel()]), axis=1)
    return all(len(np.unique(side)) == len(side) for side in pairs)


@pytest.mark.parametrize("bad", [[0], [1], [4], [8], [4, 5]])
def test_one_object_over_all_of_a_slice_is_split_among_those_it_covers(bad):
    truth = columns()
    stack = truth.copy()
    stack[bad] = 1
    found = link_slices(stack)
    assert found.dtype == np.int32
    assert same_objects(found, truth)  # and what it covers besides is no part of them


@pytest.mark.parametrize("bad", [[0, 1], [3, 4, 5]])
def test_several_slices_at_fault_do_not_make_one_of_what_they_cover(bad):
    stack = columns()
    stack[bad] = 1
    found = link_slices(stack)
    for z in range(9):
        assert len(np.unique(found[z][cells() > 0])) == (1 if z in bad else 9)


def test_two_that_one_slice_does_not_keep_apart_share_its_pixels():
    truth = np.zeros((5, 30, 60), np.int32)
    truth[:, 5:25, 10:30], truth[:, 5:25, 30:50] = 1, 2
    truth[2, 3:27, 10:30], truth[2, 3:27, 30:50] = 1, 2  # its outline is right, although it is larger there
    stack = truth.copy()
    stack[2][stack[2] > 0] = 7
    assert same_objects(link_slices(stack), truth)
    assert link_slices(stack[:3]).max() == 1  # where it ends the stack, it may be where they branch


def test_an_object_that_is_in_fragments_in_one_slice_stays_one():
    stack = np.ones((5, 20, 60), np.int32)
    stack[2] = np.arange(60) // 12 + 1
    assert link_slices(stack).max() == 1


def test_specks_beside_an_object_do_not_split_it():
    stack = pile(15, 15, 15)
    stack[[0, 2], 30, 45:48] = 2
    stack[1, 30, 30:48] = 1
    assert link_slices(stack).max() == 1


def test_branches_that_meet_in_more_than_a_slice_stay_one():
    stack = np.zeros((6, 20, 40), np.int32)
    stack[:, 5:15, 5:15], stack[:, 5:15, 25:35] = 1, 2
    stack[2:4, 5:15, 5:35] = 1
    assert link_slices(stack).max() == 1


def test_neighbours_that_go_on_are_not_linked_by_what_they_share_besides():
    stack = np.zeros((2, 20, 60), np.int32)
    stack[0, :, :30], stack[0, :, 30:] = 1, 2
    stack[1, :, :38], stack[1, :, 38:] = 1, 2
    found = link_slices(stack)
    assert found.max() == 2
    assert same_objects(found, stack)


@pytest.mark.parametrize("missing", [1, 4, 7])
def test_objects_missing_in_one_slice_stay_whole_and_get_their_shape_in_it(missing):
    truth = columns()
    stack = truth.copy()
    stack[missing] = 0
    assert same_objects(link_slices(stack), truth)
    joined = link_slices(stack, fill=False)
    assert same_objects(joined, stack)
    assert joined.max() == 9


def test_a_filled_shape_is_between_those_beside_it_and_takes_no_pixel_of_others():
    stack = pile(16, 16, 0, 12, 12)
    stack[2, 20:41, 43:60] = 5  # over the rim of what is missing
    found = link_slices(stack)
    filled = found[2] == found[0, 30, 30]
    assert np.count_nonzero(disc(13)) < np.count_nonzero(filled) < np.count_nonzero(disc(15))
    assert (found[2][stack[2] > 0] == found[2, 31, 50]).all()
    assert found.max() == 2
    assert ndimage.label(found == found[0, 30, 30])[1] == 1


def between_two():
    """Two discs with a slice between them, into which two other objects reach a tenth of the way each."""
    stack = pile(12, 12, 0, 12, 12)
    stack[2, :, :22], stack[2, :, 39:] = 4, 5
    return stack


@pytest.mark.parametrize(
    "stack",
    [
        pile(8, 14, 16, 12, 0, 12, 16, 14, 8),
        pile(16, 16, 0, 0, 16, 16),
        pile(20, 20, 0, 12, 12),
        np.concatenate([pile(12, 12, 0), np.roll(pile(12, 12), 9, axis=2)]),
        between_two(),
        pile(0, 12, 0, 12, 12, 12),
    ],
    ids=["balls", "two slices", "not the same size", "not the same place", "others between", "in a single slice"],
)
def test_two_objects_above_each_other_stay_two(stack):
    found = link_slices(stack)
    np.testing.assert_array_equal(found > 0, stack > 0)
    assert 0 != found[1, 30, 30] != found[-1, 30, 35] != 0


def test_a_network_that_sees_nothing_in_a_slice_joins_but_does_not_fill():
    """Objects stay by how certain the network is of their pixels: filled ones would have it drop the object."""
    inside = np.stack([np.pad(np.ones((20, 20), np.float32), 10)] * 5)
    inside[2] = 0
    found = from_probabilities(np.stack([1 - inside, inside, 0 * inside]), VoxelSize(5.0, 1.0, 1.0))
    np.testing.assert_array_equal(found, inside)


def test_numbers_have_no_gaps_and_repeat():
    rng = np.random.default_rng(0)
    stack = np.stack([ndimage.label(ndimage.gaussian_filter(rng.random((80, 80)), 2) > 0.5)[0] for _ in range(8)])
    found = link_slices(stack)
    np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))
    np.testing.assert_array_equal(found, link_slices(stack))


@pytest.mark.parametrize("shape", [(0, 5, 5), (1, 5, 5), (3, 0, 5), (2, 5, 5)])
def test_stacks_of_few_slices_and_empty_ones(shape):
    assert link_slices(np.zeros(shape, np.uint16)).shape == shape
    assert link_slices(np.full(shape, 9)).max(initial=0) == (np.prod(shape) > 0)
