"""What CellSAM and micro_sam have in common: large images in tiles, and failures as sentences."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from alapp.domain import BackendState, Box, Report, Status, part, silent
from alapp.errors import (
    AlappError,
    BackendError,
    LicenceError,
    NotInstalledError,
    OutOfMemoryError,
    WeightsMissingError,
)
from alapp.stages.foundation.residency import is_out_of_memory
from alapp.stages.instances import link_slices
from alapp.stages.patches import stitch
from alapp.stages.pseudolabel.base import Keep, keep_nothing

TILE = 1024
"""Both models bring every image to this many pixels a side, so larger ones are cut to keep their detail."""
HALO = 128

_ERRORS = {
    BackendState.NOT_INSTALLED: NotInstalledError,
    BackendState.LICENCE: LicenceError,
    BackendState.WEIGHTS_MISSING: WeightsMissingError,
}


def require_ready(title: str, status: Status) -> None:
    """Raises the `BackendError` that belongs to a status other than ready, with its detail and remedy."""
    if not status.ready:
        sentence = f"{title} cannot be used: {status.detail} {status.remedy}"
        raise _ERRORS.get(status.state, BackendError)(sentence)


LabelTile = Callable[[np.ndarray, Report], np.ndarray]


def by_plane(
    label_tile: LabelTile,
    image: np.ndarray,
    prepare: Callable[[np.ndarray], np.ndarray],
    report: Report = silent,
    clean: Callable[[np.ndarray], np.ndarray] = lambda labels: labels,
    keep: Keep = keep_nothing,
) -> np.ndarray:
    """Label `image` (Y, X, C) or (Z, Y, X, C) plane by plane, each by tiles; int32 (Y, X) or (Z, Y, X).

    `prepare` turns a plane (Y, X, C) into what the model takes, `clean` gets its labels before slices are linked. Tiles
    are kept by `keep`, but for one that is the whole image.
    """
    if image.ndim == 3:
        kept = keep if max(image.shape[:2]) > TILE else keep_nothing
        return clean(by_tile(label_tile, prepare(image), report, kept))
    planes = []
    for z, plane in enumerate(image):
        told = part(report, z / len(image), (z + 1) / len(image))
        told(0, 1, f"slice {z + 1} of {len(image)}")
        planes.append(clean(by_tile(label_tile, prepare(plane), told, keep, f"{z}-")))
    return link_slices(np.stack(planes)).astype(np.int32)


def by_tile(
    label_tile: LabelTile, plane: np.ndarray, report: Report = silent, keep: Keep = keep_nothing, prefix: str = ""
) -> np.ndarray:
    """Label `plane` (Y, X) or (Y, X, C) in overlapping tiles of at most `TILE` pixels a side; int32 (Y, X).

    `label_tile` takes a tile and a `Report` of its own, and gives integers (Y, X), 0 background, of any numbering; it
    is not asked about tiles without contrast. Neighbouring tiles share at least `2 * HALO` pixels; see
    `patches.stitch`. Those that `keep` has under `prefix` and their number are not labelled again.
    """
    height, width = plane.shape[:2]
    boxes = [Box(0, y, x, 1, min(TILE, height), min(TILE, width)) for y in _starts(height) for x in _starts(width)]
    tiles = []
    for number, box in enumerate(boxes):
        told = part(report, number / len(boxes), (number + 1) / len(boxes))
        told(0, 1, f"tile {number + 1} of {len(boxes)}" if len(boxes) > 1 else "")
        tile = plane[box.slices[1:]]
        has_contrast = bool((tile != tile[:1, :1]).any())
        make = partial(label_tile, tile, told)
        tiles.append((box, keep(f"{prefix}{number}", make) if has_contrast else np.zeros(tile.shape[:2], np.int32)))
    return stitch(tiles, (1, height, width), is_3d=False)


def failure(title: str, error: BaseException, reason: str) -> AlappError:
    """The error to raise when the model `title` failed on an image with `error`; `reason` is its text."""
    if is_out_of_memory(error):
        return OutOfMemoryError(f"{title} ran out of memory. Close other programs, or choose another method.")
    return BackendError(f"{title} failed on this image: {reason.strip() or type(error).__name__}")


def _starts(length: int) -> list[int]:
    """Where tiles begin, evenly spread; the last one ends with the image."""
    if length <= TILE:
        return [0]
    last = length - TILE
    count = math.ceil(last / (TILE - 2 * HALO))
    return [round(index * last / count) for index in range(count + 1)]
