"""Objects that are pasted into other cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

from alapp.stages.train import pasting
from alapp.stages.train.pasting import PastingCases, objects, paste

IGNORED = 3


def case(*boxes, shape=(1, 40, 40), background=10.0, value=50.0, channels=2):
    """Pixels and classes of a case with rectangular objects, each (z, y, x slices): a core with a border of a pixel."""
    pixels, classes = np.full((channels, *shape), background, np.float32), np.zeros(shape, np.int16)
    for z, y, x in boxes:
        pixels[:, z, y, x], classes[z, y, x] = value, 2
        classes[z, slice(y.start + 1, y.stop - 1), slice(x.start + 1, x.stop - 1)] = 1
    return pixels, classes


PLANE = slice(0, 1)
WHOLE = (PLANE, slice(10, 18), slice(12, 24))
LEFT = (PLANE, slice(25, 33), slice(0, 6))


class Held:
    """Cases in memory."""

    def __init__(self, *cases):
        self._cases = {f"case{number}": one for number, one in enumerate(cases)}
        self.identifiers = list(self._cases)

    def load_case(self, identifier):
        pixels, classes = self._cases[identifier]
        return pixels, classes[None], None, {"name": identifier}


def test_objects_are_told_with_what_holds_them_and_what_surrounds_them():
    pixels, classes = case(WHOLE, LEFT, (PLANE, slice(36, 38), slice(30, 33)))
    whole, left = objects(pixels, classes)  # the third is a speck
    assert whole.mask.sum() == 8 * 12
    assert whole.mask.shape == (1, 18, 22)
    assert (whole.held, left.held) == ((None, 0, 0), (None, 0, -1))
    assert np.array_equal(whole.classes > 0, whole.mask)
    assert set(np.unique(whole.classes)) == {0, 1, 2}
    assert whole.level == pytest.approx([10, 10])


def test_objects_that_touch_are_one_and_what_nobody_annotated_is_none():
    pixels, classes = case(WHOLE, (PLANE, slice(10, 18), slice(24, 30)))
    classes[0, 30:, :] = IGNORED
    (found,) = objects(pixels, classes, IGNORED)
    assert found.mask.sum() == 8 * 18
    assert len(list(objects(pixels, classes))) == 2
    assert list(objects(np.zeros((1, 1, 8, 8), np.float32), np.ones((1, 8, 8), np.int16))) == []  # nothing around it


def test_what_touches_the_unknown_is_not_pasted_elsewhere():
    pixels, classes = case(WHOLE, (PLANE, slice(10, 18), slice(26, 32)))
    classes[0, 10:18, 24:26] = IGNORED
    classes[0, 10:18, 30:] = IGNORED
    assert list(objects(pixels, classes, IGNORED)) == []
    classes[0, 10:18, 24:26] = 0
    (found,) = objects(pixels, classes, IGNORED)
    assert found.mask.sum() == 8 * 12


def black_case(*boxes):
    """A case as nnU-Net prepares it where the background is exactly 0 but for two corners."""
    pixels, classes = case(*boxes, background=0.0)
    pixels[:, 0, [0, -1], [0, -1]] = 1
    pixels, classes, _ = crop_to_nonzero(pixels, classes[None])
    assert (classes == -1).mean() > 0.8
    return pixels, classes[0]


@pytest.mark.parametrize("ignored", [None, IGNORED])
def test_background_that_is_exactly_black_is_background(ignored):
    whole, left = objects(*black_case(WHOLE, LEFT), ignored)
    assert (whole.mask.sum(), left.mask.sum()) == (96, 48)
    assert not whole.others[:, :, :20].any()
    held = Held(black_case(WHOLE, LEFT), black_case())
    cases = PastingCases(held, ignored)
    np.random.seed(5)
    drawn = [cases.load_case("case1")[1][0] for _ in range(40)]
    assert sum((classes > 0).any() for classes in drawn) > 20
    before = held.load_case("case1")[1][0]
    # It stays marked where nothing is pasted: nnU-Net may mask it again after its augmentation.
    assert all(np.array_equal(classes[classes <= 0], before[classes <= 0]) for classes in drawn)


def test_turning_turns_edges_too():
    _, left = objects(*case(WHOLE, LEFT))
    turned = {key: left.turned(*key) for key in itertools.product([False, True], repeat=3)}
    assert turned[False, False, False].held == (None, 0, -1)
    assert turned[False, False, True].held == (None, 0, 1)
    assert turned[True, False, False].held == (None, -1, 0)
    assert turned[True, True, False].held == (None, 1, 0)
    for (transposed, _, _), one in turned.items():
        assert one.mask.sum() == left.mask.sum()
        assert one.mask.shape == (left.mask.shape if not transposed else (1, *left.mask.shape[:0:-1]))
    again = turned[False, True, True].turned(False, True, True)
    assert np.array_equal(again.pixels, left.pixels)
    assert again.held == left.held


@pytest.mark.parametrize("key", itertools.product([False, True], repeat=3))
def test_a_pasted_object_is_whole_keeps_its_edge_and_fits_its_surroundings(key):
    np.random.seed(0)
    _, left = objects(*case(WHOLE, LEFT))
    item = left.turned(*key)
    pixels, classes = case(shape=(1, 48, 48), background=100.0)
    assert paste(item, pixels, classes, np.zeros(classes.shape, bool))
    assert np.array_equal(np.sort(classes[classes > 0]), np.sort(item.classes[item.mask]))
    edges = {(1, -1): classes[:, 0], (1, 1): classes[:, -1], (2, -1): classes[..., 0], (2, 1): classes[..., -1]}
    axis = 1 if item.held[1] else 2
    assert np.count_nonzero(edges[axis, item.held[axis]]) == 8
    inside = classes[0] == 1
    assert pixels[:, 0][:, inside].mean() == pytest.approx(140, abs=6)  # 40 brighter than around it, as it was
    far = pasting._wide(classes > 0, 8)
    assert (pixels[:, ~far] == 100).all()


def test_objects_are_pasted_where_nothing_is_and_not_where_there_is_no_room():
    np.random.seed(1)
    (item,) = objects(*case(WHOLE))
    pixels, classes = case((PLANE, slice(2, 14), slice(2, 14)), shape=(1, 64, 64))
    classes[0, 40:, :] = IGNORED
    before, taken = classes.copy(), pasting._wide(classes != 0, 2)
    put = 0
    while paste(item, pixels, classes, taken):
        put += 1
    assert put >= 2
    assert np.array_equal(classes[before > 0], before[before > 0])
    assert np.count_nonzero(classes) == np.count_nonzero(before) + put * 96
    small = case(shape=(1, 12, 12))
    assert not paste(item, *small, np.zeros((1, 12, 12), bool))
    assert not small[1].any()


def test_an_object_that_spans_a_case_goes_only_into_cases_of_that_size():
    (item,) = objects(*case((PLANE, slice(10, 18), slice(0, 40))))
    assert item.held == (None, 0, None)
    wide, same = case(shape=(1, 40, 50)), case()
    assert not paste(item, *wide, np.zeros((1, 40, 50), bool))
    assert paste(item, *same, np.zeros((1, 40, 40), bool))
    assert np.count_nonzero(same[1]) == 8 * 40


def test_bodies_are_pasted_in_stacks():
    np.random.seed(2)
    body = (slice(2, 5), slice(10, 18), slice(12, 24))
    (item,) = objects(*case(body, shape=(8, 40, 40)))
    assert item.held == (0, 0, 0)
    pixels, classes = case(shape=(6, 40, 40))
    assert paste(item, pixels, classes, np.zeros(classes.shape, bool))
    assert sorted(np.count_nonzero(classes, axis=(1, 2)))[-3:] == [96, 96, 96]
    flat = case(shape=(2, 40, 40))
    assert not paste(item, *flat, np.zeros((2, 40, 40), bool))


def test_some_cases_get_objects_and_the_stored_ones_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(pasting, "SHARE", 0.5)
    monkeypatch.setattr(pasting, "MOST", 2)
    held = Held(case(WHOLE), case(shape=(1, 40, 40)))
    kept = [one.copy() for name in held.identifiers for one in held.load_case(name)[:2]]
    cases = PastingCases(held)
    np.random.seed(3)
    drawn = [cases.load_case("case1") for _ in range(200)]
    assert {properties["name"] for *_, properties in drawn} == {"case1"}
    counts = [np.count_nonzero(classes) // 96 for _, classes, _, _ in drawn]
    assert set(counts) == {0, 1, 2}
    assert 60 < sum(count > 0 for count in counts) < 140
    np.random.seed(3)
    again = [cases.load_case("case1") for _ in range(200)]
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(drawn, again, strict=True))
    after = [one for name in held.identifiers for one in held.load_case(name)[:2]]
    assert all(np.array_equal(a, b) for a, b in zip(kept, after, strict=True))


def test_a_case_that_is_never_drawn_gives_no_objects():
    held = Held(case((PLANE, slice(10, 17), slice(12, 23))), case(LEFT), case())
    cases = PastingCases(held, weights=[0.0, 0.5, 0.5])
    np.random.seed(4)
    drawn = [np.count_nonzero(cases.load_case("case2")[1]) for _ in range(60)]
    assert max(drawn) >= 48
    assert all(count % 48 == 0 for count in drawn)  # the other object has 77 pixels
