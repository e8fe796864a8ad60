"""Dark blobs: what is no organelle stays unlabelled."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.stages.metrics import score_instances
from alapp.stages.pseudolabel.em_blobs import EmDarkBlobs

yy, xx = np.mgrid[:320, :320]


def section(image: np.ndarray) -> np.ndarray:
    """uint8 (Y, X, 1) with a little noise."""
    return (image + np.random.default_rng(5).normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize("width", [3, 6])
def test_thin_dark_lines_are_no_organelles(width):
    image = np.full((320, 320), 160.0)
    for offset in range(15, 320, 60):
        image[np.abs((yy - 0.4 * xx) % 320 - offset) < width / 2] = 40
        image[np.abs((xx + 0.2 * yy) % 320 - offset) < width / 2] = 40
    assert EmDarkBlobs().label(section(image), {}).max() == 0


def test_bright_blobs_are_no_organelles():
    image = np.full((320, 320), 90.0)
    image[np.hypot(yy - 160, xx - 160) < 28] = 220
    assert EmDarkBlobs().label(section(image), {}).max() == 0


def test_blobs_beside_lines_are_found():
    image, truth = np.full((320, 320), 150.0), np.zeros((320, 320), np.int32)
    for offset in range(15, 320, 80):
        image[np.abs((yy - 0.4 * xx) % 320 - offset) < 2] = 40
    for y, x in [(60, 70), (80, 230), (230, 100), (240, 250)]:
        distance = np.hypot(yy - y, xx - x)
        image[distance < 36] = 200
        image[distance < 27] = 70
        truth[distance < 27] = truth.max() + 1
    scores = score_instances(truth, EmDarkBlobs().label(section(image), {}))
    assert scores.f1_50 >= 0.95


def test_a_diameter_follows_the_magnification():
    """The same organelles at half the size need half the diameter."""
    image = np.full((160, 160), 150.0)
    y, x = yy[:160, :160], xx[:160, :160]
    for row, column in [(40, 40), (40, 115), (115, 75)]:
        distance = np.hypot(y - row, x - column)
        image[distance < 18] = 200
        image[distance < 13] = 70
    assert EmDarkBlobs().label(section(image), {"diameter": 26}).max() == 3
    assert EmDarkBlobs().label(section(image), {"diameter": 160}).max() == 0


def test_angular_dark_pieces_are_no_organelles():
    """Cytoplasm between round neighbours is as dark as an organelle, and as large."""
    image = np.full((320, 320), 60.0)
    for y, x in [(80, 80), (80, 240), (240, 80), (240, 240)]:
        image[np.hypot(yy - y, xx - x) < 79] = 190
    image[:, :20] = image[:, -20:] = image[:20] = image[-20:] = 190
    assert EmDarkBlobs().label(section(image), {}).max() == 0


def test_a_whole_is_preferred_to_its_dark_parts():
    image = np.full((320, 320), 190.0)
    body = ((yy - 160) / 30) ** 2 + ((xx - 160) / 45) ** 2 < 1
    image[body] = 90
    for stripe in range(125, 200, 14):
        image[body & (np.abs(xx - stripe) < 3)] = 130
    found = EmDarkBlobs().label(section(image), {})
    assert found.max() == 1
    assert np.count_nonzero(body & (found > 0)) > 0.85 * np.count_nonzero(body)
