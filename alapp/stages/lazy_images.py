"""Image files read part by part, in canonical order, so that an image larger than memory can be segmented.

Uncompressed TIFF files are mapped into memory; of others only the tiles or strips that a part needs are unpacked, and
of OME-Zarr folders only the chunks.
PNG, JPEG, and TIFF files with a palette or a transparency channel can only be read whole.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import tifffile

from alapp.domain import ImageInfo
from alapp.errors import ImageError
from alapp.stages import image_formats, images
from alapp.stages.zarr_images import ZarrImage

MOST_BYTES_AT_ONCE = image_formats.MOST_BYTES_AT_ONCE
_KEPT_BYTES = 128 * 2**20


class _Part(Protocol):
    """Reads parts of a file, in the file's axes, which are called as the user confirmed them."""

    def read(self, axes: str, wanted: dict[str, slice]) -> np.ndarray: ...

    def close(self) -> None: ...


class LazyImage:
    """An image file as an array (Z, Y, X, C) that is read when it is sliced; see `ImageSource`.

    `source[z, y, x]` with slices gives (z, y, x, C) of the dtype that `images.read` gives, and raises `ImageError`
    naming the file for values that are no numbers. `info` says what the file told, `is_3d` whether it has slices.
    Close it, or use it as a context manager.
    """

    def __init__(self, path: Path, info: ImageInfo, axes: str, part: _Part):
        self.path, self.info, self.is_3d = path, info, images.is_3d(info, axes)
        self._axes, self._part = axes, part
        sizes = dict(zip(axes, info.shape, strict=True))
        self.shape: tuple[int, ...] = tuple(sizes.get(axis, 1) for axis in "ZYXC")

    def __getitem__(self, where: tuple[slice, slice, slice]) -> np.ndarray:
        wanted = dict(zip("ZYX", where, strict=True))
        pixels = images.decoded(self.path, lambda _: self._part.read(self._axes, wanted))
        order = [self._axes.index(axis) for axis in "ZYXC" if axis in self._axes]
        pixels = np.expand_dims(pixels.transpose(order), [i for i, axis in enumerate("ZYXC") if axis not in self._axes])
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
            pixels = np.ascontiguousarray(pixels, dtype=images.memory_dtype(pixels.dtype))
        images.check_finite(self.path, pixels)
        return pixels

    def close(self) -> None:
        """Release the file."""
        self._part.close()

    def __enter__(self) -> LazyImage:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_lazily(path: Path | str, axes: str | None = None) -> LazyImage:
    """Open an image file without reading its pixels; `axes` as in `images.read`.

    Raises `ImageError` and `InputError` as `images.read` does, and when the file can only be read whole and is too
    large for that.
    """
    path = Path(path)
    info = images.inspect(path)
    order = images.order_of(path.name, info, axes)
    if path.is_dir():
        part = _Chunks(path, info.axes)
    elif path.suffix.lower() in (".tif", ".tiff"):
        part = images.decoded(path, lambda _: _tiff_part(path, order))
    else:
        part = None
    if part is None:
        size = int(np.prod(info.shape, dtype=np.int64)) * np.dtype(info.dtype).itemsize
        _check_size(path, size, "this kind of file can only be read whole")
        part = _Whole(path)
    return LazyImage(path, info, order, part)


class _Whole:
    """A file that is read in one piece, at the first use."""

    def __init__(self, path: Path):
        self._path, self._pixels = path, None

    def read(self, axes: str, wanted: dict[str, slice]) -> np.ndarray:
        if self._pixels is None:
            self._pixels = images.whole(self._path)
        return self._pixels[tuple(wanted.get(axis, slice(None)) for axis in axes)]

    def close(self) -> None:
        self._pixels = None


class _Chunks:
    """An OME-Zarr folder. `axes` are its own, in the order of those that the user confirmed."""

    def __init__(self, path: Path, axes: str):
        self._image, self._axes = ZarrImage(path), axes

    def read(self, axes: str, wanted: dict[str, slice]) -> np.ndarray:
        return self._image.pixels(
            {own: wanted[axis] for own, axis in zip(self._axes, axes, strict=True) if axis in wanted}
        )

    def close(self) -> None:
        self._image = ZarrImage(self._image.path)


class _Mapped:
    """An uncompressed TIFF file whose pixels lie in one run."""

    def __init__(self, pixels: np.ndarray, inverted: bool):
        self._pixels, self._inverted = pixels, inverted

    def read(self, axes: str, wanted: dict[str, slice]) -> np.ndarray:
        pixels = np.array(self._pixels[tuple(wanted.get(axis, slice(None)) for axis in axes)])
        return ~pixels if self._inverted else pixels

    def close(self) -> None:
        self._pixels = np.zeros(0)


