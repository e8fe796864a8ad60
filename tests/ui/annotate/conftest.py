"""A project with a stack, for the tests of annotating in slices."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole, VoxelSize
from alapp.rounds import importing
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows

RADII = (0, 0, 8, 10, 11, 11, 11, 10, 8, 0)
YX = np.mgrid[:64, :64]


def ball(y, x):
    return np.stack([np.hypot(YX[0] - y, YX[1] - x) < radius for radius in RADII])


@pytest.fixture
def stack(store):
    """Two patches of 10 x 64 x 64 with a ball each, three times as coarse along z."""
    rng = np.random.default_rng(0)
    made = catalogue.create_project(store, "stack", patch_size=64, patch_depth=10)
    truth = np.concatenate([ball(30, 24), ball(34, 40)], axis=2)
    pixels = (np.where(truth, 180, 50) + rng.normal(0, 5, truth.shape)).clip(0, 255).astype(np.uint8)
    importing.add_array(store, made.id, "balls", pixels[..., None], voxel_size=VoxelSize(3.0, 1.0, 1.0))
    patches = catalogue.patches(store, made.id)
    round_rows.add(store, made.id, "random", 2, 0, [(item.id, PatchRole.TRAIN, {}) for item in patches])
    return store, made, patches
