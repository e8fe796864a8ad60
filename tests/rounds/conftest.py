"""A small project of bright discs, with fast stand-ins for torch."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.rounds import importing
from alapp.stages.embed.base import EMBEDDERS
from alapp.stages.train.base import TRAINERS
from alapp.storage import catalogue
from alapp.storage.db import Store


def discs(seed: int, size: int = 128, n: int = 12, radius: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 (Y, X, 1), labels int32 (Y, X)): bright discs that do not touch, on noise."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for _ in range(n * 20):
        if labels.max() == n:
            break
        y, x = rng.integers(radius, size - radius, 2)
        wide = (yy - y) ** 2 + (xx - x) ** 2 < (radius + 3) ** 2
        if not labels[wide].any():
            labels[(yy - y) ** 2 + (xx - x) ** 2 < radius**2] = labels.max() + 1
    image = np.where(labels > 0, 180, 40) + rng.normal(0, 8, labels.shape)
    return image.clip(0, 255).astype(np.uint8)[..., None], labels


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "state")


@pytest.fixture
def fast(monkeypatch):
    """Stand-ins for nnU-Net and the MAE. Gives (trainer class, embedder class)."""
    return stand_ins(monkeypatch)


def stand_ins(monkeypatch):
    """`fast` for fixtures that last longer than a test."""
    from tests.rounds.fakes import MeanEmbedder, ThresholdTrainer

    monkeypatch.setattr(ThresholdTrainer, "seen", [])
    monkeypatch.setattr(MeanEmbedder, "fitted", [])
    monkeypatch.setitem(TRAINERS._targets, "nnunet", "tests.rounds.fakes:ThresholdTrainer")
    monkeypatch.setitem(EMBEDDERS._targets, "mae", "tests.rounds.fakes:MeanEmbedder")
    return ThresholdTrainer, MeanEmbedder


@pytest.fixture
def project(store):
    """Three images of 128 x 128 with references, cut into 12 patches of 64."""
    return discs_project(store)


def discs_project(store):
    """Three images of 128 x 128 with references, cut into 12 patches of 64."""
    made = catalogue.create_project(store, "discs", patch_size=64)
    for seed in range(3):
        pixels, labels = discs(seed)
        image = importing.add_array(store, made.id, f"image_{seed}", pixels)
        importing.add_reference(store, image, labels)
    return made
