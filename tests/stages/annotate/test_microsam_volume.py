"""Carrying objects with micro_sam's own function: which slices it is asked for, what stays, and where it ends. The
function and the predictor are small fakes here; `test_microsam_real` has the real ones."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

from alapp.errors import Cancelled
from alapp.stages.annotate import microsam_volume, volume
from alapp.stages.annotate.base import DOWN, UP
from alapp.stages.annotate.microsam_model import Part

YX = np.mgrid[:40, :40]


def disc(radius, y=20.0, x=20.0):
    return np.hypot(YX[0] - y, YX[1] - x) < radius


class Stack:
    """A stack of discs whose "embedding" on slice z is the disc itself; `asked` are the slices that were embedded."""

    def __init__(self, radii):
        self.truth = np.stack([disc(radius) if radius else np.zeros((40, 40), bool) for radius in radii])
        self.asked, self.told = [], []

    def read(self, z):
        return np.where(self.truth[z], 200.0, 50.0)[..., None]

    def embedding(self, z):
        self.asked.append(z)
        return {"features": self.truth[z], "input_size": (1024, 1024), "original_size": (40, 40)}

    def report(self, done, total, message=""):
        self.told.append(message)

    def carry(self, known, z, replaced=(), directions=(DOWN, UP), report=None, emptied=()):
        class Model:
            mask_threshold = 0.0

        decoder = Part(SimpleNamespace(model=Model()))
        arguments = known, z, replaced, directions, report or self.report, emptied
        return microsam_volume.propagate(decoder, self.embedding, self.read, *arguments)


@pytest.fixture(autouse=True)
def micro_sam(monkeypatch):
    """Follows the object upwards, and from both sides between two slices, as the real function does."""

    def segment_mask_in_volume(masks, predictor, stack, known, *, iou_threshold, **_):
        assert stack["features"].ndim == 5
        assert predictor.model.mask_threshold == 0
        if len(known) == 2:
            for z in range(1, len(masks) - 1):
                masks[z] = stack["features"][z]
            return
        for z in range(1, len(masks)):
            found = stack["features"][z]
            if volume.iou(masks[z - 1].astype(bool), found) < iou_threshold:
                break
            masks[z] = found

    module = types.ModuleType("micro_sam.multi_dimensional_segmentation")
    module.segment_mask_in_volume = segment_mask_in_volume
    monkeypatch.setitem(sys.modules, "micro_sam", types.ModuleType("micro_sam"))
    monkeypatch.setitem(sys.modules, "micro_sam.multi_dimensional_segmentation", module)


def only(stack, *slices):
    known = np.zeros_like(stack.truth)
    for z in slices:
        known[z] = stack.truth[z]
    return known


def test_an_object_is_followed_to_both_ends():
    stack = Stack([0, 8, 9, 10, 9, 8, 0])
    assert np.array_equal(stack.carry(only(stack, 3), 3), stack.truth)
    assert "slice 5" in stack.told


@pytest.mark.parametrize(("direction", "expected"), [(DOWN, [1, 2, 3]), (UP, [3, 4, 5])])
def test_one_direction(direction, expected):
    stack = Stack([0, 8, 9, 10, 9, 8, 0])
    found = stack.carry(only(stack, 3), 3, directions=[direction])
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == expected


def test_where_a_person_erased_it_an_object_ends():
    stack = Stack([8, 9, 10, 10, 10, 9, 8])
    found = stack.carry(only(stack, 2, 6), 2, emptied=[1, 5])
    assert np.array_equal(found, only(stack, 2, 3, 4, 6))
    assert sorted(set(stack.asked)) == [3, 4]


def test_at_the_end_of_the_stack_nothing_is_asked():
    stack = Stack([10, 9])
    assert np.array_equal(stack.carry(only(stack, 0), 0, directions=[DOWN]), only(stack, 0))
    assert stack.asked == []


def test_beyond_its_end_nothing_is_embedded():
    """It goes on for micro_sam, which only compares neighbours, but fades."""
    stack = Stack([10] * 9)
    stack.read = lambda z: np.where(stack.truth[z], 200.0 if z < 3 else 55.0, 50.0)[..., None]
    found = stack.carry(only(stack, 0), 0, directions=[UP])
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [0, 1, 2]
    assert max(stack.asked) == 3


def test_it_ends_where_the_last_slice_does_not_hold():
    stack = Stack([10, 10])
    stack.read = lambda z: np.where(stack.truth[z], 200.0 if z == 0 else 20.0, 50.0)[..., None]
    assert np.array_equal(stack.carry(only(stack, 0), 0), only(stack, 0))


def test_between_two_slices_of_a_person_both_stay_and_what_is_beyond_too():
    stack = Stack([7, 8, 9, 10, 9, 8, 7])
    known = only(stack, 1, 5)
    known[1] = disc(8, 21)  # not what micro_sam would say
    found = stack.carry(known, 1, directions=[UP])
    assert np.array_equal(found[1], known[1])
    assert np.array_equal(found[2:6], stack.truth[2:6])
    assert not found[[0, 6]].any()


def test_what_strays_between_two_slices_gives_way_to_the_shape_in_between():
    stack = Stack([10, 10, 10])
    stack.truth[1] = disc(3, 5, 5)
    known = only(stack, 0, 2)
    found = stack.carry(known, 0, directions=[UP])
    assert volume.iou(found[1], disc(10)) > 0.9


def test_what_was_carried_before_is_made_anew():
    stack = Stack([10, 10, 10, 0])
    known = only(stack, 0)
    known[1] = known[2] = known[3] = disc(4)
    found = stack.carry(known, 0, replaced=[1, 2, 3])
    assert np.array_equal(found, stack.truth)


def test_it_can_be_stopped():
    stack = Stack([10] * 6)

    def report(done, total, message=""):
        if done == 3:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        stack.carry(only(stack, 0), 0, report=report)
    assert max(stack.asked) < 4


def test_clicks_keep_their_threshold():
    class Model:
        mask_threshold = 0.0

    decoder = Part(SimpleNamespace(model=Model()))
    decoder.predictor.model.mask_threshold = -3.0  # a click with some looseness is under way
    own = microsam_volume._own(decoder)
    assert own.model.mask_threshold == 0
    assert decoder.predictor.model.mask_threshold == -3
