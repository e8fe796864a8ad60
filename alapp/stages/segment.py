"""Instances of an image of any size, block by block: memory is bounded by a block, not by the image.

Every block is predicted and decoded with a halo of its neighbours, so that an object at a border is seen by both
sides. Where the halos overlap, objects that agree are one object. Labels of blocks wait in files until all blocks are
known; then every voxel gets the object that the block in whose core it lies found there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy import ndimage

from alapp.domain import Box, Report, VoxelSize, part
from alapp.stages import instances
from alapp.stages.train.base import PredictBox

WHOLE_VOXELS = 6_000_000
"""Images up to this size are segmented in one piece, and blocks with their halos are at most about this large."""

MIN_AGREEMENT = 0.5
"""Intersection over union, where two blocks overlap, from which their objects are one object."""

_HALO_IN_DIAMETERS = 2.0
_LEAST_HALO, _MOST_HALO = 16, 256
_SLICES_LINKED = 2


@dataclass(frozen=True)
class Decoding:
    """How probabilities become objects. `decode` takes float32 (K, Y, X) or (K, Z, Y, X), the background first, and
    gives an int32 instance map without leaving out any object; what `instances.kept_objects` does not keep is left out
    in the end. `by_slices`: slices are decoded singly and linked."""

    decode: Callable[[np.ndarray], np.ndarray]
    by_slices: bool = False
    min_size: int | None = None
    fragment_share: float = instances.Decoding.fragment_share
    certainty_share: float = instances.Decoding.certainty_share

    def kept(self, sizes: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """See `instances.kept_objects`."""
        return instances.kept_objects(sizes, sums, self.min_size, self.fragment_share, self.certainty_share)


def decoding_for(
    voxel_size: VoxelSize,
    min_size: int | None = None,
    parameters: instances.Decoding | None = None,
    learned_slices: bool = False,
) -> Decoding:
    """The decoding of `instances.from_probabilities` for images of this voxel size, by default with its defaults.
    `learned_slices`: the network learned borders in the plane only, which decides for stacks of unknown voxel size."""
    by_slices = instances.is_anisotropic(voxel_size) or (learned_slices and not voxel_size.known)
    shares = parameters or instances.Decoding()
    return Decoding(
        lambda prob: instances.separated(prob, by_slices, parameters or instances.DEFAULTS[len(prob)]),
        by_slices,
        min_size,
        shares.fragment_share,
        shares.certainty_share,
    )


@dataclass(frozen=True)
class Found:
    """Objects of an image: `labels` int32 (Z, Y, X), 0 background, ids 1..n; by id - 1 `boxes`, the box of each
    object, and `sizes`, its voxels. `labels` may be mapped from a file, which `close` releases."""

    labels: np.ndarray
    boxes: list[Box]
    sizes: np.ndarray

    def close(self) -> None:
        """Release the file behind `labels`, which must not be used any more."""
        if isinstance(self.labels, np.memmap):
            self.labels._mmap.close()


@dataclass(frozen=True)
class Block:
    """A part of the image. Cores cover the image without overlap; `seen` is the core with its halo."""

    core: Box
    seen: Box


def whole(probabilities: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Instances int32 (Y, X) or (Z, Y, X) of an image in one piece, ids 1..n, from its probabilities."""
    labels = decoding.decode(probabilities)
    return instances.only(labels, decoding.kept(*instances.measured(labels, probabilities[0])))


def found_in(labels: np.ndarray) -> Found:
    """The objects of an instance map int32 (Y, X) or (Z, Y, X) with ids 1..n."""
    stack = labels if labels.ndim == 3 else labels[None]
    boxes = [_box([(p.start, p.stop) for p in where]) for where in ndimage.find_objects(stack)]
    return Found(stack, boxes, np.bincount(stack.ravel(), minlength=1)[1:])


