"""Click methods at work: one instance a process, the slice of a patch made ready when it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from alapp.domain import Modality, PatchRole, Report, silent
from alapp.errors import BackendError, InputError
from alapp.rounds.annotate import click_methods
from alapp.stages.annotate import masks, volume
from alapp.stages.annotate.base import (
    DOWN,
    PLAIN,
    UP,
    Carries,
    ClickSegmenter,
    Embeds,
    Point,
    Tuning,
    choose_automatically,
)
from alapp.stages.annotate.embedding_cache import EmbeddingCache
from alapp.stages.annotate.masks import Mask
from alapp.stages.foundation.residency import RESIDENTS
from alapp.storage import catalogue, labels, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch, Project
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap

_segmenters: dict[tuple[Path, str, Modality], ClickSegmenter] = {}
_failures: dict[tuple[str, Modality], str] = {}
_lock = threading.Lock()

BUILT_IN = click_methods.BUILT_IN
EMBEDDINGS = "click-embeddings"
AWAY_SECONDS = 30.0
Box = tuple[float, float, float, float]
T = TypeVar("T")


def shape(patch: Patch) -> tuple[int, int, int]:
    """(Z, Y, X) of a patch; Z is 1 for a 2D image."""
    return patch.box.depth if patch.is_3d else 1, patch.box.height, patch.box.width


def check_points(patch: Patch, z: int, points: Sequence[Point]) -> None:
    """Raises `InputError` unless slice `z` and the points (y, x) lie in the patch."""
    depth, height, width = shape(patch)
    if not 0 <= z < depth:
        raise InputError(f"Slice {z + 1} does not exist: this patch has {depth}.")
    for y, x in points:
        if not (-0.5 <= y < height - 0.5 and -0.5 <= x < width - 0.5):
            raise InputError(f"The point y {y:g}, x {x:g} lies outside of the patch ({height} x {width} pixels).")


def click_method(store: Store, project_id: int) -> str:
    """The name of the project's click method, with the chosen model if there is one ("micro_sam:vit_b_lm"). `auto` is
    resolved for its modality, without any download, and leaves out a method that failed in this process."""
    return _method_of(catalogue.project(store, project_id))


def _method_of(project: Project) -> str:
    if project.click_method != "auto":
        return project.click_method
    chosen = choose_automatically(project.modality)[0]
    return BUILT_IN if (chosen, project.modality) in _failures else chosen


def segmenter(store: Store, project_id: int) -> ClickSegmenter:
    """The process's one instance of the project's click method, with its caches."""
    project = catalogue.project(store, project_id)
    return _instance(store, _method_of(project), project.modality)


def embedding_cache(store: Store) -> EmbeddingCache:
    """Where click methods keep what they computed; shared by all projects of the state folder."""
    return EmbeddingCache(store.root / EMBEDDINGS)


def _instance(store: Store, name: str, modality: Modality) -> ClickSegmenter:
    key = store.root, name, modality
    with _lock:
        if key not in _segmenters:
            made = click_methods.create(name, modality)
            if isinstance(made, Embeds):
                made.keep_in(embedding_cache(store))
            _segmenters[key] = made
        return _segmenters[key]


def prepare(store: Store, patch_id: int, z: int = 0) -> tuple[str, str]:
    """Make a slice ready, so that the first click on it is fast; a foundation model takes seconds.

    Returns the title of the method that answers the clicks, and a sentence if it stands in for one that failed.
    """
    patch = catalogue.patch(store, patch_id)
    check_points(patch, z, [])
    _try(store, patch, lambda backend: _make_ready(store, patch, z, backend))
    project = catalogue.project(store, patch.project_id)
    return segmenter(store, patch.project_id).title, failure(store, project.id)


def failure(store: Store, project_id: int) -> str:
    """Why the built-in method stands in for the one that `auto` chose; "" where it does not."""
    project = catalogue.project(store, project_id)
    failed = next((text for (_, modality), text in _failures.items() if modality is project.modality), "")
    return failed if project.click_method == "auto" else ""


def rest() -> int:
    """Let go the models of click methods that were not used a moment ago, because nobody looks at a patch; returns how
    many. Clicks bring them back. (A model that nobody uses for some minutes goes by itself.)"""
    return RESIDENTS.release(AWAY_SECONDS)


def check_box(patch: Patch, box: Box) -> None:
    """Raises `InputError` unless the box (y0, x0, y1, x1) encloses a part of the patch."""
    _, height, width = shape(patch)
    if not (0 <= box[0] < box[2] <= height and 0 <= box[1] < box[3] <= width):
        raise InputError(f"The box does not lie in the patch ({height} x {width} pixels). Draw it anew.")


def segment(
    store: Store,
    patch: Patch,
    z: int,
    positive: Sequence[Point],
    negative: Sequence[Point],
    known: Mask | None,
    box: Box | None = None,
    tuning: Tuning = PLAIN,
) -> Mask | None:
    """The object under the points (y, x) or in the box (y0, x0, y1, x1) of slice `z`; None if there is none.
    `known`: the object as it is now, when it is corrected."""
    previous = None
    if known is not None and known.box[0] <= z < known.box[3]:
        whole = np.zeros(shape(patch), bool)
        known.paint(whole, True)
        previous = whole[z] if whole[z].any() else None
    return masks.from_array(_answer(store, patch, z, positive, negative, previous, box, tuning), (z, 0, 0))


def propagate(
    store: Store,
    patch: Patch,
    z: int,
    known: Mask,
    replaced: Sequence[int] = (),
    directions: Sequence[int] = (DOWN, UP),
    report: Report = silent,
    emptied: Sequence[int] = (),
) -> Mask:
    """An object that is known on slice `z`, carried through the stack as `volume.propagate` says; all of it. By the
    click method's own way where it has one. `report` may raise `Cancelled`."""
    whole = np.zeros(shape(patch), bool)
    known.paint(whole, True)

    def read(other: int) -> np.ndarray:
        return slice_pixels(store, patch, other)

    def act(backend: ClickSegmenter) -> np.ndarray:
        if isinstance(backend, Carries):
            predicted = _prediction(store, patch, backend)
            names = lambda other: _key(store, patch, other, predicted)  # noqa: E731
            return backend.propagate(names, read, whole, z, replaced, directions, report, emptied)
        by_clicks = lambda other, seed, previous: _answer(store, patch, other, [seed], (), previous)  # noqa: E731
        return volume.propagate(whole, z, by_clicks, read, replaced, directions, report=report, emptied=emptied)

    return masks.from_array(_try(store, patch, act))


