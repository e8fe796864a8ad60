"""OME-Zarr folders give what a TIFF of the same image gives, part by part or whole."""

import shutil

import numpy as np
import pytest
import zarr

from alapp.domain import VoxelSize
from alapp.errors import ImageError
from alapp.stages import images, lazy_images

RNG = np.random.default_rng(0)
PLANE = RNG.integers(0, 60_000, (50, 70)).astype(np.uint16)
VOLUME = RNG.integers(0, 250, (2, 5, 40, 60)).astype(np.uint8)  # C, Z, Y, X


def axis(name, unit=None):
    return {"name": name, "type": "space" if name in "zyx" else "channel"} | ({"unit": unit} if unit else {})


def save(path, pixels, axes, scale=None, version="0.4", inner="", datasets=("0",)):
    """An OME-Zarr as its versions prescribe: metadata under "ome" and Zarr 3 from 0.5 on."""
    new = version == "0.5"
    root = zarr.open_group(path, mode="a", zarr_format=3 if new else 2)
    group = root.require_group(inner) if inner else root
    group.create_array(datasets[0], data=pixels, chunks=tuple(min(n, 16) for n in pixels.shape))
    multiscale = {"version": version, "datasets": [{"path": name} for name in datasets]}
    if axes is not None:
        multiscale["axes"] = axes
    if scale is not None:
        multiscale["datasets"][0]["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    group.attrs.update(
        {"ome": {"version": "0.5", "multiscales": [multiscale]}} if new else {"multiscales": [multiscale]}
    )
    return path


@pytest.mark.parametrize(
    ("path", "stem", "title"),
    [
        ("plates/plate.zarr/A/1/0", "plate_A_1_0", "plate.zarr/A/1/0"),
        ("My plate.ome.ZARR/B/12/3", "My plate_B_12_3", "My plate.ome.ZARR/B/12/3"),
        ("plate.zarr", "plate", "plate.zarr"),
        ("plate.zarr/export/cells.tif", "cells", "cells.tif"),
        ("plates/cells.tif", "cells", "cells.tif"),
    ],
)
def test_fields_of_a_plate_are_named_by_their_path(path, stem, title):
    assert (images.stem(path), images.title(path)) == (stem, title)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_volume_with_channels(tmp_path, version):
    axes = [axis("c"), axis("z", "nanometer"), axis("y", "micrometer"), axis("x", "micrometer")]
    path = save(tmp_path / "cells.ome.zarr", VOLUME, axes, [1, 500, 0.25, 0.2], version)
    info = images.inspect(path)
    assert (info.axes, info.shape, info.dtype, info.axes_source) == ("CZYX", VOLUME.shape, "uint8", "OME metadata")
    assert info.voxel_size == VoxelSize(0.5, 0.25, 0.2)
    whole = images.read(path)
    np.testing.assert_array_equal(whole, VOLUME.transpose(1, 2, 3, 0))
    assert images.stem(path) == "cells"
    with lazy_images.open_lazily(path) as source:
        assert source.shape == whole.shape
        np.testing.assert_array_equal(source[1:4, 5:33, 30:60], whole[1:4, 5:33, 30:60])


def test_axes_of_length_one_are_left_out_and_lengths_without_unit_are_unknown(tmp_path):
    named = [{"name": "t", "type": "time"}, axis("c"), axis("z"), axis("y"), axis("x")]
    path = save(tmp_path / "plane.zarr", PLANE[None, None, None], named, [1, 1, 1, 0.5, 0.5])
    assert images.inspect(path).axes == "YX"
    assert images.inspect(path).voxel_size == VoxelSize()
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], PLANE)


def test_versions_that_do_not_name_their_axes(tmp_path):
    path = save(tmp_path / "old.zarr", VOLUME[None], None, version="0.1")
    assert images.inspect(path).axes == "CZYX"


def test_frames_can_be_confirmed_as_slices(tmp_path):
    named = [{"name": "t", "type": "time"}, axis("y"), axis("x")]
    path = save(tmp_path / "film.zarr", VOLUME[0], named)
    with pytest.raises(ImageError, match="time series of 5 frames"):
        images.read(path)
    assert images.read(path, "ZYX").shape == (5, 40, 60, 1)
    with lazy_images.open_lazily(path, "ZYX") as source:
        np.testing.assert_array_equal(source[2:4, 3:9, 0:60][..., 0], VOLUME[0, 2:4, 3:9])


