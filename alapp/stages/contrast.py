"""Which intensities of an image a screen should show: its display windows and its range.

A window that is too narrow burns objects out, one that is too wide leaves them black. Three things make it hard: a
stack may have its objects in a few slices, an image may have so few that they are less than a percentile, and single
hot pixels are brighter than any object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW = (0.5, 99.5)
"""Percentiles of an image that become black and white; in a stack, the upper one of its brightest slices."""

Limits = tuple[float, float]
"""The lower and the upper one of two intensities."""

_SAMPLES = 200_000  # pixels a channel that the percentiles are taken from
_GROUP = 2000  # samples of which a percentile is still one of several pixels
_UPPER = 95  # percentile that is still background if the objects are few, and of which theirs are white at least
_SKEW = 2  # above the median, background is at most so many times as wide as below it; photons are few, and skewed
_FEW_COUNTS = 6  # whole numbers that are no more apart have no structure that could be lost
_BEYOND = 3  # half widths of the background above its median there is no noise any more
_LOOKED_AT = 256  # of the samples up there, at most
_READ_PIXELS = 2**28  # of an image with more of them, only a part is looked at, so that the time has an end
_BLOCK_PIXELS = 2**16  # rows that are read together, because a disk is slow to jump


@dataclass(frozen=True)
class Sample:
    """Pixels of an image, in the order of its slices: `values` (N, C) and `places` int64 (N, 3), each (z, y, x)."""

    values: np.ndarray
    places: np.ndarray
    depth: int


def sample(stack: np.ndarray) -> Sample:
    """About `_SAMPLES` pixels of (Z, Y, X, C) on a grid in every slice, the same ones each time.

    The grid is shifted from slice to slice (by the R2 sequence of M. Roberts), so that it does not miss what is
    narrower than its step but goes through several slices.
    """
    depth, height, width, channels = stack.shape
    step = max(1, int(np.ceil((depth * height * width / _every(stack) / _SAMPLES) ** 0.5)))
    values, places = [], []
    for z in range(depth):
        rows, _ = _rows(stack, z)
        ys, xs = (
            line[int(z * share % 1 * min(step, len(line))) :: step]
            for line, share in ((rows, 0.7548776662), (np.arange(width), 0.5698402910))
        )
        values.append(np.asarray(stack[z, ys[:, None], xs]).reshape(-1, channels))
        places.append(np.stack(np.broadcast_arrays(z, ys[:, None], xs), axis=-1).reshape(-1, 3))
    return Sample(np.concatenate(values), np.concatenate(places), depth)


def bounds(sample: Sample) -> list[Limits]:
    """The smallest and the largest sampled intensity of each channel."""
    lows, highs = sample.values.min(axis=0), sample.values.max(axis=0)
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def extremes(stack: np.ndarray) -> list[Limits]:
    """The smallest and the largest intensity of each channel of (Z, Y, X, C).

    All pixels are read, once and in blocks of rows. Of an image with more than 268 million (`_READ_PIXELS`) it is every
    n-th block of each slice, those that `sample` looks at; there, a few pixels may lie outside of the range.
    """
    found = [(np.inf, -np.inf)] * stack.shape[-1]
    for z in range(stack.shape[0]):
        rows, together = _rows(stack, z)
        for first in rows[::together]:
            block = np.asarray(stack[z, first : first + together])
            for index, (low, high) in enumerate(found):
                channel = block[..., index]
                found[index] = min(low, float(channel.min())), max(high, float(channel.max()))
    return found


def _every(stack: np.ndarray) -> int:
    """Of so many blocks of rows one is looked at."""
    depth, height, width, _ = stack.shape
    return -(-depth * height * width // _READ_PIXELS)


def _rows(stack: np.ndarray, z: int) -> tuple[np.ndarray, int]:
    """The rows of slice `z` that are looked at, in blocks of so many; the slices take turns."""
    height, width = stack.shape[1:3]
    every, rows = _every(stack), np.arange(height)
    together = max(1, min(_BLOCK_PIXELS // width, height // every))
    return rows[(rows // together - z) % every == 0], together


def window(stack: np.ndarray, sample: Sample, index: int) -> Limits:
    """The intensities of channel `index` of (Z, Y, X, C) to be shown black and white, from the `sample` of it. They
    are equal where the percentiles are, and nothing larger than a few pixels stands out of them.

    White is the upper percentile of the brightest slices, because one of all slices is background in a stack whose
    objects are in a few. Where the objects are few in those, too, it is at least as bright as most of them.
    """
    values = sample.values[:, index]
    # the samples are in the order of the slices; too few of them have no such percentile
    groups = np.array_split(values, max(1, min(sample.depth, len(values) // _GROUP)))
    high = max(float(np.percentile(group, WINDOW[1])) for group in groups)
    return float(np.percentile(values, WINDOW[0])), max(high, _white_of_few(stack, sample, index) or high)


def _white_of_few(stack: np.ndarray, sample: Sample, index: int) -> float | None:
    """White for objects that are a small part of an image, of which a percentile is little more than its background:
    a percentile of the sampled pixels that are brighter than background, and their neighbours, too, because hot pixels
    are no object. None where objects are no small part, and where there are none."""
    values = sample.values[:, index]
    low, middle, upper = np.percentile(values, (WINDOW[0], 50, _UPPER)).astype(np.float64)
    # with objects among it, the upper part is far wider than the lower one
    if upper - middle > _SKEW * (middle - low) and not (values.dtype.kind in "iu" and upper - low <= _FEW_COUNTS):
        return None
    above = middle + _BEYOND * max(middle - low, upper - middle)
    bright = np.flatnonzero(values > above)
    chosen = bright[:: -(-len(bright) // _LOOKED_AT)] if len(bright) else bright
    inside = [i for i in chosen if _neighbours(stack, sample.places[i], index).min() > above]
    return float(np.percentile(values[inside], _UPPER)) if inside else None


def _neighbours(stack: np.ndarray, place: Sequence[int], index: int) -> np.ndarray:
    z, y, x = (int(at) for at in place)
    return np.asarray(stack[z, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2, index])
