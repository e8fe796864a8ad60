"""Training cases that also show objects of other cases, pasted where nothing is.

With few labels a network sees few objects, each in one place. Copied to other places it sees them in many (Ghiasi et
al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation"; there the background is
replaced at random, here an object keeps a free place, its outline is blended, and its brightness follows its
surroundings). nnU-Net's own augmentation follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import ndimage

SHARE = 0.8
"""Of the cases that are drawn, those that get objects."""
MOST = 5
"""Objects that a case gets: 1 to this many, as far as there is room."""
_TRIES = 10
_MARGIN = 5
"""Pixels around an object that come with it, for its blended outline."""
_APART = 2
"""Pixels around an object in which no other may begin."""
_SMALLEST = 12
_IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]


class Cases(Protocol):
    """nnU-Net's data set: `load_case` gives pixels float32 (C, Z, Y, X), classes int (1, Z, Y, X), None, properties.
    Of the classes, -1 is background too: nnU-Net writes it where every channel is exactly 0 (`crop_to_nonzero`)."""

    identifiers: Sequence[str]

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Pasted:
    """An object and what surrounds it: `pixels` float32 (C, Z, Y, X); `classes` (Z, Y, X), 0 outside of the object;
    `mask` bool, the object; `others` bool, what else is labelled or not annotated. `held` tells for each of Z, Y, X
    whether the object is cut off by the case's first (-1) or last (1) plane there, or by both (None), else 0. `level`
    (C,): mean of the pixels around it."""

    pixels: np.ndarray
    classes: np.ndarray
    mask: np.ndarray
    others: np.ndarray
    held: tuple[int | None, int | None, int | None]
    level: np.ndarray

    def turned(self, transposed: bool, flipped_y: bool, flipped_x: bool) -> Pasted:
        """The same, y and x exchanged and then mirrored."""
        z, y, x = self.held
        if transposed:
            y, x = x, y
        mirrored = [-1 if on else 1 for on in (flipped_y, flipped_x)]

        def turn(array: np.ndarray) -> np.ndarray:
            array = np.swapaxes(array, -1, -2) if transposed else array
            return array[..., :: mirrored[0], :: mirrored[1]]

        held = (z, y and y * mirrored[0], x and x * mirrored[1])
        return Pasted(*map(turn, (self.pixels, self.classes, self.mask, self.others)), held, self.level)


class PastingCases:
    """`Cases` in which some objects of others are pasted, anew whenever one is loaded, with numpy's global generator,
    as nnU-Net draws. `weights` as in `trainer.Run`: a case that is never drawn gives no objects either. What has the
    class `ignored` is not annotated: it is no object, and nothing is pasted there."""

    def __init__(self, cases: Cases, ignored: int | None = None, weights: Sequence[float] | None = None):
        self._cases = cases
        self._objects: list[Pasted] = []
        for name, weight in zip(cases.identifiers, weights or [1.0] * len(cases.identifiers), strict=True):
            if weight == 0:
                continue
            pixels, classes, _, _ = cases.load_case(name)
            self._objects += objects(np.asarray(pixels[:], np.float32), np.asarray(classes[:])[0], ignored)

    @property
    def identifiers(self) -> Sequence[str]:
        """Names of the cases."""
        return self._cases.identifiers

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, Mapping[str, Any]]:
        """See `Cases`."""
        pixels, classes, before, properties = self._cases.load_case(identifier)
        if not self._objects or np.random.uniform() >= SHARE:
            return pixels, classes, before, properties
        pixels, classes = np.array(pixels[:], np.float32), np.array(classes[:])
        taken = _wide(classes[0] > 0, _APART)
        for _ in range(np.random.randint(1, MOST + 1)):
            drawn = self._objects[np.random.randint(len(self._objects))]
            paste(drawn.turned(*np.random.randint(2, size=3).astype(bool)), pixels, classes[0], taken)
        return pixels, classes, before, properties


def objects(pixels: np.ndarray, classes: np.ndarray, ignored: int | None = None) -> Iterator[Pasted]:
    """The objects of a case, `pixels` float32 (C, Z, Y, X) and `classes` int (Z, Y, X), of which `ignored` is no
    object; those that touch are one. Specks are left out, what has nothing free around it, and what touches the
    ignored: it has no outline there, and would get none where it is pasted."""
    unknown = np.zeros(classes.shape, bool) if ignored is None else classes == ignored
    labelled = (classes > 0) & ~unknown
    parts, _ = ndimage.label(labelled)
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        box = tuple(
            slice(max(0, side.start - margin), min(length, side.stop + margin))
            for side, length, margin in zip(place, classes.shape, (1, _MARGIN, _MARGIN), strict=True)
        )
        mask = parts[box] == number
        if (_wide(mask, 1) & unknown[box]).any():
            continue
        others = (classes[box] > 0) & ~mask
        around = _wide(mask, 3) & ~mask & ~others
        if mask.sum() < _SMALLEST or not around.any():
            continue
        held = tuple(_held(side, length) for side, length in zip(place, classes.shape, strict=True))
        here = pixels[(slice(None), *box)].copy()
        yield Pasted(here, np.where(mask, classes[box], 0), mask, others, held, here[:, around].mean(axis=1))


def _held(side: slice, length: int) -> int | None:
    first, last = side.start == 0, side.stop == length
    return None if first and last else last - first


def paste(item: Pasted, pixels: np.ndarray, classes: np.ndarray, taken: np.ndarray) -> bool:
    """Put an object into a case where nothing is, in place; whether there was room. `pixels` (C, Z, Y, X), `classes`
    and `taken`, bool: where nothing may begin, (Z, Y, X). What was cut off by an edge stays at that edge."""
    room = [whole - own for whole, own in zip(classes.shape, item.mask.shape, strict=True)]
    if any(free < 0 or (held is None and free > 0) for free, held in zip(room, item.held, strict=True)):
        return False
    wide = _wide(item.mask, _APART)
    for _ in range(_TRIES):
        corner = [_position(free, held) for free, held in zip(room, item.held, strict=True)]
        box = tuple(slice(at, at + own) for at, own in zip(corner, item.mask.shape, strict=True))
        if (taken[box] & wide).any():
            continue
        here = pixels[(slice(None), *box)]
        around = wide & ~item.mask
        shift = here[:, around].mean(axis=1) - item.level if around.any() else np.zeros(len(here))
        soft = ndimage.gaussian_filter(_wide(item.mask, 1).astype(np.float32), (0, 1, 1))
        soft[item.others] = 0
        here += soft * (item.pixels + shift[:, None, None, None].astype(np.float32) - here)
        classes[box][item.mask] = item.classes[item.mask]
        taken[box] |= wide
        return True
    return False


def _position(free: int, held: int | None) -> int:
    """Where an object begins along an axis with `free` places more than it needs."""
    if held:
        return 0 if held < 0 else free
    return int(np.random.randint(free + 1))


def _wide(mask: np.ndarray, pixels: int) -> np.ndarray:
    """`mask` (Z, Y, X) and what is at most so many pixels from it, slice by slice."""
    return ndimage.binary_dilation(mask, _IN_PLANE, iterations=pixels)