def test_the_first_of_several_images_is_taken_and_said(tmp_path):
    path = save(tmp_path / "series.zarr", PLANE, [axis("y"), axis("x")], inner="0")
    assert images.inspect(path).warnings == ()
    save(path, PLANE[::-1], [axis("y"), axis("x")], inner="1")
    assert images.inspect(path).warnings == ("It holds several images; the first is taken.",)
    np.testing.assert_array_equal(images.read(path)[0, ..., 0], PLANE)


def plate(path):
    zarr.open_group(path, mode="a", zarr_format=2).attrs["plate"] = {"wells": []}


def array(path):
    zarr.save_array(path, PLANE, zarr_format=2)


def plain(path):
    zarr.open_group(path, mode="a", zarr_format=3)


def other_axes(path):
    save(path, PLANE, [axis("y"), {"name": "angle"}])


def too_few_axes(path):
    save(path, PLANE, [axis("z"), axis("y"), axis("x")])


def lost_array(path):
    save(path, PLANE, [axis("y"), axis("x")], datasets=("0",))
    root = zarr.open_group(path, mode="a")
    del root["0"]


def not_json(path):
    save(path, PLANE, [axis("y"), axis("x")])
    (path / ".zattrs").write_text("{")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (plate, "is a plate or a well"),
        (array, "lacks the metadata 'multiscales'"),
        (plain, "lacks the metadata 'multiscales'"),
        (other_axes, "has the axes y, angle"),
        (too_few_axes, "names other axes than its 2 dimensions"),
        (lost_array, "cannot be read: it is damaged or not an OME-Zarr"),
        (not_json, "cannot be read: it is damaged or not an OME-Zarr"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_name(tmp_path, make, sentence):
    make(tmp_path / "bad.zarr")
    with pytest.raises(ImageError, match=sentence) as refused:
        images.inspect(tmp_path / "bad.zarr")
    assert str(refused.value).startswith("bad.zarr")


def test_a_damaged_chunk_is_named(tmp_path):
    path = save(tmp_path / "bad.zarr", PLANE, [axis("y"), axis("x")])
    chunk = next(file for file in (path / "0").rglob("*") if file.is_file() and not file.name.startswith((".", "zarr")))
    chunk.write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"bad\.zarr cannot be read: it is damaged"):
        images.read(path)


def test_folders_and_patterns_find_them_beside_files(tmp_path):
    save(tmp_path / "b.ome.zarr", PLANE, [axis("y"), axis("x")])
    save(tmp_path / "a.zarr", PLANE, [axis("y"), axis("x")])
    (tmp_path / "c.png").write_bytes(b"")
    (tmp_path / "other").mkdir()
    assert [path.name for path in images.discover(str(tmp_path))] == ["a.zarr", "b.ome.zarr", "c.png"]
    assert images.discover(str(tmp_path / "a.zarr")) == [tmp_path / "a.zarr"]
    assert [path.name for path in images.discover(str(tmp_path / "*.zarr"))] == ["a.zarr", "b.ome.zarr"]
    with pytest.raises(ImageError, match="other is a folder, but no OME-Zarr"):
        images.inspect(tmp_path / "other")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_chunks_that_are_missing_are_told(tmp_path, version):
    path = save(tmp_path / "cells.zarr", PLANE, [axis("y"), axis("x")], version=version)
    assert images.inspect(path).warnings == ()
    array = zarr.open_group(path, mode="r")["0"]
    chunk = sorted(file for file in (path / "0").rglob("*") if file.is_file() and not file.name.startswith((".", "z")))[
        0
    ]
    chunk.unlink()
    (warning,) = images.inspect(path).warnings
    assert warning.startswith(f"1 of its {array.nchunks} chunks are not there and read as 0.")
    assert (images.read(path)[0, :16, :16] == 0).any()


def test_shards_that_are_missing_are_told(tmp_path):
    path = save(tmp_path / "cells.zarr", PLANE, [axis("y"), axis("x")], version="0.5")
    shutil.rmtree(path / "0")
    array = zarr.create_array(path / "0", shape=PLANE.shape, chunks=(8, 8), shards=(16, 16), dtype=PLANE.dtype)
    array[:] = PLANE
    assert images.inspect(path).warnings == ()
    shards = [file for file in (path / "0").rglob("*") if file.is_file() and file.name != "zarr.json"]
    shards[0].unlink()
    (warning,) = images.inspect(path).warnings
    assert warning.startswith(f"1 of its {len(shards)} shards are not there and read as 0.")
