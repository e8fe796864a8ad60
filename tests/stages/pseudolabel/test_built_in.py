"""The built-in methods find what they are made for."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.stages.metrics import score_instances
from alapp.stages.pseudolabel.em_blobs import EmDarkBlobs
from alapp.stages.pseudolabel.grayscale import drop_small, gray_plane
from alapp.stages.pseudolabel.log_watershed import LogWatershed, above_background, object_diameter


def discs(radius: int, touching: bool = False, size: int = 256) -> np.ndarray:
    """Discs on a grid, labels int32 (Y, X); neighbours in a row overlap slightly when `touching`."""
    labels = np.zeros((size, size), np.int32)
    yy, xx = np.mgrid[:size, :size]
    step = round(1.8 * radius) if touching else 3 * radius
    for y in range(2 * radius, size - radius, 3 * radius):
        for x in range(2 * radius, size - radius, step):
            inside = (yy - y) ** 2 + (xx - x) ** 2 < radius**2
            labels[inside & (labels == 0)] = labels.max() + 1
    return labels


def photo(labels: np.ndarray, bright: bool = True, slope: float = 0.0) -> np.ndarray:
    """A noisy image of the labels, uint16 (Y, X, 1); `slope` adds uneven illumination."""
    rng = np.random.default_rng(1)
    image = np.where(labels > 0, 900.0, 200.0) if bright else np.where(labels > 0, 200.0, 900.0)
    image += slope * np.linspace(0, 1, labels.shape[1]) + rng.normal(0, 40, labels.shape)
    return image.clip(0).astype(np.uint16)[..., None]


@pytest.mark.parametrize("radius", [6, 10, 18])
@pytest.mark.parametrize("bright", [True, False])
def test_discs_of_any_size_and_polarity(radius, bright):
    truth = discs(radius)
    assert score_instances(truth, LogWatershed().label(photo(truth, bright), {})).f1_50 > 0.95


@pytest.mark.parametrize("slope", [400, 600, 800])
@pytest.mark.parametrize("bright", [True, False])
def test_discs_on_uneven_background(slope, bright):
    truth = discs(10)
    assert score_instances(truth, LogWatershed().label(photo(truth, bright, slope), {})).f1_50 > 0.9


def test_the_plane_is_float32():
    assert gray_plane(photo(discs(10))).dtype == np.float32


def test_touching_discs_come_apart():
    truth = discs(12, touching=True)
    assert score_instances(truth, LogWatershed().label(photo(truth), {})).f1_50 > 0.9


@pytest.mark.parametrize("radius", [5, 10, 20])
def test_the_diameter_is_found(radius):
    bright = above_background(photo(discs(radius))[..., 0].astype(np.float32))
    assert object_diameter(bright) == pytest.approx(2 * radius, rel=0.35)


def test_a_higher_sensitivity_finds_fainter_objects():
    truth = discs(10)
    image = photo(truth).astype(np.float32)
    faint = truth % 3 == 1
    image[faint & (truth > 0)] = 200 + 0.2 * (image[faint & (truth > 0)] - 200)
    found = [LogWatershed().label(image, {"sensitivity": value}).max() for value in (1, 3)]
    assert found[1] > found[0]


def em_section(inside: int = 70) -> tuple[np.ndarray, np.ndarray]:
    """Dark ovals with a bright rim, thin dark membranes, on gray noise: (image uint8 (Y, X, 1), labels)."""
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:384, :384]
    image, labels = np.full((384, 384), 150.0), np.zeros((384, 384), np.int32)
    for offset in range(20, 384, 90):
        image[np.abs((yy - 0.3 * xx) % 384 - offset) < 3] = 30
    for y, x in [(70, 80), (80, 250), (200, 150), (300, 300), (310, 90)]:
        distance = np.hypot((yy - y) / 1.0, (xx - x) / 1.3)
        image[distance < 34] = 190
        image[distance < 26] = inside
        labels[distance < 26] = labels.max() + 1
    return (image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)[..., None], labels


def test_dark_organelles_are_found_and_membranes_are_not():
    image, truth = em_section()
    scores = score_instances(truth, EmDarkBlobs().label(image, {}))
    assert scores.f1_50 > 0.8
    assert scores.fp_50 <= 1


def test_asking_for_clearer_objects_leaves_faint_ones_out():
    faint, truth = em_section(inside=100)
    assert EmDarkBlobs().label(faint, {"clearness": 0.2}).max() == truth.max()
    assert EmDarkBlobs().label(faint, {"clearness": 0.6}).max() == 0


def test_the_channel_with_the_objects_is_used():
    truth = discs(10)
    signal = photo(truth)[..., 0].astype(np.float32)
    noise = np.random.default_rng(0).normal(500, 40, truth.shape).astype(np.float32)
    plane = gray_plane(np.stack([noise, signal], -1))
    assert np.corrcoef(plane.ravel(), signal.ravel())[0, 1] > 0.95


def test_small_objects_are_dropped_and_ids_closed_up():
    labels = np.array([[1, 1, 0, 2, 3, 3]])
    assert drop_small(labels, 2).tolist() == [[1, 1, 0, 0, 2, 2]]
