"""Carrying an object on from a corrected slice: anchors stay, gaps are interpolated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alapp.stages.annotate import volume

YX = np.mgrid[:40, :40]


def disc(y=20.0, x=20.0, radius=8.0):
    return np.hypot(YX[0] - y, YX[1] - x) < radius


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def bright(z):
    return np.where(disc(), 200.0, 50.0)[..., None]


def same_disc(z, seed, previous):
    return disc()


@pytest.mark.parametrize("turn", [False, True])
def test_a_gap_between_two_slices_is_interpolated(turn):
    ends = [disc(12, 12, 6), disc(26, 24, 10)][:: -1 if turn else 1]
    found = volume.between(*ends, 4)
    assert np.array_equal(found[0], ends[0])
    assert np.array_equal(found[-1], ends[1])
    # They do not even touch, and yet the middle is a disc of the mean size, halfway.
    assert iou(found[2], disc(19, 18, 8)) > 0.9
    areas = [np.count_nonzero(mask) for mask in found]
    assert areas == sorted(areas, reverse=turn)


def test_slices_between_anchors_are_made_anew_and_those_beyond_them_stay():
    known = np.stack([disc(radius=r) for r in (3, 4, 10, 3, 3, 10, 3)])
    grown = volume.propagate(known, 2, same_disc, bright, replaced=[0, 1, 3, 4, 6])
    assert np.array_equal(grown[[2, 5, 6]], known[[2, 5, 6]])
    assert all(iou(grown[z], disc(radius=10)) > 0.95 for z in (3, 4))
    # Below there is no other anchor: the object is followed, to the first slice.
    assert all(np.array_equal(grown[z], disc()) for z in (0, 1))


def test_where_the_object_ends_now_old_propagated_slices_go():
    known = np.stack([disc()] * 6)
    end = {4, 5}
    grown = volume.propagate(
        known, 1, lambda z, seed, previous: disc() & (z not in end), bright, replaced=[0, 2, 3, 4, 5]
    )
    assert grown.any(axis=(1, 2)).tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize(("directions", "changed"), [((1,), [2, 3]), ((-1,), [0])])
def test_one_direction_leaves_the_other_side(directions, changed):
    known = np.stack([disc(radius=5), disc(), disc(radius=5), disc(radius=5)])
    grown = volume.propagate(known, 1, same_disc, bright, replaced=[0, 2, 3], directions=directions)
    assert [z for z in range(4) if not np.array_equal(grown[z], known[z])] == changed


def test_a_wide_gap_follows_the_image_where_it_agrees():
    known = np.zeros((6, 40, 40), bool)
    known[[0, 5]] = disc(radius=7)
    odd = {3}
    grown = volume.propagate(known, 0, lambda z, seed, previous: disc(2, 2, 2) if z in odd else disc(radius=9), bright)
    assert all(np.array_equal(grown[z], disc(radius=9)) for z in (1, 2, 4))
    assert iou(grown[3], disc(radius=7)) > 0.95


def test_an_object_is_not_carried_where_a_person_erased_it_nor_beyond():
    known = np.zeros((9, 40, 40), bool)
    known[3], known[6], known[8] = disc(), disc(radius=4), disc(radius=5)
    grown = volume.propagate(known, 3, same_disc, bright, replaced=[6], emptied=[0, 5])
    # The anchor beyond is no other end to come to, and what was carried there earlier stays.
    assert np.flatnonzero(grown.any(axis=(1, 2))).tolist() == [1, 2, 3, 4, 6, 8]
    assert np.array_equal(grown[[6, 8]], known[[6, 8]])
    assert np.array_equal(volume.propagate(known, 3, same_disc, bright, emptied=[2, 4]), known)


@given(
    radii=st.lists(st.integers(0, 12), min_size=2, max_size=9),
    replaced=st.sets(st.integers(0, 8)),
    emptied=st.sets(st.integers(0, 8)),
    start=st.integers(0, 8),
    directions=st.sampled_from([(-1, 1), (1,), (-1,)]),
    found=st.lists(st.integers(0, 12), min_size=9, max_size=9),
)
def test_anchors_never_change(radii, replaced, emptied, start, directions, found):
    known = np.stack([disc(radius=r) for r in radii])
    z = start % len(known)
    known[z] |= disc(radius=2)
    known[[other for other in emptied if other < len(known) and other != z]] = False
    before = known.copy()
    segment = lambda z, seed, previous: disc(radius=found[z])  # noqa: E731
    grown = volume.propagate(known, z, segment, bright, replaced, directions, emptied=emptied)
    anchors = [other for other in range(len(known)) if (other not in replaced and before[other].any()) or other == z]
    assert np.array_equal(grown[anchors], before[anchors])
    assert not any(grown[other].any() for other in emptied if other < len(known) and other != z)
    assert np.array_equal(known, before)