class _Segments:
    """A TIFF file in compressed or scattered strips or tiles.

    `shape` belongs to the axes of the layout, of which the last ones are those of a page.
    """

    def __init__(self, tif: tifffile.TiffFile, shape: tuple[int, ...], inverted: bool):
        self._tif, self._shape, self._inverted = tif, shape, inverted
        self._series = tif.series[0]
        self._page = self._series.keyframe
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._kept_bytes = 0

    def read(self, axes: str, wanted: dict[str, slice]) -> np.ndarray:
        ranges = [
            range(*wanted[axis].indices(n)) if axis in wanted else range(n)
            for axis, n in zip(axes, self._shape, strict=True)
        ]
        leading = len(axes) - (3 if self._samples_last else 2)
        out = np.empty([len(r) for r in ranges], self._page.dtype)
        y, x = ranges[leading], ranges[leading + 1]
        for place in product(*(range(len(r)) for r in ranges[:leading])):
            number = 0
            for size, r, i in zip(self._shape, ranges, place, strict=False):
                number = number * size + r[i]
            plane = self._plane(number, y, x)
            out[place] = plane if self._samples_last else plane[..., 0]
        return ~out if self._inverted else out

    @property
    def _samples_last(self) -> bool:
        return self._page.samplesperpixel > 1

    def _plane(self, number: int, y: range, x: range) -> np.ndarray:
        """A part (Y, X, samples) of a page."""
        page = self._series.pages[number]
        height, width = self._page.chunks[:2]
        across = -(-self._page.imagewidth // width)
        out = np.empty((len(y), len(x), self._page.samplesperpixel), self._page.dtype)
        for row in range(y.start // height, -(-y.stop // height)):
            for column in range(x.start // width, -(-x.stop // width)):
                tile = self._segment(page, number, row * across + column)
                top, left = row * height, column * width
                y0, y1 = max(y.start, top), min(y.stop, top + tile.shape[0])
                x0, x1 = max(x.start, left), min(x.stop, left + tile.shape[1])
                part = tile[y0 - top : y1 - top, x0 - left : x1 - left]
                out[y0 - y.start : y1 - y.start, x0 - x.start : x1 - x.start] = part
        return out

    def _segment(self, page: Any, number: int, index: int) -> np.ndarray:
        """An unpacked strip or tile (Y, X, samples); the last ones are kept, because the next part needs them too."""
        key = (number, index)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        data, _ = next(
            iter(self._tif.filehandle.read_segments([page.dataoffsets[index]], [page.databytecounts[index]]))
        )
        decoded, _, _ = self._page.decode(data, index, jpegtables=self._page.jpegtables)
        if decoded is None:  # a tile that was left out holds the file's default
            side = (*self._page.chunks[:2], self._page.samplesperpixel)
            decoded = np.full((1, *side), self._page.nodata, self._page.dtype)
        tile = decoded[0]
        self._kept[key] = tile
        self._kept_bytes += tile.nbytes
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return tile

    def close(self) -> None:
        self._kept.clear()
        self._tif.close()


def _tiff_part(path: Path, axes: str) -> _Mapped | _Segments | None:
    """A reader of parts of a TIFF file, or None when it has to be read whole."""
    tif = tifffile.TiffFile(path)
    part = None
    try:
        layout = image_formats.tiff_layout(tif, path)
        if layout is None:
            return None
        series, page = tif.series[0], tif.series[0].keyframe
        inverted = image_formats.is_inverted(tif)
        if series.dataoffset is not None:
            pixels = np.memmap(path, series.dtype.newbyteorder(tif.byteorder), "r", series.dataoffset, layout.shape)
            return _Mapped(pixels, inverted)
        by_pages = layout.shape[-page.ndim :] == page.shape and axes[-page.ndim :] in ("YX", "YXC")
        if not by_pages or page.imagedepth > 1 or (page.samplesperpixel > 1 and page.planarconfig != 1):
            return None
        size = int(np.prod(page.chunks, dtype=np.int64)) * page.dtype.itemsize
        _check_size(path, size, "it is compressed in one piece")
        part = _Segments(tif, layout.shape, inverted)
        return part
    finally:
        if part is None:
            tif.close()


def _check_size(path: Path, n_bytes: int, why: str) -> None:
    if n_bytes > MOST_BYTES_AT_ONCE:
        raise ImageError(
            f"{path.name} would need {n_bytes / 1e9:.1f} GB of memory at once, because {why}. Save it as a TIFF in "
            "tiles (or without compression), which can be read part by part."
        )
