"""Files that are made of a segmented image: the label map, the table of its objects, the picture with outlines.

All are written part by part, so that memory is bounded for images of any size.
"""

from __future__ import annotations

import contextlib
import csv
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from skimage.segmentation import find_boundaries

from alapp.disk import is_full, patiently
from alapp.domain import Box, Report, VoxelSize
from alapp.errors import InputError
from alapp.rounds.export import export_tiff
from alapp.rounds.export.export_tables import cut, harmless, measured
from alapp.stages.display import to_display
from alapp.stages.patches import GRID_COLOUR
from alapp.stages.segment import WHOLE_VOXELS, Found
from alapp.stages.train.base import ImageSource

PICTURE_SIDE = 2048
"""Pixels of the longer side of a picture at most."""

_CELL = 1024
_STRIP_BYTES = 2**20
_LARGEST_16_BIT = 2**16 - 1


def mask_type(count: int, bits: int) -> np.dtype:
    """The dtype of a label map with `count` objects: of 16 bits if they are wanted and enough, else of 32."""
    return np.dtype(np.uint16 if bits == 16 and count <= _LARGEST_16_BIT else np.uint32)


def write_masks(path: Path, found: Found, is_3d: bool, bits: int, size: VoxelSize, report: Report) -> None:
    """The label map as a TIFF of compressed strips, which Fiji, napari, QuPath and CellProfiler open."""
    labels, dtype = found.labels, mask_type(len(found.boxes), bits)
    depth, height, width = labels.shape
    rows = max(1, min(height, _STRIP_BYTES // (width * dtype.itemsize)))

    def strips() -> Iterator[bytes]:
        for z in range(depth):
            report(z, depth, "Writing the masks")
            for y in range(0, height, rows):
                yield zlib.compress(labels[z, y : y + rows].astype(dtype).tobytes(), 6)

    shape = labels.shape if is_3d else labels.shape[1:]
    writer, options = export_tiff.keywords("ZYX"[-len(shape) :], shape, dtype, size)
    with tifffile.TiffWriter(path, byteorder="<", **writer) as tif:
        tif.write(
            strips(),
            shape=shape,
            dtype=dtype.newbyteorder("<"),
            rowsperstrip=rows,
            compression="zlib",
            **options,
        )


def write_table(
    path: Path, name: str, found: Found, is_3d: bool, source: ImageSource, size: VoxelSize, report: Report
) -> None:
    """One row for each object, as in the export of measurements; the same columns without rows if there is none."""
    with open(path, "w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.DictWriter(handle, _columns(is_3d, source, size))
        writer.writeheader()
        for row in _rows(name, found, is_3d, source, size, report):
            writer.writerow({key: harmless(value) for key, value in row.items()})


def _columns(is_3d: bool, source: ImageSource, size: VoxelSize) -> list[str]:
    """What is told of any object, as of one that is the first pixel alone."""
    pixel = source[:1, :1, :1]
    labels = np.ones(pixel.shape[:-1], np.int32)
    (row,) = measured("", "", labels if is_3d else labels[0], pixel if is_3d else pixel[0], size)
    return list(row)


def _rows(
    name: str, found: Found, is_3d: bool, source: ImageSource, size: VoxelSize, report: Report
) -> Iterator[dict[str, Any]]:
    """Measured objects, those of a neighbourhood together, because pixels are read by parts."""
    groups = list(_groups(found.boxes))
    for index, (box, ids) in enumerate(groups):
        report(index, len(groups), "Measuring objects")
        local = np.zeros(int(ids[-1]) + 1, np.int32)
        local[ids] = np.arange(1, len(ids) + 1)
        region = np.array(found.labels[box.slices])
        labels = local[np.where(region <= ids[-1], region, 0)]
        pixels = source[box.slices]
        rows = measured(name, "predicted", labels if is_3d else labels[0], pixels if is_3d else pixels[0], size)
        for row in rows:
            row["object"] = int(ids[row["object"] - 1])
            for axis, start in (("z", box.z), ("y", box.y), ("x", box.x)):
                row[axis] = round(row[axis] + start, 3)
            first = 0 if is_3d else 1
            row |= cut(found.boxes[row["object"] - 1].slices[first:], found.labels.shape[first:])
            yield row


def _groups(boxes: list[Box]) -> Iterator[tuple[Box, np.ndarray]]:
    """Objects that start near each other: a box around them, and their ids in ascending order. An object that is too
    large to be read with others is alone."""
    cells: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, box in enumerate(boxes, start=1):
        if box.depth * box.height * box.width > WHOLE_VOXELS // 4:
            cells[(number,)].append(number)
        else:
            thick = max(1, WHOLE_VOXELS // _CELL**2)
            cells[(box.z // thick, box.y // _CELL, box.x // _CELL)].append(number)
    for ids in cells.values():
        stops = np.array([[p.stop for p in boxes[i - 1].slices] for i in ids]).max(0)
        starts = np.array([[p.start for p in boxes[i - 1].slices] for i in ids]).min(0)
        yield Box(*starts.tolist(), *(stops - starts).tolist()), np.array(ids)


def write_picture(path: Path, found: Found, source: ImageSource) -> None:
    """A PNG of the image (its middle slice) with the outlines of the objects, `PICTURE_SIDE` pixels wide at most."""
    depth, height, width = found.labels.shape
    step, z = max(1, -(-max(height, width) // PICTURE_SIDE)), depth // 2
    rows = max(1, _CELL // step) * step
    pixels = np.concatenate(
        [
            np.concatenate(
                [
                    source[z : z + 1, y : min(y + rows, height), x : min(x + 2 * rows, width)][0, ::step, ::step]
                    for x in range(0, width, 2 * rows)
                ],
                axis=1,
            )
            for y in range(0, height, rows)
        ]
    )
    picture = to_display(pixels)
    picture[find_boundaries(np.array(found.labels[z, ::step, ::step]), mode="inner")] = GRID_COLOUR
    Image.fromarray(picture).save(path)


def place(work: Path, endings: Sequence[str], target: Path, name: str) -> None:
    """Move finished files, called by their `endings` in the folder `work`, into the folder `target` as results called
    `name`: all or none. Raises `InputError` when another program holds an old one, `OSError` for what else goes
    wrong."""
    try:
        for ending in endings:
            patiently(os.replace, work / ending, target / f"{name}{ending}")
    except OSError as error:
        discard(target, [f"{name}{each}" for each in endings[: endings.index(ending)]])
        if isinstance(error, PermissionError):
            raise InputError(
                f"{name}{ending} cannot be replaced: another program has it open. Close it there, then press Apply "
                "again."
            ) from error
        raise


def discard(target: Path, files: Sequence[str]) -> None:
    """Remove results that are not written down: a later run would take them for somebody else's."""
    for file in files:
        with contextlib.suppress(OSError):
            (target / file).unlink()


def unwritten(what: str, target: Path, error: OSError) -> str:
    """Why something could not be written into the folder of results, as a sentence."""
    if is_full(error):
        return f"The disk is full: {what} could not be written. Free some space, then press Apply again."
    return f"{what} could not be written into the folder {target} ({error.strerror or error})."
