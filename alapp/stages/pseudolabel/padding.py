"""Where an image holds nothing: the empty margins that registration, rotation and stitching leave."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MOST = 0.5
"""A margin covers no more of the image than this. A dark background of one value often does, and is none."""

SHORTEST = 0.5
"""A margin has at least so many pixels for each pixel of the image's shorter side. All that may be overlooked is then
about as much as the percentiles that the methods work with leave out."""

MIXED = 2
"""Interpolation mixes a margin with up to so many pixels of the image beside it."""

GLOW, DARK = 0.1, 10
"""Where more than this part of what lies beside a margin is nearer to its value than to what is usual there, or than to
this percentile of the whole image, the image gets darker little by little: that is a background, cut off at black."""

WHOLE = 0.9
"""Beside margins this part of the image is in one piece. What is black between cells leaves as many pieces as cells."""

_SQUARE = np.ones((3, 3), bool)


def inside(plane: np.ndarray) -> np.ndarray:
    """Where `plane` (Y, X), of any numeric type, shows something, bool (Y, X): everywhere but in margins of its lowest
    value, and `MIXED` pixels beside them.

    Of the areas of exactly that value, those are margins that reach the edge of the image, are large, and end at once.
    There are none where areas like them lie within the image as well: objects are as dark there.
    """
    everywhere = np.ones(plane.shape, bool)
    if min(plane.shape) < 3:
        return everywhere
    lowest = plane.min()
    black = plane == lowest
    if np.count_nonzero(black) < SHORTEST * min(plane.shape):
        return everywhere
    # Specks and noise that is cut off at black go; margins of a single pixel stay, as if they went on beyond the edge.
    wide = np.pad(black, 2, mode="edge")
    areas, _ = ndimage.label(ndimage.binary_opening(wide, _SQUARE)[2:-2, 2:-2])
    sizes = np.bincount(areas.ravel())
    large = sizes >= SHORTEST * min(plane.shape)
    large[0] = False
    at_edge = np.zeros(len(sizes), bool)
    at_edge[np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])] = True
    if not large.any() or (large & ~at_edge).any() or sizes[large].sum() > MOST * plane.size:
        return everywhere
    margin = np.zeros(plane.shape, bool)
    for number in np.flatnonzero(large):
        area = areas == number
        if _ends_at_once(plane, area, lowest):
            margin |= area
    shown = ~_grown(margin, MIXED)
    return shown if margin.any() and _is_one_image(plane, shown) else everywhere


def filled(plane: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """`plane` (Y, X) with its median where it is not `shown`, bool (Y, X); the same array where it all is."""
    return plane if shown.all() else np.where(shown, plane, np.median(plane[shown]).astype(plane.dtype))


def _ends_at_once(plane: np.ndarray, area: np.ndarray, lowest: float) -> bool:
    beside = plane[_grown(area, 2 * MIXED) & ~_grown(area, MIXED)].astype(np.float64)
    if not len(beside):
        return False
    usual = max(float(np.median(beside)), float(np.percentile(plane[~area], DARK)))
    return usual > lowest and np.mean(beside <= (float(lowest) + usual) / 2) <= GLOW


def _is_one_image(plane: np.ndarray, shown: np.ndarray) -> bool:
    if not shown.any() or plane[shown].min() == plane[shown].max():
        return False
    pieces, _ = ndimage.label(shown)
    return np.bincount(pieces.ravel())[1:].max() >= WHOLE * np.count_nonzero(shown)


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    return ndimage.binary_dilation(mask, _SQUARE, iterations=by)
