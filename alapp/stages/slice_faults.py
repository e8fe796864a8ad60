"""Objects of one slice of a stack that are several; see `alapp.stages.linking`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from scipy import ndimage

from alapp.stages.slice_overlaps import Stack, Window

_MOST_BRANCHES = 3
"""What branches, branches into few at one place. What turns into more, each of them seen at its place in the slice
after that too, is several objects."""

_MOST_GROWTH = 1.5
"""Of an object that is split, over its parts with the shapes that they have in the neighbouring slices. Beyond that,
its outline is not theirs."""

_FRAGMENT = 0.15
"""What is smaller than this share of the largest that an object covers is a speck beside it, no other object."""

_Sides = tuple[int, ...]
"""Steps to neighbouring slices: -1, 1."""


def split_faults(stack: Stack, min_share: float) -> list[set[tuple[int, int]]]:
    """Split the objects of single slices that are several, in place. Objects are of parts of their neighbouring slices
    if they share at least `min_share` of the smaller one with them.

    Objects that seem to be several, but go on as they are on one side, stay: nobody can tell which slices are at fault.
    Returns those by slice, with the step (-1, 1) to the slice whose objects they must not join.
    """
    covering = [{step: _covers_many(stack, z, step) for step in (-1, 1)} for z in range(len(stack))]
    split: list[dict[int, _Sides]] = [dict.fromkeys(_covers_the_same(stack, z), (-1, 1)) for z in range(len(stack))]
    cut: list[set[tuple[int, int]]] = [set() for _ in split]
    for z, step in ((z, step) for z in range(len(stack)) for step in (-1, 1)):
        for number in covering[z][step] - split[z].keys():
            behind = _goes_on(stack, z, -step, number)
            # Of two slices that are at fault alike, each is split by what is on its side.
            if behind == 0 or behind in covering[z - step][-step]:
                split[z][number] = (step,)
            else:
                cut[z].add((number, step))
    waiting: list[tuple[int, np.ndarray]] = []
    for z in (z for z, objects in enumerate(split) if objects):
        waiting.append((z, _with_parts(stack, z, split, min_share)))
        # Only then the slice before it, by which as it was it is split.
        if len(waiting) > 1:
            stack.replace(*waiting.pop(0))
    for each in waiting:
        stack.replace(*each)
    return cut


def _covers_the_same(stack: Stack, z: int) -> list[int]:
    """The objects of a slice that cover at least two objects which the slices before and behind both have."""
    if not 0 < z < len(stack) - 1:
        return []
    pairs = stack.pairs(z - 1, z + 1)
    pairs = pairs.only(pairs.same())
    before, behind = _hosts(stack, z, z - 1)[pairs.first], _hosts(stack, z, z + 1)[pairs.second]
    counts = _covered(np.where(before == behind, before, 0), pairs.size_first)
    return np.flatnonzero(counts > 1).tolist()


def _covers_many(stack: Stack, z: int, step: int) -> set[int]:
    """The objects of a slice that cover more than `_MOST_BRANCHES` of its neighbour by `step`, each of which the slice
    after that has too."""
    if not 0 <= z + 2 * step < len(stack):
        return set()
    pairs = stack.pairs(z + step, z + 2 * step)
    pairs = pairs.only(pairs.same())
    counts = _covered(_hosts(stack, z, z + step)[pairs.first], pairs.size_first)
    return set(np.flatnonzero(counts > _MOST_BRANCHES).tolist())


def _covered(hosts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """By id, how many objects of these `sizes` are in each of `hosts` (0: in none), int64; specks do not count."""
    largest = np.zeros(hosts.max(initial=0) + 1)
    np.maximum.at(largest, hosts, sizes)
    return np.bincount(hosts[(hosts > 0) & (sizes >= _FRAGMENT * largest[hosts])])


def _hosts(stack: Stack, z: int, other: int) -> np.ndarray:
    """The object of slice `z` in which more than half of each object of its neighbour `other` lies, int64 by id; 0
    where there is none."""
    pairs = stack.pairs(other, z)
    pairs = pairs.only(2 * pairs.shared > pairs.size_first)
    found = np.zeros(len(stack.sizes[other]), np.int64)
    found[pairs.first] = pairs.second
    return found


def _goes_on(stack: Stack, z: int, step: int, number: int) -> int:
    """The id of an object of slice `z` in its neighbour by `step`; 0 where there is no such at its place."""
    if not 0 <= z + step < len(stack):
        return 0
    pairs = stack.pairs(z, z + step)
    found = pairs.second[pairs.same() & (pairs.first == number)]
    return int(found[0]) if len(found) else 0


def _with_parts(stack: Stack, z: int, split: Sequence[dict[int, _Sides]], min_share: float) -> np.ndarray:
    """Slice `z` (Y, X) with its objects in `split` split among those of the neighbouring slices that they share with.

    Each gets the shape between, or that of the one slice where it is in one only; what is left goes to the nearest, if
    it is not too much."""
    plane = stack.planes[z].copy()
    parts = np.zeros_like(plane)
    count = len(stack.sizes[z]) - 1
    for number, sides in split[z].items():
        for window, shape in _shapes(stack, z, number, sides, split, min_share):
            count += 1
            here = parts[window]
            here[shape & (plane[window] == number) & (here == 0)] = count
        window = stack.box(z, number)
        own = stack.planes[z][window] == number
        found = np.where(own, parts[window], 0)
        if not found.any():
            continue
        if np.count_nonzero(own) <= _MOST_GROWTH * np.count_nonzero(found):
            nearest = ndimage.distance_transform_edt(found == 0, return_distances=False, return_indices=True)
            found = found[tuple(nearest)]
        plane[window][own] = found[own]
    return plane


def _shapes(
    stack: Stack, z: int, number: int, sides: _Sides, split: Sequence[Collection[int]], min_share: float
) -> Iterator[tuple[Window, np.ndarray]]:
    """The shapes (see `Stack.shape`) that parts of an object of slice `z` may have; earlier ones come first where they
    overlap."""
    on_side: dict[int, list[int]] = {}
    for step in sides:
        pairs = stack.pairs(z, z + step) if 0 <= z + step < len(stack) else None
        if pairs is not None:
            shared = pairs.second[pairs.linked(min_share) & (pairs.first == number)].tolist()
            on_side[step] = [other for other in shared if other not in split[z + step]]
    if len(on_side) == 2:
        pairs = stack.pairs(z - 1, z + 1)
        pairs = pairs.only(pairs.same() & np.isin(pairs.first, on_side[-1]) & np.isin(pairs.second, on_side[1]))
        for before, behind in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
            yield stack.shape_between(z, before, behind)
            on_side[-1].remove(before)
            on_side[1].remove(behind)
    for step, rest in on_side.items():
        for other in rest:
            yield stack.shape(z + step, other)
