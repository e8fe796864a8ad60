"""Instances drawn on images: colours that colour-blind people can tell apart, and that stay with an object's id.

Images here are uint8 RGB (Y, X, 3); label maps int32 (Y, X), 0 background.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.segmentation import find_boundaries
from skimage.transform import resize

PALETTE = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
    ],
    dtype=np.uint8,
)
"""Okabe & Ito (2008), "Color Universal Design", without black: RGB."""

FILL = 0.35
GAP = 6
NEUTRAL = 128


def colour(object_id: int) -> tuple[int, int, int]:
    """RGB of an object; the same id has the same colour everywhere."""
    return tuple(int(c) for c in PALETTE[object_id % len(PALETTE)])


def overlay(rgb: np.ndarray, labels: np.ndarray, filled: bool = True) -> np.ndarray:
    """Outlines, and with `filled` a light fill, of every instance on an image; a new uint8 (Y, X, 3).

    Raises `ValueError` when image and labels differ in size.
    """
    if rgb.shape[:2] != labels.shape:
        raise ValueError(f"image {rgb.shape[:2]} and labels {labels.shape} differ in size")
    colours = PALETTE[labels % len(PALETTE)]
    inside = labels > 0
    result = rgb.copy()
    if filled:
        mixed = (1 - FILL) * rgb[inside].astype(np.float32) + FILL * colours[inside]
        result[inside] = mixed.round().astype(np.uint8)
    edge = find_boundaries(labels, mode="inner")
    result[edge] = colours[edge]
    return result


def side_by_side(*images: np.ndarray, gap: int = GAP) -> np.ndarray:
    """Images in a row, top-aligned, on neutral gray; uint8 (Y, X, 3)."""
    height = max(image.shape[0] for image in images)
    width = sum(image.shape[1] for image in images) + gap * (len(images) - 1)
    canvas = np.full((height, width, 3), NEUTRAL, dtype=np.uint8)
    x = 0
    for image in images:
        canvas[: image.shape[0], x : x + image.shape[1]] = image
        x += image.shape[1] + gap
    return canvas


def step_for(shape: Sequence[int], max_side: int) -> int:
    """Every how-manyth pixel of an image (Y, X, ...) is enough for a picture whose longer side is `max_side`: what is
    left is at most four times as long, and then averaged, so that an image of any size takes the same time and memory.
    """
    return max(1, -(-max(shape[:2]) // (4 * max_side)))


def fit(image: np.ndarray, max_side: int) -> np.ndarray:
    """The image with its longer side at `max_side` pixels at most; smaller ones are returned as they are."""
    longest = max(image.shape[:2])
    if longest <= max_side:
        return image
    shape = tuple(max(1, round(side * max_side / longest)) for side in image.shape[:2])
    step = step_for(image.shape, max_side)
    some = image[::step, ::step]
    small = resize(some, (*shape, *image.shape[2:]), order=1, anti_aliasing=True, preserve_range=True)
    return small.round().astype(image.dtype)


def square(image: np.ndarray, side: int) -> np.ndarray:
    """The image fitted into a square of `side` pixels, centred on neutral gray; uint8 (side, side, 3)."""
    small = fit(image, side)
    canvas = np.full((side, side, 3), NEUTRAL, dtype=np.uint8)
    y, x = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
    return canvas
