"""3D instances from the instance maps of the slices of a stack, each of which was segmented for itself.

Objects of neighbouring slices that overlap are one object. Two faults of single slices would spread from there, so they
are kept in their slice:

- One object over several that the slices before and behind keep apart would make one of them all. It is split among
  them: so whoever corrects the stack has outlines to check, instead of one to delete and many to draw.
- An object that is not found in one slice would be cut in two. Its parts become one object, and it can be given the
  shape between them in that slice: so it is connected, as meshes, volumes and whoever corrects it expect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alapp.stages.slice_faults import split_faults
from alapp.stages.slice_overlaps import Pairs, Stack, Window

LINK_SHARE = 0.15
"""Objects of neighbouring slices are one object when they share at least this much of the smaller one."""

_NARROWEST = 0.8
"""How wide an object that ends beside a gap must still be in the gap, going by its last two slices, to go on behind it:
a share of the mean width on both sides. Sections of a convex body do not get narrower first and wider then (their
widths, the roots of their areas, are concave: theorem of Brunn and Minkowski), so that 1 would do, but for the noise of
outlines. Balls above each other with one slice between them, of at least five slices each, come to at most 0.78."""


def link_slices(labels: np.ndarray, min_share: float = LINK_SHARE, fill: bool = True) -> np.ndarray:
    """3D instances int32 (Z, Y, X), 0 background, ids 1..n without gaps, from a stack of independent 2D instance maps.

    `labels` is int (Z, Y, X), 0 background; ids of different slices need not agree. Objects of neighbouring slices are
    linked when their overlap is at least `min_share` of the smaller one; what is linked, also over several slices or
    through a branch, is one object. But two objects that each go on at their own place (IoU above 0.5) are not linked
    by what they share besides.

    An object that covers several of a neighbouring slice is split among them where the slice on its other side has the
    same, or where they are more than branch at one place; what it covers far beyond them becomes background. An object
    that ends and one that begins at the same place with one slice between are one object, if nothing else is there, at
    least one of them is seen in two slices, the other too or cut by the end of the stack, and they do not narrow
    towards the gap like two objects do. With `fill` that slice gets the shape in between, where it is background.
    Deterministic; memory is that of the result and a few slices.
    """
    stack = Stack.of(labels)
    cut = split_faults(stack, min_share)
    links = [_links(stack, z, min_share, cut) for z in range(len(stack) - 1)]
    gaps = list(_gaps(stack, links, min_share))
    ids = _ids(stack, links, gaps)
    for plane, table in zip(stack.planes, ids, strict=True):
        plane[:] = table[plane]
    for gap in gaps if fill else ():
        here = stack.planes[gap.z][gap.window]
        here[gap.shape & (here == 0)] = ids[gap.z - 1][gap.before]
    return stack.planes


def _links(stack: Stack, z: int, min_share: float, cut: Sequence[set[tuple[int, int]]]) -> Pairs:
    """Which objects of slice `z` and the next are one object."""
    pairs = stack.pairs(z, z + 1)
    same = pairs.same()
    go_on = np.isin(pairs.first, pairs.first[same]) & np.isin(pairs.second, pairs.second[same])
    down, up = ([number for number, step in cut[at] if at + step == to] for at, to in ((z, z + 1), (z + 1, z)))
    apart = go_on | np.isin(pairs.first, down) | np.isin(pairs.second, up)
    return pairs.only(pairs.linked(min_share) & (same | ~apart))


@dataclass(frozen=True)
class _Gap:
    """An object that is missing in slice `z`: its ids in the slices before and behind, and its shape there, bool of the
    size of `window`."""

    z: int
    before: int
    behind: int
    window: Window
    shape: np.ndarray


def _gaps(stack: Stack, links: Sequence[Pairs], min_share: float) -> Iterator[_Gap]:
    for z in range(1, len(stack) - 1):
        pairs = stack.pairs(z - 1, z + 1)
        ends = ~np.isin(pairs.first, links[z - 1].first) & ~np.isin(pairs.second, links[z].second)
        pairs = pairs.only(pairs.same() & ends)
        earlier = _widest(pairs.first, links[z - 2].turned()) if z > 1 else None
        later = _widest(pairs.second, links[z + 1]) if z + 2 < len(stack) else None
        pairs = pairs.only(_may_go_on(pairs, earlier, later))
        for before, behind in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
            window, shape = stack.shape_between(z, before, behind)
            taken = np.count_nonzero(stack.planes[z][window][shape])
            if taken <= min_share * np.count_nonzero(shape) and shape.any():
                yield _Gap(z, before, behind, window, shape)


def _widest(ids: np.ndarray, links: Pairs) -> np.ndarray:
    """The size of the largest object that each of `ids`, firsts of `links`, is linked to, float; 0 where to none."""
    largest = np.zeros(max(ids.max(initial=0), links.first.max(initial=0)) + 1)
    np.maximum.at(largest, links.first, links.size_second)
    return largest[ids]


def _may_go_on(pairs: Pairs, earlier: np.ndarray | None, later: np.ndarray | None) -> np.ndarray:
    """Whether two that end beside a gap may be one object by their sizes, bool (n,); see `_NARROWEST`. `earlier` and
    `later` are the sizes one slice farther from the gap, 0 where the object is not there; None beyond the stack."""
    widths = np.sqrt(pairs.size_first), np.sqrt(pairs.size_second)
    mean = (widths[0] + widths[1]) / 2
    may, seen = np.ones(len(mean), bool), np.zeros(len(mean), bool)
    for width, size in zip(widths, (earlier, later), strict=True):
        if size is not None:
            # What is seen in a single slice is no object of which anything could be told.
            may &= (size > 0) & (2 * width - np.sqrt(size) >= _NARROWEST * mean)
            seen |= size > 0
    return may & seen


def _ids(stack: Stack, links: Sequence[Pairs], gaps: Sequence[_Gap]) -> list[np.ndarray]:
    """The id in the stack of every id of every slice, int32."""
    starts = np.cumsum([0, *(len(sizes) for sizes in stack.sizes)])
    joined = [(z, link.first, z + 1, link.second) for z, link in enumerate(links)]
    joined += [(gap.z - 1, [gap.before], gap.z + 1, [gap.behind]) for gap in gaps]
    one = np.concatenate([starts[z] + first for z, first, _, _ in joined] or [np.zeros(0, np.int64)])
    other = np.concatenate([starts[z] + second for _, _, z, second in joined] or [np.zeros(0, np.int64)])
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(starts[-1], starts[-1]))
    _, groups = connected_components(graph, directed=False)
    present = np.concatenate([np.zeros(0, np.int64), *stack.sizes]) > 0
    ids = np.zeros(len(present), np.int32)
    ids[present] = np.unique(groups[present], return_inverse=True)[1] + 1
    return [ids[start:stop] for start, stop in pairwise(starts)]
