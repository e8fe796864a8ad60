"""Instances of an image of any size, block by block: memory is bounded by a block, not by the image.

Every block is predicted and decoded with a halo of its neighbours, so that an object at a border is seen by both
sides. Where the halos overlap, objects that agree are one object. Labels of blocks wait in files until all blocks are
known; then every voxel gets the object that the block in whose core it lies found there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy import ndimage

from alapp.disk import new_array, releasing, save_array, told
from alapp.domain import Box, Report, VoxelSize, part
from alapp.stages import instances
from alapp.stages.stitching import Block, block_file, box_of, grown, inside, join, starts_of_ids
from alapp.stages.train.base import PredictBox
from alapp.wording import counted

WHOLE_VOXELS = 6_000_000
"""Images up to this size are segmented in one piece, and blocks with their halos are at most about this large."""

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
    `learned_slices`: see `instances.by_slices`."""
    by_slices = instances.by_slices(voxel_size, learned_slices)
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


def whole(probabilities: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Instances int32 (Y, X) or (Z, Y, X) of an image in one piece, ids 1..n, from its probabilities."""
    labels = decoding.decode(probabilities)
    return instances.only(labels, decoding.kept(*instances.measured(labels, probabilities[0])))


def found_in(labels: np.ndarray) -> Found:
    """The objects of an instance map int32 (Y, X) or (Z, Y, X) with ids 1..n."""
    stack = labels if labels.ndim == 3 else labels[None]
    boxes = [box_of([(p.start, p.stop) for p in where]) for where in ndimage.find_objects(stack)]
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
        made[place] = Block(box_of(ranges), grown(box_of(ranges), halo, shape))
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
    probability not to be background, times 255. Raises `DiskFullError`; what `report` raises goes through.
    """
    grid = blocks(shape, halo, voxels)
    measured: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
    for index, (place, block) in enumerate(grid.items()):
        here = part(report, 0.9 * index / len(grid), 0.9 * (index + 1) / len(grid))
        labels, measured[place] = _decoded(predict, block, decoding, here, flat, foreground)
        with told("a part of the image"), open(block_file(folder, place), "wb") as handle:
            save_array(handle, labels)
    starts = starts_of_ids({place: sizes for place, (sizes, _) in measured.items()})
    joined = join(grid, starts, halo, folder, decoding.by_slices, part(report, 0.9, 0.95))
    tables, volumes = _final_ids(measured, starts, joined, decoding)
    count = len(volumes)
    out = new_array(folder / "labels.npy", np.int32, shape)
    low = np.full((count + 1, 3), np.iinfo(np.int64).max)
    high = np.zeros((count + 1, 3), np.int64)
    with releasing(out):
        for index, (place, block) in enumerate(grid.items()):
            report(0.95 + 0.05 * index / len(grid), 1, f"Joining part {index + 1} of {len(grid)}")
            local = np.array(inside(np.load(block_file(folder, place), mmap_mode="r"), block.core, block.seen))
            out[block.core.slices] = tables[place][local]
            _extend(low, high, local, tables[place], block.core)
            block_file(folder, place).unlink()
        out.flush()
        report(1, 1, f"Found {counted(count, 'object')}")
    ranges = zip(low[1:].tolist(), high[1:].tolist(), strict=True)
    return Found(out, [box_of(list(zip(start, stop, strict=True))) for start, stop in ranges], volumes)


def _decoded(
    predict: PredictBox, block: Block, decoding: Decoding, report: Report, flat: bool, foreground: np.ndarray | None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Labels int32 (Z, Y, X) of what a block sees, and what `instances.measured` tells of them in its core. The
    probabilities do not outlive the call: the next block has its own."""
    probabilities = predict(block.seen, part(report, 0, 0.9))
    if foreground is not None:
        background = inside(probabilities[0], block.core, block.seen)
        foreground[block.core.slices] = np.round(np.clip(1 - background, 0, 1) * 255).astype(np.uint8)
    report(0.9, 1, "Separating objects")
    labels = decoding.decode(probabilities[:, 0])[None] if flat else decoding.decode(probabilities)
    core = (inside(each, block.core, block.seen) for each in (labels, probabilities[0]))
    return labels, instances.measured(*core, count=int(labels.max()))


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
