"""Edits of object masks: pure functions from masks to masks.

Masks live in the voxel grid (Z, Y, X) of their patch (`masks.Mask`). What changes a shape by its surroundings
(`fill_holes`, `smooth`, `grow`, `shrink`) works in the plane, slice by slice: stacks are rarely isotropic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from alapp.errors import InputError
from alapp.stages.annotate import masks
from alapp.stages.annotate.masks import Mask

Shape3 = tuple[int, int, int]
Line = tuple[tuple[float, float], tuple[float, float]]
"""Two ends (y, x); the centre of the first pixel is (0, 0)."""

SMOOTHING = 1.5  # sigma, pixels


def paint(mask: Mask | None, stroke: Mask, erase: bool) -> Mask | None:
    """`mask` with the pixels of `stroke`, or without them; None if nothing is left."""
    if erase:
        return None if mask is None else masks.without(mask, [stroke])
    return stroke if mask is None else merge([mask, stroke])


def merge(parts: Sequence[Mask]) -> Mask:
    """All pixels of one or more masks. They need not touch."""
    low, high = _hull(parts)
    joined = np.zeros([stop - start for start, stop in zip(low, high, strict=True)], bool)
    for part in parts:
        window = tuple(slice(part.box[i] - low[i], part.box[i + 3] - low[i]) for i in range(3))
        joined[window] |= part.array()
    return masks.from_array(joined, low)


def split(mask: Mask, line: Line, z: int) -> tuple[Mask, Mask]:
    """The two parts of an object on both sides of a line, the larger first; every pixel goes to one of them.

    The line is drawn on slice `z` and cuts every slice (a plane along z). Where it ends inside of the object it
    is prolonged to the border. Parts that it does not touch stay with the larger. Raises `InputError` when the
    line does not cut the object in two.
    """
    if not mask.box[0] <= z < mask.box[3]:
        raise InputError("The object is not on this slice. Choose one that is, then draw the line across it.")
    pixels = mask.array()
    ends = np.asarray(line, float) - np.asarray(mask.box[1:3])
    cut = _rasterised(_prolonged(pixels.any(axis=0), ends), pixels.shape[1:])
    # A line of pixels that touch by their corners separates what is joined by its edges.
    pieces, count = ndimage.label(pixels & ~cut)
    # A curved object may come back to the far side of the line: only where it was cut says on which side a piece is.
    beside = ndimage.binary_dilation(cut, np.ones((3, 3), bool)) & ~cut
    near = pieces[:, beside]
    sides = np.bincount(near.ravel(), np.tile(_sides(beside, ends), len(near)), count + 1)
    touched = [key for key in np.unique(near) if key]
    left = [key for key in touched if sides[key] > 0]
    right = [key for key in touched if key not in left]
    if count < 2 or not left or not right:
        raise InputError("The line does not cut the object in two. Draw it right across the object.")
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    lesser = min((left, right), key=lambda side: sizes[side].sum())
    nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
    second = np.isin(pieces[tuple(nearest)], lesser) & pixels
    large, small = sorted((pixels & ~second, second), key=np.count_nonzero, reverse=True)
    return masks.from_array(large, mask.box[:3]), masks.from_array(small, mask.box[:3])


def fill_holes(mask: Mask) -> Mask:
    """Pixels that the object encloses on a slice become part of it."""
    return masks.from_array(_by_slice(mask.array(), ndimage.binary_fill_holes), mask.box[:3])


def smooth(mask: Mask, shape: Shape3) -> Mask:
    """Where at least half of the surroundings (a Gaussian window, sigma 1.5 pixels) belong to the object: spikes
    and dents go. A slice that would lose all of its pixels stays as it is. `shape` (Z, Y, X) is the patch."""

    def act(pixels: np.ndarray) -> np.ndarray:
        found = ndimage.gaussian_filter(pixels.astype(np.float32), SMOOTHING, mode="nearest") >= 0.5
        return found if found.any() else pixels

    return _padded(mask, shape, 2, act)


def grow(mask: Mask, shape: Shape3) -> Mask:
    """One pixel larger all around, within the patch of `shape` (Z, Y, X)."""
    return _padded(mask, shape, 1, ndimage.binary_dilation)


def shrink(mask: Mask, shape: Shape3) -> Mask | None:
    """One pixel smaller all around, except where the object leaves the patch; None if nothing is left."""
    return _padded(mask, shape, 1, ndimage.binary_erosion)


def _padded(mask: Mask, shape: Shape3, margin: int, act: Callable[[np.ndarray], np.ndarray]) -> Mask | None:
    """`act` on every slice, with room to grow. Beyond the patch the object goes on as it is at the border."""
    around = [(0, 0), (margin, margin), (margin, margin)]
    room = np.pad(mask.array(), around)
    for axis in (1, 2):
        for end in (0, 1):
            if mask.box[axis + 3 * end] == (shape[axis] if end else 0):
                _prolong(room, axis, end, margin)
    found = _by_slice(room, act)[:, margin - min(margin, mask.box[1]) :, margin - min(margin, mask.box[2]) :]
    y0, x0 = (max(0, mask.box[axis] - margin) for axis in (1, 2))
    return masks.from_array(found[:, : shape[1] - y0, : shape[2] - x0], (mask.box[0], y0, x0))


def _prolong(room: np.ndarray, axis: int, end: int, margin: int) -> None:
    rows = np.moveaxis(room, axis, 0)
    if end:
        rows[-margin:] = rows[-margin - 1]
    else:
        rows[:margin] = rows[margin]


def _by_slice(pixels: np.ndarray, act: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.stack([act(each) if each.any() else each for each in pixels])


def _hull(parts: Sequence[Mask]) -> tuple[Shape3, Shape3]:
    low = tuple(min(part.box[axis] for part in parts) for axis in range(3))
    high = tuple(max(part.box[axis] for part in parts) for axis in range(3, 6))
    return low, high


def _prolonged(footprint: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The two ends, moved outwards along the line until they lie outside of `footprint` bool (Y, X)."""
    length = np.hypot(*(ends[1] - ends[0]))
    if length < 1:
        raise InputError("The line is too short. Draw it right across the object.")
    step = (ends[1] - ends[0]) / length
    moved = ends.copy()
    for at, towards in ((0, -step), (1, step)):
        while _inside(footprint, moved[at]):
            moved[at] += towards
    return moved


def _inside(footprint: np.ndarray, point: np.ndarray) -> bool:
    y, x = np.rint(point).astype(int)
    return 0 <= y < footprint.shape[0] and 0 <= x < footprint.shape[1] and bool(footprint[y, x])


def _rasterised(ends: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """bool (Y, X): the pixels of a straight line, each touching the next at least by its corner."""
    n = int(np.ceil(np.abs(ends[1] - ends[0]).max())) + 1
    # Half a pixel a step, so that rounding cannot leave a gap.
    ys, xs = (np.rint(np.linspace(ends[0][axis], ends[1][axis], 2 * n)).astype(int) for axis in (0, 1))
    within = (ys >= 0) & (ys < shape[0]) & (xs >= 0) & (xs < shape[1])
    line = np.zeros(shape, bool)
    line[ys[within], xs[within]] = True
    return line


def _sides(where: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """1 or -1 for each pixel of `where` bool (Y, X), by the side of the line on which it lies; 0 on the line."""
    ys, xs = np.nonzero(where)
    (y0, x0), (y1, x1) = ends
    return np.sign((x1 - x0) * (ys - y0) - (y1 - y0) * (xs - x0))
