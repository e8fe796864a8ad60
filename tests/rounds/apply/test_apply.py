"""The model on images outside the project: files, resuming, problems, limits."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import tifffile

from alapp.domain import silent
from alapp.errors import Cancelled, InputError, NotReadyError
from alapp.rounds.apply import apply, apply_files, apply_record
from alapp.rounds.predict import decoding
from alapp.stages import segment
from alapp.stages.instances import Decoding
from alapp.storage import catalogue, labels, models
from tests.rounds.apply.conftest import table
from tests.rounds.conftest import discs


def test_a_folder_becomes_masks_tables_and_a_summary(store, trained, folder):
    steps = []
    options = {"pictures": True}
    made = apply.run_apply(store, trained.id, lambda *step: steps.append(step), str(folder), options=options)
    target = apply.default_target(store, trained.id, [folder / "a.tif"])
    assert made["target"] == str(target)
    assert made["problems"] == []
    assert sorted(path.name for path in target.iterdir()) == [
        ".applied.json", "a_masks.tif", "a_objects.csv", "a_outlines.png", "b_masks.tif", "b_objects.csv",
        "b_outlines.png", "summary.csv",
    ]  # fmt: skip
    masks, truth = tifffile.imread(target / "a_masks.tif"), discs(20)[1]
    assert masks.dtype == np.uint16
    assert masks.max() == truth.max() == 12
    assert ((masks > 0) == (truth > 0)).mean() > 0.99
    rows = table(target / "b_objects.csv")
    masks = tifffile.imread(target / "b_masks.tif")
    assert [int(row["object"]) for row in rows] == list(range(1, masks.max() + 1))
    for row in rows:
        where = np.argwhere(masks == int(row["object"]))
        assert int(row["area_px"]) == len(where)
        assert float(row["area_um2"]) == pytest.approx(len(where) * 0.2**2, abs=1e-3)
        np.testing.assert_allclose([float(row["y"]), float(row["x"])], where.mean(0), atol=1e-3)
    summary = table(target / "summary.csv")
    assert [row["image"] for row in summary] == ["a.tif", "b.tif"]
    # of a.tif the voxel size is not known
    assert [row["median_area_um2"] for row in summary] == ["", str(made["rows"][1]["size_um"])]
    assert made["rows"][1]["size_um"] == pytest.approx(made["rows"][1]["size"] * 0.2**2)
    assert {row["median_volume_um3"] for row in summary} == {""}
    with tifffile.TiffFile(target / "b_masks.tif") as tif:
        assert tif.pages.first.tags["XResolution"].value == (50_000, 1)
    assert {"a.tif (1 of 2)", "b.tif (2 of 2)"} <= {message for _, _, message in steps}
    assert [done / total for done, total, _ in steps] == sorted(done / total for done, total, _ in steps)


def test_large_images_give_the_same_by_blocks(store, trained, folder, tmp_path, monkeypatch):
    apply.run_apply(store, trained.id, silent, str(folder), target=str(tmp_path / "whole"))
    monkeypatch.setattr(segment, "WHOLE_VOXELS", 100 * 100)
    monkeypatch.setattr(apply_files, "_CELL", 50)
    monkeypatch.setattr(apply_files, "_STRIP_BYTES", 3000)
    apply.run_apply(store, trained.id, silent, str(folder), target=str(tmp_path / "blocks"))
    for name in ("a", "b"):
        one, other = (tifffile.imread(tmp_path / way / f"{name}_masks.tif") for way in ("whole", "blocks"))
        assert one.max() == other.max()
        np.testing.assert_array_equal(one > 0, other > 0)
        pairs = np.unique(np.stack([one[one > 0], other[one > 0]]), axis=1)
        assert pairs.shape[1] == one.max()
        sizes = [
            sorted((float(row["y"]), float(row["x"]), row["area_px"], row["touches_edge"]) for row in rows)
            for rows in (table(tmp_path / way / f"{name}_objects.csv") for way in ("whole", "blocks"))
        ]
        assert sizes[0] == sizes[1]


def test_one_that_is_cancelled_while_its_masks_are_written_keeps_no_file_open(
    store, trained, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(segment, "WHOLE_VOXELS", 100 * 100)
    arrays, make = [], segment.new_array
    monkeypatch.setattr(segment, "new_array", lambda *given: arrays.append(make(*given)) or arrays[-1])

    def report(done, total, message=""):
        if "writing the masks" in message:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        apply.run_apply(store, trained.id, report, str(folder), target=str(tmp_path / "out"))
    assert [array._mmap.closed for array in arrays] == [True]  # else Windows would leave it in the folder of results


def test_what_is_done_is_not_done_again(store, trained, folder):
    first = apply.run_apply(store, trained.id, silent, str(folder))
    again = apply.run_apply(store, trained.id, silent, str(folder))
    assert [row["remark"] for row in again["rows"]] == ["done before"] * 2
    assert [row["objects"] for row in again["rows"]] == [row["objects"] for row in first["rows"]]
    tifffile.imwrite(folder / "a.tif", discs(22)[0][..., 0])
    remarks = [row["remark"] for row in apply.run_apply(store, trained.id, silent, str(folder))["rows"]]
    assert remarks == ["", "done before"]
    wide = apply.run_apply(store, trained.id, silent, str(folder), options={"bits": 32})
    assert [row["remark"] for row in wide["rows"]] == ["", ""]
    assert tifffile.imread(f"{wide['target']}/a_masks.tif").dtype == np.uint32


def test_a_pattern_that_finds_the_results_too_goes_on(store, trained, folder):
    (folder / "day 2").mkdir()
    (folder / "b.tif").rename(folder / "day 2" / "b.tif")
    where = {"source": str(folder / "**" / "*.*"), "target": str(folder / "out"), "options": {"pictures": True}}
    first = apply.run_apply(store, trained.id, silent, **where)
    again = apply.run_apply(store, trained.id, silent, **where)
    assert [row["image"] for row in first["rows"]] == [row["image"] for row in again["rows"]] == ["a.tif", "b.tif"]
    assert [row["remark"] for row in again["rows"]] == ["done before"] * 2
    elsewhere = apply.run_apply(store, trained.id, silent, where["source"], target=str(folder / "other"))
    assert [row["image"] for row in elsewhere["rows"]] == ["a.tif", "b.tif"]
    with pytest.raises(InputError, match="only what applying a model made"):
        apply.run_apply(store, trained.id, silent, str(folder / "out"))


def test_the_summary_lists_all_files_of_a_folder_of_results(store, trained, folder, tmp_path):
    out = str(tmp_path / "out")
    (tmp_path / "b only").mkdir()
    (folder / "b.tif").rename(tmp_path / "b only" / "b.tif")
    apply.run_apply(store, trained.id, silent, str(tmp_path / "b only"), target=out)
    made = apply.run_apply(store, trained.id, silent, str(folder), target=out)
    assert [row["image"] for row in made["rows"]] == ["a.tif"]
    rows = table(tmp_path / "out" / "summary.csv")
    assert [row["image"] for row in rows] == ["a.tif", "b.tif"]
    assert all(row["seconds"] and int(row["objects"]) for row in rows)
    # b is a file of another run, whose masks the person removed
    (tmp_path / "out" / "b_masks.tif").unlink()
    apply.run_apply(store, trained.id, silent, str(folder), target=out)
    assert [row["image"] for row in table(tmp_path / "out" / "summary.csv")] == ["a.tif"]


def test_what_the_project_lends_a_file_counts(store, trained, folder):
    def remarks():
        return [row["remark"] for row in apply.run_apply(store, trained.id, silent, str(folder))["rows"]]

    assert remarks() == ["", ""]
    for size in ("0.5", "0.25"):
        voxel = f'{{"z": null, "y": {size}, "x": {size}}}'
        store.execute("UPDATE image SET voxel_size = ? WHERE project_id = ?", (voxel, trained.id))
        # b.tif has a voxel size of its own
        borrowed = f"pixel size taken from the project: {size} µm"
        assert remarks() == [borrowed, "done before"]
        assert remarks() == [f"done before; {borrowed}", "done before"]
    target = apply.default_target(store, trained.id, [folder / "a.tif"])
    rows = table(target / "a_objects.csv")
    assert all(float(row["area_um2"]) == int(row["area_px"]) * 0.25**2 for row in rows)
    assert [row["remark"] for row in table(target / "summary.csv")] == [borrowed, ""]


def test_a_pixel_size_that_was_entered_counts_for_all_files(store, trained, folder):
    made = apply.run_apply(store, trained.id, silent, str(folder), pixel_size=0.5)
    assert [row["remark"] for row in made["rows"]] == ["pixel size as entered: 0.5 µm"] * 2
    assert [row["size_um"] for row in made["rows"]] == [row["size"] * 0.25 for row in made["rows"]]
    own = apply.run_apply(store, trained.id, silent, str(folder))["rows"]
    assert [(row["size_um"] is None, row["remark"]) for row in own] == [(True, ""), (False, "")]


def test_objects_that_would_be_read_differently_are_read_again(store, trained, folder, monkeypatch):
    apply.run_apply(store, trained.id, silent, str(folder))
    stricter = decoding.Used(replace(Decoding(), fragment_share=0.9), None)
    monkeypatch.setattr(decoding, "used", lambda store, checkpoint: stricter)
    again = apply.run_apply(store, trained.id, silent, str(folder))
    assert [row["remark"] for row in again["rows"]] == ["", ""]
    assert [row["remark"] for row in apply.run_apply(store, trained.id, silent, str(folder))["rows"]] == [
        "done before",
        "done before",
    ]


def test_cancelling_keeps_what_is_finished_and_leaves_no_half(store, trained, folder, monkeypatch):
    monkeypatch.setattr(segment, "WHOLE_VOXELS", 100 * 100)

    def stop(done, total, message=""):
        if message.startswith("b.tif") and "objects" in message:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        apply.run_apply(store, trained.id, stop, str(folder))
    target = apply.default_target(store, trained.id, [folder / "a.tif"])
    assert sorted(path.name for path in target.iterdir()) == [".applied.json", "a_masks.tif", "a_objects.csv"]
    rows = apply.run_apply(store, trained.id, silent, str(folder))["rows"]
    assert [row["remark"] for row in rows] == ["done before", ""]


def test_files_that_cannot_be_used_are_named_and_the_others_go_on(store, trained, folder):
    (folder / "broken.tif").write_bytes((folder / "b.tif").read_bytes()[:300])
    tifffile.imwrite(folder / "colour.tif", np.zeros((40, 50, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(folder / "stack.tif", np.ones((20, 40, 50), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "unknown.tif", np.ones((20, 40, 50), np.uint8), metadata=None)
    made = apply.run_apply(store, trained.id, silent, str(folder))
    assert [row["image"] for row in made["rows"]] == ["a.tif", "b.tif"]
    problems = {row["file"]: row["problem"] for row in made["problems"]}
    assert list(problems) == ["broken.tif", "colour.tif", "stack.tif", "unknown.tif"]
    assert "3 channels, but the model was trained on images with 1" in problems["colour.tif"]
    assert "is a stack" in problems["stack.tif"]
    assert "does not say what its 3 dimensions are" in problems["unknown.tif"]


def test_files_of_others_are_not_replaced(store, trained, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_masks.tif").write_text("mine")
    made = apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    assert "already in the folder" in made["problems"][0]["problem"]
    assert (out / "a_masks.tif").read_text() == "mine"
    with pytest.raises(InputError, match="holds the images themselves"):
        apply.run_apply(store, trained.id, silent, str(folder), target=str(folder))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Nothing can be written"):
        apply.run_apply(store, trained.id, silent, str(folder), target=str(tmp_path / "file" / "out"))


def test_a_summary_of_others_is_not_replaced(store, trained, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.csv").write_text("mine")
    with pytest.raises(InputError, match=r"summary\.csv is already in the folder .*out and was not made here"):
        apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    assert [path.name for path in out.iterdir()] == ["summary.csv"]
    assert (out / "summary.csv").read_text() == "mine"


def test_another_image_of_the_same_name_is_not_replaced(store, trained, folder):
    first = apply.run_apply(store, trained.id, silent, str(folder / "a.tif"))
    PIL.Image.fromarray(discs(22)[0][..., 0]).save(folder / "a.png")
    masks = tifffile.imread(f"{first['target']}/a_masks.tif")
    made = apply.run_apply(store, trained.id, silent, str(folder / "a.png"))
    assert made["problems"] == []
    np.testing.assert_array_equal(tifffile.imread(f"{first['target']}/a_masks.tif"), masks)
    rows = table(f"{first['target']}/summary.csv")
    assert [(row["image"], row["results"]) for row in rows] == [("a.png", "a_png"), ("a.tif", "a")]
    assert {row["folder"] for row in rows} == {str(folder.resolve())}


def test_files_of_one_name_in_several_folders_keep_their_results(store, trained, tmp_path):
    out, paths = tmp_path / "out", [tmp_path / f"day {n}" / "a.tif" for n in range(3)]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        tifffile.imwrite(path, discs(seed)[0][..., 0])
    for count in (1, 2, 3):
        these = [str(path) for path in paths[-count:]]  # the new one comes first
        made = apply.run_apply(store, trained.id, silent, files=these, target=str(out))
        assert made["problems"] == []
        assert [row["remark"] for row in made["rows"]] == ["", *["done before"] * (count - 1)]
    rows = table(out / "summary.csv")
    assert {row["folder"]: row["results"] for row in rows} == {
        str(paths[2].parent): "a", str(paths[1].parent): "a_tif", str(paths[0].parent): "a_tif_2",
    }  # fmt: skip


def test_uploads_of_one_name_do_not_replace_each_other(store, trained, tmp_path):
    def upload(seed):
        path = store.files.project(trained.id) / "uploads" / f"{seed}" / "a.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, discs(seed)[0][..., 0])
        discard = path.parent.relative_to(store.root).as_posix()
        out = str(tmp_path / "out")
        return apply.run_apply(store, trained.id, silent, files=[str(path)], target=out, discard=discard)

    assert [upload(seed)["rows"][0]["remark"] for seed in (1, 2, 1)] == ["", "", "done before"]
    rows = table(tmp_path / "out" / "summary.csv")
    assert [(row["image"], row["results"], row["folder"]) for row in rows] == [
        ("a.tif", "a", ""),
        ("a.tif", "a_tif", ""),
    ]
    assert tifffile.imread(tmp_path / "out" / "a_masks.tif").max() == discs(1)[1].max()


def test_areas_of_small_voxels_are_more_than_zero(store, trained, tmp_path):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in" / "a.tif", discs(20)[0][..., 0], resolution=(1e7, 1e7), resolutionunit="CENTIMETER"
    )
    (row,) = apply.run_apply(store, trained.id, silent, str(tmp_path / "in"))["rows"]
    assert row["size_um"] == pytest.approx(row["size"] * 1e-6, rel=1e-5)


def test_an_image_without_objects(store, trained, tmp_path):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "empty.tif", np.zeros((60, 70), np.uint8))
    made = apply.run_apply(store, trained.id, silent, str(tmp_path / "in"), options={"pictures": True})
    assert made["rows"][0]["objects"] == 0
    assert made["rows"][0]["size"] is None
    assert table(f"{made['target']}/empty_objects.csv") == []


def test_uploads_are_packed_and_removed(store, trained, folder):
    uploads = store.files.project(trained.id) / "uploads" / "x"
    paths = []
    for number, seed in enumerate((1, 2)):
        (uploads / str(number)).mkdir(parents=True)
        paths.append(str(uploads / str(number) / "same.tif"))
        tifffile.imwrite(paths[-1], discs(seed)[0][..., 0])
    made = apply.run_apply(store, trained.id, silent, files=paths, discard=uploads.relative_to(store.root).as_posix())
    assert not uploads.exists()
    with zipfile.ZipFile(store.root / made["archive"]) as archive:
        assert sorted(archive.namelist()) == [
            "same_tif_2_masks.tif", "same_tif_2_objects.csv", "same_tif_masks.tif", "same_tif_objects.csv",
            "summary.csv",
        ]  # fmt: skip


def test_an_archive_has_what_its_own_run_made(store, trained, folder, tmp_path):
    out = str(tmp_path / "out")
    apply.run_apply(store, trained.id, silent, str(folder), target=out, options={"table": False})
    upload = store.files.project(trained.id) / "uploads" / "x" / "c.tif"
    upload.parent.mkdir(parents=True)
    tifffile.imwrite(upload, discs(23)[0][..., 0])
    discard = upload.parent.relative_to(store.root).as_posix()
    made = apply.run_apply(store, trained.id, silent, files=[str(upload)], target=out, discard=discard)
    with zipfile.ZipFile(store.root / made["archive"]) as archive:
        assert sorted(archive.namelist()) == ["c_masks.tif", "c_objects.csv", "summary.csv"]
        lines = archive.read("summary.csv").decode("utf-8-sig").splitlines()
    assert [line.split(",")[0] for line in lines] == ["image", "c.tif"]
    assert [row["image"] for row in table(tmp_path / "out" / "summary.csv")] == ["a.tif", "b.tif", "c.tif"]


def test_without_a_model_or_images(store, project, trained, tmp_path):
    other = catalogue.create_project(store, "empty")
    with pytest.raises(NotReadyError, match="Train a model first"):
        apply.run_apply(store, other.id, silent, str(tmp_path))
    with pytest.raises(InputError, match="no file or folder"):
        apply.run_apply(store, trained.id, silent, str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="16 or 32 bits"):
        apply.run_apply(store, trained.id, silent, str(tmp_path), options={"bits": 8})
    assert apply.model_name(store, trained.id) == "round 1"
    assert apply.model_name(store, other.id) is None


def test_a_damaged_record_means_nothing_was_done(store, trained, folder, tmp_path):
    out = tmp_path / "out"
    apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    assert set(json.loads((out / apply_record.RECORD).read_text())) == {"a", "b"}
    (out / apply_record.RECORD).write_text("{")
    made = apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    assert len(made["problems"]) == 2


def test_large_images_of_the_project_are_predicted_by_blocks(store, trained, monkeypatch):
    checkpoint = models.latest_checkpoint(store, trained.id)
    before = {key: labels.read(store, item) for key, item in labels.of_checkpoint(store, checkpoint.id).items()}
    item = next(iter(labels.of_checkpoint(store, checkpoint.id).values()))
    kept = np.array(labels.probability(store, item))
    store.execute("DELETE FROM label_map WHERE checkpoint_id = ?", (checkpoint.id,))
    monkeypatch.setattr(segment, "WHOLE_VOXELS", 100 * 100)
    from alapp.rounds.predict import evaluation

    again = evaluation.predict(store, trained.id, checkpoint, silent)
    for image_id, expected in before.items():
        found = labels.read(store, again[image_id])
        np.testing.assert_array_equal(found > 0, expected > 0)
        assert found.max() == expected.max()
    np.testing.assert_array_equal(labels.probability(store, again[item.image_id]), kept)
    assert not list(store.root.glob(".tmp-*"))
