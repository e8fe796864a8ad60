from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from alapp.stages.annotate import doubt
from alapp.stages.annotate.doubt import LARGE, MERGED, SMALL

SIZE = 96
YY, XX = np.mgrid[:SIZE, :SIZE]


def disc(y: float, x: float, r: float) -> np.ndarray:
    return np.hypot(YY - y, XX - x) < r


def image_of(labels: np.ndarray, noise: float = 2.0) -> np.ndarray:
    """(Y, X, 1): objects brighter than the background, blurred, with noise."""
    rng = np.random.default_rng(0)
    return (ndimage.gaussian_filter(100.0 * (labels > 0), 1.0) + rng.normal(0, noise, labels.shape))[..., None]


def assess(labels, image=None, foreground=None, sizes=None):
    image = image_of(labels) if image is None else image
    return doubt.assess(labels[None], image[None], None if foreground is None else foreground[None], sizes)


@pytest.fixture
def labels():
    """1 a disc, 2 two discs that touch, 3 an ellipse, 4 a disc at the border."""
    found = np.zeros((SIZE, SIZE), np.int32)
    found[disc(20, 20, 9)] = 1
    found[disc(24, 56, 9) | disc(24, 71, 9)] = 2
    found[np.hypot((YY - 70) / 1.6, XX - 30) < 8] = 3
    found[disc(95, 80, 9)] = 4
    return found


def test_two_cores_are_flagged_and_plain_shapes_are_not(labels):
    assert {key: item.flag for key, item in assess(labels).items()} == {1: "", 2: MERGED, 3: "", 4: ""}


def test_a_merge_on_a_large_slice_of_a_stack_is_flagged(labels):
    stack = np.stack([np.where(labels == 1, labels, 0), labels, labels])
    image = np.stack([image_of(plane) for plane in stack])
    found = doubt.assess(stack, image)
    assert [key for key, item in found.items() if item.flag == MERGED] == [2]


def test_probabilities_decide_where_there_are_any(labels):
    foreground = np.where(labels == 1, 0.95, np.where(labels == 3, 0.6, 0.0)).astype(np.float32)
    found = assess(labels, foreground=foreground)
    assert found[1].confidence == pytest.approx(0.95, abs=0.01)
    assert found[3].confidence == pytest.approx(0.6, abs=0.01)
    assert found[2].confidence == 0


def test_probability_around_an_object_lowers_the_trust(labels):
    certain = (labels > 0).astype(np.float32)
    wider = ndimage.binary_dilation(labels == 1, iterations=2) | (labels > 0)
    assert assess(labels, foreground=certain)[1].confidence == 1
    assert assess(labels, foreground=wider.astype(np.float32))[1].confidence < 0.8


def test_without_probabilities_an_outline_on_the_border_is_trusted_more_than_one_beside_it(labels):
    image = image_of(labels)
    beside = np.where(labels == 1, 0, labels)
    beside[disc(20, 27, 9) & (beside == 0)] = 1
    right, wrong = assess(labels, image)[1].confidence, assess(beside, image)[1].confidence
    assert right > 0.9
    assert wrong < right - 0.15


def test_unusual_sizes_are_named_but_not_objects_that_the_patch_cuts(labels):
    sizes = doubt.Sizes(float(np.log(254)), 0.1)
    labels = labels.copy()
    labels[disc(50, 80, 3)] = 5
    labels[disc(95, 8, 3)] = 6
    labels[disc(70, 30, 17)] = 3
    flags = {key: item.flag for key, item in assess(labels, sizes=sizes).items()}
    assert flags == {1: "", 2: MERGED, 3: LARGE, 4: "", 5: SMALL, 6: ""}


def test_typical_sizes_are_robust_and_need_some_objects():
    labels = np.zeros((SIZE, SIZE), np.int32)
    for key, x in enumerate(range(8, 88, 12), start=1):
        labels[disc(20, x, 5)] = key
    labels[disc(70, 50, 20)] = 99
    sizes = doubt.typical_sizes(labels)
    assert np.exp(sizes.log_median) == pytest.approx(np.count_nonzero(disc(20, 20, 5)), rel=0.05)
    assert sizes.log_deviation < 0.1
    assert doubt.typical_sizes(np.where(labels > 4, 0, labels)) is None


@pytest.mark.parametrize("foreground", [None, np.zeros((SIZE, SIZE), np.float32)])
def test_a_patch_without_objects_and_a_flat_one(foreground):
    empty = np.zeros((SIZE, SIZE), np.int32)
    assert assess(empty, foreground=foreground) == {}
    full = np.ones((SIZE, SIZE), np.int32)
    assert 0 <= assess(full, np.zeros((SIZE, SIZE, 1)), foreground)[1].confidence <= 1


def test_mean_doubt_is_the_entropy_in_bits():
    sure = np.array([[0, 255], [255, 0]], np.uint8)
    assert doubt.mean_doubt(sure) == 0
    assert doubt.mean_doubt(np.full((3, 4), 128, np.uint8)) == pytest.approx(1, abs=1e-4)
    # A quarter: -(0.25 log2 0.25 + 0.75 log2 0.75) = 0.8113, here in half of the pixels.
    assert doubt.mean_doubt(np.array([64, 0], np.uint8)) == pytest.approx(0.8113 / 2, abs=2e-3)