def slice_pixels(store: Store, patch: Patch, z: int) -> np.ndarray:
    """Pixels (Y, X, C) of slice `z` of a patch; only this slice is read from disk."""
    pixels = store.files.read_array(patch.image_path)
    return np.array(pixels[patch.box.z + z][patch.box.slices[1:]])


def _answer(
    store: Store,
    patch: Patch,
    z: int,
    positive: Sequence[Point],
    negative: Sequence[Point],
    previous: np.ndarray | None,
    box: Box | None = None,
    tuning: Tuning = PLAIN,
) -> np.ndarray:

    def act(backend: ClickSegmenter) -> np.ndarray:
        key = _key(store, patch, z, _prediction(store, patch, backend))
        try:
            return backend.segment(key, positive, negative, box, previous, tuning)
        except KeyError:
            _make_ready(store, patch, z, backend)
            return backend.segment(key, positive, negative, box, previous, tuning)

    return _try(store, patch, act)


def _try(store: Store, patch: Patch, act: Callable[[ClickSegmenter], T]) -> T:
    """`act` with the project's method. A method that `auto` chose and that fails gives way to the built-in one;
    one that the user chose shows its error."""
    project = catalogue.project(store, patch.project_id)
    name = _method_of(project)
    try:
        return act(_instance(store, name, project.modality))
    except BackendError as error:
        if project.click_method != "auto" or name == BUILT_IN:
            raise
        _failures[name, project.modality] = f"{error} The built-in click method is used instead."
        return act(_instance(store, BUILT_IN, project.modality))


def _make_ready(store: Store, patch: Patch, z: int, backend: ClickSegmenter) -> None:
    predicted = _prediction(store, patch, backend)
    prior = _prior(store, patch, z, predicted) if predicted else None
    backend.prepare(_key(store, patch, z, predicted), slice_pixels(store, patch, z), prior)


def _key(store: Store, patch: Patch, z: int, predicted: LabelMap | None) -> str:
    """Names a slice for the click method; a newer prediction gives it a new name."""
    return f"{store.root}|{patch.image_path}|{patch.box}|{z}|{predicted.id if predicted else ''}"


def _prediction(store: Store, patch: Patch, backend: ClickSegmenter) -> LabelMap | None:
    """The current prediction of the patch's image, if the click method looks at it.

    Labels that judge the model must not lean towards it, so clicks on validation patches never see it.
    """
    if not backend.uses_prior:
        return None
    pick = round_rows.pick_of(store, patch.id)
    if pick is not None and pick.role is PatchRole.VALIDATION:
        return None
    return verdicts.prediction(store, patch.project_id, patch.image_id)


def _prior(store: Store, patch: Patch, z: int, predicted: LabelMap) -> np.ndarray | None:
    """Foreground probability float32 (Y, X) of slice `z` of the patch; None where none is kept."""
    whole = labels.probability(store, predicted)
    if whole is None:
        return None
    plane = whole[patch.box.z + z] if patch.is_3d else whole
    return np.asarray(plane[patch.box.slices[1:]], np.float32) / 255
