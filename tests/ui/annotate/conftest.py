"""A project with a stack, for the tests of annotating in slices, and one with suggestions."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind, PatchRole, VoxelSize
from alapp.rounds import importing
from alapp.storage import catalogue, labels
from alapp.storage import rounds as round_rows

RADII = (0, 0, 8, 10, 11, 11, 11, 10, 8, 0)
YX = np.mgrid[:64, :64]
SIZE = 128


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


@pytest.fixture
def predicted(store):
    """A patch whose model found four discs, 95, 80, 60 and 40 % sure, and two discs as one object, 99 % sure."""
    yy, xx = np.mgrid[:SIZE, :SIZE]
    found = np.zeros((SIZE, SIZE), np.int32)
    sure = np.zeros((SIZE, SIZE))
    for key, (y, x, p) in enumerate([(20, 20, 0.6), (20, 60, 0.95), (60, 20, 0.4), (60, 60, 0.8)], start=1):
        found[np.hypot(yy - y, xx - x) < 10] = key
        sure[found == key] = p
    both = (np.hypot(yy - 100, xx - 40) < 11) | (np.hypot(yy - 100, xx - 58) < 11)
    found[both], sure[both] = 5, 0.99
    made = catalogue.create_project(store, "doubt", patch_size=SIZE)
    image = importing.add_array(store, made.id, "cells", (50 + 150 * (found > 0)).astype(np.uint8)[..., None])
    predicted = labels.add(
        store, LabelKind.PREDICTED, found, project_id=made.id, image_id=image.id, backend="nnunet", input_hash="x"
    )
    labels.add_probability(store, predicted, sure)
    patch = catalogue.patches(store, made.id)[0]
    round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    return store, made, patch
