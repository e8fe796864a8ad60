"""Floods many small windows of a slice at once: what a click of the built-in method spends its time on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from alapp.stages.annotate.base import Point
from alapp.stages.annotate.candidates import dilated

OBJECT, BACKGROUND = 1, 2


@dataclass(frozen=True)
class Window:
    """A part of the slice, and squared distances (float32, pixels) of its pixels from the clicks."""

    slices: tuple[slice, slice]
    positive: np.ndarray
    negative: np.ndarray


@dataclass(frozen=True)
class Flooding:
    """What is flooded: `gradient` float32, `markers` int32 and `far` bool, all (Y, X) of one window."""

    gradient: np.ndarray
    markers: np.ndarray
    far: np.ndarray


def window_of(shape: tuple[int, int], positive: Sequence[Point], negative: Sequence[Point], radius: float) -> Window:
    """The part of a slice of `shape` (Y, X) that reaches `radius` pixels beyond the positive points."""
    points = np.asarray(positive, float)
    low = np.maximum(np.floor(points.min(axis=0) - radius) - 2, 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + radius) + 3, shape).astype(int)
    return around((slice(low[0], high[0]), slice(low[1], high[1])), positive, negative)


def around(slices: tuple[slice, slice], positive: Sequence[Point], negative: Sequence[Point]) -> Window:
    """The part of a slice that `slices` tell, with the distances from the points (y, x)."""
    return Window(slices, _squared_distance(slices, positive), _squared_distance(slices, negative))


def _squared_distance(slices: tuple[slice, slice], points: Sequence[Point]) -> np.ndarray:
    """Of each pixel of a window from the nearest point; infinite without points. Points count as their pixel."""
    ys = np.arange(slices[0].start, slices[0].stop, dtype=np.float32)
    xs = np.arange(slices[1].start, slices[1].stop, dtype=np.float32)
    nearest = np.full((len(ys), len(xs)), np.inf, np.float32)
    for y, x in points:
        np.minimum(nearest, (ys[:, None] - round(y)) ** 2 + (xs - round(x)) ** 2, out=nearest)
    return nearest


def flooding(gradient: np.ndarray, seed: float, window: Window, seeds: np.ndarray, far: np.ndarray) -> Flooding:
    """The markers of a flooding: `seeds` (bool, of the window) against `far` and the negative points. `gradient` is
    the whole slice's; `seed` the squared radius of a negative point, pixels."""
    markers = np.zeros(seeds.shape, np.int32)
    markers[far] = BACKGROUND
    markers[seeds] = OBJECT
    markers[window.negative <= seed] = BACKGROUND
    # A click is a click: where a positive and a negative disc meet, the clicked pixel itself decides.
    markers[window.positive == 0] = OBJECT
    markers[window.negative == 0] = BACKGROUND
    return Flooding(gradient[window.slices], markers, far)


def flooded(floodings: Sequence[Flooding]) -> list[np.ndarray]:
    """bool (Y, X) of each window: what its seeds reach, without holes.

    The windows are stacked with a masked row between them and flooded by one call, since the call itself costs more
    than most windows. A queue that is ordered by height, then by age, serves each window as if it were alone, so the
    masks are the same.
    """
    if not floodings:
        return []
    heights = [each.far.shape[0] for each in floodings]
    starts = np.cumsum([0, *(height + 1 for height in heights)])[:-1]
    shape = int(starts[-1]) + heights[-1], max(each.far.shape[1] for each in floodings)
    gradient, markers, mask = np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(shape, bool)
    parts = [
        np.s_[top : top + each.far.shape[0], : each.far.shape[1]] for top, each in zip(starts, floodings, strict=True)
    ]
    for part, each in zip(parts, floodings, strict=True):
        gradient[part], markers[part] = each.gradient, each.markers
        # The background's markers need not flood each other: a rim of them is enough to stop the object.
        mask[part] = dilated(~each.far)
    found = watershed(gradient, markers, mask=mask) == OBJECT
    return [
        _without_holes(found[part]) & (each.markers != BACKGROUND) for part, each in zip(parts, floodings, strict=True)
    ]


def _without_holes(mask: np.ndarray) -> np.ndarray:
    part = tight(mask, 1)
    mask[part] = ndimage.binary_fill_holes(mask[part])
    return mask


def tight(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The part of a window that holds the mask, and `margin` pixels around it; all of it for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    low = max(0, rows[0] - margin), max(0, columns[0] - margin)
    high = min(mask.shape[0], rows[-1] + margin + 1), min(mask.shape[1], columns[-1] + margin + 1)
    return slice(low[0], high[0]), slice(low[1], high[1])
