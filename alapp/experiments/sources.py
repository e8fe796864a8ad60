"""Labelled images of an experiment, cut into patches as a project does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Box, ImageRole, LabelKind, VoxelSize
from alapp.errors import InputError, NotReadyError
from alapp.experiments.study import Source
from alapp.rounds.simulate import pairs, read_reference
from alapp.stages import images as image_files
from alapp.stages import sample
from alapp.stages.patches import grid
from alapp.storage import catalogue
from alapp.storage import labels as label_rows
from alapp.storage.db import Store


@dataclass(frozen=True)
class Labelled:
    """An image (Y, X, C) or (Z, Y, X, C), and all of its instances, int32 (Y, X) or (Z, Y, X)."""

    name: str
    pixels: np.ndarray
    labels: np.ndarray

    @property
    def is_3d(self) -> bool:
        """Whether it is a stack."""
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

    def objects(self, rows: Iterable[int]) -> int:
        """How many objects the patches in `rows` show; one that lies in two of them counts twice, as it is outlined
        twice."""
        return sum(int(np.count_nonzero(np.unique(self.labels(self.patches[row])))) for row in rows)


def load(source: Source, store: Store | None = None) -> Images:
    """Read the images of a source into memory. Raises `InputError` when images and labels do not match or are too
    few. `store` has the source's project, where it is one."""
    voxel = VoxelSize(*source.voxel_size)
    test: list[Labelled] = []
    if source.sample is not None:
        known, voxel = _sample(source)
    elif source.project is not None:
        known, test = (_of_project(source.project, store, role) for role in (ImageRole.TRAIN, ImageRole.TEST))
        voxel = catalogue.images(store, source.project)[0].voxel_size
    else:
        known = _folder(Path(source.images), Path(source.labels))
    if source.test_images is not None and source.test_labels is not None:
        test = _folder(Path(source.test_images), Path(source.test_labels))
    return cut(source, *divide(source, known, test), voxel)


def cut(source: Source, train: Sequence[Labelled], test: Sequence[Labelled], voxel_size: VoxelSize) -> Images:
    """Images to train on, cut into the patches of the source, and images to test on."""
    patches = []
    for number, image in enumerate(train):
        patches += [Patch(number, box, image.is_3d) for box in boxes(source, image.labels.shape)]
    return Images(tuple(train), tuple(test), tuple(patches), voxel_size)


def of_sample(name: str, frames: int | None = None) -> Source:
    """A sample, cut as its project is. Raises `InputError` if there is none of this name."""
    if name not in sample.SAMPLES:
        return Source(sample=name)
    info = sample.SAMPLES[name]
    return Source(
        sample=name, modality=info.modality, patch=info.patch_size, depth=info.patch_depth, frames=frames or None
    )


def of_project(store: Store, project_id: int) -> Source:
    """The images of a project that have reference masks, cut as the project is."""
    project = catalogue.project(store, project_id)
    return Source(
        project=project_id, modality=project.modality, patch=project.patch_size, depth=project.patch_depth
    )  # fmt: skip


def divide(source: Source, known: list[Any], test: list[Any]) -> tuple[list[Any], list[Any]]:
    """(images to train on, images to test on): with no `test` images of their own, the last of those that are `known`.

    Raises `InputError` where none is left to train on.
    """
    if not test:
        # The last ones: neighbours of a sequence or stack are so alike that a random choice would test on what was
        # trained on.
        n_test = max(1, round(source.test_share * len(known)))
        known, test = known[:-n_test], known[-n_test:]
    if not known:
        raise InputError("An experiment needs at least two images: one to train on, one to test on.")
    return known, test


def boxes(source: Source, shape: tuple[int, ...]) -> list[Box]:
    """The patches of an image whose labels have this shape, (Y, X) or (Z, Y, X)."""
    flat = len(shape) == 2
    whole = (1, *shape) if flat else shape
    return grid(whole, source.patch, min(source.depth, whole[0]), 0, not flat)


def labelled_images(store: Store, project_id: int, role: ImageRole) -> list[catalogue.Image]:
    """Images of a project that have reference masks."""
    answers = label_rows.latest_by_image(store, project_id, LabelKind.REFERENCE)
    return [image for image in catalogue.images(store, project_id, role) if image.id in answers]


def _of_project(project_id: int, store: Store | None, role: ImageRole) -> list[Labelled]:
    if store is None or not labelled_images(store, project_id, ImageRole.TRAIN):
        raise NotReadyError(
            "The project of this experiment has no images with reference masks any more. Restore it, or define the "
            "experiment on other images."
        )
    answers = label_rows.latest_by_image(store, project_id, LabelKind.REFERENCE)
    found = []
    for image in labelled_images(store, project_id, role):
        pixels = np.asarray(store.files.read_array(image.path))
        found.append(
            Labelled(image.name, pixels if image.is_3d else pixels[0], label_rows.read(store, answers[image.id]))
        )
    return found


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
