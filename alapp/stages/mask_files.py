"""Masks that were drawn elsewhere, read for an image whose size is known.

A file that only tells objects from background is taken apart into its pieces: compared with instances as it is, it
would be one large object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from alapp.domain import ImageInfo
from alapp.errors import ImageError, InputError
from alapp.stages import images as image_files
from alapp.stages.label_ids import instance_map

SUFFIXES = tuple(suffix for suffix in image_files.SUFFIXES if suffix not in (".jpg", ".jpeg"))
"""Endings of the files that can hold masks, beside OME-Zarr. JPEG changes the numbers that it stores."""

_EXACT = 2**24
"""Up to here float32, as which real numbers are read, holds every whole number."""


@dataclass(frozen=True)
class Masks:
    """`labels` int32 (Y, X), or (Z, Y, X) for a stack, 0 is background. `remark`: a sentence about how the file was
    taken, "" where nothing is to be said."""

    labels: np.ndarray
    remark: str = ""


def read(path: Path, size: Sequence[int], is_3d: bool, axes: str = "") -> Masks:
    """The masks in a file, for an image of `size` (Z, Y, X) voxels whose own axes are `axes`, e.g. "ZCYX".

    Raises `ImageError` as `images.read`, and for a JPEG or a file of another size or with channels; `InputError` for
    fractions or negative numbers. All name the file.
    """
    name = image_files.title(path)
    if path.suffix.lower() in image_files.SUFFIXES and path.suffix.lower() not in SUFFIXES:
        raise ImageError(f"{name} is a JPEG, which changes the numbers of objects. Save the masks as TIFF or PNG.")
    order = _order(name, image_files.inspect(path), dict(zip("ZYX", size, strict=True)), axes)
    pixels = image_files.read(path, order)[..., 0]
    labels = instance_map(_whole_numbers(pixels, name), name)
    if not labels.any():
        return Masks(labels if is_3d else labels[0], f"{name} has no objects: all of it is 0.")
    labels, remark = _taken_apart(labels, name)
    return Masks(labels if is_3d else labels[0], remark)


def _order(name: str, info: ImageInfo, size: dict[str, int], axes: str) -> str:
    """The axes with which the file has the size of the image: in the order of the image's own, which a person may have
    confirmed, in the usual one, or as the file tells. Programs call the slices of masks channels or time points."""
    n = len(info.shape)
    for order in (axes.replace("C", ""), "ZYX"[-n:], info.axes):
        fits = len(order) == len(set(order)) == n and {"Y", "X"} <= set(order) <= {*"ZYX"}
        if fits and tuple(size[axis] for axis in order) == info.shape and (size["Z"] == 1 or "Z" in order):
            return order
    if "C" in info.axes:
        channels = info.shape[info.axes.index("C")]
        raise ImageError(
            f"{name} has {channels} channels, as a colour picture has. Masks need one number per pixel: save the label "
            "image itself."
        )
    wanted = [side for side in size.values() if side > 1]
    raise ImageError(
        f"{name} is {_sizes(info.shape)} pixels, but its image is {_sizes(wanted)}. Masks must have the size of the "
        "whole image."
    )


def _whole_numbers(pixels: np.ndarray, name: str) -> np.ndarray:
    """`pixels` as integers. Some programs save labels as real numbers; those must be whole ones."""
    if pixels.dtype.kind != "f":
        return pixels
    fractions = pixels != np.floor(pixels)
    if fractions.any():
        raise InputError(
            f"{name} holds fractions, such as {pixels[fractions][0]:.3g}. Masks need a whole number per pixel, 0 for "
            "background; if these are probabilities, make objects of them first."
        )
    if np.abs(pixels).max(initial=0) > _EXACT:
        raise InputError(
            f"{name} holds numbers above {_EXACT:,} as real numbers, which are not exact. Save it as integers."
        )
    return pixels.astype(np.int64)


def _taken_apart(labels: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Labels (Z, Y, X) of a single number as one object for each piece, and what is to be said of that. Pieces that
    meet at a corner are one."""
    foreground = labels > 0
    number = labels.max()
    if (labels[foreground] != number).any():
        return labels, ""
    pieces, count = ndimage.label(foreground, structure=np.ones((3, 3, 3)), output=np.int32)
    if count == 1:
        return labels, ""
    return pieces, (
        f"{name} only tells objects from background, so each of its {count:,} separate pieces counts as one object. "
        "Objects that touch count as one together: if there are such, save a label image with a number for each object."
    )


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(str(side) for side in shape)
