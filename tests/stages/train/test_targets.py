import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from alapp.stages.train.targets import (
    BORDER,
    CENTRE,
    CENTRE_DEPTH,
    CORE,
    INSIDE,
    LEVELS,
    RIM,
    SCHEMES,
    ObjectSize,
    border_core,
    border_width,
    continued,
    encode,
    encode_known,
    levels,
    object_sizes,
    typical_size,
)


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
    assert border_width(ObjectSize(50, 43, 10, touching=0.2)) == 6
    assert border_width(ObjectSize(10, 8, 10)) == 1
    assert border_width(ObjectSize(50, 20, 10), downsampling=2.5) == 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_object_keeps_its_deepest_class_whatever_its_size(scheme):
    """Discs from one pixel to 40 wide, two of them touching."""
    labels = np.zeros((120, 200), np.int32)
    yy, xx = np.mgrid[:120, :200]
    discs = [(20, 20, 0), (20, 40, 1), (20, 60, 3), (60, 40, 20), (60, 81, 20), (60, 150, 9)]
    for number, (y, x, radius) in enumerate(discs):
        labels[(yy - y) ** 2 + (xx - x) ** 2 <= radius**2] = number + 1
    classes = encode(labels, scheme, 2)
    deepest = 3 if scheme == LEVELS else 1
    assert set(np.unique(labels[classes == deepest])) == set(range(1, 7))
    np.testing.assert_array_equal(classes > 0, labels > 0)


def test_levels_lie_in_each_other_and_centres_of_objects_that_touch_are_apart():
    labels = np.zeros((60, 90), np.int32)
    labels[10:50, 5:45] = 1
    labels[10:50, 45:85] = 2
    classes = levels(labels, 3)
    for inner, outer in ((CENTRE, RIM), (CENTRE, 0), (INSIDE, 0)):
        assert not (ndimage.binary_dilation(classes == inner) & (classes == outer)).any()
    centres, count = ndimage.label(classes == CENTRE)
    assert count == 2
    width = np.ptp(np.nonzero(centres == 1)[1]) + 1
    assert width == pytest.approx((1 - CENTRE_DEPTH) * 40, abs=2)


def test_stacks_get_their_levels_in_the_plane_or_all_around():
    labels = np.zeros((5, 20, 20), np.int32)
    labels[1:4, 4:16, 4:16] = 1
    assert (levels(labels, 1, in_plane=True)[1] == CENTRE).any()
    assert not (levels(labels, 1, in_plane=False)[1] == CENTRE).any()


def test_objects_that_touch_are_counted():
    labels = np.zeros((40, 60), np.int32)
    labels[5:15, 5:15], labels[5:15, 15:25], labels[5:15, 27:37] = 1, 2, 3
    labels[25:35, 5:15], labels[35:40, 15:25] = 4, 5  # these meet at a corner only
    assert typical_size(object_sizes(labels)).touching == pytest.approx(2 / 5)
    assert typical_size(object_sizes(np.stack([labels, np.where(labels == 2, 0, labels)]))).touching < 2 / 5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("reaches", [30, 50], ids=["ends there", "goes on"])
def test_classes_beside_what_is_not_annotated_hold_whether_objects_go_on_there_or_not(scheme, reaches):
    labels = np.zeros((60, 60), np.int32)
    labels[10:30, 10:reaches] = 1
    labels[40:50, 10:28] = 2
    unknown = np.zeros(labels.shape, bool)
    unknown[:, 30:] = True
    true = encode(labels, scheme, 4)
    drawn = np.where(unknown, 7, labels)  # whatever stands in there
    classes, ignored = encode_known(drawn, unknown, scheme, 4)
    np.testing.assert_array_equal(classes[~ignored], true[~ignored])
    assert ignored[unknown].all()
    assert ignored[20, 29]  # an outline, or the middle of an object
    assert not ignored[:, :21].any()
    assert not ignored[35:, :30].any()  # nothing there meets the part


def test_continuing_labels_changes_nothing_that_is_known():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (5, 20, 30)).astype(np.int32)
    unknown = rng.random(labels.shape) < 0.5
    found = continued(labels, unknown)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found[~unknown], labels[~unknown])
    assert continued(labels, np.zeros_like(unknown)) is labels
    assert continued(labels, np.ones_like(unknown)) is labels
