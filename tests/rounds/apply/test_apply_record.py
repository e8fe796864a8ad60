"""What is written down of a folder of results, and how files from outside are read."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from alapp.domain import VoxelSize
from alapp.errors import ImageError, InputError
from alapp.rounds.apply import apply_record
from alapp.rounds.apply.apply_names import Origin, origin
from alapp.rounds.apply.apply_reading import Reading, reading
from alapp.stages.instances import Decoding


def test_the_summary_tells_what_another_model_made_and_names_a_file_once(tmp_path):
    record = apply_record.Record(tmp_path)
    rows = [("a", "a.tif", "old", 1), ("a_tif", "a.tif", "new", 2), ("a_png", "a.png", "old", 3)]
    for name, file, model, objects in rows:
        of = {"file": file, "folder": "/data", "model": model}
        record.add(name, of, apply_record.Row(file, objects, 5.0, None, (20, 30), 1.0))
        (tmp_path / f"{name}{apply_record.MASKS}").touch()
    lines = apply_record.Record(tmp_path).summary("new")
    assert [(line["image"], line["objects"], line["remark"]) for line in lines] == [
        ("a.png", 3, "made by another model"),
        ("a.tif", 2, ""),
    ]


def test_the_summary_tells_where_files_of_one_name_come_from(tmp_path):
    record = apply_record.Record(tmp_path)
    for name, folder in [("a_tif", "/two"), ("a", "/one"), ("a_tif_2", "")]:
        of = {"file": "a.tif", "folder": folder, "model": "m"}
        record.add(name, of, apply_record.Row("a.tif", 1, 5.0, None, (20, 30), 1.0))
        (tmp_path / f"{name}{apply_record.MASKS}").touch()
    lines = apply_record.Record(tmp_path).summary("m")
    assert [(line["results"], line["folder"]) for line in lines] == [("a", "/one"), ("a_tif", "/two"), ("a_tif_2", "")]


def test_the_summary_tells_areas_from_volumes(tmp_path):
    record = apply_record.Record(tmp_path)
    for name, shape in (("flat", (20, 30)), ("stack", (4, 20, 30))):
        of = {"file": f"{name}.tif", "folder": "/data", "model": "m"}
        record.add(name, of, apply_record.Row(f"{name}.tif", 1, 50.0, 2.5, shape, 1.0))
        (tmp_path / f"{name}{apply_record.MASKS}").touch()
    found = [(line["median_area_um2"], line["median_volume_um3"]) for line in record.summary("m")]
    assert found == [(2.5, None), (None, 2.5)]


def test_records_of_two_runs_at_once_keep_what_the_other_wrote(tmp_path):
    def of(folder):
        return {"file": "a.tif", "folder": folder, "model": "m"}

    one, other = apply_record.Record(tmp_path), apply_record.Record(tmp_path)
    row = apply_record.Row("a.tif", 1, 5.0, None, (20, 30), 1.0)
    for record, name in ((one, "a"), (other, "b"), (one, "c")):
        record.add(name, of(f"/{name}"), row)
        (tmp_path / f"{name}{apply_record.MASKS}").touch()
    assert set(apply_record.Record(tmp_path).known()) == {"a", "b", "c"}
    assert [line["results"] for line in other.summary("m")] == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"c_masks\.tif is already in the folder"):
        other.check_free("c", of("/another"))


def test_what_was_not_finished_belongs_to_its_image_and_is_passed_over(tmp_path):
    def of(folder):
        return {"file": "a.tif", "folder": folder, "model": "m"}

    record, options = apply_record.Record(tmp_path), apply_record.Options(table=False)
    assert record.begin("a", of("/one")) is None
    (tmp_path / f"a{apply_record.MASKS}").touch()
    again = apply_record.Record(tmp_path)  # of a run after one that was killed
    assert (again.done("a", of("/one"), options), again.summary("m")) == (None, [])
    assert again.known() == {"a": Origin("/one", "a.tif")}  # it gets this name again
    again.check_free("a", of("/one"))
    with pytest.raises(InputError, match="belongs to another image"):
        again.check_free("a", of("/two"))
    assert apply_record.originals([tmp_path / f"a{apply_record.MASKS}"]) == []
    again.add("a", of("/one"), apply_record.Row("a.tif", 1, 5.0, None, (20, 30), 1.0))
    assert again.done("a", of("/one"), options).objects == 1
    assert [line["results"] for line in again.summary("m")] == ["a"]


def test_axes_and_voxel_size_are_part_of_the_fingerprint(tmp_path):
    path = tmp_path / "a.tif"
    path.touch()
    sizes, here = (VoxelSize(), VoxelSize(None, 0.5, 0.5)), origin(path, False)
    made = [
        apply_record.fingerprint(path, here, "m", Decoding(), apply_record.Options(), Reading(axes, size))
        for axes in (None, "ZYX", "CYX")
        for size in sizes
    ]
    made += [
        apply_record.fingerprint(path, here, "m", Decoding(), apply_record.Options(), Reading(None, sizes[1], *whence))
        for whence in (("yx", False), ("", True))
    ]
    assert all(one != other for i, one in enumerate(made) for other in made[:i])
    assert json.loads(json.dumps(made)) == made
    # as earlier versions wrote it down
    assert made[1]["reading"] == {"axes": None, "voxel_size": {"z": None, "y": 0.5, "x": 0.5}}


def test_the_fingerprint_of_an_upload_is_that_of_its_content(tmp_path):
    def made(path):
        options, reading = apply_record.Options(), Reading(None, VoxelSize())
        return apply_record.fingerprint(path, origin(path, True), "m", Decoding(), options, reading)

    paths = [tmp_path / str(number) / "a.tif" for number in range(3)]
    for path, text in zip(paths, ("one", "one", "two"), strict=True):
        path.parent.mkdir()
        path.write_text(text)
    os.utime(paths[1], (1, 1))
    assert made(paths[0]) == made(paths[1]) != made(paths[2])


def like(axes, is_3d, channels, source="confirmed", size=VoxelSize(None, 0.5, 0.5)):  # noqa: B008 (is frozen)
    """An image of the project, as far as reading others needs it."""
    shape = (20 if is_3d else 1, 40, 50, channels)
    return SimpleNamespace(axes=axes, axes_source=source, is_3d=is_3d, shape=shape, voxel_size=size)


def test_axes_come_from_the_project_where_the_file_does_not_tell(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 40, 50), np.uint8), metadata=None)
    channels = like("CYX", False, 20)
    assert reading([channels], tmp_path / "a.tif") == Reading("CYX", VoxelSize(None, 0.5, 0.5), "yx")
    assert reading([like("YXC", False, 20), channels], tmp_path / "a.tif").axes == "CYX"  # has the same channels then
    with pytest.raises(ImageError, match="no image of the project tells either"):
        reading([like("CYX", False, 20, "ImageJ metadata")], tmp_path / "a.tif")


def test_it_is_told_whose_voxel_size_an_image_is_taken_to_have(tmp_path):
    tifffile.imwrite(tmp_path / "silent.tif", np.ones((40, 50), np.uint8))
    tifffile.imwrite(tmp_path / "told.tif", np.ones((40, 50), np.uint8), resolution=(5, 5), imagej=True,
                     metadata={"unit": "um"})  # fmt: skip
    flat = like("YX", False, 1, size=VoxelSize(None, 0.645, 0.645))
    remarks = {
        (name, size): reading([flat], tmp_path / name, size).remark(False)
        for name in ("silent.tif", "told.tif")
        for size in (None, 0.5)
    }
    assert remarks == {
        ("silent.tif", None): "pixel size taken from the project: 0.645 µm",
        ("silent.tif", 0.5): "pixel size as entered: 0.5 µm",
        ("told.tif", None): "",
        ("told.tif", 0.5): "pixel size as entered: 0.5 µm",
    }
    assert reading([flat], tmp_path / "told.tif").voxel_size == VoxelSize(None, 0.2, 0.2)
    assert reading([flat], tmp_path / "told.tif", 0.5).voxel_size == VoxelSize(None, 0.5, 0.5)


def test_it_is_told_what_of_the_voxel_size_of_a_stack_is_the_projects():
    size = VoxelSize(2.0, 0.2, 0.1)
    assert Reading(None, size, "zyx").remark(True) == (
        "pixel size taken from the project: 0.2 x 0.1 µm, slices 2 µm apart"
    )
    assert Reading(None, size, "z").remark(True) == "distance of slices taken from the project: 2 µm"
    assert Reading(None, VoxelSize(2.0, 0.2, 0.2), "z", True).remark(True) == (
        "pixel size as entered: 0.2 µm; distance of slices taken from the project: 2 µm"
    )
    assert Reading(None, size).remark(True) == ""
    assert Reading(None, VoxelSize(None, None, None)).remark(False) == ""  # neither the file nor the project tells


@pytest.mark.parametrize("told", ["TYX", "CYX"])
def test_slices_that_the_file_calls_otherwise_are_read_as_the_person_said(tmp_path, told):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 40, 50), np.uint8), imagej=True, metadata={"axes": told})
    flat = like("YX", True, 1)  # confirmed, but of other dimensions
    assert reading([flat, like("ZYX", True, 1)], tmp_path / "a.tif").axes == "ZYX"
    assert reading([flat], tmp_path / "a.tif").axes is None


def test_a_file_that_tells_and_fits_is_read_with_its_own_axes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 40, 50), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    assert reading([like("XYZ", True, 1)], tmp_path / "a.tif").axes is None
    assert reading([like("CYX", False, 3)], tmp_path / "a.tif").axes is None  # and is refused later


@pytest.mark.parametrize(
    ("sizes", "z"),
    [
        ([VoxelSize(0.5, 0.2, 0.1)], 0.5),
        ([VoxelSize(0.5, 0.200001, 0.1), VoxelSize(0.5, 0.2, 0.1)], 0.5),  # but for rounding
        ([VoxelSize(0.5, 0.2, 0.1), VoxelSize(0.4, 0.2, 0.1)], None),
        ([VoxelSize(0.5, 0.2, 0.1), VoxelSize(0.5, 0.4, 0.2)], None),
        ([VoxelSize(0.5, 0.4, 0.2)], None),  # of another magnification
        ([VoxelSize(0.5, None, None)], None),
        ([VoxelSize(None, 0.2, 0.1)], None),
    ],
)
def test_the_step_in_z_comes_from_the_project_where_the_file_has_no_place_for_it(tmp_path, sizes, z):
    stack = np.ones((20, 40, 50), np.uint8)
    options = {"resolution": (1e5, 5e4), "resolutionunit": "CENTIMETER", "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata=None, **options)
    images = [like("ZYX", True, 1, size=size) for size in sizes]
    assert reading(images, tmp_path / "a.tif") == Reading("ZYX", VoxelSize(z, 0.2, 0.1), "z" if z else "")


def test_files_that_tell_their_step_in_z_and_single_images_keep_their_size(tmp_path):
    stack, options = np.ones((20, 40, 50), np.uint8), {"resolution": (10, 10), "imagej": True}
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "ZYX", "unit": "um", "spacing": 0.3}, **options)
    tifffile.imwrite(tmp_path / "b.tif", stack[0], metadata={"unit": "um"}, **options)
    size = VoxelSize(0.5, 0.1, 0.1)
    assert reading([like("ZYX", True, 1, size=size)], tmp_path / "a.tif").voxel_size == VoxelSize(0.3, 0.1, 0.1)
    assert reading([like("YX", False, 1, size=size)], tmp_path / "b.tif").voxel_size == VoxelSize(None, 0.1, 0.1)
