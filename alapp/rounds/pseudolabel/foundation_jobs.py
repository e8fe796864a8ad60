"""The long work on foundation models: fetching one, and testing one on a patch of the project."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from alapp.domain import LabelKind, Modality, Report
from alapp.errors import BackendError, NotReadyError, WeightsMissingError
from alapp.rounds.timing import content_hash
from alapp.stages.annotate.base import CLICK_SEGMENTERS, ClickSegmenter
from alapp.stages.foundation import catalogue as models
from alapp.stages.foundation import choice, download, speeds
from alapp.stages.foundation.catalogue import MICRO_SAM, SAM2
from alapp.stages.foundation.speeds import Speed
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store

QUICK_SECONDS = 20.0
"""What took less than this is done twice, so that the second time tells the speed without loading the model."""

T = TypeVar("T")


def run_download(store: Store, project_id: int | None, report: Report, name: str) -> dict[str, Any]:
    """Fetch the published model `name`. Returns {"name", "title"}; see `download.fetch` for what it raises."""
    model = models.model(name)
    download.fetch(model, report)
    return {"name": name, "title": model.title}


def run_try(store: Store, project_id: int, report: Report, name: str, draw: int = 0) -> dict[str, Any]:
    """Let the model `name` label one random patch (for a stack its middle slice), or answer a click in its middle.

    Returns {"name", "patch", "z", "seconds", "objects", "click" ([y, x], or None after labelling), "label_map"}:
    `seconds` for one image, `label_map` the id of what came out, on the patch. The speed is kept for this computer.
    """
    project = catalogue.project(store, project_id)
    patch = _patch(store, project_id, project.seed, draw)
    pixels = catalogue.read_patch(store, patch)
    z = pixels.shape[0] // 2 if patch.is_3d else 0
    image = pixels[z] if patch.is_3d else pixels
    report(0, 3, f"Loading {name}")
    labeller = _labeller(name, project.modality)
    if labeller is not None:
        found, speed, click = *_labelled(labeller, image, report), None
    else:
        found, speed, click = _clicked(_segmenter(name, project.modality), image, report)
    speeds.record(name, speed)
    report(3, 3, f"{name} was tested")
    kept = labels.add(
        store,
        LabelKind.PSEUDO,
        _on_patch(found, patch, z),
        project_id=project_id,
        image_id=patch.image_id,
        patch_id=patch.id,
        backend=name,
        params={"test": True},
        input_hash=content_hash("try", name, patch.id, z),
    )
    return {
        "name": name,
        "patch": patch.id,
        "z": z,
        "seconds": round((speed.label or 0.0) + (speed.embed or 0.0) + (speed.click or 0.0), 3),
        "objects": kept.n_objects,
        "click": click,
        "label_map": kept.id,
    }


def _patch(store: Store, project_id: int, seed: int, draw: int) -> Patch:
    patches = catalogue.patches(store, project_id)
    if not patches:
        raise NotReadyError("Import images first: there is nothing to test a model on yet.")
    return patches[int(np.random.default_rng([seed, 11, draw]).integers(len(patches)))]


def _labeller(name: str, modality: Modality) -> Callable[[np.ndarray], np.ndarray] | None:
    """Labels an image (Y, X, C) with the model `name`; None for a model that answers clicks only."""
    if name in models.MODELS and models.MODELS[name].backend == models.CELLSAM:
        backend = PSEUDO_LABELLERS.create("cellsam", modality=modality)
        return lambda image: backend.label(image, {})
    weights = choice.named(name)
    backend = PSEUDO_LABELLERS.create("micro_sam", modality=modality)
    # A model of the user's own may have a decoder that this method does not know how to use.
    if weights is None or weights.decoder is None or name not in backend.models(modality):
        return None
    return lambda image: backend.label(image, {"model": name})


def _segmenter(name: str, modality: Modality) -> ClickSegmenter:
    """The click method that works with the model `name`."""
    if name in models.MODELS and models.MODELS[name].backend == SAM2:
        return _sam2(name, modality)
    weights = choice.named(name)
    if weights is None:
        raise WeightsMissingError(f"The weights of {name} are not on this computer. Download or import them first.")
    return CLICK_SEGMENTERS.load(MICRO_SAM)(modality, checkpoint=weights.path, model_type=weights.architecture)


def _sam2(name: str, modality: Modality) -> ClickSegmenter:
    if SAM2 not in CLICK_SEGMENTERS:
        raise BackendError("This version of the app has no click method for SAM 2.")
    from alapp.stages.annotate import sam2_weights

    used = sam2_weights.weights()
    if used is not None and used.stem != name:
        raise BackendError(f"Of several models of SAM 2 the app uses {used.stem}. Remove that one to use {name}.")
    return CLICK_SEGMENTERS.create(SAM2, modality=modality)


def _labelled(label: Callable[[np.ndarray], np.ndarray], image: np.ndarray, report: Report) -> tuple[np.ndarray, Speed]:
    report(1, 3, "Labelling a patch")
    found, seconds = _timed(lambda: label(image))
    if seconds < QUICK_SECONDS:
        report(2, 3, "Labelling it again, to know the speed")
        found, seconds = _timed(lambda: label(image))
    return found, Speed(image.shape[:2], label=seconds)


def _clicked(
    segmenter: ClickSegmenter, image: np.ndarray, report: Report
) -> tuple[np.ndarray, Speed, tuple[float, float]]:
    middle = ((image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2)
    report(1, 3, "Preparing a patch")
    _, embed = _timed(lambda: segmenter.prepare("first", image))
    segmenter.segment("first", [middle], [])  # what is loaded for the first click is no part of the speed
    if embed < QUICK_SECONDS:
        report(2, 3, "Preparing it again, to know the speed")
        # Mirrored, it is another image to any cache of what was prepared.
        _, embed = _timed(lambda: segmenter.prepare("second", np.ascontiguousarray(image[::-1])))
    mask, click = _timed(lambda: segmenter.segment("first", [middle], []))
    return mask.astype(np.int32), Speed(image.shape[:2], embed=embed, click=click), middle


def _on_patch(found: np.ndarray, patch: Patch, z: int) -> np.ndarray:
    """The labels (Y, X) of slice `z` on the whole patch."""
    if not patch.is_3d:
        return found
    whole = np.zeros((patch.box.depth, *found.shape), np.int32)
    whole[z] = found
    return whole


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    made = work()
    return made, time.perf_counter() - start
