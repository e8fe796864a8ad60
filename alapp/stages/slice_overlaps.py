"""Which objects of a stack's slices lie over each other, each slice having been segmented for itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from alapp.stages.annotate.volume import between

SAME = 0.5
"""Objects of two slices whose intersection over union exceeds this are the same object at the same place. No object can
have two of them (Kirillov et al. 2019, Panoptic Segmentation, section 4.1), and the larger is less than twice the
smaller."""

_KEPT_BOXES = 3

Window = tuple[slice, slice]
"""Part of a slice (y, x)."""


@dataclass(frozen=True)
class Pairs:
    """Objects of two slices that overlap: their ids `first` and `second`, the pixels `shared`, and their sizes in
    pixels, `size_first` and `size_second`; each int64 (n,), ordered by ids."""

    first: np.ndarray
    second: np.ndarray
    shared: np.ndarray
    size_first: np.ndarray
    size_second: np.ndarray

    def turned(self) -> Pairs:
        """The same with the slices the other way round; still in the order of the former first."""
        return Pairs(self.second, self.first, self.shared, self.size_second, self.size_first)

    def only(self, chosen: np.ndarray) -> Pairs:
        """Those that are `chosen`, bool (n,)."""
        return Pairs(*(each[chosen] for each in vars(self).values()))

    def linked(self, min_share: float) -> np.ndarray:
        """Which share at least so much of the smaller one, bool (n,)."""
        return self.shared >= min_share * np.minimum(self.size_first, self.size_second)

    def same(self) -> np.ndarray:
        """Which are the same object at the same place, bool (n,): no id is in two of them."""
        return self.shared > SAME * (self.size_first + self.size_second - self.shared)


@dataclass
class Stack:
    """Slices `planes` int32 (Z, Y, X), 0 background, with ids of its own in each; `sizes` in pixels by id, one int64
    array a slice, 0 for the id 0 and for ids that do not occur."""

    planes: np.ndarray
    sizes: list[np.ndarray]
    _pairs: dict[tuple[int, int], Pairs] = field(default_factory=dict)
    _boxes: dict[int, list[Window]] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: np.ndarray) -> Stack:
        """A copy of `labels` int (Z, Y, X), 0 background; the ids of each slice are closed up in their order."""
        stack = cls(np.empty(labels.shape, np.int32), [])
        for plane, own in zip(labels, stack.planes, strict=True):
            present = np.bincount(plane.ravel(), minlength=1) > 0
            present[0] = False
            own[:] = (np.cumsum(present, dtype=np.int32) * present)[plane]
            stack.sizes.append(_sizes(own))
        return stack

    def __len__(self) -> int:
        return len(self.planes)

    def pairs(self, z: int, other: int) -> Pairs:
        """Of the slices `z` (first) and `other`, which are in the stack."""
        low, high = sorted((z, other))
        if (low, high) not in self._pairs:
            self._pairs[low, high] = _overlapping(
                self.planes[low], self.planes[high], self.sizes[low], self.sizes[high]
            )
        found = self._pairs[low, high]
        return found if z == low else found.turned()

    def replace(self, z: int, plane: np.ndarray) -> None:
        """Set a slice (Y, X). Its ids need not be closed up, and those of objects that stay may stay."""
        self.planes[z] = plane
        self.sizes[z] = _sizes(plane, len(self.sizes[z]))
        self._pairs = {key: pairs for key, pairs in self._pairs.items() if z not in key}
        self._boxes.pop(z, None)

    def box(self, z: int, number: int) -> Window:
        """Where the object `number` of slice `z`, which must occur, is. Fast for three slices in turn."""
        if z not in self._boxes:
            while len(self._boxes) >= _KEPT_BOXES:
                self._boxes.pop(next(iter(self._boxes)))
            self._boxes[z] = ndimage.find_objects(self.planes[z])
        return self._boxes[z][number - 1]

    def shape(self, z: int, number: int) -> tuple[Window, np.ndarray]:
        """The box of an object of slice `z`, and its pixels there, bool of the size of the box."""
        window = self.box(z, number)
        return window, self.planes[z][window] == number

    def shape_between(self, z: int, before: int, behind: int) -> tuple[Window, np.ndarray]:
        """The shape in slice `z` between that of an object of the slice before it and one of the slice behind it, as
        `shape`; see `volume.between`."""
        boxes = zip(self.box(z - 1, before), self.box(z + 1, behind), strict=True)
        y, x = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in boxes)
        ends = self.planes[z - 1][y, x] == before, self.planes[z + 1][y, x] == behind
        return (y, x), between(*ends, 2)[1]


def _sizes(plane: np.ndarray, least: int = 1) -> np.ndarray:
    sizes = np.bincount(plane.ravel(), minlength=least)
    sizes[0] = 0
    return sizes


def _overlapping(first: np.ndarray, second: np.ndarray, sizes_first: np.ndarray, sizes_second: np.ndarray) -> Pairs:
    keys = first.ravel() * np.int64(len(sizes_second)) + second.ravel()
    # Runs along the rows are far fewer than pixels to sort.
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    lengths = np.diff(starts, append=len(keys))
    a, b = np.divmod(keys[starts], len(sizes_second))
    both = (a > 0) & (b > 0)
    found, index = np.unique(keys[starts][both], return_inverse=True)
    a, b = np.divmod(found, len(sizes_second))
    shared = np.bincount(index, lengths[both], len(found)).astype(np.int64)
    return Pairs(a, b, shared, sizes_first[a], sizes_second[b])
