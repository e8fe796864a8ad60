"""Images cut into patches, and label maps of patches put together again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from skimage.metrics import contingency_table
from skimage.segmentation import relabel_sequential

from alapp.domain import Box
from alapp.errors import InputError

MIN_SIZE = 32
"""Pixels in y and x of the smallest patch that may be chosen."""

GRID_COLOUR = (255, 214, 10)


def grid(shape_zyx: Sequence[int], size: int, depth: int, overlap: int, is_3d: bool) -> list[Box]:
    """Patches that cover an image of `shape_zyx` voxels, in the order z, y, x.

    A patch is `size` pixels in y and x and, in 3D, `depth` slices; neighbours share `overlap` pixels in y and x.
    Where the image is no multiple, the last patch of a row, column or stack is moved inwards, so that it has full
    size and shares more with its neighbour (with overlap 0, too). An image smaller than a patch gives one patch
    of its own size there. `depth` is ignored for 2D images, which have shape (1, Y, X).

    Raises `InputError` for a size below `MIN_SIZE`, a depth below 1, or an overlap that is not in [0, size / 2].
    """
    if size < MIN_SIZE:
        raise InputError(f"A patch size of {size} pixels is too small: choose at least {MIN_SIZE}.")
    if is_3d and depth < 1:
        raise InputError(f"A patch depth of {depth} slices is too small: choose at least 1.")
    if not 0 <= overlap <= size // 2:
        raise InputError(
            f"Patches of {size} pixels cannot overlap by {overlap}: choose between 0 and {size // 2} pixels."
        )
    n_z, n_y, n_x = shape_zyx
    depth = depth if is_3d else 1
    return [
        Box(z, y, x, min(depth, n_z), min(size, n_y), min(size, n_x))
        for z in _starts(n_z, depth, 0)
        for y in _starts(n_y, size, overlap)
        for x in _starts(n_x, size, overlap)
    ]


def most_shared(boxes: Sequence[Box]) -> int:
    """The most pixels in y or x that two neighbours of a `grid` share."""
    rows = sorted({(box.y, box.height) for box in boxes})
    columns = sorted({(box.x, box.width) for box in boxes})
    shared = (start + side - following for line in (rows, columns) for (start, side), (following, _) in pairwise(line))
    return max(shared, default=0)


def draw_grid(display_rgb: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """A copy of a picture, uint8 (Y, X, 3), with the outlines of `boxes` (in its pixels) drawn on it."""
    drawn = display_rgb.copy()
    width = max(1, round(max(display_rgb.shape[:2]) / 500))
    for box in boxes:
        _, y, x = box.slices
        tile = drawn[y, x]
        for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
            tile[edge] = GRID_COLOUR
    return drawn


def stitch(
    tiles: Sequence[tuple[Box, np.ndarray]], shape_zyx: Sequence[int], min_iou: float = 0.5, is_3d: bool | None = None
) -> np.ndarray:
    """One label map from label maps of tiles: an object that crosses a tile border becomes one object.

    `tiles` are boxes of the image with their labels, integers (Y, X) or (Z, Y, X), 0 background; ids of different
    tiles need not agree. Returns int32 (Y, X) when `shape_zyx` has one slice (unless `is_3d`), else (Z, Y, X),
    ids 1..n, 0 where no tile is.

    Two objects of overlapping tiles are the same if, within the overlap, each is the other's best match and
    their IoU is at least `min_iou`. Tiles that merely touch are matched along the two lines of pixels (planes in
    3D) that face each other; there, two objects that touch exactly at the border with equal faces are joined, so
    prefer tiles with an overlap of about an object's radius. Best matches are joined first, and never two objects
    that one tile keeps apart. In an overlap every voxel is taken from the tile whose border is farther away,
    since objects are least reliable where the image was cut.

    Raises `ValueError` when labels do not have the size of their box.
    """
    shape = tuple(shape_zyx)
    flat = shape[0] == 1 if is_3d is None else not is_3d
    maps = [_numbered(box, labels) for box, labels in tiles]
    boxes = [box for box, _ in tiles]
    first_ids = np.cumsum([0, *(int(labels.max(initial=0)) for labels in maps)])
    merged = _merge(_matches(boxes, maps, first_ids, min_iou), first_ids)
    out = np.zeros(shape, np.int32)
    inside = np.zeros(shape, np.int32)
    for i, (box, labels) in enumerate(zip(boxes, maps, strict=True)):
        names = np.concatenate([[0], merged[first_ids[i] : first_ids[i + 1]]]).astype(np.int32)
        distance = _distance_to_cut(box, shape)
        nearer = distance > inside[box.slices]
        out[box.slices][nearer] = names[labels][nearer]
        inside[box.slices][nearer] = distance[nearer]
    out = relabel_sequential(out)[0].astype(np.int32, copy=False)
    return out[0] if flat else out


def _starts(length: int, size: int, overlap: int) -> list[int]:
    if length <= size:
        return [0]
    return [*range(0, length - size, size - overlap), length - size]


def _numbered(box: Box, labels: np.ndarray) -> np.ndarray:
    """Labels as (Z, Y, X) with ids 1..n."""
    if labels.shape not in ((box.depth, box.height, box.width), (box.height, box.width)[: 2 * (box.depth == 1)]):
        raise ValueError(f"labels of shape {labels.shape} do not fit {box}")
    return relabel_sequential(labels.reshape(box.depth, box.height, box.width))[0].astype(np.int64, copy=False)


def _matches(
    boxes: Sequence[Box], maps: Sequence[np.ndarray], first_ids: np.ndarray, min_iou: float
) -> list[tuple[float, int, int]]:
    """(IoU, object, object) of mutual best matches, numbered over all tiles from 0, best first."""
    found = []
    for i, j in _neighbours(boxes):
        here, there = _shared(boxes[i], boxes[j])
        for iou, a, b in _mutual_best(maps[i][here], maps[j][there], min_iou):
            found.append((iou, int(first_ids[i]) + a - 1, int(first_ids[j]) + b - 1))
    return sorted(found, key=lambda match: (-match[0], match[1:]))


def _neighbours(boxes: Sequence[Box]) -> Iterator[tuple[int, int]]:
    """Pairs of tiles that overlap, or touch with a face."""
    start = np.array([(box.z, box.y, box.x) for box in boxes], np.int64).reshape(-1, 3)
    stop = start + np.array([(box.depth, box.height, box.width) for box in boxes], np.int64).reshape(-1, 3)
    for i in range(len(boxes)):
        common = np.minimum(stop[i], stop[i + 1 :]) - np.maximum(start[i], start[i + 1 :])
        near = (common >= 0).all(axis=1) & ((common == 0).sum(axis=1) <= 1)
        for j in np.flatnonzero(near):
            yield i, i + 1 + int(j)


def _shared(a: Box, b: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices into two tiles: of their overlap, or of the faces with which they touch."""
    in_a, in_b = [], []
    for one, other in zip(a.slices, b.slices, strict=True):
        low, high = max(one.start, other.start), min(one.stop, other.stop)
        # tiles that only touch here: the last line of the first tile faces the first line of the second
        a_low = low - (high == low and one.stop == low)
        b_low = low - (high == low and other.stop == low)
        length = max(high - low, 1)
        in_a.append(slice(a_low - one.start, a_low - one.start + length))
        in_b.append(slice(b_low - other.start, b_low - other.start + length))
    return tuple(in_a), tuple(in_b)


