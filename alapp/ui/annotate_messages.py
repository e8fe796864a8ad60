"""What the canvas sends, checked: each function takes a field out of a message, or raises `InputError`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from alapp.errors import InputError
from alapp.stages.annotate import masks
from alapp.stages.annotate.base import Tuning
from alapp.stages.annotate.masks import Mask

MAX_POINTS = 500
MAX_RUNS = 2_000_000


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


def text(message: dict[str, Any], name: str) -> str:
    """A short text that is not empty."""
    value = message.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise unreadable(name)
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


def _numbers(value: Any, name: str, count: int) -> tuple[float, ...]:
    known = isinstance(value, list) and len(value) == count and all(type(part) in (int, float) for part in value)
    if not known or not all(math.isfinite(part) for part in value):
        raise unreadable(name)
    return tuple(value)
