"""Empty margins of registered, rotated and stitched images are neither background nor objects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from alapp.stages.metrics import score_instances
from alapp.stages.pseudolabel import padding
from alapp.stages.pseudolabel.em_blobs import EmDarkBlobs
from alapp.stages.pseudolabel.grayscale import gray_plane, holds_something
from alapp.stages.pseudolabel.log_watershed import LogWatershed
from alapp.stages.pseudolabel.nested_regions import NestedRegions
from tests.stages.pseudolabel.test_built_in import em_section

SIDE = 160
yy, xx = np.mgrid[:SIDE, :SIDE]
MARGINS = {
    "one row": yy < 1,
    "stripe": xx < 6,
    "corner": yy + xx < 30,
    "frame": (np.minimum(yy, xx) < 9) | (np.maximum(yy, xx) > SIDE - 10),
}


def nuclei() -> np.ndarray:
    """Nine discs of radius 11, labels int32 (160, 160)."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    for y in range(28, SIDE, 50):
        for x in range(28, SIDE, 50):
            labels[(yy - y) ** 2 + (xx - x) ** 2 < 11**2] = labels.max() + 1
    return labels


def photo(truth: np.ndarray, background: float = 400.0, nucleus: float = 900.0) -> np.ndarray:
    """Nuclei and noise on a raised background, uint16 (Y, X)."""
    noise = np.random.default_rng(1).normal(0, 60, truth.shape)
    return ndimage.gaussian_filter(np.where(truth > 0, nucleus, background) + noise, 1).clip(0).astype(np.uint16)


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("method", [NestedRegions, LogWatershed])
def test_objects_beside_a_black_margin_are_found_and_it_is_none(method, name):
    margin, truth = MARGINS[name], nuclei()
    truth[margin] = 0
    image = photo(truth)
    image[margin] = 0
    labels = method().label(image[..., None], {})
    assert score_instances(truth, labels).f1_50 > 0.95
    assert not labels[margin].any()


@pytest.mark.parametrize("method", [NestedRegions, LogWatershed])
def test_the_margins_of_a_rotated_image(method):
    truth = nuclei()
    turned = ndimage.rotate(photo(truth).astype(np.float32), 20, order=1, reshape=False)
    truth = ndimage.rotate(truth, 20, order=0, reshape=False)
    assert score_instances(truth, method().label(turned[..., None], {})).f1_50 > 0.9


@pytest.mark.parametrize("name", MARGINS)
def test_a_margin_is_found_with_what_is_mixed_with_it(name):
    image = photo(nuclei())
    image[MARGINS[name]] = 0
    grown = ndimage.binary_dilation(MARGINS[name], np.ones((3, 3)), iterations=padding.MIXED)
    assert (padding.inside(image) == ~grown).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_no_margin_is_seen_where_there_is_none(dtype):
    truth = nuclei()
    soft = ndimage.gaussian_filter(np.where(truth > 0, 200.0, 0.0), 3)
    crowded = (xx % 32 < 26) & (yy % 32 < 26)
    noise = np.random.default_rng(0).normal(0, 8, truth.shape)
    images = {
        "a constant image": np.full(truth.shape, 7.0),
        "a dark background of one value": np.where(truth > 0, 200.0, 0.0),
        "a dark background that is cut off at black": (soft - 5 + noise).clip(0, 255),
        "black between crowded cells": np.where(crowded, 150.0 + noise, 0.0),
        "black objects, of which some touch the edge": np.where(np.roll(truth, 25, 1) > 0, 0.0, 180.0 + noise),
        "a background that fades to black": np.maximum(xx - 40.0, 0) + np.maximum(noise, 0) * (xx > 40),
        "a few dead pixels": np.where(np.random.default_rng(1).random(truth.shape) < 0.001, 0.0, 100 + noise),
    }
    assert [name for name, image in images.items() if not padding.inside(image.astype(dtype)).all()] == []
    assert padding.inside(np.zeros((1, 9), dtype)).all()


def test_a_margin_changes_nothing_in_the_rest():
    image = photo(nuclei())
    framed = np.pad(image, ((40, 0), (0, 30)))
    gray, inner = gray_plane(framed[..., None]), gray_plane(image[..., None])
    assert np.abs(gray[42:, :-32] - inner[2:, :-2]).max() < 0.02
    assert np.ptp(gray[:40]) == np.ptp(gray[:, -30:]) == 0


def test_a_margin_of_nothing_but_noise_is_nothing():
    noise = np.random.default_rng(0).poisson(400, (3, SIDE, SIDE, 1)).astype(np.uint16)
    for margin in MARGINS.values():
        noise[1][margin] = 0
        assert not holds_something(noise).any()
        assert not NestedRegions().label(noise[1], {}).any()


def test_a_black_corner_of_a_section_is_no_organelle():
    image, truth = em_section()
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    for legs in (60, 110):
        corner = (image.shape[0] - 1 - rows) + (image.shape[1] - 1 - columns) < legs
        cut = np.where(corner[..., None], 0, image).astype(np.uint8)
        labels = EmDarkBlobs().label(cut, {})
        assert not labels[corner].any()
        assert score_instances(truth, labels).f1_50 > 0.8
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 1, (512, 512)), 4)
    texture = (140 + 18 * texture / texture.std()).clip(1, 255).astype(np.uint8)
    texture[np.add.outer(np.arange(512), np.arange(512)) < 110] = 0
    assert EmDarkBlobs().label(texture[..., None], {}).max() == 0
