"""Reading image files: formats, axes, voxel sizes, and what is refused."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from alapp.domain import VoxelSize
from alapp.errors import ImageError, InputError
from alapp.stages import images


def numbers(*shape: int, dtype: str = "uint16", top: int = 60_000) -> np.ndarray:
    return np.random.default_rng(7).integers(0, top, shape).astype(dtype)


def tiff(path: Path, array: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


# formats


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "float16", "bool"]
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_single_page_tiff_keeps_values_of_every_dtype(tmp_path: Path, dtype: str, byteorder: str) -> None:
    array = (numbers(20, 30, top=120) - (60 if dtype.startswith("i") else 0)).astype(dtype)
    path = tiff(tmp_path / "a.tif", array, byteorder=byteorder)
    info, pixels = images.inspect(path), images.read(path)
    assert (info.axes, info.shape, info.dtype, info.axes_source) == ("YX", (20, 30), dtype, "file format")
    expected = {"float64": "float32", "float16": "float32", "bool": "uint8"}.get(dtype, dtype)
    assert pixels.dtype == expected
    assert pixels.dtype.isnative
    np.testing.assert_array_equal(pixels, array.astype(expected)[None, :, :, None])


def test_ome_tiff_gives_axes_and_voxel_size_in_micrometres(tmp_path: Path) -> None:
    array = numbers(2, 5, 20, 30)
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 500,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.0005,
        "PhysicalSizeYUnit": "mm",
        "PhysicalSizeZ": 2.0,
    }
    path = tiff(tmp_path / "a.ome.tif", array, metadata=metadata)
    info = images.inspect(path)
    assert (info.axes, info.shape, info.axes_source) == ("CZYX", (2, 5, 20, 30), "OME metadata")
    assert (info.voxel_size.z, info.voxel_size.y, info.voxel_size.x) == pytest.approx((2.0, 0.5, 0.5))
    assert images.is_3d(info)
    assert images.channels(info) == 2
    np.testing.assert_array_equal(images.read(path), array.transpose(1, 2, 3, 0))


def test_ome_tiff_leaves_out_axes_of_length_one(tmp_path: Path) -> None:
    array = numbers(1, 1, 1, 20, 30)
    path = tiff(tmp_path / "a.ome.tif", array, metadata={"axes": "TCZYX", "PhysicalSizeX": 0.1, "PhysicalSizeZ": 3})
    info = images.inspect(path)
    assert (info.axes, info.shape, info.voxel_size.z) == ("YX", (20, 30), None)
    np.testing.assert_array_equal(images.read(path), array.reshape(1, 20, 30, 1))


@pytest.mark.parametrize(("unit", "factor"), [("um", 1), ("micron", 1), ("\\u00B5m", 1), ("nm", 1e-3), ("mm", 1e3)])
def test_imagej_hyperstack(tmp_path: Path, unit: str, factor: float) -> None:
    array = numbers(5, 2, 20, 30)
    path = tiff(
        tmp_path / "a.tif",
        array,
        imagej=True,
        resolution=(1 / 0.25, 1 / 0.5),
        metadata={"axes": "ZCYX", "unit": unit, "spacing": 1.5},
    )
    info = images.inspect(path)
    assert (info.axes, info.shape, info.axes_source) == ("ZCYX", (5, 2, 20, 30), "ImageJ metadata")
    expected = (1.5 * factor, 0.5 * factor, 0.25 * factor)
    assert (info.voxel_size.z, info.voxel_size.y, info.voxel_size.x) == pytest.approx(expected)
    np.testing.assert_array_equal(images.read(path), array.transpose(0, 2, 3, 1))


def test_imagej_leaves_out_a_spacing_of_one(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "unit": "um"}
    path = tiff(tmp_path / "a.tif", numbers(5, 20, 30), imagej=True, resolution=(5, 5), metadata=metadata)
    size = images.inspect(path).voxel_size
    assert (size.z, size.y, size.x) == pytest.approx((1.0, 0.2, 0.2))
    flat = tiff(tmp_path / "b.tif", numbers(20, 30), imagej=True, resolution=(5, 5), metadata={"unit": "um"})
    assert images.inspect(flat).voxel_size.z is None


def test_imagej_without_a_length_unit_has_no_voxel_size(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", numbers(20, 30), imagej=True, resolution=(2, 2), metadata={"unit": "pixel"})
    assert images.inspect(path).voxel_size == VoxelSize()


@pytest.mark.parametrize(
    ("unit", "pixels_per_unit", "expected"),
    [
        ("inch", 72 * 1.01, VoxelSize()),
        ("inch", 300, VoxelSize()),
        ("cm", 118.11, VoxelSize()),
        ("inch", 50_800, VoxelSize(1.5 * 25_400, 0.5, 0.5)),
        ("cm", 20_000, VoxelSize(1.5 * 10_000, 0.5, 0.5)),
        ("mm", 20, VoxelSize(1500, 50, 50)),
        ("um", 0.02, VoxelSize(1.5, 50, 50)),
    ],
)
def test_print_resolution_that_imagej_took_over_is_no_voxel_size(
    tmp_path: Path, unit: str, pixels_per_unit: float, expected: VoxelSize
) -> None:
    metadata, resolution = {"axes": "ZYX", "unit": unit, "spacing": 1.5}, (pixels_per_unit, pixels_per_unit)
    path = tiff(tmp_path / "a.tif", numbers(5, 20, 30), imagej=True, resolution=resolution, metadata=metadata)
    size = images.inspect(path).voxel_size
    assert (size.z, size.y, size.x) == pytest.approx((expected.z, expected.y, expected.x))


def test_imagej_lookup_table_does_not_become_colours(tmp_path: Path) -> None:
    array = numbers(20, 30, dtype="uint8", top=255)
    green = np.zeros((3, 256), np.uint16)
    green[1] = np.arange(256) * 257
    path = tiff(tmp_path / "a.tif", array, photometric="palette", colormap=green, description="ImageJ=1.54f\n")
    assert images.inspect(path).axes == "YX"
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], array)


@pytest.mark.parametrize("metadata", [None, {}])
def test_plain_multipage_tiff_is_assumed_to_be_slices(tmp_path: Path, metadata: dict | None) -> None:
    array = numbers(6, 20, 30)
    path = tiff(tmp_path / "a.tif", array, metadata=metadata)
    info = images.inspect(path)
    assert (info.axes, info.axes_source) == ("ZYX", "assumed")
    np.testing.assert_array_equal(images.read(path), array[..., None])
    np.testing.assert_array_equal(images.read(path, "CYX"), array.transpose(1, 2, 0)[None])


def test_multipage_rgb(tmp_path: Path) -> None:
    array = numbers(4, 20, 30, 3, dtype="uint8", top=255)
    path = tiff(tmp_path / "a.tif", array, photometric="rgb", metadata=None)
    info = images.inspect(path)
    assert (info.axes, info.axes_source) == ("ZYXC", "assumed")
    np.testing.assert_array_equal(images.read(path), array)


def test_rows_saved_as_pages_are_recognised_as_channels_last(tmp_path: Path) -> None:
    array = numbers(40, 30, 2)
    path = tiff(tmp_path / "a.tif", array, photometric="minisblack", planarconfig=None, metadata=None)
    info = images.inspect(path)
    assert (info.axes, info.shape, info.axes_source) == ("YXC", (40, 30, 2), "assumed")
    np.testing.assert_array_equal(images.read(path)[0], array)


def test_axes_in_tifffile_metadata_are_trusted(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", numbers(6, 20, 30), metadata={"axes": "CYX"})
    info = images.inspect(path)
    assert (info.axes, info.axes_source) == ("CYX", "TIFF metadata")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_tiff(tmp_path: Path, planar: str) -> None:
    array = numbers(20, 30, 3)
    stored = array if planar == "contig" else array.transpose(2, 0, 1)
    path = tiff(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    info = images.inspect(path)
    assert info.axes_source == "file format"
    assert images.channels(info) == 3
    assert not images.is_3d(info)
    np.testing.assert_array_equal(images.read(path)[0], array)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgba_tiff_loses_alpha_with_a_warning(tmp_path: Path, planar: str) -> None:
    array = numbers(20, 30, 4, dtype="uint8", top=255)
    stored = array if planar == "contig" else array.transpose(2, 0, 1)
    path = tiff(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, extrasamples=["unassalpha"])
    info = images.inspect(path)
    assert any("alpha" in warning for warning in info.warnings)
    assert images.channels(info) == 3
    np.testing.assert_array_equal(images.read(path)[0], array[..., :3])


def test_gray_tiff_with_alpha_is_gray(tmp_path: Path) -> None:
    array = numbers(20, 30, 2)
    path = tiff(tmp_path / "a.tif", array, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    assert images.inspect(path).axes == "YX"
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], array[..., 0])


def test_palette_tiff_becomes_rgb(tmp_path: Path) -> None:
    index = numbers(20, 30, dtype="uint8", top=255)
    colours = numbers(3, 256)
    path = tiff(tmp_path / "a.tif", index, photometric="palette", colormap=colours)
    info = images.inspect(path)
    assert (info.axes, info.shape, info.dtype) == ("YXC", (20, 30, 3), "uint8")
    np.testing.assert_array_equal(images.read(path)[0], np.moveaxis((colours >> 8)[:, index], 0, -1))


def test_a_palette_of_8_bit_values_is_not_black(tmp_path: Path) -> None:
    index = numbers(20, 30, dtype="uint8", top=255)
    colours = numbers(3, 256, top=256)
    path = tiff(tmp_path / "a.tif", index, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(images.read(path)[0], np.moveaxis(colours[:, index], 0, -1))


def test_a_palette_of_two_colours(tmp_path: Path) -> None:
    array = numbers(20, 30, top=2).astype(bool)
    table = (320, "H", 6, (0, 65_535, 0, 0, 0, 65_535), True)  # black and magenta
    path = tiff(tmp_path / "a.tif", array, photometric="minisblack", metadata=None, extratags=[table])
    with tifffile.TiffFile(path, mode="r+") as tif:  # which writes no palettes of 1 bit
        tif.pages.first.tags["PhotometricInterpretation"].overwrite(tifffile.PHOTOMETRIC.PALETTE)
    assert (images.inspect(path).axes, images.inspect(path).shape) == ("YXC", (20, 30, 3))
    np.testing.assert_array_equal(images.read(path)[0], array[..., None] * np.array([255, 0, 255]))


def test_white_is_zero_tiff_is_inverted(tmp_path: Path) -> None:
    array = numbers(20, 30)
    path = tiff(tmp_path / "a.tif", array, photometric="miniswhite")
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], 65_535 - array)


@pytest.mark.parametrize("compression", [None, "packbits"])
def test_white_is_zero_tiff_of_one_bit_is_inverted(tmp_path: Path, compression: str | None) -> None:
    array = numbers(20, 30, top=2).astype(bool)
    # by the program: of its own files tifffile says so always, and does not mean it
    options = {"photometric": "miniswhite", "compression": compression, "software": "a scanner"}
    path = tiff(tmp_path / "a.tif", array, **options)
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], ~array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_an_inverting_lookup_table_of_imagej_changes_no_pixel(tmp_path: Path, dtype: str) -> None:
    array = numbers(20, 30, dtype=dtype)
    path = tiff(tmp_path / "a.tif", array, photometric="miniswhite", imagej=True)
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], array)


@pytest.mark.parametrize("compression", ["zlib", "lzw"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    array = numbers(20, 30)
    path = tiff(tmp_path / "a.TIFF", array, compression=compression)
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], array)


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 1), ("uint8", 3), ("uint16", 3)])
def test_png_keeps_its_bits(tmp_path: Path, dtype: str, channels: int) -> None:
    array = numbers(20, 30, channels, dtype=dtype)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array[..., 0].copy() if channels == 1 else array))
    info = images.inspect(path)
    assert (info.axes, info.dtype, info.axes_source) == ("YX" if channels == 1 else "YXC", dtype, "file format")
    np.testing.assert_array_equal(images.read(path)[0], array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_gray_png_with_alpha_is_gray(tmp_path: Path, dtype: str) -> None:
    array = numbers(20, 30, 2, dtype=dtype)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array))
    assert images.inspect(path).shape == (20, 30)
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], array[..., 0])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rgba_png_loses_alpha_with_a_warning(tmp_path: Path, dtype: str) -> None:
    array = numbers(20, 30, 4, dtype=dtype)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array))
    assert "alpha" in images.inspect(path).warnings[0]
    np.testing.assert_array_equal(images.read(path)[0], array[..., :3])


def test_palette_png_becomes_rgb(tmp_path: Path) -> None:
    index = numbers(20, 30, dtype="uint8", top=3)
    colours = np.array([[200, 0, 10], [0, 150, 0], [9, 8, 7]], np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(colours.tobytes())
    picture.save(tmp_path / "a.png")
    info = images.inspect(tmp_path / "a.png")
    assert (info.axes, info.shape) == ("YXC", (20, 30, 3))
    np.testing.assert_array_equal(images.read(tmp_path / "a.png")[0], colours[index])


def test_one_bit_png_becomes_zero_and_one(tmp_path: Path) -> None:
    array = numbers(20, 30, top=2).astype(bool)
    Image.fromarray(array).save(tmp_path / "a.png")
    pixels = images.read(tmp_path / "a.png")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[0, ..., 0], array)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(tmp_path: Path, mode: str) -> None:
    ramp = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (20, 1))
    array = ramp if mode == "L" else np.stack([ramp, ramp, ramp], axis=-1)
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=95, dpi=(300, 300))
    info, pixels = images.inspect(tmp_path / "a.jpg"), images.read(tmp_path / "a.jpg")
    assert (info.shape, info.voxel_size) == (array.shape, VoxelSize())
    assert np.abs(pixels[0].astype(int) - array.reshape(20, 30, -1)).max() <= 6


# voxel size from resolution tags


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((20_000, 10_000), "CENTIMETER", VoxelSize(None, 1.0, 0.5)),
        ((50_800, 50_800), "INCH", VoxelSize(None, 0.5, 0.5)),
        ((72, 72), "INCH", VoxelSize()),
        ((300, 300), "INCH", VoxelSize()),
        ((28.35, 28.35), "CENTIMETER", VoxelSize()),
        ((20_000, 20_000), "NONE", VoxelSize()),
    ],
)
def test_resolution_tags(tmp_path: Path, resolution: tuple, unit: str, expected: VoxelSize) -> None:
    path = tiff(tmp_path / "a.tif", numbers(20, 30), resolution=resolution, resolutionunit=unit)
    size = images.inspect(path).voxel_size
    assert (size.y, size.x) == pytest.approx((expected.y, expected.x))
    assert size.z is None


# axes given by the user, time series


def test_time_series_is_refused_until_its_frames_are_declared_slices(tmp_path: Path) -> None:
    array = numbers(4, 20, 30)
    path = tiff(tmp_path / "movie.tif", array, imagej=True, metadata={"axes": "TYX"})
    info = images.inspect(path)
    assert info.axes == "TYX"
    assert "4 frames" in info.warnings[0]
    with pytest.raises(ImageError, match=r"movie\.tif.*4 frames.*ZYX"):
        images.read(path)
    with pytest.raises(ImageError, match=r"movie\.tif.*4 frames.*ZYX"):
        images.read(path, "TYX")  # as the page gives it
    np.testing.assert_array_equal(images.read(path, "ZYX"), array[..., None])
    assert images.is_3d(info, "ZYX")


def test_time_series_of_stacks_is_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "movie.tif", numbers(3, 4, 20, 30), imagej=True, metadata={"axes": "TZYX"})
    for axes in (None, "TZYX"):
        with pytest.raises(ImageError, match=r"Save each frame as a file\.$"):
            images.read(path, axes)


def test_frames_that_only_the_user_calls_so_are_refused_as_a_time_series(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", numbers(20, 21, 30), metadata=None)
    with pytest.raises(ImageError, match=r"a\.tif is a time series of 20 frames.*ZYX"):
        images.read(path, "TYX")
    with pytest.raises(InputError):
        images.is_3d(images.inspect(path), "TYX")


@pytest.mark.parametrize("axes", ["YX", "ZZX", "ZCY", "TTX", "ZCYX", "ABC", ""])
def test_axes_that_do_not_fit_are_refused(tmp_path: Path, axes: str) -> None:
    path = tiff(tmp_path / "a.tif", numbers(20, 21, 30), metadata=None)
    with pytest.raises(InputError, match=r"a\.tif.*3 dimensions"):
        images.read(path, axes)
    with pytest.raises(InputError):
        images.is_3d(images.inspect(path), axes)


def test_axes_are_a_permutation(tmp_path: Path) -> None:
    array = numbers(20, 21, 22)
    path = tiff(tmp_path / "a.tif", array, metadata=None)
    np.testing.assert_array_equal(images.read(path, " xyz ")[..., 0], array.transpose(2, 1, 0))


# refused files


def test_damaged_or_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    good = tiff(tmp_path / "good.tif", numbers(20, 30)).read_bytes()
    png = tmp_path / "good.png"
    Image.fromarray(numbers(64, 64, dtype="uint8", top=255)).save(png)
    contents = {
        "text.tif": b"this is a text",
        "empty.tif": b"",
        "header.tif": good[:6],
        "text.png": b"this is a text",
        "cut.png": png.read_bytes()[:-2000],
        "tiff.png": good,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=name):
            images.read(tmp_path / name)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"compression": "zlib"}, {"ome": True}, {"imagej": True}])
def test_truncated_tiff_is_refused_not_shortened(tmp_path: Path, share: float, options: dict) -> None:
    whole = tiff(tmp_path / "whole.tif", numbers(6, 64, 64), **options).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=r"cut\.tif"):
        images.read(tmp_path / "cut.tif")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    array = np.ones((3, 20, 30), np.float32)
    array[1, 2, 3] = value
    path = tiff(tmp_path / "a.tif", array)
    images.inspect(path)
    with pytest.raises(ImageError, match=r"a\.tif has 1 pixels"):
        images.read(path)


def test_float64_beyond_float32_is_refused(tmp_path: Path) -> None:
    array = np.ones((20, 30))
    array[0, 0] = 1e300
    with pytest.raises(ImageError, match="infinite"):
        images.read(tiff(tmp_path / "a.tif", array))


def test_complex_small_and_sizeless_images_are_refused(tmp_path: Path) -> None:
    cases = {
        "complex64": tiff(tmp_path / "c.tif", np.ones((20, 30), np.complex64)),
        "15 x 30": tiff(tmp_path / "s.tif", numbers(15, 30)),
        "z.tif": tiff(tmp_path / "z.tif", np.zeros((0, 30), np.uint8)),
    }
    for message, path in cases.items():
        with pytest.raises(ImageError, match=message):
            images.inspect(path)


def test_missing_and_unsupported(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="There is no file"):
        images.inspect(tmp_path / "none.tif")
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(ImageError, match=r"a\.gif.*\.tif, \.tiff"):
        images.inspect(tmp_path / "a.gif")


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs permissions")
def test_file_without_permission(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", numbers(20, 30))
    path.chmod(0)
    with pytest.raises(ImageError, match=r"a\.tif cannot be opened.*permissions"):
        images.inspect(path)


def test_a_folder_called_like_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(ImageError, match=r"a\.tif is a folder, but no OME-Zarr"):
        images.inspect(tmp_path / "a.tif")


def test_inspect_does_not_read_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiff(tmp_path / "a.tif", numbers(6, 20, 30))

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", refuse)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", refuse)
    assert images.inspect(path).shape == (6, 20, 30)


def test_second_image_in_a_file_is_announced(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(numbers(20, 30), metadata=None)
        writer.write(numbers(40, 50), metadata=None)
    assert "2 images" in images.inspect(path).warnings[0]
    assert images.read(path).shape == (1, 20, 30, 1)


# warnings about pixels, channels of a project, names


def test_pixel_warnings() -> None:
    gray = numbers(1, 20, 30, 1)
    assert images.pixel_warnings(gray) == ()
    assert "same value, 7" in images.pixel_warnings(np.full((1, 20, 30, 1), 7))[0]
    assert "gray image saved as RGB" in images.pixel_warnings(np.repeat(gray, 3, axis=-1))[0]
    assert images.pixel_warnings(numbers(1, 20, 30, 3)) == ()


def test_stem() -> None:
    assert [images.stem(name) for name in ("a.b.tif", "x/a.ome.tif", "a.OME.TIFF", "b.png")] == ["a.b", "a", "a", "b"]


def test_bytes_of_another_encoding_are_printed_as_question_marks() -> None:
    assert images.printable("a\udcfcb é.tif") == "a?b é.tif"
    assert images.stem("x/a\udcfcb.ome.tif") == "a?b"
    assert images.title("x/a\udcfcb.zarr/A/0") == "a?b.zarr/A/0"


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_pictures_above_the_limit_of_pillow_are_read(tmp_path: Path, ending: str, monkeypatch) -> None:
    pixels = np.full((40, 50), 7, np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(images.read(tmp_path / f"a.{ending}")[0, ..., 0], pixels)


def test_pictures_that_are_too_large_to_be_read_whole_are_refused(tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 50_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png is too large: it would need 3\.0 GB .* save it as a tiled TIFF"):
        images.inspect(tmp_path / "a.png")


# discovery


def test_discover_sorts_naturally_and_skips_other_files(tmp_path: Path) -> None:
    for name in ("i10.tif", "i2.tif", "I1.PNG", "notes.txt", ".hidden.tif"):
        (tmp_path / name).touch()
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "i3.jpg").touch()
    names = [path.name for path in images.discover(f'"{tmp_path}"')]
    assert names == ["I1.PNG", "i2.tif", "i10.tif"]
    assert [path.name for path in images.discover(str(tmp_path / "i*.tif"))] == ["i2.tif", "i10.tif"]
    assert [path.name for path in images.discover(str(tmp_path / "**" / "*.jpg"))] == ["i3.jpg"]
    assert images.discover(str(tmp_path / "i2.tif")) == [tmp_path / "i2.tif"]


def test_discover_takes_brackets_in_a_file_name_literally(tmp_path: Path) -> None:
    (tmp_path / "a[1].tif").touch()
    assert images.discover(str(tmp_path / "a[1].tif")) == [tmp_path / "a[1].tif"]


def test_discover_takes_brackets_in_folders_before_the_pattern_literally(tmp_path: Path) -> None:
    folder = tmp_path / "[2024] exp"
    for name in ("a1.tif", "a2.tif", "b1.tif", "day [1]/a3.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for pattern, names in {
        "*.tif": ["a1.tif", "a2.tif", "b1.tif"],
        "[ab]1.tif": ["a1.tif", "b1.tif"],
        "**/a*.tif": ["a1.tif", "a2.tif", "a3.tif"],
        "day [1]/*.tif": ["a3.tif"],
        "d*/a3.tif": ["a3.tif"],
    }.items():
        assert [path.name for path in images.discover(str(folder / pattern))] == names


def test_discover_says_what_cannot_be_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"home folder in ~nosuchuser/a is not known"):
        images.discover("~nosuchuser/a")
    with pytest.raises(InputError, match=r"aaaa cannot be looked for \(File name too long\)"):
        images.discover(str(tmp_path / ("a" * 300)))
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a.tif").touch()
    usual = os.stat

    def stat(path: os.PathLike, **options: object) -> os.stat_result:
        if "closed" in Path(path).parent.name:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    for text in ("closed", "closed/a.tif", "closed/*.tif", ""):
        with pytest.raises(InputError, match=r"closed.* may not be looked at"):
            images.discover(str(tmp_path / text))
    (tmp_path / "b.tif").touch()
    assert images.discover(str(tmp_path)) == [tmp_path / "b.tif"]


def test_discover_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for text, message in {
        "  ": "Enter a folder",
        str(tmp_path): r"matches no image.*\.tif, \.tiff",
        str(tmp_path / "*.tif"): r"pattern .*\*\.tif matches no image",
        str(tmp_path / "none"): "There is no file or folder",
        str(tmp_path / "notes.txt"): r"notes\.txt is not an image",
    }.items():
        with pytest.raises(InputError, match=message):
            images.discover(text)


# display


def test_display_windows_sixteen_bits() -> None:
    image = np.linspace(1000, 3000, 64 * 64).reshape(64, 64, 1).astype(np.uint16)
    image[0, 0] = 65_535  # a hot pixel does not darken the rest
    shown = images.to_display(image)
    assert (shown.shape, shown.dtype) == ((64, 64, 3), np.uint8)
    assert int(shown[32, 32, 0]) == pytest.approx(128, abs=3)
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.ptp(shown, axis=-1).max() == 0


def test_display_of_rgb_two_and_five_channels() -> None:
    rgb = numbers(20, 30, 3, dtype="uint8", top=255)
    np.testing.assert_array_equal(images.to_display(rgb), rgb)
    two = np.zeros((20, 30, 2), np.uint16)
    two[:10, :, 0] = 500
    two[10:, :, 1] = 900
    shown = images.to_display(two)
    assert shown[0, 0].tolist() == [0, 255, 0]
    assert shown[15, 0].tolist() == [255, 0, 255]
    five = np.zeros((20, 30, 5), np.float32)
    five[:10, :, 2] = 0.1
    five[10:, :, 4] = 0.1
    shown = images.to_display(five)
    assert shown[0, 0].tolist() == [0, 0, 255]
    assert shown[15, 0].tolist() == [0, 0, 0]


def test_display_of_a_stack_uses_one_window_for_all_slices() -> None:
    stack = np.zeros((3, 20, 30, 1), np.uint16)
    stack[:, :, :15] = np.array([100, 200, 400])[:, None, None, None]
    assert [int(images.to_display(stack, z)[0, 0, 0]) for z in range(3)] == [64, 128, 255]
    np.testing.assert_array_equal(images.to_display(stack), images.to_display(stack, 1))


def test_display_of_flat_and_sparse_images() -> None:
    assert images.to_display(np.full((20, 30, 1), -5, np.int16)).max() == 0
    sparse = np.zeros((100, 100, 1), np.float32)
    sparse[50, 50] = 2.0
    assert images.to_display(sparse)[50, 50, 0] == 255


@pytest.mark.parametrize("shape", [(700, 1100, 1), (5, 90, 40, 2), (20, 30, 3)])
def test_thumbnail_fits_and_keeps_its_proportions(shape: tuple[int, ...]) -> None:
    small = images.thumbnail(numbers(*shape))
    height, width = shape[-3:-1]
    assert small.dtype == np.uint8
    assert max(small.shape[:2]) == min(96, max(height, width))
    assert small.shape[0] / small.shape[1] == pytest.approx(height / width, rel=0.05)
