"""Masks as they are stored and sent: a box, and the pixels in it, packed.

A mask lives in the voxel grid (Z, Y, X) of its patch; a 2D patch has Z = 1.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from alapp.errors import InputError

Box3 = tuple[int, int, int, int, int, int]
"""(z0, y0, x0, z1, y1, x1), half open."""

SMALLEST_SQUARE = 16
"""Pixels; smaller squares would be too many for what is large."""


@dataclass(frozen=True)
class Mask:
    """The pixels of one object: `blob` is zlib of `np.packbits` of the bool array inside `box`, in C order.

    Equal masks compare equal. A mask is never empty; its box is tight.
    """

    box: Box3
    blob: bytes

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the box."""
        z0, y0, x0, z1, y1, x1 = self.box
        return z1 - z0, y1 - y0, x1 - x0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Where the box lies in the patch."""
        z0, y0, x0, z1, y1, x1 = self.box
        return slice(z0, z1), slice(y0, y1), slice(x0, x1)

    def array(self) -> np.ndarray:
        """bool (Z, Y, X), the box only. Raises `InputError` for a damaged blob."""
        size = int(np.prod(self.shape))
        try:
            packed = np.frombuffer(zlib.decompress(self.blob), np.uint8)
            return np.unpackbits(packed, count=size).astype(bool).reshape(self.shape)
        except (zlib.error, ValueError) as error:
            raise InputError("A stored mask is damaged. Run `python -m alapp doctor`.") from error

    def paint(self, target: np.ndarray, value: object) -> None:
        """Set `value` under the mask in `target` (Z, Y, X), the whole patch."""
        target[self.slices][self.array()] = value


def from_array(mask: np.ndarray, origin: tuple[int, int, int] = (0, 0, 0)) -> Mask | None:
    """The tight mask of a bool array (Z, Y, X) or (Y, X) whose first voxel lies at `origin` (z, y, x) of the
    patch; None if it is empty."""
    mask = mask if mask.ndim == 3 else mask[None]
    box = bounding_box(mask)
    if box is None:
        return None
    inside = mask[tuple(slice(low, high) for low, high in zip(box[:3], box[3:], strict=True))]
    moved = tuple(int(edge + shift) for edge, shift in zip(box, (*origin, *origin), strict=True))
    return Mask(moved, zlib.compress(np.packbits(inside).tobytes(), 6))


def bounding_box(mask: np.ndarray) -> Box3 | None:
    """Tight box of a bool array (Z, Y, X), or None if it is empty."""
    lows, highs = [], []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if len(hit) == 0:
            return None
        lows.append(int(hit[0]))
        highs.append(int(hit[-1]) + 1)
    return (*lows, *highs)


def of_labels(labels: np.ndarray) -> dict[int, Mask]:
    """The mask of every object of a label map (Z, Y, X) or (Y, X), by id."""
    labels = labels if labels.ndim == 3 else labels[None]
    ids = np.unique(labels)
    dense = np.searchsorted(ids[ids > 0], labels) + 1
    dense[labels <= 0] = 0
    found = {}
    for identity, window in zip(ids[ids > 0], ndimage.find_objects(dense), strict=True):
        origin = tuple(part.start for part in window)
        found[int(identity)] = from_array(labels[window] == identity, origin)
    return found


def touching(a: Mask, b: Mask) -> bool:
    """Whether the boxes of two masks overlap."""
    return all(a.box[i] < b.box[i + 3] and b.box[i] < a.box[i + 3] for i in range(3))


class ByPlace:
    """Masks by the squares of the plane that their boxes reach into, so that those near another one are found without
    a look at each. `like`: masks of which the squares get the size."""

    def __init__(self, like: Collection[Mask]):
        sides = [side for mask in like for side in mask.shape[1:]]
        self._side = max(int(np.mean(sides)) if sides else 0, SMALLEST_SQUARE)
        self._squares: dict[tuple[int, int], list[Mask]] = {}

    def add(self, mask: Mask) -> None:
        """One more mask."""
        for square in self._reached(mask):
            self._squares.setdefault(square, []).append(mask)

    def near(self, mask: Mask) -> list[Mask]:
        """The masks of which the boxes overlap that of `mask`, each once."""
        found = {id(other): other for square in self._reached(mask) for other in self._squares.get(square, ())}
        return [other for other in found.values() if touching(mask, other)]

    def _reached(self, mask: Mask) -> Iterator[tuple[int, int]]:
        _, y0, x0, _, y1, x1 = mask.box
        rows = range(y0 // self._side, (y1 - 1) // self._side + 1)
        columns = range(x0 // self._side, (x1 - 1) // self._side + 1)
        return itertools.product(rows, columns)


def without(mask: Mask, others: list[Mask]) -> Mask | None:
    """`mask` less the pixels of `others`; None if nothing is left."""
    near = [other for other in others if touching(mask, other)]
    if not near:
        return mask
    pixels = mask.array()
    before = np.count_nonzero(pixels)
    for other in near:
        mine, theirs = _common(mask, other)
        pixels[mine] &= ~other.array()[theirs]
    return mask if np.count_nonzero(pixels) == before else from_array(pixels, mask.box[:3])


def covered(mask: Mask, other: Mask) -> float:
    """Share of `mask` that lies under `other`, in [0, 1]."""
    if not touching(mask, other):
        return 0.0
    mine, theirs = _common(mask, other)
    pixels = mask.array()
    return float(np.count_nonzero(pixels[mine] & other.array()[theirs]) / np.count_nonzero(pixels))


def covering(others: Mapping[int, Mask], share: float) -> Callable[[Mask], frozenset[int]]:
    """A function of a mask: the ids of those of `others` that it covers by at least `share`. It remembers its answers.
    The others are those of one label map."""
    places, ids = ByPlace(others.values()), {mask: key for key, mask in others.items()}
    for mask in ids:
        places.add(mask)

    @cache
    def covers(mask: Mask) -> frozenset[int]:
        return frozenset(ids[other] for other in places.near(mask) if covered(other, mask) >= share)

    return covers


def replace_slices(old: Mask, new: Mask) -> Mask:
    """`old` with the slices that `new` spans taken from `new`: a 2D correction of one slice of a 3D object."""
    low = [min(old.box[i], new.box[i]) for i in range(3)]
    high = [max(old.box[i + 3], new.box[i + 3]) for i in range(3)]
    joined = np.zeros([stop - start for start, stop in zip(low, high, strict=True)], bool)
    joined[_window(old, low)] = old.array()
    joined[new.box[0] - low[0] : new.box[3] - low[0]] = False
    joined[_window(new, low)] |= new.array()
    return from_array(joined, tuple(low))


def on_slice(mask: Mask, z: int) -> Mask | None:
    """The part of a mask that lies on slice `z`; None if there is none."""
    if not mask.box[0] <= z < mask.box[3]:
        return None
    return from_array(mask.array()[z - mask.box[0]], (z, *mask.box[1:3]))


def filled(mask: Mask, less: Collection[int] = ()) -> list[int]:
    """The slices that hold pixels of a mask, without those in `less`."""
    found = np.flatnonzero(mask.array().any(axis=(1, 2))) + mask.box[0]
    return [int(z) for z in found if z not in less]


def empty_on(mask: Mask, slices: Collection[int]) -> list[int]:
    """Those of `slices` on which a mask has no pixel."""
    holding = set(filled(mask)) if slices else set()
    return [z for z in slices if z not in holding]


def same_slices(old: Mask, new: Mask) -> set[int]:
    """The slices of two masks on which they have the same pixels."""
    low = [min(old.box[i], new.box[i]) for i in range(3)]
    high = [max(old.box[i + 3], new.box[i + 3]) for i in range(3)]
    differs = np.zeros([stop - start for start, stop in zip(low, high, strict=True)], bool)
    for mask in (old, new):
        differs[_window(mask, low)] ^= mask.array()
    return {int(z) + low[0] for z in np.flatnonzero(~differs.any(axis=(1, 2)))}


def differ(old: Mask, new: Mask) -> bool:
    """Whether `new` changes a slice that `old` is on, instead of only adding slices."""
    joined = replace_slices(old, new)
    for z in range(max(old.box[0], new.box[0]), min(old.box[3], new.box[3])):
        before = old.array()[z - old.box[0]]
        if not before.any():
            continue
        after = joined.array()[z - joined.box[0]] if joined.box[0] <= z < joined.box[3] else np.zeros((0, 0), bool)
        if from_array(before, (0, *old.box[1:3])) != from_array(after, (0, *joined.box[1:3])):
            return True
    return False


def runs(mask: Mask) -> list[int]:
    """Run lengths of the box in C order, the first run being background (possibly 0)."""
    return run_lengths(mask.array())


def run_lengths(pixels: np.ndarray) -> list[int]:
    """Run lengths of a bool array in C order, the first run being background (possibly 0)."""
    flat = pixels.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def pack_labels(labels: np.ndarray) -> bytes:
    """A label map (Z, Y, X) as zlib of little-endian uint32 or smaller; `unpack_labels` needs the same shape."""
    kind = np.min_scalar_type(max(int(labels.max(initial=0)), 1))
    return zlib.compress(labels.astype(np.dtype(kind).newbyteorder("<")).tobytes(), 6)


def unpack_labels(blob: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """int32 (Z, Y, X). Raises `InputError` for a damaged blob."""
    try:
        raw = zlib.decompress(blob)
        width = len(raw) // int(np.prod(shape))
        return np.frombuffer(raw, f"<u{width}").reshape(shape).astype(np.int32)
    except (zlib.error, ValueError, TypeError, ZeroDivisionError) as error:
        raise InputError("A stored label map is damaged. Run `python -m alapp doctor`.") from error


def _window(mask: Mask, low: list[int]) -> tuple[slice, ...]:
    return tuple(slice(mask.box[i] - low[i], mask.box[i + 3] - low[i]) for i in range(3))


def _common(a: Mask, b: Mask) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The overlap of two boxes, in the pixels of each."""
    low = [max(a.box[i], b.box[i]) for i in range(3)]
    high = [min(a.box[i + 3], b.box[i + 3]) for i in range(3)]
    return tuple(tuple(slice(low[i] - mask.box[i], high[i] - mask.box[i]) for i in range(3)) for mask in (a, b))
