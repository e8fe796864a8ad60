"""Image files in: find them, look at them without reading pixels, read them in canonical order.

TIFF (multi-page, ImageJ hyperstack, OME-TIFF), PNG, JPEG, and OME-Zarr, which is a folder. A file's axes are "YX" with
any of "Z" (slices), "C" (channels, colours) and "T" (time); axes that the file does not state are marked "assumed" in
`ImageInfo.axes_source` and have to be confirmed. In `ImageInfo`, a palette is already three colours, a transparency
channel is gone and axes of length 1 are left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from alapp.domain import ImageInfo
from alapp.errors import ImageError, InputError, ResourceError
from alapp.stages import image_formats
from alapp.stages.display import thumbnail, to_display
from alapp.stages.image_paths import SUFFIXES, discover, printable, stem, title, unsupported
from alapp.stages.zarr_images import ZarrImage, is_zarr

__all__ = [
    "MIN_SIDE",
    "SUFFIXES",
    "channels",
    "check_finite",
    "decoded",
    "discover",
    "inspect",
    "is_3d",
    "memory_dtype",
    "order_of",
    "pixel_warnings",
    "printable",
    "read",
    "stem",
    "thumbnail",
    "title",
    "to_display",
    "whole",
]

MIN_SIDE = 16
"""Pixels in y and x below which an image is refused: nothing can be segmented there."""

_TIFF = (".tif", ".tiff")
_CANONICAL = "ZYXC"

T = TypeVar("T")


def inspect(path: Path | str) -> ImageInfo:
    """What an image file says about itself, without reading its pixels.

    Raises `ImageError` naming the file when it is missing, unreadable, damaged, of another type, empty, complex,
    or smaller than `MIN_SIDE`. A time series passes, with a warning: `read` refuses it unless it is given other axes.
    """
    path = Path(path)
    _check_file(path)
    info = decoded(path, _format(path).info)
    if 0 in info.shape:
        raise ImageError(f"{path.name} has no pixels: its size is {_sizes(info.shape)}.")
    if np.dtype(info.dtype).kind not in "buif":
        raise ImageError(f"{path.name} holds {info.dtype} numbers. Save it as integers or real numbers.")
    _check_side(path, info.axes, info.shape)
    return info


def read(path: Path | str, axes: str | None = None) -> np.ndarray:
    """The pixels of an image file, (Z, Y, X, C), C-contiguous; Z = 1 for 2D and C = 1 without channels.

    The dtype is the file's, except: bool becomes uint8 (0, 1), float16 and float64 become float32. `axes`, of the
    letters Z, Y, X, C, replaces the file's own for the dimensions in `inspect(path).shape`.

    Raises `ImageError` as `inspect`, and for a time series, NaN or infinite pixels, and damaged pixel data;
    `InputError` for axes that do not fit; `ResourceError` when memory is short.
    """
    path = Path(path)
    info = inspect(path)
    order = order_of(path.name, info, axes)
    pixels = decoded(path, whole)
    if pixels.shape != info.shape:
        raise ImageError(f"{path.name} is damaged: it announces {_sizes(info.shape)} but holds {_sizes(pixels.shape)}.")
    present = [axis for axis in _CANONICAL if axis in order]
    pixels = pixels.transpose([order.index(axis) for axis in present])
    pixels = np.expand_dims(pixels, [i for i, axis in enumerate(_CANONICAL) if axis not in order])
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused below
        pixels = np.ascontiguousarray(pixels, dtype=memory_dtype(pixels.dtype))
    check_finite(path, pixels)
    return pixels


def whole(path: Path) -> np.ndarray:
    """All pixels of a file in the axes and shape of `inspect(path)`; raises whatever its decoder raises."""
    return _format(path).pixels(path)


def is_3d(info: ImageInfo, axes: str | None = None) -> bool:
    """Whether the image has more than one slice, with its own axes or the confirmed ones.

    Raises `InputError` for axes that do not fit, or for a time series whose frames were not declared slices.
    """
    order = order_of("This image", info, axes)
    return "Z" in order and info.shape[order.index("Z")] > 1


def channels(info: ImageInfo, axes: str | None = None) -> int:
    """How many channels `read` gives."""
    order = axes or info.axes
    return info.shape[order.index("C")] if "C" in order else 1


def pixel_warnings(image: np.ndarray) -> tuple[str, ...]:
    """What the user should know about pixels that were read, as sentences. `image` (..., Y, X, C)."""
    if image.min() == image.max():
        return (f"All its pixels have the same value, {image.flat[0]}.",)
    if image.shape[-1] == 3 and all(np.array_equal(image[..., 0], image[..., c]) for c in (1, 2)):
        return ("Its three colours are equal: it is a gray image saved as RGB.",)
    return ()


def order_of(name: str, info: ImageInfo, axes: str | None) -> str:
    """The axes to read with: the confirmed ones, else the file's. Raises as `read`."""
    order = info.axes if axes is None else axes.strip().upper()
    n = len(info.shape)
    if len(order) != n or len(set(order)) != n or not {"Y", "X"} <= set(order) <= {*_CANONICAL, "T"}:
        raise InputError(
            f"{name}: axes {axes!r} do not fit its {n} dimensions ({_sizes(info.shape)}). Give {n} different letters "
            "in the file's order: Y and X, and Z for slices or C for channels."
        )
    if "T" in order:  # also of given axes: the page hands on those of the file
        frames = info.shape[order.index("T")]
        other = f", or give its axes as {order.replace('T', 'Z')} if they are slices" * ("Z" not in order)
        raise ImageError(f"{name} is a time series of {frames} frames. Save each frame as a file{other}.")
    _check_side(Path(name), order, info.shape)
    return order


