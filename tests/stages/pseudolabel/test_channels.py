"""Which channel of an image is looked at: one for all slices of a stack."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from alapp.errors import BackendError
from alapp.stages.pseudolabel.em_blobs import EmDarkBlobs
from alapp.stages.pseudolabel.grayscale import SAMPLED, best_channel, gray_plane, stretch
from alapp.stages.pseudolabel.log_watershed import LogWatershed
from alapp.stages.pseudolabel.nested_regions import NestedRegions

SLICES, SIDE = 6, 96


def two_dyes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image, nuclei, cells): the dye of the nuclei fades with depth, that of the cells, beside them, comes up. uint16
    (Z, Y, X, 2) and bool (Y, X)."""
    yy, xx = np.mgrid[:SIDE, :SIDE]
    nuclei, cells = np.zeros((2, SIDE, SIDE), bool)
    for y in (24, 72):
        for x in (20, 66):
            nuclei |= (yy - y) ** 2 + (xx - x) ** 2 < 7**2
            cells |= (yy - y) ** 2 + (xx - x - 6) ** 2 < 15**2
    depth = np.arange(SLICES)[:, None, None]
    shown = [200 + nuclei * 1400 * np.exp(-depth / 4), 200 + cells * 1400 * np.exp(-(SLICES - 1 - depth) / 1.3)]
    noise = np.random.default_rng(0).normal(0, 60, (2, SLICES, SIDE, SIDE))
    planes = ndimage.gaussian_filter(np.stack(shown) + noise, (0, 0, 1, 1))
    return np.moveaxis(planes, 0, -1).clip(0).astype(np.uint16), nuclei, cells


@pytest.mark.parametrize("method", [NestedRegions, LogWatershed])
def test_one_channel_for_all_slices(method):
    image, nuclei, _ = two_dyes()
    alone = [best_channel([each]) for each in image]
    assert (alone[0], alone[-1]) == (1, 2)
    labels = method().label(image, {})
    assert labels.max() == 4
    assert (np.count_nonzero(labels, axis=(1, 2)) < 1.5 * np.count_nonzero(nuclei)).all()


def test_a_channel_can_be_chosen():
    image, nuclei, cells = two_dyes()
    for channel, truth in ((1, nuclei), (2, cells)):
        found = LogWatershed().label(image[3], {"channel": channel}) > 0
        assert np.count_nonzero(found & truth) > 0.7 * np.count_nonzero(found | truth)
        assert (gray_plane(image[3], channel) == stretch(image[3, ..., channel - 1])).all()


@pytest.mark.parametrize("method", [NestedRegions, LogWatershed, EmDarkBlobs])
def test_a_channel_that_is_not_there_is_told(method):
    image = two_dyes()[0]
    with pytest.raises(BackendError, match="There are 2 channels in this image, so channel 3 cannot be used"):
        method().label(image[:2], {"channel": 3})
    with pytest.raises(BackendError, match="There is 1 channel in this image"):
        method().label(image[0, ..., :1], {"channel": 2})


def test_slices_in_which_only_another_channel_holds_something_stay_empty():
    image = two_dyes()[0]
    image[3:, ..., 0] = np.random.default_rng(1).poisson(200, image[3:, ..., 0].shape)
    labels = LogWatershed().label(image, {"channel": 1})
    assert labels[:3].any(axis=(1, 2)).all()
    assert not labels[3:].any()


def test_the_stain_of_rgb_is_channel_4():
    image = np.full((40, 40, 3), [235, 150, 190], np.uint8)
    image[10:20, 10:20] = [80, 60, 150]
    assert (gray_plane(image, 4)[12:18, 12:18] > 0.9).all()
    with pytest.raises(BackendError, match="channel 4"):
        gray_plane(image.astype(np.uint16), 4)


def test_a_long_stack_is_not_read_whole_to_choose(monkeypatch):
    seen = []
    monkeypatch.setattr("alapp.stages.pseudolabel.grayscale.best_channel", lambda slices: seen.append(len(slices)) or 1)
    monkeypatch.setattr(LogWatershed, "label_plane", lambda self, plane, params: np.zeros(plane.shape[:2], np.int32))
    LogWatershed().label(np.concatenate([two_dyes()[0]] * 4), {})
    assert seen == [SAMPLED]
