"""Images as 8-bit colour pictures for the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from alapp.stages import contrast

DARK = 63
"""The brightest intensity of an 8-bit image with three channels that is not taken for a colour picture."""

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
    uint8 (Y, X, 3). Colour pictures (8 bits, three channels) are shown as they are; dark ones are brightened, see
    `default_channels`. Otherwise every channel has one window for the whole image, so that slices of a stack compare.
    One channel is gray, two are green and magenta, of more the first three are red, green and blue. `channels`: how
    they are shown instead; those of the image that `image` was cut from let its parts compare.
    """
    stack = image if image.ndim == 4 else image[None]
    plane = np.asarray(stack[stack.shape[0] // 2 if z is None else z])
    return composite(plane, channels or _channels(stack))


def default_channels(image: np.ndarray) -> tuple[Channel, ...]:
    """How the channels of an image (Y, X, C) or (Z, Y, X, C) are shown at first; see `to_display`.

    The windows are those of `contrast.window`. The range of intensities is that of all pixels, which are read once,
    slice by slice; of images that are too large for that, see `contrast.extremes`. 8-bit channels have all of 0 to 255.

    Nothing tells a colour picture from three channels of 8 bits. Such an image without any intensity above
    `DARK` is taken for channels, because a colour picture that dark is of no use on a screen; all three get the same
    window, so that colours keep their hue. Any other is shown as it is.
    """
    stack = image if image.ndim == 4 else image[None]
    return _channels(stack, whole_range=True)


def _channels(stack: np.ndarray, whole_range: bool = False) -> tuple[Channel, ...]:
    """`default_channels`; without `whole_range` the range is only that of a sample, which is faster."""
    count, eight_bits = stack.shape[-1], stack.dtype == np.uint8
    # before the sample, because a disk is slow to read that first
    limits = contrast.extremes(stack) if whole_range else None
    sample = contrast.sample(stack)
    bounds = [(0.0, 255.0)] * count if eight_bits else limits or contrast.bounds(sample)
    if not eight_bits or count != 3:
        windows = _windows(stack, sample, limits)
    elif _is_dark(stack, sample, limits):
        lows, highs = zip(*_windows(stack, sample, limits), strict=True)
        windows = [(min(lows), max(highs))] * count
    else:
        windows = bounds
    shown = zip(_colours(count), windows, bounds, strict=True)
    return tuple(Channel(index < 3, *window, colour, *limits) for index, (colour, window, limits) in enumerate(shown))


def _windows(stack: np.ndarray, sample: contrast.Sample, limits: list[contrast.Limits] | None) -> list[contrast.Limits]:
    """The window of each channel; all its intensities where nearly all pixels have the same, so that what is there can
    be seen. `limits`: those of every pixel, if known; a sample may miss what is small."""
    windows = [contrast.window(stack, sample, index) for index in range(stack.shape[-1])]
    if all(low < high for low, high in windows):
        return windows
    limits = limits or contrast.extremes(stack)
    return [window if window[0] < window[1] else limit for window, limit in zip(windows, limits, strict=True)]


def _is_dark(stack: np.ndarray, sample: contrast.Sample, limits: list[contrast.Limits] | None) -> bool:
    """Whether no intensity is above `DARK`; the sample tells it of most images."""
    return sample.values.max() <= DARK and max(high for _, high in limits or contrast.extremes(stack)) <= DARK


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


def _windowed(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.clip((plane.astype(np.float32) - np.float32(low)) * np.float32(scale) + 0.5, 0, 255).astype(np.uint8)