@dataclass(frozen=True)
class _Format:
    """How a kind of file is read. `name` completes "it is not ..."."""

    name: str
    info: Callable[[Path], ImageInfo]
    pixels: Callable[[Path], np.ndarray]


_FORMATS = {
    "tiff": _Format("a TIFF file", image_formats.tiff_info, image_formats.tiff_pixels),
    "picture": _Format("a PNG or JPEG file", image_formats.picture_info, image_formats.picture_pixels),
    "zarr": _Format("an OME-Zarr", lambda path: ZarrImage(path).looked_through, lambda path: ZarrImage(path).pixels()),
}


def _format(path: Path) -> _Format:
    return _FORMATS["zarr" if path.is_dir() else "tiff" if _is_tiff(path) else "picture"]


def _check_file(path: Path) -> None:
    if path.is_dir():
        if not is_zarr(path):
            raise ImageError(f"{path.name} is a folder, but no OME-Zarr. Give the files in it.")
        return
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(unsupported(path))
    try:
        with open(path, "rb") as handle:
            size = os.fstat(handle.fileno()).st_size
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {path}.") from error
    except OSError as error:
        raise ImageError(f"{path.name} cannot be opened ({error.strerror}). Check its permissions.") from error
    if size == 0:
        raise ImageError(f"{path.name} is empty (0 bytes).")


def decoded(path: Path, reader: Callable[[Path], T]) -> T:
    """`reader(path)`, with a sentence in place of the many kinds of error that decoders raise on damaged files."""
    try:
        return reader(path)
    except ImageError:
        raise
    except MemoryError as error:
        raise ResourceError(f"{path.name} does not fit into memory: crop it or close other programs.") from error
    except Exception as error:
        raise ImageError(
            f"{path.name} cannot be read: it is damaged or not {_format(path).name} ({error}). Open it in another "
            "program and save it again."
        ) from error


def _check_side(path: Path, axes: str, shape: tuple[int, ...]) -> None:
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"{path.name} is {height} x {width} pixels, but at least {MIN_SIDE} are needed on each side.")


def check_finite(path: Path, pixels: np.ndarray) -> None:
    """Raises `ImageError` naming the file when pixels (Z, Y, X, C) are NaN or infinite."""
    if pixels.dtype.kind != "f":
        return
    bad = sum(int(plane.size - np.count_nonzero(np.isfinite(plane))) for plane in pixels)
    if bad:
        raise ImageError(
            f"{path.name} has {bad} pixels that are no numbers or infinite. Replace them and save it again."
        )


def memory_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in memory of pixels that a file holds as `dtype`; see `read`."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f":
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in _TIFF


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
