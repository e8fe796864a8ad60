import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alapp.stages.train.targets import BORDER, CORE, ObjectSize, border_core, border_width, object_sizes, typical_size


def square(size=30, low=5, high=23):
    labels = np.zeros((size, size), np.int32)
    labels[low:high, low:high] = 4
    return labels


@pytest.mark.parametrize("width", [1, 2, 3])
def test_border_has_the_width_asked_for_and_lies_inside(width):
    labels = square()
    classes = border_core(labels, width)
    inner = np.zeros_like(labels, bool)
    inner[5 + width : 23 - width, 5 + width : 23 - width] = True
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes == CORE, inner)
    np.testing.assert_array_equal(classes > 0, labels > 0)


def test_objects_that_touch_get_a_border_between_them():
    labels = np.zeros((12, 20), np.int32)
    labels[:, :10], labels[:, 10:] = 1, 2
    classes = border_core(labels, 1)
    assert (classes[:, 9:11] == BORDER).all()
    assert (classes[:, :9] == CORE).all()
    assert (classes[:, 11:] == CORE).all()


@settings(max_examples=40, deadline=None)
@given(arrays(np.int32, (9, 9), elements=st.integers(0, 3)), st.integers(1, 4))
def test_every_object_keeps_a_core_and_the_foreground_stays(labels, width):
    classes = border_core(labels, width)
    np.testing.assert_array_equal(classes > 0, labels > 0)
    assert set(np.unique(labels[classes == CORE])) == set(np.unique(labels)) - {0}


def test_stacks_get_their_border_in_the_plane_or_all_around():
    labels = np.zeros((7, 20, 20), np.int32)
    labels[1:6, 5:15, 5:15] = 1
    flat = border_core(labels, 1, in_plane=True)
    np.testing.assert_array_equal(flat[1], flat[3])
    solid = border_core(labels, 1, in_plane=False)
    assert (solid[1][labels[1] > 0] == BORDER).all()
    assert solid[3, 10, 10] == CORE


def test_sizes_of_whole_objects_count_when_there_are_enough():
    labels = np.zeros((60, 200), np.int32)
    for index in range(6):
        labels[20:30, 10 + 30 * index : 20 + 30 * index] = index + 1
    labels[0:4, 0:4] = 99
    size = typical_size(object_sizes(labels))
    assert size.count == 6
    assert size.diameter == pytest.approx(np.sqrt(4 * 100 / np.pi), abs=0.01)
    assert size.width == pytest.approx(9, abs=1)
    assert typical_size(object_sizes(labels[:10, :10])).count == 1


def test_border_grows_with_the_objects_and_is_never_below_a_pixel_of_the_network():
    assert border_width(ObjectSize(50, 43, 10)) == 3
    assert border_width(ObjectSize(10, 8, 10)) == 1
    assert border_width(ObjectSize(50, 20, 10), downsampling=2.5) == 3
