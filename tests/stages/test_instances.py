import numpy as np
import pytest

from alapp.domain import VoxelSize
from alapp.stages.instances import (
    Decoding,
    by_slices,
    decoded_at_once,
    from_probabilities,
    kept_objects,
    link_slices,
    only,
)
from alapp.stages.train.targets import border_core


def certain(labels, border=2):
    """Probabilities of a network that is sure and right about border-core classes of `labels`."""
    classes = border_core(labels, border)
    return np.stack([classes == k for k in range(3)]).astype(np.float32)


def touching():
    labels = np.zeros((40, 60), np.int32)
    labels[8:32, 5:30], labels[8:32, 30:55] = 1, 2
    return labels


def test_touching_objects_come_apart_where_they_touch():
    labels = touching()
    found = from_probabilities(certain(labels))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found > 0, labels > 0)
    assert found.max() == 2
    for index in (1, 2):
        mine = found == found[20, 15 if index == 1 else 45]
        assert (mine & (labels == index)).sum() / (mine | (labels == index)).sum() > 0.95


def faint_pair(shape=(48, 80)):
    """Two discs (balls) that touch, as a network sees them that is nearly sure of their cores even between them."""
    grid = np.indices(shape) - (np.array(shape) // 2).reshape(-1, *[1] * len(shape))
    sides = np.stack([np.sqrt((grid[:-1] ** 2).sum(0) + (grid[-1] - x) ** 2) for x in (-16, 16)])
    core = np.where(sides.min(0) < 16.3, 0.995, 0.0)
    core[(np.abs(sides[0] - sides[1]) < 2) & (core > 0)] = 0.9
    return np.stack([1 - core, core, np.zeros_like(core)]).astype(np.float32)


@pytest.mark.parametrize("shape", [(48, 80), (36, 48, 80)])
def test_a_seed_of_two_objects_is_cut_at_a_faint_dip(shape):
    prob = faint_pair(shape)
    found = from_probabilities(prob)
    assert found.max() == 2
    np.testing.assert_array_equal(found > 0, prob[0] < 0.5)
    middle = shape[-1] // 2
    assert len(np.unique(found[..., : middle - 2])) == len(np.unique(found[..., middle + 3 :])) == 2
    assert from_probabilities(prob, decoding=Decoding(solidity=0)).max() == 1


def test_a_solid_seed_stays_whole_for_all_its_tops():
    prob = np.zeros((3, 40, 60), np.float32)
    prob[1, 10:30, 10:50] = 0.995
    prob[1, 10:30, 29:31] = 0.8
    prob[0] = 1 - prob[1]
    assert from_probabilities(prob).max() == 1


def test_ids_have_no_gaps_and_repeat():
    rng = np.random.default_rng(0)
    prob = rng.dirichlet([1, 1, 1], (50, 50)).transpose(2, 0, 1)
    first = from_probabilities(prob, min_size=3)
    np.testing.assert_array_equal(first, from_probabilities(prob, min_size=3))
    np.testing.assert_array_equal(np.unique(first), np.arange(first.max() + 1))


def test_nothing_is_found_in_background():
    prob = np.zeros((3, 20, 20), np.float32)
    prob[0] = 1
    assert not from_probabilities(prob).any()
    assert not from_probabilities(np.stack([prob] * 4, 1)).any()


def test_specks_go_and_min_size_decides_when_given():
    labels = touching()
    labels[2:4, 2:4] = 3
    assert from_probabilities(certain(labels)).max() == 2
    assert from_probabilities(certain(labels), min_size=1).max() == 3
    assert from_probabilities(certain(labels), min_size=10_000).max() == 0


def test_many_specks_do_not_make_themselves_typical():
    labels = np.zeros((40, 200), np.int32)
    labels[5:35, 5:35] = 1
    labels[5:35, 45:75] = 2
    for index in range(30):
        labels[1, 80 + 4 * index] = 3 + index
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    assert only(labels, kept_objects(sizes, sizes, None, 0.15, 0.0)).max() == 2


def test_object_without_core_still_counts():
    prob = np.zeros((3, 20, 20), np.float32)
    prob[0] = 1
    prob[:, 5:8, 5:8] = np.array([0.1, 0.2, 0.7])[:, None, None]
    assert from_probabilities(prob).max() == 1


def doubtful(labels, certainties):
    """`certain`, but the objects are there with these probabilities only."""
    prob = certain(labels)
    for number, certainty in enumerate(certainties, start=1):
        prob[1:, labels == number] *= certainty
        prob[0, labels == number] = 1 - certainty
    return prob


def test_what_is_less_certain_than_the_typical_object_goes():
    labels = touching()
    labels[33:39, 5:55] = 3
    assert from_probabilities(doubtful(labels, (0.99, 0.97, 0.8))).max() == 2
    assert from_probabilities(doubtful(labels, (0.99, 0.97, 0.9))).max() == 3
    assert from_probabilities(doubtful(labels, (0.99, 0.97, 0.8)), decoding=Decoding(certainty_share=0.0)).max() == 3


def test_a_network_that_is_never_sure_keeps_its_objects():
    assert from_probabilities(doubtful(touching(), (0.72, 0.7))).max() == 2


def test_a_mean_decides_not_the_worst_pixels():
    prob = doubtful(touching(), (0.99, 0.99))
    prob[:, 8:12, 5:30] = np.array([0.4, 0.6, 0.0], np.float32)[:, None, None]  # a sixth of the first
    assert from_probabilities(prob).max() == 2


def columns(slices=5):
    """Two touching columns through all slices."""
    return np.repeat(touching()[None], slices, 0)


def test_an_object_reaches_as_far_as_it_is_likely_but_is_not_found_where_it_is_not():
    probabilities = np.zeros((3, 40, 90), np.float32)
    probabilities[1, 10:30, 10:32] = 0.95
    probabilities[1, 10:30, 32:40] = 0.4  # the network is sure of the rest only
    probabilities[1, 10:30, 60:80] = 0.4
    probabilities[0] = 1 - probabilities[1:].sum(0)
    found = from_probabilities(probabilities, decoding=Decoding(certainty_share=0))
    expected = np.zeros((40, 90), np.int32)
    expected[10:30, 10:40] = 1
    np.testing.assert_array_equal(found, expected)
    narrow = from_probabilities(probabilities, decoding=Decoding(outline=0.5, certainty_share=0))
    np.testing.assert_array_equal(narrow > 0, probabilities[1] > 0.5)


def test_a_network_to_which_all_is_likely_does_not_flood_the_background():
    probabilities = np.full((3, 60, 60), 0.2, np.float32)
    probabilities[1, 10:30, 10:30] = probabilities[1, 40:50, 40:50] = 0.7
    probabilities[2, 10:30, 10:30] = probabilities[2, 40:50, 40:50] = 0
    probabilities[0] = 1 - probabilities[1:].sum(0)
    found = from_probabilities(probabilities)
    assert found.max() == 2
    np.testing.assert_array_equal(found > 0, probabilities[1] > 0.5)


def test_two_that_only_share_what_is_likely_stay_two():
    """A small object without a core, beside one with a core, and less likely pixels between them."""
    probabilities = np.zeros((3, 30, 60), np.float32)
    probabilities[1, 5:25, 5:25] = 0.95
    probabilities[2, 12:18, 30:38] = 0.7
    probabilities[2, 12:18, 25:30] = 0.4
    probabilities[0] = 1 - probabilities[1:].sum(0)
    assert from_probabilities(probabilities, decoding=Decoding(certainty_share=0, fragment_share=0)).max() == 2


@pytest.mark.parametrize("voxel", [VoxelSize(), VoxelSize(z=5.0, y=1.0, x=1.0)])
def test_columns_stay_two_through_a_stack(voxel):
    labels = columns()
    prob = np.stack([certain(plane) for plane in labels], 1)
    found = from_probabilities(prob, voxel)
    assert found.shape == labels.shape
    assert found.max() == 2
    assert len({int(plane[20, 15]) for plane in found}) == 1
    assert found[0, 20, 15] != found[0, 20, 45]


def test_thick_slices_keep_apart_what_barely_overlaps():
    labels = np.zeros((2, 40, 60), np.int32)
    labels[0, 8:32, 5:30] = 1
    labels[1, 8:32, 27:50] = 2
    prob = np.stack([certain(plane, border=1) for plane in labels], 1)
    assert from_probabilities(prob, VoxelSize(5.0, 1.0, 1.0)).max() == 2
    assert from_probabilities(prob, VoxelSize(1.0, 1.0, 1.0)).max() == 1


def test_link_slices_follows_branches():
    stack = np.zeros((3, 10, 30), np.int32)
    stack[0, :, 2:12] = 7
    stack[1, :, 2:6], stack[1, :, 8:12] = 1, 2
    stack[2, :, 3:6], stack[2, :, 20:25] = 5, 9
    linked = link_slices(stack)
    np.testing.assert_array_equal(linked > 0, stack > 0)
    assert set(np.unique(linked[:, :, :15])) == {0, linked[0, 0, 5]}
    assert set(np.unique(linked[:, :, 15:])) == {0, 3 - linked[0, 0, 5]}


def test_link_slices_needs_a_share_of_the_smaller_object():
    stack = np.zeros((2, 10, 30), np.int32)
    stack[0, :, 0:20] = 1
    stack[1, :, 18:28] = 1
    assert link_slices(stack, 0.2).max() == 1
    assert link_slices(stack, 0.21).max() == 2


def test_link_slices_gives_a_gap_a_new_object():
    stack = np.zeros((3, 6, 6), np.int32)
    stack[0, 1:5, 1:5] = stack[2, 1:5, 1:5] = 1
    linked = link_slices(stack)
    assert linked[0, 2, 2] != linked[2, 2, 2]
    assert linked.dtype == np.int32


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="expected probabilities"):
        from_probabilities(np.zeros((2, 5, 5)))


def test_thick_slices_are_decoded_one_by_one():
    stack, flat = np.zeros((3, 4, 5), np.int32), np.zeros((4, 5), np.int32)
    assert [each.shape for each in decoded_at_once(stack, True)] == [(4, 5)] * 3
    assert [each.shape for each in decoded_at_once(stack, False)] == [(3, 4, 5)]
    assert [each.shape for each in decoded_at_once(flat, True)] == [(4, 5)]


@pytest.mark.parametrize(
    ("size", "known", "learned"),
    [
        (VoxelSize(3, 1, 1), True, True),
        (VoxelSize(2.9, 1, 1), False, False),
        (VoxelSize(1, 1, 1), False, False),
        (VoxelSize(), False, True),
        (VoxelSize(None, 0.2, 0.2), False, True),  # a TIFF without a spacing
        (VoxelSize(2.0, None, 0.2), False, True),
    ],
)
def test_where_the_thickness_is_unknown_the_network_decides(size, known, learned):
    assert by_slices(size) is known
    assert by_slices(size, learned_slices=True) is learned
