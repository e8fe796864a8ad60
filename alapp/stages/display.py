"""Images as 8-bit colour pictures for the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

WINDOW = (0.5, 99.5)
"""Percentiles of an image that become black and white."""

_SAMPLES = 200_000  # pixels a channel that the percentiles are taken from

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

_COLOURS: tuple[Colour, ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 255, 255), (255, 0, 255))


@dataclass(frozen=True)
class Channel:
    """How a channel is shown: `low` becomes black and `high` its full colour, in the image's own intensities.

    `minimum` and `maximum` are the range of intensities that a user may want to choose from.
    """

    shown: bool
    low: float
    high: float
    colour: Colour
    minimum: float
    maximum: float


@dataclass(frozen=True)
class ChannelSetting:
    """What a user chose for the channel `index`; None leaves it as it is. `window` is (low, high), low < high."""

    index: int
    shown: bool | None = None
    window: tuple[float, float] | None = None
    colour: Colour | None = None


def to_display(image: np.ndarray, z: int | None = None, channels: Sequence[Channel] | None = None) -> np.ndarray:
    """A slice of an image as a picture.

    `image` (Y, X, C) or (Z, Y, X, C), any numeric dtype; `z` is the slice, the middle one by default. Returns
    uint8 (Y, X, 3). 8-bit images with three channels are shown as they are. Otherwise every channel is
    windowed between the percentiles `WINDOW` of the whole image, so that slices of a stack compare. One
    channel is gray, two are green and magenta, of more the first three are red, green and blue. `channels`: how they
    are shown instead; those of the image that `image` was cut from let its parts compare.
    """
    stack = image if image.ndim == 4 else image[None]
    plane = np.asarray(stack[stack.shape[0] // 2 if z is None else z])
    if plane.dtype == np.uint8 and plane.shape[-1] == 3:
        return plane.copy()
    return composite(plane, channels or default_channels(stack))


def default_channels(image: np.ndarray) -> tuple[Channel, ...]:
    """How the channels of an image (Y, X, C) or (Z, Y, X, C) are shown at first; see `to_display`."""
    stack = image if image.ndim == 4 else image[None]
    count = stack.shape[-1]
    as_they_are = stack.dtype == np.uint8 and count == 3
    found = []
    for index, colour in enumerate(_colours(count)):
        low, high, minimum, maximum = _window(stack[..., index])
        if as_they_are:
            low, high = 0.0, 255.0
        if stack.dtype == np.uint8:
            minimum, maximum = 0.0, 255.0
        found.append(Channel(index < 3, low, high, colour, minimum, maximum))
    return tuple(found)


def with_settings(channels: Sequence[Channel], settings: Iterable[ChannelSetting]) -> tuple[Channel, ...]:
    """The channels as a user set them. Settings of channels that the image does not have are left out, because
    they are kept for a whole project, whose images may differ."""
    changed = list(channels)
    for setting in settings:
        if setting.index >= len(changed):
            continue
        now = changed[setting.index]
        low, high = setting.window or (now.low, now.high)
        shown = now.shown if setting.shown is None else setting.shown
        changed[setting.index] = replace(now, shown=shown, low=low, high=high, colour=setting.colour or now.colour)
    return tuple(changed)


def composite(plane: np.ndarray, channels: Sequence[Channel]) -> np.ndarray:
    """The sum of the channels that are shown, each in its window and colour.

    `plane` (Y, X, C), any numeric dtype, C as many as `channels`. Returns uint8 (Y, X, 3).
    """
    shown = [(plane[..., index], channel) for index, channel in enumerate(channels) if channel.shown]
    if len(shown) == 1 and shown[0][1].colour == (255, 255, 255):
        gray = _windowed(shown[0][0], shown[0][1].low, shown[0][1].high)
        return np.repeat(gray[..., None], 3, axis=-1)
    total = np.zeros((*plane.shape[:2], 3), np.float32)
    for pixels, channel in shown:
        windowed = _windowed(pixels, channel.low, channel.high)
        for part, strength in enumerate(channel.colour):
            if strength:
                total[..., part] += windowed * np.float32(strength / 255)
    return np.clip(total + 0.5, 0, 255).astype(np.uint8)


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


def _colours(count: int) -> list[Colour]:
    """One channel is gray, two are green and magenta, of more the first three are red, green and blue."""
    if count == 1:
        return [(255, 255, 255)]
    if count == 2:
        return [(0, 255, 0), (255, 0, 255)]
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _window(channel: np.ndarray) -> tuple[float, float, float, float]:
    """Limits of the display window of (Z, Y, X), then the smallest and the largest intensity, from a regular
    sample of its pixels."""
    z_step = -(-channel.shape[0] // 8)
    per_slice = channel[::z_step]
    step = max(1, int(np.ceil((per_slice.size / _SAMPLES) ** 0.5)))
    sample = np.asarray(per_slice[:, ::step, ::step])
    low, high = np.percentile(sample, WINDOW)
    minimum, maximum = sample.min(), sample.max()
    if high <= low:  # few bright pixels on a flat background
        low, high = minimum, maximum
    return float(low), float(high), float(minimum), float(maximum)


def _windowed(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.clip((plane.astype(np.float32) - np.float32(low)) * np.float32(scale) + 0.5, 0, 255).astype(np.uint8)
