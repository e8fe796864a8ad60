"""Training and testing on labelled images, as a project does it: what the training benchmarks share."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile
from scipy import ndimage

from alapp.domain import InstanceScores, Modality, Preset, silent
from alapp.environment import machine, prepare
from alapp.stages import instances
from alapp.stages.metrics import pool, score_instances
from alapp.stages.pseudolabel.base import BUILT_IN, PSEUDO_LABELLERS
from alapp.stages.train.base import Case
from alapp.stages.train.nnunet import NnUNet

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIDE = 256
"""Patches are squares of this many pixels."""

Labelled = tuple[np.ndarray, np.ndarray]
"""An image (Y, X, C) and its instance map int32 (Y, X)."""


@dataclass(frozen=True)
class Trained:
    """A network and what it took: `predict(image, mirroring)` gives class probabilities float32 (K, Y, X)."""

    predict: Callable[[np.ndarray, bool], np.ndarray]
    seconds: float
    iterations: int


def folder_of(name: str) -> list[Labelled]:
    """The images of a folder of `shared/data`, in the order of their names. Ends the program when it is absent."""
    images, labels = (sorted((DATA / name / kind).glob("*.tif*")) for kind in ("images", "labels"))
    if not images:
        raise SystemExit(f"The benchmark needs the images of {name} in {DATA}, which are not there.")
    found = []
    for image, label in zip(images, labels, strict=True):
        pixels = tifffile.imread(image)
        found.append((pixels if pixels.ndim == 3 else pixels[..., None], tifffile.imread(label).astype(np.int32)))
    return found


def patches(slices: Sequence[Labelled], side: int = SIDE, empty: bool = False) -> list[Labelled]:
    """Every patch of `side` pixels that holds an object, or with `empty` every one, image by image; images that are
    smaller are taken whole."""
    found = []
    for image, labels in slices:
        for y in range(0, max(labels.shape[0] - side, 0) + 1, side):
            for x in range(0, max(labels.shape[1] - side, 0) + 1, side):
                window = np.s_[y : y + side, x : x + side]
                if empty or labels[window].any():
                    found.append((image[window], labels[window]))
    return found


def draw(tiles: Sequence[Labelled], count: int | None, seed: int) -> list[Labelled]:
    """`count` of `tiles` at random (all: None), in a fixed order."""
    order = np.random.default_rng([seed, 41]).permutation(len(tiles))[:count]
    return [tiles[row] for row in sorted(order.tolist())]


def cases(tiles: Sequence[Labelled], prefix: str = "gt") -> list[Case]:
    """Training cases of `tiles`."""
    return [Case(f"{prefix}_{row}", f"{prefix}{row}", lambda tile=tile: tile) for row, tile in enumerate(tiles)]


def pseudo_cases(slices: Sequence[Labelled], modality: Modality, side: int = SIDE) -> list[Case]:
    """Training cases with the labels of the built-in method for `modality`, of every patch, as a project has them."""
    labeller = PSEUDO_LABELLERS.create(BUILT_IN[modality], modality=modality)
    found = [(image, labeller.label(image, {})) for image, _ in slices]
    return cases(patches(found, side, empty=True), "pl")


def train(
    root: Path,
    known: Sequence[Case],
    iterations: int,
    seed: int,
    start_from: Path | None = None,
    plan_on: Sequence[Case] | None = None,
    run: str = "run",
) -> tuple[Trained, Path]:
    """A network (preset "quick" of this machine) trained on `known`, and its checkpoint. `plan_on` are the cases that
    nnU-Net configures itself on, by default `known`; a workspace that is planned already keeps its plan."""
    network, plain = NnUNet(mirroring=True), NnUNet(mirroring=False)
    network.plan(root, plan_on or known, Preset.QUICK, machine(), silent)
    started = time.perf_counter()
    made = network.train(root, known, root / run, iterations, seed, start_from, silent, lambda entry: None)
    seconds = time.perf_counter() - started

    def predict(image: np.ndarray, mirroring: bool = True) -> np.ndarray:
        return (network if mirroring else plain).predict(root, made.checkpoint, image, silent)

    return Trained(predict, seconds, iterations), made.checkpoint


def test(predictions: Sequence[np.ndarray], truth: Sequence[np.ndarray], **options: Any) -> InstanceScores:
    """Pooled scores of class probabilities decoded with the product's decoding against instance maps."""
    found = (instances.from_probabilities(each, **options) for each in predictions)
    return pool([score_instances(labels, each) for labels, each in zip(truth, found, strict=True)])


def components(probabilities: np.ndarray) -> np.ndarray:
    """Instances by connected components of the foreground, int32 (Y, X): what a semantic network gives."""
    labels = ndimage.label(1 - probabilities[0] > 0.5)[0].astype(np.int32)
    measured = instances.measured(labels, probabilities[0])
    return instances.only(labels, instances.kept_objects(*measured, None, instances.Decoding.fragment_share, 0.0))


def merges_and_splits(truth: np.ndarray, found: np.ndarray) -> tuple[int, int]:
    """How many objects too few and too many there are. An object found that holds more than half of each of n > 1 true
    ones counts as n - 1 merges; a true one that holds more than half of each of n > 1 found ones as n - 1 splits."""
    rows, columns = int(truth.max()) + 1, int(found.max()) + 1
    shared = np.bincount((truth.astype(np.int64) * columns + found).ravel(), minlength=rows * columns)
    shared = shared.reshape(rows, columns)
    true_size, found_size = shared.sum(1), shared.sum(0)
    held = (shared > 0.5 * true_size[:, None])[1:, 1:] & (true_size[1:, None] > 0)
    inside = (shared > 0.5 * found_size)[1:, 1:] & (found_size[1:] > 0)
    return int(np.maximum(held.sum(0) - 1, 0).sum()), int(np.maximum(inside.sum(1) - 1, 0).sum())


@contextlib.contextmanager
def recipe(name: str) -> Iterator[None]:
    """Inside the block networks are configured and trained as the product does ("ours"), with `levels` as targets
    ("levels"), or "plain": the last weights instead of their average, borders as thin as they were at first."""
    prepare()
    from alapp.stages.train import plan, targets, trainer

    changes = {
        "ours": [],
        "levels": [(plan, "TARGETS", targets.LEVELS)],
        "plain": [(trainer, "AVERAGE_DECAY", 0.0), (targets, "CROWDED_SHARE", targets.BORDER_SHARE)],
    }[name]
    with contextlib.ExitStack() as stack:
        for module, constant, value in changes:
            stack.enter_context(mock.patch.object(module, constant, value))
        yield


def workspace() -> tempfile.TemporaryDirectory:
    """A folder for a network; nothing of it is kept."""
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