def halo(diameter: float, is_3d: bool, by_slices: bool, anisotropy: float = 1.0) -> tuple[int, int, int]:
    """Voxels (z, y, x) that a block sees of its neighbours: two diameters of a typical object, which is `diameter`
    pixels wide; `anisotropy` is how many pixels a slice is thick. Linking slices needs the next ones only."""
    side = int(np.clip(math.ceil(_HALO_IN_DIAMETERS * diameter), _LEAST_HALO, _MOST_HALO))
    if not is_3d:
        return 0, side, side
    return (_SLICES_LINKED if by_slices else max(2, math.ceil(side / max(anisotropy, 1.0)))), side, side


def blocks(shape: Sequence[int], halo: Sequence[int], voxels: int = WHOLE_VOXELS) -> dict[tuple[int, ...], Block]:
    """Blocks of about `voxels` with their halos that cover an image of `shape` (Z, Y, X), by place in the grid.

    The longest side in terms of its halo is cut again and again, so that little is seen twice. A core is never
    smaller than its halo, which may make blocks larger than `voxels`.
    """
    counts = [1, 1, 1]

    def core(axis: int) -> int:
        return math.ceil(shape[axis] / counts[axis])

    while math.prod(min(core(a) + 2 * halo[a], shape[a]) for a in range(3)) > voxels:
        ratios = [core(a) / (halo[a] + 1) for a in range(3)]
        axis = int(np.argmax(ratios))
        if core(axis) < 2 * max(halo[axis], 1):
            break
        counts[axis] += 1
    edges = [[n * i // count for i in range(count + 1)] for n, count in zip(shape, counts, strict=True)]
    made = {}
    for place in product(*(range(count) for count in counts)):
        ranges = [(edges[a][i], edges[a][i + 1]) for a, i in enumerate(place)]
        made[place] = Block(_box(ranges), _grown(_box(ranges), halo, shape))
    return made


def segment(
    predict: PredictBox,
    shape: Sequence[int],
    decoding: Decoding,
    halo: Sequence[int],
    folder: Path,
    report: Report,
    flat: bool = False,
    voxels: int = WHOLE_VOXELS,
    foreground: np.ndarray | None = None,
) -> Found:
    """Segment an image of `shape` (Z, Y, X) block by block; `flat` for 2D images, Z = 1, which are decoded in 2D.

    Files are made in `folder`, which must be empty and is the caller's to remove: about five bytes a voxel, one of
    them `labels.npy`, in which the labels of the result are mapped. `foreground`, an array uint8 of `shape`, gets the
    probability not to be background, times 255. What `report` raises goes through.
    """
    grid = blocks(shape, halo, voxels)
    measured: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
    for index, (place, block) in enumerate(grid.items()):
        here = part(report, 0.9 * index / len(grid), 0.9 * (index + 1) / len(grid))
        labels, measured[place] = _decoded(predict, block, decoding, here, flat, foreground)
        np.save(_file(folder, place), labels)
    starts = _starts_of_ids({place: sizes for place, (sizes, _) in measured.items()})
    joined = _join(grid, starts, halo, folder, decoding.by_slices, part(report, 0.9, 0.95))
    tables, volumes = _final_ids(measured, starts, joined, decoding)
    count = len(volumes)
    out = np.lib.format.open_memmap(folder / "labels.npy", mode="w+", dtype=np.int32, shape=tuple(shape))
    low = np.full((count + 1, 3), np.iinfo(np.int64).max)
    high = np.zeros((count + 1, 3), np.int64)
    for index, (place, block) in enumerate(grid.items()):
        report(0.95 + 0.05 * index / len(grid), 1, f"Joining part {index + 1} of {len(grid)}")
        local = np.array(_inside(np.load(_file(folder, place), mmap_mode="r"), block.core, block.seen))
        out[block.core.slices] = tables[place][local]
        _extend(low, high, local, tables[place], block.core)
        _file(folder, place).unlink()
    out.flush()
    report(1, 1, f"Found {count} objects")
    ranges = zip(low[1:].tolist(), high[1:].tolist(), strict=True)
    return Found(out, [_box(list(zip(start, stop, strict=True))) for start, stop in ranges], volumes)


def _decoded(
    predict: PredictBox, block: Block, decoding: Decoding, report: Report, flat: bool, foreground: np.ndarray | None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Labels int32 (Z, Y, X) of what a block sees, and what `instances.measured` tells of them in its core. The
    probabilities do not outlive the call: the next block has its own."""
    probabilities = predict(block.seen, part(report, 0, 0.9))
    if foreground is not None:
        inside = _inside(probabilities[0], block.core, block.seen)
        foreground[block.core.slices] = np.round(np.clip(1 - inside, 0, 1) * 255).astype(np.uint8)
    report(0.9, 1, "Separating objects")
    labels = decoding.decode(probabilities[:, 0])[None] if flat else decoding.decode(probabilities)
    core = (_inside(each, block.core, block.seen) for each in (labels, probabilities[0]))
    return labels, instances.measured(*core, count=int(labels.max()))


def _starts_of_ids(sizes: dict[tuple[int, ...], np.ndarray]) -> dict[tuple[int, ...], int]:
    """What is added to the ids of a block so that no id occurs twice; the id 0 stays apart."""
    starts, total = {}, 0
    for place, counts in sizes.items():
        starts[place] = total
        total += len(counts) - 1
    return starts


def _join(
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
            pairs = _shared(block, grid[other], half, _file(folder, place), _file(folder, other))
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
        np.ascontiguousarray(_inside(np.load(path, mmap_mode="r"), _box(ranges), block.seen)).ravel().astype(np.int64)
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


def _final_ids(
    measured: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]],
    starts: dict[tuple[int, ...], int],
    joined: dict[int, int],
    decoding: Decoding,
) -> tuple[dict[tuple[int, ...], np.ndarray], np.ndarray]:
    """The id in the image of every id of every block (0 for what is left out), and the voxels of every object."""
    total = sum(len(counts) - 1 for counts, _ in measured.values())
    root = np.arange(total + 1)
    if joined:
        root[list(joined)] = list(joined.values())
    volume, certain = np.zeros(total + 1, np.int64), np.zeros(total + 1)
    for place, (counts, sums) in measured.items():
        own = root[starts[place] + 1 : starts[place] + len(counts)]
        np.add.at(volume, own, counts[1:])
        np.add.at(certain, own, sums[1:])
    kept = decoding.kept(volume, certain)
    final = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    tables = {}
    for place, (counts, _) in measured.items():
        own = final[root[starts[place] + 1 : starts[place] + len(counts)]]
        tables[place] = np.concatenate([np.zeros(1, np.int32), own])
    return tables, volume[kept]


def _extend(low: np.ndarray, high: np.ndarray, local: np.ndarray, table: np.ndarray, box: Box) -> None:
    """Enlarges the boxes `low` to `high` of the objects by what lies in a part of the image; `table` gives the ids."""
    corner = np.array((box.z, box.y, box.x))
    for number, where in enumerate(ndimage.find_objects(local), start=1):
        if where is not None and table[number]:
            low[table[number]] = np.minimum(low[table[number]], corner + [p.start for p in where])
            high[table[number]] = np.maximum(high[table[number]], corner + [p.stop for p in where])


def _inside(array: np.ndarray, box: Box, outer: Box) -> np.ndarray:
    """The part `box` of an array (Z, Y, X) of `outer`."""
    return array[
        tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(box.slices, outer.slices, strict=True))
    ]


def _grown(box: Box, by: Sequence[int], shape: Sequence[int]) -> Box:
    return _box(
        [(max(0, p.start - n), min(size, p.stop + n)) for p, n, size in zip(box.slices, by, shape, strict=True)]
    )


def _box(ranges: Sequence[tuple[int, int]]) -> Box:
    return Box(*(a for a, _ in ranges), *(b - a for a, b in ranges))


def _file(folder: Path, place: tuple[int, ...]) -> Path:
    return folder / f"block_{'_'.join(str(i) for i in place)}.npy"
