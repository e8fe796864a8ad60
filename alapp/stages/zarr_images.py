"""OME-Zarr (OME-NGFF 0.1 to 0.5): a folder with an image in chunks, at several resolutions, of which the first is read.

Axes, scale and units are those of the `multiscales` metadata (https://ngff.openmicroscopy.org/latest/#multiscale-md).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import ImageInfo, VoxelSize
from alapp.errors import ImageError
from alapp.stages.image_formats import length_um

_MARKS = (".zattrs", ".zgroup", ".zarray", "zarr.json")

_OLD_AXES = "tczyx"
"""Axes of versions 0.1 and 0.2, which do not name them."""


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder that holds Zarr data."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


@dataclass(frozen=True)
class ZarrImage:
    """The first image of an OME-Zarr folder at full resolution; nothing is read before it is asked for.

    Raises `ImageError` for a folder without such an image, and whatever zarr raises for a damaged one.
    """

    path: Path

    @cached_property
    def info(self) -> ImageInfo:
        """Layout; axes of length 1 are left out, as they are for TIFF files."""
        shape = self._array.shape
        axes, sizes = self._axes, self._voxel_size
        kept = [i for i, name in enumerate(axes) if name in "YX" or shape[i] > 1]
        order = "".join(axes[i] for i in kept)
        # frames may be slices in truth (the user can say so), hence T
        z = sizes.get("Z") if set("ZT") & set(order) else None
        return ImageInfo(
            order,
            tuple(shape[i] for i in kept),
            str(self._array.dtype),
            VoxelSize(z, sizes.get("Y"), sizes.get("X")),
            "OME metadata",
            self._warnings,
        )

    def pixels(self, wanted: Mapping[str, slice] | None = None) -> np.ndarray:
        """Pixels in the axes of `info`; `wanted` names parts of axes. Only the chunks that they need are unpacked."""
        shape = dict(zip(self._axes, self._array.shape, strict=True))
        kept = set(self.info.axes)
        where = tuple((wanted or {}).get(name, slice(None)) if name in kept else 0 for name in self._axes)
        found = np.asarray(self._array[where])
        if wanted is None and found.shape != tuple(shape[name] for name in self._axes if name in kept):
            raise ImageError(f"{self.path.name} is damaged: its data do not have the size that it announces.")
        return found

    @cached_property
    def _group(self) -> tuple[Any, Mapping[str, Any]]:
        """The group that holds the image, and its metadata."""
        import zarr

        if (self.path / ".zarray").is_file():
            raise ImageError(_no_image(self.path))
        group = zarr.open_group(self.path, mode="r")
        attributes = _ome(group)
        if "plate" in attributes or "well" in attributes:
            raise ImageError(
                f"{self.path.name} is a plate or a well with many images. Give the folder of one of its fields, such "
                f"as {self.path.name}/A/1/0."
            )
        if "multiscales" not in attributes and "0" in group:
            # What bioformats2raw writes: numbered images in one folder.
            inner = group["0"]
            if hasattr(inner, "group_keys"):
                group, attributes = inner, _ome(inner)
        if not attributes.get("multiscales"):
            raise ImageError(_no_image(self.path))
        return group, attributes["multiscales"][0]

    @cached_property
    def _array(self) -> Any:
        group, image = self._group
        array = group[image["datasets"][0]["path"]]
        if len(array.shape) != len(_axes(image, len(array.shape))):
            raise ImageError(f"{self.path.name} names other axes than its {len(array.shape)} dimensions have.")
        return array

    @property
    def _axes(self) -> str:
        axes = _axes(self._group[1], len(self._array.shape))
        if set(axes) - set("TCZYX") or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
            raise ImageError(
                f"{self.path.name} has the axes {', '.join(axes).lower()}. Only t, c, z, y and x can be read, y and x "
                "must be there, and each may occur once."
            )
        return "".join(axes)

    @property
    def _voxel_size(self) -> dict[str, float]:
        """Micrometres by axis, where scale and unit are known."""
        image = self._group[1]
        named = image.get("axes") or []
        units = [each.get("unit", "") if isinstance(each, Mapping) else "" for each in named]
        changes = [
            *image["datasets"][0].get("coordinateTransformations", []),
            *image.get("coordinateTransformations", []),
        ]
        total = np.ones(len(units))
        scales = [change["scale"] for change in changes if change.get("type") == "scale" and "scale" in change]
        for scale in scales:
            total = total * np.asarray(scale, float)
        found = {}
        for axis, unit, value in zip(self._axes, units, total, strict=False):
            size = length_um(value, unit or "")
            if scales and size is not None:
                found[axis] = size
        return found

    @property
    def _warnings(self) -> tuple[str, ...]:
        several = self._group[0].path and (self.path / "1").is_dir()
        return ("It holds several images; the first is taken.",) if several else ()

    @property
    def looked_through(self) -> ImageInfo:
        """`info`, and a warning if files of chunks are missing, which zarr reads as empty; every file is counted for
        that. A shard is one file of many chunks."""
        array = self._array
        expected = math.prod(
            math.ceil(side / step) for side, step in zip(array.shape, array.shards or array.chunks, strict=True)
        )
        # zarr counts, too, but takes 0.2 ms a chunk.
        folder = self.path / array.path
        stored = sum(
            name != "zarr.json" and not name.startswith(".") for _, _, names in os.walk(folder) for name in names
        )
        missing = expected - stored
        if missing <= 0:
            return self.info
        parts = "chunks" if array.shards is None else "shards"
        warning = (
            f"{missing} of its {expected} {parts} are not there and read as {array.fill_value}. That is right "
            "where nothing was recorded; else the folder was not copied or downloaded completely."
        )
        return replace(self.info, warnings=(*self.info.warnings, warning))


def _axes(image: Mapping[str, Any], n: int) -> list[str]:
    """Names of an image's axes, of which there are `n`, in capitals."""
    named = image.get("axes") or list(_OLD_AXES[-n:])
    return [str(each["name"] if isinstance(each, Mapping) else each).upper() for each in named]


def _ome(group: Any) -> Mapping[str, Any]:
    """OME metadata of a group: from version 0.5 on they have a key of their own."""
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)


def _no_image(path: Path) -> str:
    return (
        f"{path.name} is Zarr data, but no OME-Zarr image: it lacks the metadata 'multiscales'. Save it as OME-Zarr, "
        "or as TIFF."
    )
