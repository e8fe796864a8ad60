"""What the canvas sends, checked: each function takes a field out of a message, or raises `InputError`."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from alapp.errors import InputError
from alapp.stages.annotate import masks
from alapp.stages.annotate.base import Tuning
from alapp.stages.annotate.masks import Mask
from alapp.stages.display import ChannelSetting

MAX_POINTS = 500
MAX_RUNS = 2_000_000
MAX_CHANNELS = 64
MAX_INTENSITY = 1e30  # more than any detector counts; 32-bit floats hold it


def unreadable(name: str) -> InputError:
    """The error for a field that no page would send."""
    return InputError(f"The page sent something unreadable ({name}). Reload it.")


def whole(message: dict[str, Any], name: str) -> int:
    """A natural number that JavaScript can hold."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise unreadable(name)
    return value


def maybe(message: dict[str, Any], name: str) -> int | None:
    """A natural number, or None."""
    return None if message.get(name) is None else whole(message, name)


def kind(message: dict[str, Any]) -> int:
    """The class of an object; 1 when the page says nothing."""
    return whole({"kind": 1, **message}, "kind")


def text(message: dict[str, Any], name: str) -> str:
    """A short text that is not empty."""
    value = message.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise unreadable(name)
    return value


def note(message: dict[str, Any]) -> str:
    """A text that may be empty; `annotation_notes` limits its length."""
    value = message.get("text")
    if not isinstance(value, str):
        raise unreadable("text")
    return value


def one_of(message: dict[str, Any], name: str, words: tuple[str, ...]) -> str:
    """One of `words`."""
    value = message.get(name)
    if value not in words:
        raise unreadable(name)
    return value


def overlap(message: dict[str, Any]) -> str:
    """`keep` or `replace`; `keep` when the page says nothing."""
    return one_of({"overlap": "keep", **message}, "overlap", ("keep", "replace"))


def tuning(message: dict[str, Any]) -> Tuning:
    """How the person steers the click method; not at all when the page says nothing."""
    value = message.get("tuning")
    if value is None:
        return Tuning()
    if not isinstance(value, dict) or set(value) != {"granularity", "looseness"}:
        raise unreadable("tuning")
    found = Tuning(*_numbers([value["granularity"], value["looseness"]], "tuning", 2))
    if max(abs(found.granularity), abs(found.looseness)) > 1:
        raise unreadable("tuning")
    return found


def points(message: dict[str, Any], name: str) -> list[tuple[float, float]]:
    """Points (y, x), finite, at most `MAX_POINTS`."""
    value = message.get(name)
    if not isinstance(value, list) or len(value) > MAX_POINTS:
        raise unreadable(name)
    return [_numbers(point, name, 2) for point in value]


def line(message: dict[str, Any], name: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two points (y, x), not farther out than any patch is wide."""
    ends = points(message, name)
    if len(ends) != 2 or any(abs(part) > 1e6 for end in ends for part in end):
        raise unreadable(name)
    return ends[0], ends[1]


def flat_box(message: dict[str, Any], name: str) -> tuple[float, float, float, float] | None:
    """(y0, x0, y1, x1), or None."""
    return None if message.get(name) is None else _numbers(message[name], name, 4)


def ids(message: dict[str, Any]) -> list[int]:
    """The ids of objects, at least one."""
    value = message.get("objects")
    if not isinstance(value, list) or not value or not all(type(each) is int for each in value):
        raise unreadable("objects")
    return value


def mask(message: dict[str, Any], shape: tuple[int, int, int]) -> Mask:
    """The mask in a message: `box` (z0, y0, x0, z1, y1, x1) and `runs`, background first, inside of the patch."""
    box, runs = message.get("box"), message.get("runs")
    naturals = all(
        isinstance(part, list) and all(type(number) is int and number >= 0 for number in part) for part in (box, runs)
    )
    if not naturals or len(box) != 6 or len(runs) > MAX_RUNS:
        raise unreadable("mask")
    low, high = box[:3], box[3:]
    inside = all(start < stop <= size for start, stop, size in zip(low, high, shape, strict=True))
    size = tuple(stop - start for start, stop in zip(low, high, strict=True))
    if not inside or sum(runs) != math.prod(size):
        raise unreadable("mask")
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)
    found = masks.from_array(pixels, tuple(low))
    if found is None:
        raise InputError("The object is empty. Click inside of it first.")
    return found


def channel_settings(message: dict[str, Any]) -> tuple[ChannelSetting, ...]:
    """How the person wants to see the channels: `channels`, a list of {index, shown, window, colour}, where all but
    the index may be left out; none when the page says nothing."""
    value = message.get("channels", [])
    if not isinstance(value, list) or len(value) > MAX_CHANNELS or not all(isinstance(each, dict) for each in value):
        raise unreadable("channels")
    return tuple(_channel_setting(each) for each in value)


def _channel_setting(value: dict[str, Any]) -> ChannelSetting:
    shown, window, colour = (value.get(name) for name in ("shown", "window", "colour"))
    if not (shown is None or isinstance(shown, bool)):
        raise unreadable("channels")
    if colour is not None and not (isinstance(colour, str) and re.fullmatch("#[0-9a-f]{6}", colour)):
        raise unreadable("channels")
    if window is not None:
        window = _numbers(window, "channels", 2)
        if max(map(abs, window)) > MAX_INTENSITY:
            raise unreadable("channels")
        if not window[0] < window[1]:
            raise InputError("Black must be darker than white. Set the window of the channel anew.")
    rgb = None if colour is None else (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))
    return ChannelSetting(whole(value, "index"), shown, window, rgb)


def _numbers(value: Any, name: str, count: int) -> tuple[float, ...]:
    known = isinstance(value, list) and len(value) == count and all(type(part) in (int, float) for part in value)
    if not known or not all(math.isfinite(part) for part in value):
        raise unreadable(name)
    return tuple(value)
