"""Instances drawn on images: colours that colour-blind people can tell apart, and that stay with an object's id.

Images here are uint8 RGB (Y, X, 3); label maps int32 (Y, X), 0 background.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

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
    inside = labels > 0
    result = rgb.copy()
    if filled:
        kind = np.where(inside, labels % len(PALETTE), len(PALETTE)).astype(np.uint16) * 256
        for part, table in enumerate(_tinted()):
            result[..., part] = table[kind + rgb[..., part]]
    edge = _border(labels) & inside
    result[edge] = PALETTE[labels[edge] % len(PALETTE)]
    return result


@cache
def _tinted() -> np.ndarray:
    """uint8 (3, 8 * 256): every value of red, green and blue under a fill of each colour, and as it is. Looked up, as
    to mix a million pixels takes long."""
    values = np.arange(256, dtype=np.float32)[None, :, None]
    mixed = (1 - FILL) * values + FILL * PALETTE[:, None]
    plain = np.broadcast_to(values, (1, 256, 3))
    return np.concatenate([mixed.round(), plain]).astype(np.uint8).transpose(2, 0, 1).reshape(3, -1)


def _border(labels: np.ndarray) -> np.ndarray:
    """bool (Y, X): pixels that differ from one beside, above or below."""
    rows, columns = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found = np.zeros(labels.shape, bool)
    found[1:] |= rows
    found[:-1] |= rows
    found[:, 1:] |= columns
    found[:, :-1] |= columns
    return found


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


def shrink_for(shape: Sequence[int], max_side: int) -> int:
    """By what whole number an image (Y, X, ...) is shrunk before objects are drawn on it, so that an outline is still
    half a pixel wide at least where the longer side of the picture is `max_side`."""
    return max(1, max(shape[:2]) // max_side)


def shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    """The mean of squares of `factor` pixels; those at the lower and right edge may be smaller. uint8, as `image`."""
    return image if factor == 1 else np.array(Image.fromarray(image).reduce(factor))


def places(length: int, step: int, factor: int) -> np.ndarray:
    """int64: of a side of an image of which every `step`-th pixel was taken and then shrunk by `factor`, the pixel in
    the middle of what each pixel of the picture shows."""
    taken = -(-length // step)
    middle = np.arange(-(-taken // factor)) * factor + factor // 2
    return np.minimum(middle, taken - 1) * step


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The image made smaller, to `shape` (Y, X), every pixel the mean of what it covers; uint8."""
    return np.array(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BOX))


def fit(image: np.ndarray, max_side: int) -> np.ndarray:
    """The image, uint8, with its longer side at `max_side` pixels at most; smaller ones are returned as they are."""
    longest = max(image.shape[:2])
    if longest <= max_side:
        return image
    shape = tuple(max(1, round(side * max_side / longest)) for side in image.shape[:2])
    step = step_for(image.shape, max_side)
    return resize(image[::step, ::step], (shape[0], shape[1]))


def square(image: np.ndarray, side: int) -> np.ndarray:
    """The image fitted into a square of `side` pixels, centred on neutral gray; uint8 (side, side, 3)."""
    small = fit(image, side)
    canvas = np.full((side, side, 3), NEUTRAL, dtype=np.uint8)
    y, x = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
    return canvas
