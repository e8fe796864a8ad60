"""How the model reads a file from outside: what the file leaves open is borrowed from the project's images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alapp.domain import ImageInfo, VoxelSize
from alapp.errors import ImageError, InputError
from alapp.stages import images as image_files
from alapp.stages.lazy_images import LazyImage
from alapp.storage.catalogue import Image

FROM_PROJECT = "taken from the project"
"""In the remark on an image whose voxel size its file does not tell."""

_ROUNDING = 1e-3


@dataclass(frozen=True)
class Reading:
    """`axes` to read a file with, None for its own, and the voxel size that its pixels are taken to have. `borrowed`:
    along which axes that is the project's ("yx", "zyx" or "z", "" for none), which nobody knows to hold for the file;
    `entered`: whether y and x are what a person said."""

    axes: str | None
    voxel_size: VoxelSize
    borrowed: str = ""
    entered: bool = False

    def remark(self, is_3d: bool) -> str:
        """Where the size comes from that areas or volumes are told with, in words; "" where the file tells it."""
        size = self.voxel_size
        if not size.known:
            return ""  # there is no size that an area could be told with
        pixel = f"{size.y:g} µm" if size.y == size.x else f"{size.y:g} x {size.x:g} µm"
        entered = [f"pixel size as entered: {pixel}"] if self.entered else []
        if "y" in self.borrowed:
            z = f", slices {size.z:g} µm apart" if is_3d and size.z is not None else ""
            return f"pixel size {FROM_PROJECT}: {pixel}{z}"
        if "z" in self.borrowed and is_3d:
            entered.append(f"distance of slices {FROM_PROJECT}: {size.z:g} µm")
        return "; ".join(entered)


def reading(images: Sequence[Image], path: Path, pixel_size: float | None = None) -> Reading:
    """How to read a file beside the `images` of a project. A `pixel_size` in micrometres stands in place of what the
    file tells. Raises `ImageError` for a file that cannot be used, or whose axes neither it nor the project tells."""
    info = image_files.inspect(path)
    axes, entered = _axes(images, path.name, info), pixel_size is not None
    if entered:
        info = replace(info, voxel_size=replace(info.voxel_size, y=pixel_size, x=pixel_size))
    size = _voxel_size(images, info)
    own = info.voxel_size
    borrowed = "".join(axis for axis in "zyx" if getattr(own, axis) is None and getattr(size, axis) is not None)
    return Reading(axes, size, borrowed, entered)


def _axes(images: Sequence[Image], name: str, info: ImageInfo) -> str | None:
    """None for the file's own axes, if the model can work on the file so. Else those that a person confirmed for an
    image of the project with as many dimensions: files that do not tell, and such as call slices a time series, are
    read as they were."""
    told = info.axes_source != "assumed"
    if told and _fits(images[0], info, None):
        return None
    confirmed = [each.axes for each in images if each.axes_source == "confirmed" and len(each.axes) == len(info.axes)]
    fitting = [axes for axes in confirmed if _fits(images[0], info, axes)]
    if fitting or told:
        return fitting[0] if fitting else None  # reading it tells what is wrong
    if confirmed:
        return confirmed[0]
    raise ImageError(
        f"{name} does not say what its {len(info.axes)} dimensions are, and no image of the project tells either. "
        "Save it from Fiji, or as OME-TIFF, with its slices or channels."
    )


def _fits(like: Image, info: ImageInfo, axes: str | None) -> bool:
    """Whether a file, read with its own axes or others, is of the kind of an image of the project."""
    try:
        return image_files.is_3d(info, axes) == like.is_3d and image_files.channels(info, axes) == like.shape[3]
    except InputError:
        return False


def _voxel_size(images: Sequence[Image], info: ImageInfo) -> VoxelSize:
    """That of the file, or, where it does not tell, that of the project's images if they agree. Files whose only sizes
    are the resolution tags of TIFF have no place for z: theirs comes from the project if its y and x are theirs."""
    size, known = info.voxel_size, {image.voxel_size for image in images}
    if not size.known:
        return known.pop() if len(known) == 1 else size
    steps = {each.z for each in known}
    if size.z is None and images[0].is_3d and len(steps) == 1 and all(_alike(each, size) for each in known):
        return replace(size, z=steps.pop())
    return size


def _alike(one: VoxelSize, other: VoxelSize) -> bool:
    """Whether y and x are the same, but for what a table of sizes and the fractions of TIFF tags round."""
    sides = ((one.y, other.y), (one.x, other.x))
    return one.known and all(math.isclose(a, b, rel_tol=_ROUNDING) for a, b in sides)


def check_fits(like: Image, source: LazyImage) -> None:
    """Raises `ImageError` for an image that a model that learned from images `like` this one cannot work on."""
    name, channels, known = source.path.name, source.shape[3], like.shape[3]
    if source.is_3d != like.is_3d:
        here, there = ("a stack", "single images") if source.is_3d else ("a single image", "stacks")
        raise ImageError(f"{name} is {here}, but the model was trained on {there}.")
    if channels != known:
        raise ImageError(f"{name} has {channels} channels, but the model was trained on images with {known}.")
