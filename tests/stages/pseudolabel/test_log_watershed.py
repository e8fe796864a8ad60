"""Blobs and watershed on backgrounds that are not even."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.stages.metrics import score_instances
from alapp.stages.pseudolabel.log_watershed import LogWatershed

RADIUS = 10


def nuclei() -> np.ndarray:
    """Discs of radius 10 with uneven gaps, labels int32 (256, 256)."""
    labels = np.zeros((256, 256), np.int32)
    yy, xx = np.mgrid[:256, :256]
    for row, y in enumerate(range(20, 246, 32)):
        for x in range(20 + 9 * (row % 3), 246, 36):
            labels[(yy - y) ** 2 + (xx - x) ** 2 < RADIUS**2] = labels.max() + 1
    return labels


def lamp(kind: str) -> np.ndarray:
    """Background between 0 and 1 over (256, 256)."""
    yy, xx = np.mgrid[:256, :256] / 255
    return xx if kind == "ramp" else np.exp(-((yy - 0.4) ** 2 + (xx - 0.6) ** 2) / 0.3)


@pytest.mark.parametrize("kind", ["ramp", "spot"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_discs_on_an_uneven_background(kind, sign, dtype):
    truth = nuclei()
    noise = np.random.default_rng(2).normal(0, 0.03, truth.shape)
    image = (0.5 - sign * 0.3 + sign * 0.5 * (truth > 0) + 0.25 * (lamp(kind) - 0.5) + noise).clip(0, 1)
    scaled = image.astype(dtype) if dtype == np.float32 else (image * np.iinfo(dtype).max).astype(dtype)
    assert score_instances(truth, LogWatershed().label(scaled[..., None], {})).f1_50 >= 0.95


def test_a_diameter_that_is_given_is_used():
    truth = nuclei()
    image = (truth > 0)[..., None] * np.uint8(200)
    assert LogWatershed().label(image, {"diameter": 2 * RADIUS}).max() == truth.max()
    assert LogWatershed().label(image, {"min_size": 4 * RADIUS**2}).max() == 0