def _mutual_best(a: np.ndarray, b: np.ndarray, min_iou: float) -> list[tuple[float, int, int]]:
    """(IoU, label in `a`, label in `b`) where each is the other's best match, within two arrays of one shape."""
    if not a.any() or not b.any():
        return []
    table = contingency_table(a, b).tocoo()
    area_a, area_b = np.bincount(a.ravel()), np.bincount(b.ravel())
    pairs = [(int(i), int(j), float(n)) for i, j, n in zip(table.row, table.col, table.data, strict=True) if i and j]
    iou = {(i, j): n / (area_a[i] + area_b[j] - n) for i, j, n in pairs}
    best_a: dict[int, float] = {}
    best_b: dict[int, float] = {}
    for (i, j), value in iou.items():
        best_a[i] = max(best_a.get(i, 0), value)
        best_b[j] = max(best_b.get(j, 0), value)
    return [(float(v), i, j) for (i, j), v in iou.items() if v >= min_iou and v == best_a[i] == best_b[j]]


def _merge(matches: Sequence[tuple[float, int, int]], first_ids: np.ndarray) -> np.ndarray:
    """New id (from 1) of every object, after joining the matches in their order."""
    n = int(first_ids[-1])
    tile_of = np.repeat(np.arange(len(first_ids) - 1), np.diff(first_ids))
    group = list(range(n))
    members = {i: [i] for i in range(n)}
    for _, a, b in matches:
        one, other = group[a], group[b]
        if one == other or {tile_of[m] for m in members[one]} & {tile_of[m] for m in members[other]}:
            continue
        for member in members[other]:
            group[member] = one
        members[one] += members.pop(other)
    return np.array(group, np.int64) + 1


def _distance_to_cut(box: Box, shape: Sequence[int]) -> np.ndarray:
    """For every voxel of a tile, steps to the nearest tile border that is not a border of the image; from 1."""
    nearest = np.iinfo(np.int32).max
    axes = []
    for part, length in zip(box.slices, shape, strict=True):
        steps = np.arange(1, part.stop - part.start + 1)
        from_start = steps if part.start > 0 else np.full(len(steps), nearest)
        from_stop = steps[::-1] if part.stop < length else np.full(len(steps), nearest)
        axes.append(np.minimum(from_start, from_stop))
    return np.minimum(np.minimum(axes[0][:, None, None], axes[1][:, None]), axes[2]).astype(np.int32)
