"""Images into a project."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from alapp import jobs
from alapp.domain import ImageRole, LabelKind, VoxelSize, silent
from alapp.errors import Cancelled, InputError, Paused
from alapp.rounds import importing
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import embedding
from alapp.rounds.train import training
from alapp.running import Stopped, run_inline
from alapp.stages import display, patches
from alapp.storage import catalogue, labels
from alapp.storage import jobs as rows
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image
from alapp.storage.db import now


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


def interrupted(error, at):
    """A report that raises `error` when the file with the index `at` begins."""

    def report(done, total, message=""):
        if done == at:
            raise error("The work ends here.")

    return report


def test_an_interrupted_import_goes_on_where_it_was(store, empty, tmp_path, monkeypatch):
    for name in "abc":
        write(tmp_path / f"{name}.tif")
    files = [{"path": str(tmp_path / f"{name}.tif")} for name in "abc"]
    since = now()
    with pytest.raises(Stopped):
        importing.run_import(store, empty.id, interrupted(Stopped, 2), files, since=since)
    catalogue.set_image_deleted(store, catalogue.images(store, empty.id)[0].id, True)
    read, real = [], importing.image_files.read
    monkeypatch.setattr(importing.image_files, "read", lambda path, axes: read.append(path.name) or real(path, axes))
    done = importing.run_import(store, empty.id, silent, files, since=since)
    assert done == {"imported": ["a", "b", "c"], "problems": []}
    assert read == ["c.tif"]
    assert names(store, empty) == ["b", "c"]  # what was removed in the meantime stays so


def test_another_file_of_the_same_name_is_not_taken_for_the_finished_one(store, empty, tmp_path):
    (tmp_path / "other").mkdir()
    write(tmp_path / "a.tif")
    write(tmp_path / "other" / "a.tif", seed=1)
    since = now()
    importing.run_import(store, empty.id, silent, [{"path": str(tmp_path / "a.tif")}], since=since)
    other = [{"path": str(tmp_path / "other" / "a.tif")}]
    problems = importing.run_import(store, empty.id, silent, other, since=since)["problems"]
    assert "already an image with this name" in problems[0]["problem"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode only")
def test_files_whose_names_are_no_utf8_are_imported_under_mended_ones(store, empty, tmp_path):
    here = tmp_path / "caf\udce9s"
    here.mkdir()
    for name in ("a", "b\udce9", "b\udce8", "c\udce9"):
        write(here / f"{name}.tif")
    (here / "c\udce9.tif").write_bytes(b"nothing")
    found = importing.inspect(str(here))
    assert ["c?.tif" in item.problem for item in found] == [False, False, False, True]
    files, since = [{"path": str(item.path)} for item in found], now()
    job = run_inline(store, jobs.enqueue(store, "import", empty.id, {"files": files}))
    assert job.state is jobs.JobState.DONE
    assert job.result["imported"] == names(store, empty) == ["a", "b?"]
    assert [row["file"] for row in job.result["problems"]] == ["b?.tif", "c?.tif"]
    assert "already an image with this name" in job.result["problems"][0]["problem"]
    assert "c?.tif" in job.result["problems"][1]["problem"]
    assert {Path(image.source).parent.name for image in catalogue.images(store, empty.id)} == {"caf?s"}
    again = importing.run_import(store, empty.id, silent, files, since=since)
    assert again == job.result  # as after a worker that was killed


@pytest.mark.parametrize(("error", "kept"), [(Cancelled, False), (Stopped, True), (Paused, True)])
def test_only_a_cancelled_import_removes_its_uploads(store, empty, tmp_path, error, kept):
    folder = store.root / "uploads" / "1234"
    for number in (0, 1):
        (folder / str(number)).mkdir(parents=True)
        write(folder / str(number) / f"a{number}.tif")
    files = [{"path": str(folder / str(number) / f"a{number}.tif")} for number in (0, 1)]
    with pytest.raises(error):
        importing.run_import(store, empty.id, interrupted(error, 1), files, discard="uploads/1234")
    assert folder.exists() is kept
    assert names(store, empty) == ["a0"]


def test_uploads_of_an_import_that_never_began_are_removed(store, empty):
    for name in ("waits", "runs"):
        (store.root / "uploads" / name).mkdir(parents=True)
    other = catalogue.create_project(store, "other")
    waits = jobs.enqueue(store, "import", empty.id, {"files": [], "discard": "uploads/waits"})
    jobs.enqueue(store, "import", other.id, {"files": [], "discard": "uploads/runs"})
    jobs.cancel(store, waits.id)
    assert [item.name for item in (store.root / "uploads").iterdir()] == ["runs"]


def test_uploads_of_a_failed_import_stay_while_it_can_be_tried_again(store, empty):
    folder = store.root / "uploads" / "failed"
    folder.mkdir(parents=True)
    failed = jobs.enqueue(store, "import", empty.id, {"files": [], "discard": "uploads/failed"})
    store.execute("UPDATE job SET state = 'failed' WHERE id = ?", (failed.id,))
    jobs.sweep_uploads(store)
    assert folder.exists()
    again = jobs.enqueue(store, "import", empty.id, failed.params)
    jobs.sweep_uploads(store)
    assert folder.exists()
    jobs.cancel(store, again.id)
    assert not folder.exists()


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


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("import", "Importing images"),
        ("sample", "Copying the sample images"),
        ("select", "Selecting a batch"),
        ("pretrain", "Pre-training on pseudo-labels"),
        ("preview", "Previewing pseudo-labels"),
    ],
)
def test_no_new_grid_while_a_job_uses_the_patches(store, project, kind, title):
    job = jobs.enqueue(store, kind, project.id)
    other = catalogue.create_project(store, "other")
    importing.regrid(store, other.id, 32, 1, 0)  # the job is not this project's
    for claim in (False, True):
        if claim:
            rows.claim(store, "elsewhere:1:t", job.id)
        with pytest.raises(InputError, match=f"cannot be cut anew now: “{title}” uses their patches.*or cancel it"):
            importing.regrid(store, project.id, 32, 1, 0)
    assert sizes(store, project) == {(64, 64)}
    rows.finish(store, job.id, "elsewhere:1:t", jobs.JobState.DONE)
    jobs.enqueue(store, "map", project.id)  # only looks
    importing.regrid(store, project.id, 32, 1, 0)
    assert sizes(store, project) == {(32, 32)}


def sizes(store, project) -> set[tuple[int, int]]:
    return {(patch.box.height, patch.box.width) for patch in catalogue.patches(store, project.id)}


def test_an_image_that_comes_back_is_cut_like_the_others(store, project):
    gone = catalogue.images(store, project.id)[1]
    catalogue.set_image_deleted(store, gone.id, True)
    importing.regrid(store, project.id, 32, 1, 0)
    importing.restore_image(store, gone.id)
    assert sizes(store, project) == {(32, 32)}
    assert len(catalogue.patches(store, project.id)) == 3 * 16
    assert [image.id for image in catalogue.images(store, project.id)][1] == gone.id


def test_an_image_that_comes_back_to_its_old_grid_keeps_its_patches(store, project):
    gone = catalogue.images(store, project.id)[1]
    before = catalogue.patches(store, project.id)
    round_rows.add(store, project.id, "random", 1, 0, [(before[5].id, "train", {})])
    round_rows.add(store, project.id, "random", 1, 0, [], repeats={before[5].id: 0})
    catalogue.set_image_deleted(store, gone.id, True)
    importing.restore_image(store, gone.id)
    assert catalogue.patches(store, project.id) == before
    importing.restore_image(store, gone.id)  # a second click changes nothing
    assert catalogue.patches(store, project.id) == before


def test_an_image_with_picks_of_another_grid_stays_removed(store, project):
    gone = catalogue.images(store, project.id)[1]
    picked = catalogue.patches(store, project.id, gone.id)[0]
    round_rows.add(store, project.id, "random", 1, 0, [(picked.id, "train", {})])
    catalogue.set_image_deleted(store, gone.id, True)
    catalogue.update_project(store, project.id, patch_size=32)
    with pytest.raises(InputError, match=r"image_1 cannot come back.*patches of 32 pixels.*Import its file again"):
        importing.restore_image(store, gone.id)
    assert gone.id not in [image.id for image in catalogue.images(store, project.id)]
    assert catalogue.patch(store, picked.id) == picked


def test_an_image_that_does_not_fit_any_more_stays_removed(store, empty):
    flat = importing.add_array(store, empty.id, "flat", np.zeros((64, 64, 1), np.uint8))
    catalogue.set_image_deleted(store, flat.id, True)
    stack = importing.add_array(store, empty.id, "stack", np.zeros((4, 64, 64, 1), np.uint8))
    with pytest.raises(InputError, match="flat is 2D, but stack in this project is 3D"):
        importing.restore_image(store, flat.id)
    catalogue.set_image_deleted(store, stack.id, True)
    importing.add_array(store, empty.id, "flat", np.zeros((64, 64, 1), np.uint8))
    with pytest.raises(InputError, match="now another image called 'flat'"):
        importing.restore_image(store, flat.id)
    assert names(store, empty) == ["flat"]


def test_a_test_image_comes_back_without_patches(store, empty):
    pixels = np.zeros((64, 64, 1), np.uint8)
    held_out = importing.add_array(store, empty.id, "test", pixels, role=ImageRole.TEST)
    catalogue.set_image_deleted(store, held_out.id, True)
    importing.restore_image(store, held_out.id)
    assert names(store, empty) == ["test"]
    assert catalogue.patches(store, empty.id) == []


def test_the_grid_preview_changes_nothing(store, project):
    image = catalogue.images(store, project.id)[0]
    drawn = importing.preview_grid(store, project.id, image.id, 32, 1, 0)
    assert drawn.shape == (128, 128, 3)
    assert len(catalogue.patches(store, project.id)) == 12


def test_the_grid_preview_of_a_large_image_is_small(store, project, monkeypatch):
    drawn_at = []
    real = display.to_display
    monkeypatch.setattr(display, "to_display", lambda image: drawn_at.append(image.shape) or real(image))
    pixels = np.zeros((1000, 3000, 1), np.uint8)
    monkeypatch.setattr(importing, "PREVIEW_SIDE", 300)
    image = importing.add_array(store, project.id, "large", pixels)
    drawn = importing.preview_grid(store, project.id, image.id, 500, 1, 0)
    assert drawn_at == [(1, 500, 1500, 1)]
    assert drawn.shape == (100, 300, 3)
    lines = (drawn == patches.GRID_COLOUR).all(-1)
    assert np.flatnonzero(lines[25]).tolist() == [
        0, 49, 50, 99, 100, 149, 150, 199, 200, 249, 250, 299
    ]  # fmt: skip
    assert np.flatnonzero(lines[:, 25]).tolist() == [0, 49, 50, 99]


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
