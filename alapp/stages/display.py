"""Images as 8-bit colour pictures for the screen."""

from __future__ import annotations

import numpy as np
from PIL import Image

WINDOW = (0.5, 99.5)
"""Percentiles of an image that become black and white."""

_SAMPLES = 200_000  # pixels a channel that the percentiles are taken from


def to_display(image: np.ndarray, z: int | None = None, whole: np.ndarray | None = None) -> np.ndarray:
    """A slice of an image as a picture.

    `image` (Y, X, C) or (Z, Y, X, C), any numeric dtype; `z` is the slice, the middle one by default. Returns
    uint8 (Y, X, 3). 8-bit images with three channels are shown as they are. Otherwise every channel is
    windowed between the percentiles `WINDOW` of the whole image, so that slices of a stack compare. One
    channel is gray, two are green and magenta, of more the first three are red, green and blue. `whole`: the
    image that `image` was cut from; its percentiles are taken then, so that its parts compare.
    """
    stack = image if image.ndim == 4 else image[None]
    source = stack if whole is None else whole if whole.ndim == 4 else whole[None]
    plane = np.asarray(stack[stack.shape[0] // 2 if z is None else z])
    if plane.dtype == np.uint8 and plane.shape[-1] == 3:
        return plane.copy()
    shown = plane.shape[-1] if plane.shape[-1] < 3 else 3
    windowed = [_windowed(plane[..., c], *_window(source[..., c])) for c in range(shown)]
    if shown == 1:
        windowed *= 3
    elif shown == 2:
        windowed = [windowed[1], windowed[0], windowed[1]]
    return np.stack(windowed, axis=-1)


def thumbnail(image: np.ndarray, size: int = 96) -> np.ndarray:
    """The middle slice as a small picture: uint8 (h, w, 3), the longer side `size` pixels or less.

    `image` (Y, X, C) or (Z, Y, X, C).
    """
    stack = image if image.ndim == 4 else image[None]
    # reading every n-th pixel keeps memory-mapped images fast; what is left is averaged
    step = max(1, max(stack.shape[1:3]) // (4 * size))
    picture = Image.fromarray(to_display(stack[:, ::step, ::step]))
    picture.thumbnail((size, size), Image.Resampling.BOX)
    return np.asarray(picture)


def _window(channel: np.ndarray) -> tuple[float, float]:
    """Limits of the display window of (Z, Y, X), from a regular sample of its pixels."""
    z_step = -(-channel.shape[0] // 8)
    per_slice = channel[::z_step]
    step = max(1, int(np.ceil((per_slice.size / _SAMPLES) ** 0.5)))
    sample = np.asarray(per_slice[:, ::step, ::step])
    low, high = np.percentile(sample, WINDOW)
    if high <= low:  # few bright pixels on a flat background
        low, high = sample.min(), sample.max()
    return float(low), float(high)


def _windowed(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.clip((plane.astype(np.float32) - np.float32(low)) * np.float32(scale) + 0.5, 0, 255).astype(np.uint8)
