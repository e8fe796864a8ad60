"""Labelled images of discs on disk, and fast stand-ins for the networks."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from alapp.experiments.study import Source
from tests.rounds.conftest import discs, fast

__all__ = ["fast"]


@pytest.fixture
def source(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for seed in range(4):
        pixels, truth = discs(seed)
        tifffile.imwrite(images / f"{seed}.tif", pixels[..., 0])
        tifffile.imwrite(labels / f"{seed}.tif", truth.astype(np.uint16))
    return Source(images=str(images), labels=str(labels), patch=64)
