"""Carrying an object from one slice of a stack to its neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from alapp.stages.annotate.base import Point

SegmentSlice = Callable[[int, Point, np.ndarray], np.ndarray]
"""`segment(z, seed_yx, previous)`: bool (Y, X) of the object on slice `z`, from a point inside of it and the
object's bool mask on the slice before."""


ReadSlice = Callable[[int], np.ndarray]
"""`read(z)`: pixels (Y, X, C) of slice `z`, any numeric dtype."""

RING = 3  # pixels around an object that it is compared with


def propagate(
    volume: np.ndarray,
    z: int,
    segment: SegmentSlice,
    read: ReadSlice,
    min_iou: float = 0.5,
    max_growth: float = 2.0,
    min_contrast: float = 0.3,
) -> np.ndarray:
    """Follow an object up and down from slice `z`.

    `volume` bool (Z, Y, X) holds the object as far as it is known. On each next slice the object is segmented
    from the innermost point of the mask before (the maximum of the distance transform), with that mask as the
    first guess. It ends where the two masks have an IoU below `min_iou` or areas more than `max_growth` times
    apart, where the object stands out from its surroundings less than `min_contrast` times as much as on the
    slice before (or the other way round), where nothing is found, before a slice beyond a gap that holds it
    already, and at the ends of the stack. Slices that touch `z` and hold the object already are kept.

    Returns bool (Z, Y, X): the contiguous slices around `z` that hold the object, found ones included.
    """
    grown = np.zeros_like(volume)
    for step in (-1, 1):
        other = z
        while 0 <= other < len(volume) and volume[other].any():
            grown[other] = before = volume[other]
            other += step
        while 0 <= other < len(volume) and not volume[other].any():
            found = segment(other, innermost(before), before)
            if not _continues(before, found, min_iou, max_growth):
                break
            now, last = contrast(read(other), found), contrast(read(other - step), before)
            if now * last <= 0 or abs(now) < min_contrast * abs(last):
                break
            grown[other] = before = found
            other += step
    return grown


def innermost(mask: np.ndarray) -> Point:
    """The pixel (y, x) of a bool mask (Y, X) that is farthest from its border."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(distance)), mask.shape)
    return float(y), float(x)


def contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean intensity of the object less that of a ring of `RING` pixels around it; 0 without a ring."""
    gray = image.astype(np.float32).mean(axis=-1)
    ring = ndimage.binary_dilation(mask, iterations=RING) & ~mask
    return float(gray[mask].mean() - gray[ring].mean()) if ring.any() else 0.0


def _continues(before: np.ndarray, found: np.ndarray, min_iou: float, max_growth: float) -> bool:
    area, previous = np.count_nonzero(found), np.count_nonzero(before)
    if area == 0 or max(area, previous) > max_growth * min(area, previous):
        return False
    return np.count_nonzero(found & before) / np.count_nonzero(found | before) >= min_iou
