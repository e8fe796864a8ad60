"""Images into a project."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from alapp.domain import LabelKind, VoxelSize, silent
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import embedding
from alapp.rounds.train import training
from alapp.storage import catalogue, labels
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image


@pytest.fixture
def empty(store):
    return catalogue.create_project(store, "empty", patch_size=64)


def write(path, shape=(96, 128), seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 200, shape, dtype=np.uint8)
    tifffile.imwrite(path, pixels, **options)
    return pixels


def names(store, project) -> list[str]:
    return [image.name for image in catalogue.images(store, project.id)]


def test_good_files_are_imported_and_bad_ones_reported(store, empty, tmp_path):
    good = write(tmp_path / "good.tif")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 this is not a picture")
    tifffile.imwrite(tmp_path / "nan.tif", np.full((64, 64), np.nan, np.float32))
    files = [{"path": str(tmp_path / name)} for name in ("broken.tif", "good.tif", "nan.tif", "gone.tif")]
    done = importing.run_import(store, empty.id, silent, files)
    assert done["imported"] == ["good"]
    assert [row["file"] for row in done["problems"]] == ["broken.tif", "nan.tif", "gone.tif"]
    assert all(row["file"] in row["problem"] for row in done["problems"])
    image = catalogue.images(store, empty.id)[0]
    assert (catalogue.read_image(store, image)[..., 0] == good).all()
    assert len(list(store.files.project(empty.id).rglob("*.npy"))) == 1


def test_the_same_name_twice_is_refused(store, empty, tmp_path):
    write(tmp_path / "a.tif")
    files = [{"path": str(tmp_path / "a.tif")}]
    importing.run_import(store, empty.id, silent, files)
    problems = importing.run_import(store, empty.id, silent, files)["problems"]
    assert "already an image with this name" in problems[0]["problem"]
    assert names(store, empty) == ["a"]


def test_mixed_channels_are_refused(store, empty, tmp_path):
    write(tmp_path / "gray.tif")
    write(tmp_path / "colour.tif", (96, 128, 3), photometric="rgb")
    files = [{"path": str(tmp_path / name)} for name in ("gray.tif", "colour.tif")]
    done = importing.run_import(store, empty.id, silent, files)
    assert done["imported"] == ["gray"]
    assert "colour has 3 channels, but gray" in done["problems"][0]["problem"]


def test_assumed_axes_must_be_confirmed(store, empty, tmp_path):
    write(tmp_path / "stack.tif", (4, 96, 128), photometric="minisblack")
    path = str(tmp_path / "stack.tif")
    assert importing.inspect(path)[0].must_confirm
    refused = importing.run_import(store, empty.id, silent, [{"path": path}])
    assert "Confirm them" in refused["problems"][0]["problem"]
    assert names(store, empty) == []
    importing.run_import(
        store, empty.id, silent, [{"path": path, "axes": "ZYX", "voxel_size": {"z": 0.5, "y": 0.1, "x": 0.1}}]
    )
    image: Image = catalogue.images(store, empty.id)[0]
    assert (image.shape, image.is_3d, image.voxel_size.z) == ((4, 96, 128, 1), True, 0.5)


def test_2d_and_3d_do_not_mix(store, empty, tmp_path):
    write(tmp_path / "flat.tif")
    write(tmp_path / "stack.tif", (4, 96, 128), photometric="minisblack")
    done = importing.run_import(
        store,
        empty.id,
        silent,
        [{"path": str(tmp_path / "flat.tif")}, {"path": str(tmp_path / "stack.tif"), "axes": "ZYX"}],
    )
    assert "stack is 3D, but flat in this project is 2D" in done["problems"][0]["problem"]


def test_an_empty_folder_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="no image"):
        importing.inspect(str(tmp_path))


def test_regrid_until_the_first_batch(store, project):
    importing.regrid(store, project.id, 32, 1, 0)
    assert len(catalogue.patches(store, project.id)) == 3 * 16
    picks = [(catalogue.patches(store, project.id)[0].id, "train", {})]
    round_rows.add(store, project.id, "random", 1, 0, picks)
    with pytest.raises(InputError, match="fixed once the first batch"):
        importing.regrid(store, project.id, 64, 1, 0)
    assert len(catalogue.patches(store, project.id)) == 3 * 16


def test_the_grid_preview_changes_nothing(store, project):
    image = catalogue.images(store, project.id)[0]
    drawn = importing.preview_grid(store, project.id, image.id, 32, 1, 0)
    assert drawn.shape == (128, 128, 3)
    assert len(catalogue.patches(store, project.id)) == 12


def test_a_reference_of_another_size_is_refused(store, project):
    with pytest.raises(InputError, match="reference labels of image_0"):
        importing.add_reference(store, catalogue.images(store, project.id)[0], np.zeros((5, 5), np.int32))


def test_the_sample_is_filled_once_even_after_a_restart(store):
    project = importing.create_sample_project(store, "hela")
    importing.run_sample(store, project.id, silent, "hela")
    importing.run_sample(store, project.id, silent, "hela")
    assert len(names(store, project)) == len(set(names(store, project))) == 8
    assert importing.create_sample_project(store, "hela").name == f"{project.name} 2"


def test_patches_of_an_old_grid_are_never_taken_for_new_ones(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    shown = pseudo.run_preview(store, project.id, silent, "log_watershed", {})
    before = {patch.id for patch in catalogue.patches(store, project.id)}
    first = embedding.update(store, project.id, silent)
    importing.regrid(store, project.id, 32, 1, 0)
    after = catalogue.patches(store, project.id)
    assert not before & {patch.id for patch in after}
    second = embedding.update(store, project.id, silent)
    assert second.id != first.id
    assert sorted(embedding.read(store, second)[0].tolist()) == [patch.id for patch in after]
    assert labels.of_ids(store, shown["label_maps"]) == []


def test_a_grid_that_fails_half_way_changes_nothing(store, project, monkeypatch):
    real, calls = catalogue.insert_patches, []

    def fail_at_the_second(db, image_id, boxes):
        calls.append(image_id)
        if len(calls) == 2:
            raise OSError("no space")
        real(db, image_id, boxes)

    monkeypatch.setattr(catalogue, "insert_patches", fail_at_the_second)
    with pytest.raises(OSError, match="no space"):
        importing.regrid(store, project.id, 32, 1, 0)
    assert catalogue.project(store, project.id).patch_size == 64
    assert len(catalogue.patches(store, project.id)) == 12


def test_a_sample_cut_off_between_image_and_reference_is_completed(store, monkeypatch):
    project = importing.create_sample_project(store, "cho")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(importing, "add_reference", killed)
        with pytest.raises(KeyboardInterrupt):
            importing.run_sample(store, project.id, silent, "cho")
    importing.run_sample(store, project.id, silent, "cho")
    images = catalogue.images(store, project.id)
    assert len(images) == 6
    assert set(labels.latest_by_image(store, project.id, LabelKind.REFERENCE)) == {image.id for image in images}


def test_an_ome_zarr_is_imported_with_its_voxel_size(store, project, tmp_path):
    group = zarr.open_group(tmp_path / "new.ome.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=np.arange(4096, dtype=np.uint16).reshape(64, 64))
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    group.attrs["multiscales"] = [
        {
            "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"],
            "datasets": [{"path": "0", "coordinateTransformations": scale}],
        }
    ]
    result = importing.run_import(store, project.id, silent, [{"path": str(tmp_path / "new.ome.zarr")}])
    assert result == {"imported": ["new"], "problems": []}
    image = next(item for item in catalogue.images(store, project.id) if item.name == "new")
    assert (image.shape, image.voxel_size) == ((1, 64, 64, 1), VoxelSize(None, 0.5, 0.5))
