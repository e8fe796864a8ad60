"""Which objects of neighbouring blocks of an image are the same one; see `alapp.stages.segment`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from alapp.domain import Box, Report

MIN_AGREEMENT = 0.5
"""Intersection over union, where two blocks overlap, from which their objects are one object."""


@dataclass(frozen=True)
class Block:
    """A part of the image. Cores cover the image without overlap; `seen` is the core with its halo."""

    core: Box
    seen: Box


def starts_of_ids(sizes: dict[tuple[int, ...], np.ndarray]) -> dict[tuple[int, ...], int]:
    """What is added to the ids of a block so that no id occurs twice; the id 0 stays apart."""
    starts, total = {}, 0
    for place, counts in sizes.items():
        starts[place] = total
        total += len(counts) - 1
    return starts


def join(
    grid: dict[tuple[int, ...], Block],
    starts: dict[tuple[int, ...], int],
    halo: Sequence[int],
    folder: Path,
    by_slices: bool,
    report: Report,
) -> dict[int, int]:
    """Which objects are the same: the id that stands for it, by id, of those that were joined.

    Objects of two blocks are the same if each is the other's best match where both blocks are far from what they
    do not see, with an agreement of `MIN_AGREEMENT`; best matches first, and never two that one block keeps apart.
    Slices that were decoded one by one look the same in both blocks, so along z whatever overlaps there is linked.
    """
    half = [math.ceil(n / 2) for n in halo]
    matches: list[tuple[float, int, int]] = []
    links: list[tuple[int, int]] = []
    for index, (place, block) in enumerate(grid.items()):
        report(index, len(grid), "Comparing neighbouring parts")
        for other in _later_neighbours(place, grid):
            pairs = _shared(block, grid[other], half, block_file(folder, place), block_file(folder, other))
            along_z = by_slices and place[1:] == other[1:]
            for a, b, iou, share in pairs if along_z else _mutual_best(pairs):
                ids = starts[place] + a, starts[other] + b
                if along_z and share >= MIN_AGREEMENT:
                    links.append(ids)
                elif not along_z and iou >= MIN_AGREEMENT:
                    matches.append((iou, *ids))
    groups = _Groups()
    for a, b in links:
        groups.join(a, b)
    owners = sorted((start, place) for place, start in starts.items())
    first = np.array([start for start, _ in owners])
    for _, a, b in sorted(matches, key=lambda match: (-match[0], match[1:])):
        if by_slices or not groups.share_block(a, b, lambda n: int(np.searchsorted(first, n - 1, side="right"))):
            groups.join(a, b)
    return groups.roots()


class _Groups:
    """Objects that are the same (union-find with the members of every group)."""

    def __init__(self) -> None:
        self._root: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}

    def _of(self, item: int) -> int:
        if item not in self._root:
            self._root[item] = item
            self._members[item] = [item]
        return self._root[item]

    def share_block(self, a: int, b: int, block_of: Callable[[int], int]) -> bool:
        one, other = ({block_of(n) for n in self._members[self._of(item)]} for item in (a, b))
        return bool(one & other)

    def join(self, a: int, b: int) -> None:
        one, other = sorted((self._of(a), self._of(b)), key=lambda root: (-len(self._members[root]), root))
        if one == other:
            return
        for member in self._members[other]:
            self._root[member] = one
        self._members[one] += self._members.pop(other)

    def roots(self) -> dict[int, int]:
        """The least id of the group of every item."""
        least = {root: min(members) for root, members in self._members.items()}
        return {item: least[root] for item, root in self._root.items()}


def _later_neighbours(place: tuple[int, ...], grid: dict[tuple[int, ...], Block]) -> Iterator[tuple[int, ...]]:
    for step in product((-1, 0, 1), repeat=3):
        other = tuple(a + b for a, b in zip(place, step, strict=True))
        if step > (0, 0, 0) and other in grid:
            yield other


def _shared(
    one: Block, other: Block, reach: Sequence[int], first: Path, second: Path
) -> list[tuple[int, int, float, float]]:
    """(object of one, object of other, IoU, share of the smaller) of all that overlap within `reach` of both cores."""
    zone = []
    for axis, (a, b) in enumerate(zip(one.core.slices, other.core.slices, strict=True)):
        zone.append((max(a.start, b.start) - reach[axis], min(a.stop, b.stop) + reach[axis]))
    ranges = [
        (max(lo, a.start, b.start), min(hi, a.stop, b.stop))
        for (lo, hi), a, b in zip(zone, one.seen.slices, other.seen.slices, strict=True)
    ]
    if any(hi <= lo for lo, hi in ranges):
        return []
    a, b = (
        np.ascontiguousarray(inside(np.load(path, mmap_mode="r"), box_of(ranges), block.seen)).ravel().astype(np.int64)
        for path, block in ((first, one), (second, other))
    )
    sizes_a, sizes_b = np.bincount(a), np.bincount(b)
    both = (a > 0) & (b > 0)
    keys, counts = np.unique(a[both] * len(sizes_b) + b[both], return_counts=True)
    ids_a, ids_b = np.divmod(keys, len(sizes_b))
    united = sizes_a[ids_a] + sizes_b[ids_b] - counts
    smaller = np.minimum(sizes_a[ids_a], sizes_b[ids_b])
    return list(
        zip(ids_a.tolist(), ids_b.tolist(), (counts / united).tolist(), (counts / smaller).tolist(), strict=True)
    )


def _mutual_best(pairs: list[tuple[int, int, float, float]]) -> Iterator[tuple[int, int, float, float]]:
    best_a: dict[int, float] = {}
    best_b: dict[int, float] = {}
    for a, b, iou, _ in pairs:
        best_a[a] = max(best_a.get(a, 0.0), iou)
        best_b[b] = max(best_b.get(b, 0.0), iou)
    return (pair for pair in pairs if pair[2] == best_a[pair[0]] == best_b[pair[1]])


def inside(array: np.ndarray, box: Box, outer: Box) -> np.ndarray:
    """The part `box` of an array (Z, Y, X) of `outer`."""
    return array[
        tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(box.slices, outer.slices, strict=True))
    ]


def grown(box: Box, by: Sequence[int], shape: Sequence[int]) -> Box:
    """`box` and `by` voxels (z, y, x) around it, as far as an image of `shape` goes."""
    return box_of(
        [(max(0, p.start - n), min(size, p.stop + n)) for p, n, size in zip(box.slices, by, shape, strict=True)]
    )


def box_of(ranges: Sequence[tuple[int, int]]) -> Box:
    """The box of (start, stop) along z, y and x."""
    return Box(*(a for a, _ in ranges), *(b - a for a, b in ranges))


def block_file(folder: Path, place: tuple[int, ...]) -> Path:
    """Where the labels of the block at `place` wait."""
    return folder / f"block_{'_'.join(str(i) for i in place)}.npy"
