"""One image file, as its format stores it: layout and voxel size without pixels, and the pixels.

`images.py` is the door to this module: it names the file in errors and brings pixels into canonical order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from alapp.domain import ImageInfo, VoxelSize
from alapp.errors import ImageError

AXES = "TZCYX"
"""Time, z, channel, y, x: the axes an image file can have here."""

ASSUMED = "assumed"

COARSEST_PIXEL = 20.0
"""Micrometres per pixel. Coarser TIFF resolution tags (below 1270 dpi) are for printing: 72 dpi is 353."""

MOST_BYTES_AT_ONCE = 2 * 2**30
"""Larger images, or tiles, are not unpacked in one piece."""

_PRINT_UNITS = ("inch", "cm")
"""What ImageJ calls the two units of TIFF resolution tags (ij.io.TiffDecoder)."""

_CHANNELS_LAST = 4

_MICROMETRES = {
    "pm": 1e-6,
    "picometer": 1e-6,
    "Å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "in": 25_400.0,
    "inch": 25_400.0,
}


@dataclass(frozen=True)
class _Layout:
    """Axes and shape of a TIFF series without axes of length 1, colour samples called C, before colours change."""

    axes: str
    shape: tuple[int, ...]
    source: str
    warnings: tuple[str, ...]


def tiff_info(path: Path) -> ImageInfo:
    """Layout of the first image in a TIFF file, from its tags alone.

    Raises `ImageError` for what cannot be used, and whatever tifffile raises for a damaged file.
    """
    with tifffile.TiffFile(path) as tif:
        _check_complete(tif, path)
        layout = _layout(tif, path)
        page = tif.pages.first
        axes, shape, warnings = layout.axes, layout.shape, list(layout.warnings)
        dtype = tif.series[0].dtype
        if _alpha(page, layout) is not None:
            warnings.append("Its transparency (alpha) channel is left out.")
            axes, shape = _without_alpha(page, layout)
        elif _is_palette(tif):
            axes, shape, dtype = axes + "C", (*shape, 3), np.dtype(np.uint8)
        return ImageInfo(axes, shape, str(dtype), _voxel_size(tif, axes), layout.source, tuple(warnings))


def tiff_pixels(path: Path) -> np.ndarray:
    """Pixels of the first image in a TIFF file, in the axes and shape of `tiff_info`."""
    with tifffile.TiffFile(path) as tif:
        layout = _layout(tif, path)
        page = tif.pages.first
        series = tif.series[0]
        if any(part is None for part in series.pages):
            raise ImageError(f"{path.name} lacks some of the slices or channels that it announces: save it again.")
        pixels = series.asarray().reshape(layout.shape)
        alpha = _alpha(page, layout)
        if alpha is not None:
            kept, shape = _without_alpha(page, layout)
            colours = np.delete(pixels, alpha, axis=layout.axes.index("C"))
            return colours if "C" in kept else colours.reshape(shape)
        if _is_palette(tif):
            return np.moveaxis(_colours(page).take(pixels, axis=1), 0, -1)  # pixels of 1 bit are no indices
        return ~pixels if is_inverted(tif) else pixels


def is_inverted(tif: tifffile.TiffFile) -> bool:
    """Whether white is 0 in the pixels of a TIFF file. ImageJ says so of an inverting lookup table, too, which changes
    how it shows the pixels and not what they mean (`TiffEncoder` and `FileOpener` of ImageJ); and tifffile of every
    array of 1 bit that is saved by it, whose pixels it leaves as they are."""
    page = tif.series[0].keyframe
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE or tif.is_imagej:
        return False
    return page.dtype.kind == "u" or (page.dtype.kind == "b" and page.software != "tifffile.py")


def tiff_layout(tif: tifffile.TiffFile, path: Path) -> _Layout | None:
    """Axes and shape of an open TIFF file whose pixels are used as they are stored; None where colours change (a
    palette, a transparency channel) or pages are missing."""
    layout = _layout(tif, path)
    incomplete = tif.series[0].dataoffset is None and any(page is None for page in tif.series[0].pages)
    changed = _alpha(tif.pages.first, layout) is not None or _is_palette(tif)
    return None if incomplete or changed else layout


def picture_info(path: Path) -> ImageInfo:
    """Layout of a PNG or JPEG file, from its header. Its print resolution is not a voxel size. Raises `ImageError` for
    one that is too large to be read, because that can only be done whole."""
    with _picture(path) as picture:
        colour, dtype = _picture_type(picture, path)
        warnings = ("Its transparency (alpha) channel is left out.",) if _picture_has_alpha(picture) else ()
        shape = (picture.height, picture.width, *((3,) if colour else ()))
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        if n_bytes > MOST_BYTES_AT_ONCE:
            raise ImageError(
                f"{path.name} is too large: it would need {n_bytes / 1e9:.1f} GB of memory at once, because this kind "
                "of file can only be read whole. Crop it, or save it as a tiled TIFF."
            )
        return ImageInfo("YXC" if colour else "YX", shape, dtype, VoxelSize(), "file format", warnings)


def picture_pixels(path: Path) -> np.ndarray:
    """Pixels of a PNG or JPEG file, (Y, X) or (Y, X, 3); a palette is replaced by its colours, alpha dropped."""
    with _picture(path) as picture:
        colour, dtype = _picture_type(picture, path)
        if dtype == "uint16":  # PIL cuts 16-bit colours to 8 bits
            pixels = imagecodecs.png_decode(path.read_bytes())
            if colour:
                return pixels[..., :3]
            return pixels[..., 0] if pixels.ndim == 3 else pixels
        if dtype == "bool":
            return np.asarray(picture)
        return np.asarray(picture.convert("RGB" if colour else "L"))


def _picture(path: Path) -> Image.Image:
    """A PNG or JPEG file, opened. Not by `Image.open`, which refuses more than 179 million pixels; that limit is one
    for the whole process, and others have to keep it."""
    with open(path, "rb") as handle:
        is_png = handle.read(4) == b"\x89PNG"
    return PngImageFile(path) if is_png else JpegImageFile(path)


def _picture_type(picture: Image.Image, path: Path) -> tuple[bool, str]:
    """Whether a PNG or JPEG is in colour, and its dtype."""
    colour = picture.mode not in ("1", "L", "LA", "La", "I", "I;16", "F")
    if picture.format == "PNG":
        with open(path, "rb") as handle:
            bits_per_channel, colour_type = handle.read(26)[24:]  # of the IHDR chunk, which is always the first
        if bits_per_channel == 16:  # PIL opens some of these as another mode
            return colour_type in (2, 6), "uint16"
    return colour, "bool" if picture.mode == "1" else "uint8"


def _picture_has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info


def _check_complete(tif: tifffile.TiffFile, path: Path) -> None:
    """tifffile reads a file that was cut off as one with fewer pages; its last page then points past the end."""
    position = tif.pages.next_page_offset
    handle = tif.filehandle
    if position is not None:
        handle.seek(position)
        following = handle.read(tif.tiff.offsetsize)
        if len(following) == tif.tiff.offsetsize and not any(following):
            return
    raise ImageError(f"{path.name} is cut off or damaged: its last pages are missing. Copy or save it again.")


def _layout(tif: tifffile.TiffFile, path: Path) -> _Layout:
    if not tif.series:
        raise ImageError(f"{path.name} holds no image.")
    series = tif.series[0]
    if series.is_multifile:
        raise ImageError(f"{path.name} is one of several files of one image: save the image as a single OME-TIFF file.")
    pairs = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if n != 1 or axis in "YX"]
    axes = "".join(axis for axis, _ in pairs)
    shape = tuple(n for _, n in pairs)
    if "C" in axes and "S" in axes:
        raise ImageError(f"{path.name} has channels that are colour pictures: save it with plain channels.")
    axes, source = _named(axes.replace("S", "C"), shape, tif)
    if len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes) <= set(AXES):
        raise ImageError(f"{path.name} has {len(axes)} dimensions {shape}, more than z, y, x and channels.")
    warnings = []
    if len(tif.series) > 1:
        warnings.append(f"It holds {len(tif.series)} images; only the first is used.")
    if "T" in axes:
        warnings.append(f"It is a time series of {shape[axes.index('T')]} frames.")
    return _Layout(axes, shape, source, tuple(warnings))


def _named(axes: str, shape: tuple[int, ...], tif: tifffile.TiffFile) -> tuple[str, str]:
    """Axes with every letter known, and where they come from. Unknown ones are z first, then channels, then time.

    The order is ImageJ's (TZC, slowest first). A last axis of at most four behind two long ones is channels:
    a (Y, X, C) array saved as if its rows were pages.
    """
    unknown = [i for i, axis in enumerate(axes) if axis not in AXES]
    if not unknown:
        if tif.is_ome:
            return axes, "OME metadata"
        if tif.is_imagej:
            return axes, "ImageJ metadata"
        return axes, "file format" if len(tif.pages) == 1 else "TIFF metadata"
    if len(axes) in (3, 4) and shape[-1] <= _CHANNELS_LAST < min(shape[-3:-1]) and "C" not in axes:
        return "ZYXC"[-len(axes) :], ASSUMED
    new = [axis for axis in "ZCT" if axis not in axes][: len(unknown)]
    names = iter(sorted(new, key=AXES.index))
    return "".join(next(names, axis) if i in unknown else axis for i, axis in enumerate(axes)), ASSUMED


def _alpha(page: tifffile.TiffPage, layout: _Layout) -> int | None:
    """Index of the transparency channel among C, or None."""
    kinds = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
    if "C" not in layout.axes or layout.shape[layout.axes.index("C")] != page.samplesperpixel:
        return None
    first = page.samplesperpixel - len(page.extrasamples)
    return next((first + i for i, kind in enumerate(page.extrasamples) if kind in kinds), None)


def _without_alpha(page: tifffile.TiffPage, layout: _Layout) -> tuple[str, tuple[int, ...]]:
    """Axes and shape that are left: gray with alpha becomes plain gray, without C."""
    left = page.samplesperpixel - 1
    pairs = [(a, left if a == "C" else n) for a, n in zip(layout.axes, layout.shape, strict=True)]
    pairs = [(a, n) for a, n in pairs if a != "C" or n > 1]
    return "".join(a for a, _ in pairs), tuple(n for _, n in pairs)


def _is_palette(tif: tifffile.TiffFile) -> bool:
    """ImageJ stores its lookup tables as palettes, but there the index is the measured intensity."""
    page = tif.pages.first
    return page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None and not tif.is_imagej


def _colours(page: tifffile.TiffPage) -> np.ndarray:
    """The colour table of a palette, uint8 (3, colours). Its values have 16 bits, but some programs write 8-bit ones,
    which would all be black (libtiff tells them by the same rule)."""
    table = page.colormap
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8)


def _voxel_size(tif: tifffile.TiffFile, axes: str) -> VoxelSize:
    if tif.is_ome:
        z, y, x = _ome_sizes(tif.ome_metadata or "")
    elif tif.is_imagej:
        z, y, x = _imagej_sizes(tif.imagej_metadata or {}, tif.pages.first)
    else:
        z, y, x = _tag_sizes(tif.pages.first)
    # frames may be slices in truth (the user can say so), hence T
    return VoxelSize(z if set("ZT") & set(axes) else None, y, x)


def _ome_sizes(xml: str) -> tuple[float | None, ...]:
    """PhysicalSizeZ, Y, X of the first Pixels element; the unit is micrometres unless given (OME schema 2016-06)."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None, None, None
    pixels = next((element for element in root.iter() if element.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None, None, None
    names = [f"PhysicalSize{axis}" for axis in "ZYX"]
    return tuple(length_um(pixels.get(name), pixels.get(f"{name}Unit", "µm")) for name in names)


def _imagej_sizes(metadata: Mapping[str, object], page: tifffile.TiffPage) -> tuple[float | None, ...]:
    unit = str(metadata.get("unit", ""))
    y, x = (length_um(_per_pixel(page, tag), unit) for tag in ("YResolution", "XResolution"))
    # ImageJ takes the resolution tags of a file from elsewhere for its scale, and writes them so when it saves it
    if unit in _PRINT_UNITS and _is_for_printing(y, x):
        return None, None, None
    # ImageJ leaves the spacing out where it is 1 (ij.io.FileSaver), and takes it for 1 where it is missing
    return length_um(metadata.get("spacing", 1.0), unit), y, x


def _tag_sizes(page: tifffile.TiffPage) -> tuple[float | None, ...]:
    tag = page.tags.get("ResolutionUnit")
    unit = {tifffile.RESUNIT.INCH: "inch", tifffile.RESUNIT.CENTIMETER: "cm"}.get(tag.value if tag else None, "")
    sizes = [length_um(_per_pixel(page, name), unit) for name in ("YResolution", "XResolution")]
    return (None, None, None) if _is_for_printing(*sizes) else (None, *sizes)


def _is_for_printing(*sizes: float | None) -> bool:
    """Whether resolution tags, as sizes of a pixel in micrometres, tell no voxel size."""
    return any(size is None or size > COARSEST_PIXEL for size in sizes)


def _per_pixel(page: tifffile.TiffPage, name: str) -> float | None:
    """Length of a pixel in the tag's own unit."""
    tag = page.tags.get(name)
    if tag is None:
        return None
    numerator, denominator = tag.value
    return denominator / numerator if numerator else None


def length_um(value: object, unit: str) -> float | None:
    """`value` in micrometres, or None when it is no positive number or the unit is no length."""
    # ImageJ escapes the micro sign; Unicode has two of them
    unit = re.sub(r"\\u00b5", "µ", unit.strip(), flags=re.IGNORECASE).replace("μ", "µ")
    factor = _MICROMETRES.get(unit, _MICROMETRES.get(unit.lower()))
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number * factor if factor and isfinite(number) and number > 0 else None
