"""TIFF files that are written: what this app, tifffile and PIL read in them."""

import io
import warnings

import numpy as np
import PIL.Image
import pytest
import tifffile

from alapp.domain import VoxelSize
from alapp.rounds.export import export_tiff
from alapp.stages import images
from alapp.stages.lazy_images import open_lazily

KNOWN = VoxelSize(0.57, 0.2, 0.3)


def numbers(shape, dtype):
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("size", [VoxelSize(), VoxelSize(None, 0.2, 0.3), VoxelSize(1.0, 0.2, 0.3), KNOWN])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "float32"])
@pytest.mark.parametrize("shape", [(20, 30), (5, 20, 30), (3, 20, 30)])
def test_label_maps_come_back_with_their_axes_and_sizes(tmp_path, shape, dtype, size):
    array, path = numbers(shape, dtype), tmp_path / "a.tif"
    path.write_bytes(export_tiff.tiff(array, size))
    read = tifffile.imread(path)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    info = images.inspect(path)
    assert info.axes == "ZYX"[-len(shape) :]
    assert info.axes_source != "assumed"
    found = [info.voxel_size.z, info.voxel_size.y, info.voxel_size.x]
    z = size.z if len(shape) == 3 else None
    assert found == [side if side is None else pytest.approx(side, rel=1e-6) for side in (z, size.y, size.x)]
    with open_lazily(path) as source:
        np.testing.assert_array_equal(source[:, :, :], images.read(path))


@pytest.mark.parametrize(("shape", "axes"), [((20, 30, 2), "CYX"), ((5, 20, 30, 3), "ZCYX"), ((5, 20, 30, 1), "ZYX")])
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_channels_come_back(tmp_path, shape, axes, dtype):
    array, path = numbers(shape, dtype), tmp_path / "a.tif"
    path.write_bytes(export_tiff.tiff(array, KNOWN, channels=True))
    info = images.inspect(path)
    assert info.axes == axes
    assert info.voxel_size.z == (0.57 if "Z" in axes else None)
    np.testing.assert_array_equal(images.read(path), array if array.ndim == 4 else array[None])


@pytest.mark.parametrize(
    ("dtype", "size", "kind"),
    [
        ("uint16", KNOWN, "imagej"),
        ("float32", KNOWN, "imagej"),
        ("uint16", VoxelSize(), "imagej"),
        ("uint32", KNOWN, "ome"),
        ("int16", KNOWN, "ome"),
        # ImageJ takes a missing spacing for 1 of the unit
        ("uint16", VoxelSize(None, 0.2, 0.3), "ome"),
        ("uint64", KNOWN, "shaped"),
    ],
)
def test_formats_of_stacks(dtype, size, kind):
    with tifffile.TiffFile(io.BytesIO(export_tiff.tiff(numbers((4, 20, 30), dtype), size))) as tif:
        assert tif.series[0].kind == kind
        assert tif.series[0].axes == "ZYX"


def test_a_stack_of_one_slice_stays_a_stack():
    assert tifffile.imread(io.BytesIO(export_tiff.tiff(numbers((1, 20, 30), "uint8"), KNOWN))).shape == (1, 20, 30)


def test_large_stacks_are_no_imagej_files():
    writer, write = export_tiff.keywords("ZYX", (2000, 1000, 1000), np.dtype(np.uint16), KNOWN)
    assert writer == {"bigtiff": True, "ome": True}
    assert write["metadata"]["PhysicalSizeZ"] == 0.57


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "RGB"), (3, "RGB")])
def test_pictures_open_with_all_their_channels(channels, mode):
    array = numbers((20, 30, channels), "uint8")
    picture = PIL.Image.open(io.BytesIO(export_tiff.picture(array, KNOWN)))
    assert (picture.mode, picture.n_frames) == (mode, 1)
    shown = np.asarray(picture).reshape(20, 30, -1)
    np.testing.assert_array_equal(shown[..., :channels], array)
    assert not shown[..., channels:].any()


def test_pil_keeps_the_upper_bits_of_16_bit_colours_as_the_readme_says():
    array = numbers((20, 30, 3), "uint16") * 300
    content = export_tiff.picture(array, KNOWN)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(content)), array)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(content))), array >> 8)


@pytest.mark.parametrize(("channels", "dtype"), [(4, "uint8"), (5, "uint16"), (3, "float32")])
def test_pictures_that_pil_cannot_show_are_refused_and_not_shown_in_part(tmp_path, channels, dtype):
    array, path = numbers((20, 30, channels), dtype), tmp_path / "a.tif"
    path.write_bytes(export_tiff.picture(array, KNOWN))
    with pytest.raises(PIL.UnidentifiedImageError):
        PIL.Image.open(path)
    assert images.inspect(path).voxel_size == VoxelSize(None, pytest.approx(0.2), pytest.approx(0.3))
    np.testing.assert_array_equal(images.read(path)[0], array)
