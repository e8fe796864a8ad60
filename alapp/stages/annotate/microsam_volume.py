"""Carrying an object through a stack by micro_sam's own propagation (`segment_mask_in_volume`, Archit et al. 2025)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from alapp.domain import Report
from alapp.stages.annotate import volume as built_in
from alapp.stages.annotate.base import ReadSlice
from alapp.stages.annotate.microsam_model import Part

PROJECTION = "single_point"  # how a mask becomes the prompt of the next slice: micro_sam's own choice in its annotator
MIN_IOU = 0.5  # of the masks of neighbouring slices, again micro_sam's own choice


class _EndedError(Exception):
    """The object does not go on; the slices ahead need no embedding."""


class _Features:
    """The embeddings of a stack, as micro_sam indexes them: each slice's is fetched when its turn comes."""

    ndim = 5

    def __init__(self, fetch: Callable[[int], np.ndarray]) -> None:
        self._fetch = fetch

    def __getitem__(self, index: int) -> np.ndarray:
        return self._fetch(int(index))


def propagate(
    decoder: Part,
    embedding: Callable[[int], Mapping[str, Any]],
    read: ReadSlice,
    volume: np.ndarray,
    z: int,
    replaced: Collection[int],
    directions: Sequence[int],
    report: Report,
    emptied: Collection[int] = (),
) -> np.ndarray:
    """See `base.Carries`. `embedding(z)`: of slice `z`, as `microsam_model.unpacked` gives it.

    Which slices stay, and where the object ends, follows the same rule as for the built-in method. Between two slices
    that stay micro_sam works from both towards the middle; where that has little in common with the shape in between
    (`volume.between`), the shape is taken.
    """
    predictor = _own(decoder)
    grown = volume.copy()
    for step in directions:
        start, ahead, anchor = built_in.stretch(volume, z, step, replaced, emptied)
        if anchor is not None:
            low, high = sorted((start, anchor))
            if high - low > 1:
                grown[low : high + 1] = _between(predictor, embedding, volume[low : high + 1], low, report)
            continue
        grown[list(ahead)] = False
        found = _follow(predictor, embedding, read, volume[start], start, ahead, report)
        for other, mask in zip(ahead, found, strict=False):
            grown[other] = mask
    return grown


def _own(decoder: Part) -> Any:
    """A predictor that shares the model, but neither the image nor the threshold of the one that answers clicks."""
    with decoder.lock:
        predictor = copy.copy(decoder.predictor)
        predictor.model = copy.copy(predictor.model)
        predictor.model.mask_threshold = type(predictor.model).mask_threshold
    return predictor


def _follow(
    predictor: Any,
    embedding: Callable[[int], Mapping[str, Any]],
    read: ReadSlice,
    first: np.ndarray,
    start: int,
    ahead: range,
    report: Report,
) -> list[np.ndarray]:
    """The masks on the slices `ahead`, one after the other, as far as the object goes."""
    if not len(ahead):
        return []
    masks = np.zeros((len(ahead) + 1, *first.shape), np.uint8)  # in the order in which they are found
    masks[0] = first
    slices = [start, *ahead]

    def fetch(turn: int) -> np.ndarray:
        if turn > 1 and not _holds(masks, slices, turn - 1, read):
            raise _EndedError
        report(turn, len(ahead), f"slice {slices[turn] + 1}")
        return embedding(slices[turn])["features"]

    report(0, len(ahead), f"slice {slices[1] + 1}")
    _run(predictor, masks, fetch, embedding(slices[1]), np.array([0]))
    good = [turn for turn in range(1, len(slices)) if masks[turn].any()]
    ended = next((turn for turn in good if not _holds(masks, slices, turn, read)), len(good) + 1)
    return [mask.astype(bool) for mask in masks[1:ended]]


def _holds(masks: np.ndarray, slices: Sequence[int], turn: int, read: ReadSlice) -> bool:
    before, found = masks[turn - 1].astype(bool), masks[turn].astype(bool)
    return built_in.goes_on(before, read(slices[turn - 1]), found, read(slices[turn]), min_iou=MIN_IOU)


def _between(
    predictor: Any,
    embedding: Callable[[int], Mapping[str, Any]],
    known: np.ndarray,
    low: int,
    report: Report,
) -> np.ndarray:
    last = len(known) - 1
    masks = np.zeros(known.shape, np.uint8)
    masks[[0, last]] = known[[0, last]]
    turns = iter(range(1, last + 1))

    def fetch(index: int) -> np.ndarray:
        report(next(turns), last, f"slice {low + index + 1}")
        return embedding(low + index)["features"]

    report(0, last, f"slice {low + 2}")
    _run(predictor, masks, fetch, embedding(low + 1), np.array([0, last]))
    shapes = built_in.between(known[0], known[last], last)
    for turn in range(1, last):
        found = masks[turn].astype(bool)
        if built_in.iou(shapes[turn], found) >= MIN_IOU:
            shapes[turn] = found
    return shapes


def _run(
    predictor: Any,
    masks: np.ndarray,
    fetch: Callable[[int], np.ndarray],
    sizes: Mapping[str, Any],
    known: np.ndarray,
) -> None:
    """micro_sam fills `masks` from the slices `known` on. `sizes` is any embedding of the stack."""
    from micro_sam.multi_dimensional_segmentation import segment_mask_in_volume

    stack = {**sizes, "features": _Features(fetch)}
    ends = {"stop_lower": False, "stop_upper": False, "iou_threshold": MIN_IOU}
    with suppress(_EndedError):
        segment_mask_in_volume(masks, predictor, stack, known, projection=PROJECTION, **ends)
