"""On which side of the background the objects are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from alapp.stages.metrics import score_instances
from alapp.stages.pseudolabel.foreground import candidates
from alapp.stages.pseudolabel.log_watershed import LogWatershed
from alapp.stages.pseudolabel.nested_regions import NestedRegions

SIDE, STEP = 160, 40
yy, xx = np.mgrid[:SIDE, :SIDE]
METHODS = [NestedRegions, LogWatershed]


def cells(share: float) -> np.ndarray:
    """16 separate discs that cover this share of the image, labels int32 (Y, X)."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    for y in range(STEP // 2, SIDE, STEP):
        for x in range(STEP // 2, SIDE, STEP):
            labels[(yy - y) ** 2 + (xx - x) ** 2 < share * STEP**2 / np.pi] = labels.max() + 1
    return labels


def photo(truth: np.ndarray, bright: bool = True, light: np.ndarray | float = 0.0) -> np.ndarray:
    """A blurred, noisy image of the labels, uint16 (Y, X, 1)."""
    image = np.where((truth > 0) == bright, 1200.0, 200.0) + light
    noise = np.random.default_rng(0).normal(0, 60, truth.shape)
    return ndimage.gaussian_filter(image + noise, 1).clip(0).astype(np.uint16)[..., None]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.65])
@pytest.mark.parametrize("method", METHODS)
def test_bright_cells_that_cover_half_of_the_image_and_more(method, share):
    truth = cells(share)
    assert score_instances(truth, method().label(photo(truth), {})).f1_50 > 0.95


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("method", METHODS)
def test_which_side_can_be_said(method, share, bright):
    truth = cells(share)
    image = photo(truth, bright)
    said = {"polarity": 1 if bright else -1}
    assert score_instances(truth, method().label(image, said)).f1_50 > 0.95
    assert score_instances(truth, method().label(image, {"polarity": -said["polarity"]})).f1_50 < 0.3


@pytest.mark.parametrize("method", METHODS)
def test_a_few_dark_cells_in_bright_uneven_light_stay_dark(method):
    truth = cells(0.3)
    truth[(truth % 5) > 0] = 0
    for light in (400 * xx / SIDE, 400 * np.exp(-((yy - 70) ** 2 + (xx - 90) ** 2) / 60**2)):
        assert score_instances(truth, method().label(photo(truth, False, light), {})).f1_50 > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_dark_cells_within_bright_halos(method):
    truth = cells(0.2)
    halo = (ndimage.distance_transform_edt(truth == 0) < 4) & (truth == 0)
    image = np.select([truth > 0, halo], [300.0, 900.0], 600.0)
    image += np.random.default_rng(0).normal(0, 30, image.shape)
    labels = method().label(image[..., None].astype(np.uint16), {})
    assert score_instances(truth, labels).f1_50 > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_all_slices_of_a_stack_have_their_objects_on_one_side(method):
    truth = [cells(share) for share in np.linspace(0.25, 0.6, 6)]
    labels = method().label(np.stack([photo(each) for each in truth]), {})
    for each, found in zip(truth, labels, strict=True):
        assert score_instances(each, found).f1_50 > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_dirt_in_one_slice_does_not_turn_it_over(method, monkeypatch):
    """Alone, a slice in which dark dirt stands out more than its cells shows the dirt."""
    truth = cells(0.2)
    dirt = np.isin(truth, (6, 11))
    stack = np.stack([photo(truth)] * 5)
    stack[2] = photo(np.where(dirt, 0, truth)) // 5 + 800
    stack[2][dirt] -= 700
    assert (method().label(stack[2], {}) > 0)[dirt].mean() > 0.5
    planes, real = [], method.label_plane  # as they are before slices are linked
    monkeypatch.setattr(method, "label_plane", lambda *given: planes.append(real(*given)) or planes[-1])
    method().label(stack, {})
    assert (planes[2] > 0)[(truth > 0) & ~dirt].mean() > 0.5
    assert not planes[2][dirt].any()


def test_what_reaches_all_edges_is_no_object():
    rising = np.where(cells(0.3) > 0, 3.0, 1.0)
    found = candidates(rising, 0.5, 25)
    assert len(found) == 16
    rising[0] = 0
    assert len(candidates(rising, 0.5, 25)) == 1
