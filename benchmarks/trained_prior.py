"""A network as the app trains it, for benchmarks that need its opinion of slices that it has not seen."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alapp.domain import Preset, silent
from alapp.environment import machine
from alapp.stages.train.base import Case
from alapp.stages.train.nnunet import NnUNet

SIDE = 384  # pixels; patches of this size are cut, as in a project
PATCHES = 12


def patches(slices: Sequence[tuple[np.ndarray, np.ndarray]], count: int = PATCHES) -> list[Case]:
    """Up to `count` patches with objects, drawn with a fixed seed from slices (image (Y, X, C), labels (Y, X)); images
    that are smaller than a patch are taken whole."""
    tiles = []
    for image, labels in slices:
        for y in range(0, max(labels.shape[0] - SIDE, 0) + 1, SIDE):
            for x in range(0, max(labels.shape[1] - SIDE, 0) + 1, SIDE):
                window = np.s_[y : y + SIDE, x : x + SIDE]
                if labels[window].any():
                    tiles.append((image[window], labels[window].astype(np.int32)))
    chosen = np.random.default_rng(0).permutation(len(tiles))[:count]
    return [Case(f"gt_{i}", str(i), lambda tile=tiles[i]: tile) for i in sorted(chosen.tolist())]


def probabilities(cases: Sequence[Case], images: Sequence[np.ndarray], iterations: int) -> list[np.ndarray]:
    """Class probabilities float32 (K, Y, X) for each of `images` (Y, X, C), by an nnU-Net (preset "quick") that was
    trained on `cases` from scratch. Nothing of it is kept."""
    network = NnUNet()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        network.plan(root, cases, Preset.QUICK, machine(), silent)
        made = network.train(root, cases, root / "run", iterations, 0, None, silent, lambda entry: None)
        return [network.predict(root, made.checkpoint, image, silent) for image in images]


def foreground(cases: Sequence[Case], images: Sequence[np.ndarray], iterations: int) -> list[np.ndarray]:
    """1 - p(background), float32 (Y, X) for each of `images`; see `probabilities`."""
    return [1 - found[0] for found in probabilities(cases, images, iterations)]
