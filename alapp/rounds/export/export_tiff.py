"""TIFF files that keep their axes and voxel size, so that Fiji, napari and this app measure in real units.

Flat images are plain TIFF with pixels per centimetre. Plain TIFF has no place for z and channels, so stacks and several
channels are written as ImageJ does, and as OME-TIFF where ImageJ's format would not do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import tifffile

from alapp.domain import VoxelSize

MICROMETRES_IN_CENTIMETRE = 1e4

_CLASSIC_BYTES = 3.5e9
"""Of pixels before compression; TIFF's offsets end at 4 GB. What is larger is BigTIFF, which ImageJ's format is not."""

_IMAGEJ = ("uint8", "uint16", "float32")
_OME = (*_IMAGEJ, "int8", "int16", "int32", "uint32", "float64")

Keywords = dict[str, Any]


def keywords(axes: str, shape: Sequence[int], dtype: np.dtype, size: VoxelSize) -> tuple[Keywords, Keywords]:
    """Keywords of `tifffile.TiffWriter`, and of its `write`, for gray pixels of this `shape`, whose `axes` are "YX"
    after any of "Z" and "C".

    A stack of which only the sizes in y and x are known is an OME-TIFF, because ImageJ takes a missing z size for 1.
    Integers of 64 bits fit neither format, and of a stack of one slice readers of both make a flat image: these files
    are plain ones, in which the z size is lost.
    """
    large = math.prod(shape) * np.dtype(dtype).itemsize > _CLASSIC_BYTES
    kind = np.dtype(dtype).name
    metadata: Keywords = {"axes": axes}
    write: Keywords = {"metadata": metadata, "photometric": "minisblack", **_resolution(size)}
    if len(axes) == 2 or 1 in shape[:-2] or kind not in _OME:
        return {"bigtiff": large}, write
    z_missing = "Z" in axes and size.known and size.z is None
    if large or kind not in _IMAGEJ or z_missing:
        metadata |= _ome_sizes(axes, size)
        return {"bigtiff": large, "ome": True}, write
    if size.known:
        metadata |= {"unit": "um"} | ({"spacing": size.z} if "Z" in axes else {})
        write |= {"resolution": (1 / size.x, 1 / size.y), "resolutionunit": "NONE"}
    return {"imagej": True}, write


def tiff(array: np.ndarray, size: VoxelSize, channels: bool = False) -> bytes:
    """`array` (Y, X) or (Z, Y, X), with `channels` (Y, X, C) or (Z, Y, X, C), as a compressed TIFF.

    Several channels are stored before (y, x), as Fiji expects them; one alone gets no axis.
    """
    axes = "ZYX"[-(array.ndim - channels) :]
    if channels and array.shape[-1] == 1:
        array = array[..., 0]
    elif channels:
        array, axes = np.moveaxis(array, -1, -3), axes[:-2] + "C" + axes[-2:]
    return _written(array, *keywords(axes, array.shape, array.dtype, size))


def picture(array: np.ndarray, size: VoxelSize) -> bytes:
    """`array` (Y, X, C) as one page of a compressed TIFF, channels last, as programs for photographs expect it: gray
    (Y, X) for one channel, RGB for three, and for two with an empty blue; more than three are samples without a colour.
    """
    n = array.shape[-1]
    if n == 1:
        return tiff(array, size, channels=True)
    if n == 2:
        array = np.concatenate([array, np.zeros_like(array[..., :1])], axis=-1)
    colours: Keywords = {"photometric": "rgb" if n <= 3 else "minisblack", "planarconfig": "contig"}
    return _written(
        array, {"bigtiff": array.nbytes > _CLASSIC_BYTES}, {"metadata": {"axes": "YXS"}, **colours, **_resolution(size)}
    )


def _written(array: np.ndarray, writer: Keywords, write: Keywords) -> bytes:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer, **writer) as tif:
        tif.write(np.ascontiguousarray(array), compression="zlib", **write)
    return buffer.getvalue()


def _resolution(size: VoxelSize) -> Keywords:
    """Pixels per centimetre, if they are known."""
    if not size.known:
        return {}
    per_centimetre = tuple(MICROMETRES_IN_CENTIMETRE / side for side in (size.x, size.y))
    return {"resolution": per_centimetre, "resolutionunit": "CENTIMETER"}


def _ome_sizes(axes: str, size: VoxelSize) -> Keywords:
    known = {"X": size.x, "Y": size.y, "Z": size.z if "Z" in axes else None} if size.known else {}
    sizes = {f"PhysicalSize{axis}": side for axis, side in known.items() if side is not None}
    return sizes | {f"{name}Unit": "µm" for name in sizes}
