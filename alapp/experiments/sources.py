"""Labelled images of an experiment, cut into patches as a project does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alapp.domain import Box, VoxelSize
from alapp.errors import InputError
from alapp.experiments.study import Source
from alapp.rounds.simulate import pairs, read_reference
from alapp.stages import images as image_files
from alapp.stages import sample
from alapp.stages.patches import grid


@dataclass(frozen=True)
class Labelled:
    """An image (Y, X, C) or (Z, Y, X, C), and all of its instances, int32 (Y, X) or (Z, Y, X)."""

    name: str
    pixels: np.ndarray
    labels: np.ndarray

    @property
    def is_3d(self) -> bool:
        return self.labels.ndim == 3


@dataclass(frozen=True)
class Patch:
    """A patch of the image with this index, that can be selected."""

    image: int
    box: Box
    is_3d: bool

    def of(self, array: np.ndarray) -> np.ndarray:
        """The part of an image's pixels or labels."""
        return array[self.box.slices if self.is_3d else self.box.slices[1:]]


@dataclass(frozen=True)
class Images:
    """What the experiment works on."""

    train: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    patches: tuple[Patch, ...]
    voxel_size: VoxelSize

    def pixels(self, patch: Patch) -> np.ndarray:
        """A patch, (Y, X, C) or (Z, Y, X, C)."""
        return patch.of(self.train[patch.image].pixels)

    def labels(self, patch: Patch) -> np.ndarray:
        """All instances of a patch, int32 (Y, X) or (Z, Y, X)."""
        return patch.of(self.train[patch.image].labels)


def load(source: Source) -> Images:
    """Read the images of a source into memory. Raises `InputError` when images and labels do not match or are too
    few."""
    voxel = VoxelSize(*source.voxel_size)
    if source.sample is not None:
        known, voxel = _sample(source)
    else:
        known = _folder(Path(source.images), Path(source.labels))
    if source.test_images is not None and source.test_labels is not None:
        train, test = known, _folder(Path(source.test_images), Path(source.test_labels))
    else:
        # The last ones: neighbours of a sequence or stack are so alike that a random choice would test on what was
        # trained on.
        n_test = max(1, round(source.test_share * len(known)))
        train, test = known[:-n_test], known[-n_test:]
    if not train:
        raise InputError("An experiment needs at least two images: one to train on, one to test on.")
    patches = []
    for number, image in enumerate(train):
        shape = image.labels.shape if image.is_3d else (1, *image.labels.shape)
        depth = min(source.depth, shape[0])
        boxes = grid(shape, source.patch, depth, 0, image.is_3d)
        patches += [Patch(number, box, image.is_3d) for box in boxes]
    return Images(tuple(train), tuple(test), tuple(patches), voxel)


def _sample(source: Source) -> tuple[list[Labelled], VoxelSize]:
    info = sample.SAMPLES[source.sample]
    frames = info.frames
    if source.frames:
        everything = sample.frames_of(source.sample)
        chosen = np.linspace(0, everything - 1, min(source.frames, everything)).round().astype(int)
        frames = tuple(chosen.tolist())
    known = [Labelled(name, pixels, labels) for name, pixels, labels, _ in sample.load_frames(source.sample, frames)]
    return known, info.voxel_size


def _folder(images: Path, labels: Path) -> list[Labelled]:
    known = []
    for path, answer in pairs(images, labels):
        pixels, reference = image_files.read(path), read_reference(answer)
        if pixels.shape[0] == 1 and reference.ndim == 2:
            pixels = pixels[0]
        if pixels.shape[:-1] != reference.shape:
            raise InputError(
                f"{path.name} and its labels have different sizes: {pixels.shape[:-1]}, {reference.shape}."
            )
        known.append(Labelled(path.stem, pixels, reference))
    return known
