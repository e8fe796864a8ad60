"""The Project tab's handlers."""

from __future__ import annotations

import sys

import gradio as gr
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from alapp import jobs
from alapp.domain import PatchRole, silent
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_classes
from alapp.running import run_inline
from alapp.storage import catalogue, rounds
from alapp.ui import spaces
from alapp.ui.page import Page
from alapp.ui.project import image_menu, importer, project, sheets

VISITOR = "0" * 32


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    tifffile.imwrite(images / "good.tif", rng.integers(0, 255, (80, 90), dtype=np.uint8))
    tifffile.imwrite(images / "stack.tif", rng.integers(0, 255, (4, 80, 90), dtype=np.uint8), photometric="minisblack")
    (images / "broken.tif").write_bytes(b"II*\0nonsense")
    return images


def shown(sheet):
    """What the page sends of a sheet that was not edited."""
    rows = sheet.value["data"] if isinstance(sheet.value, dict) else sheet.value
    return pd.DataFrame(rows, columns=importer.HEADERS)


def seen(folder, store, project_id=None):
    _, sheet, paths = importer.see_path(str(folder), None, store, project_id)
    return shown(sheet), paths


def test_what_was_seen_is_imported_and_every_file_is_reported(store, folder):
    made = catalogue.create_project(store, "mine", patch_size=32)
    sheet, paths = seen(folder, store)
    assert len(paths) == 3
    importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    run_inline(store, jobs.active(store, made.id)[0])
    assert [image.name for image in catalogue.images(store, made.id)] == ["good"]
    report = importer.last_report(store, made.id)
    assert "Imported 1 image. 2 could not be used" in report
    assert "broken.tif" in report
    assert "stack is 3D" in report


def test_only_assumed_axes_count_as_confirmed_by_a_person(store, tmp_path):
    made = catalogue.create_project(store, "mine", patch_size=32)
    tifffile.imwrite(tmp_path / "told.tif", np.zeros((5, 40, 40), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "untold.tif", np.zeros((5, 40, 40), np.uint8), photometric="minisblack")
    sheet, paths = seen(tmp_path, store, made.id)
    importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    run_inline(store, jobs.active(store, made.id)[0])
    sources = {image.name: image.axes_source for image in catalogue.images(store, made.id)}
    assert sources == {"told": "ImageJ metadata", "untold": "confirmed"}


def test_what_does_not_fit_is_told_before_the_import(store, folder):
    made = catalogue.create_project(store, "mine", patch_size=32)
    importing.add_array(store, made.id, "old", np.zeros((40, 40, 2), np.uint8))
    sheet, _ = seen(folder, store, made.id)
    remarks = dict(zip(sheet[importer.FILE], sheet["Remark"], strict=True))
    assert remarks["broken.tif"].startswith(importer.UNUSABLE)
    assert remarks["good.tif"].startswith("does not fit: good has 1 channel, but old in this project has 2.")
    assert remarks["stack.tif"].startswith("does not fit: stack is 3D, but old in this project is 2D.")


def test_the_button_says_how_many_can_be_imported(store, folder):
    sheet, _ = seen(folder, store)
    remarks = list(sheet["Remark"])
    assert sum(remark.startswith(importer.MISFIT) for remark in remarks) == 1  # a stack beside a flat image
    said, button = importer.counts(sheet)
    assert "3 files, of which 2 cannot be imported" in said
    assert button.value == ("Import" if any(r.endswith(importer.CORRECTABLE) for r in remarks) else "Import 1 image")
    sheet["Remark"] = ["", "", importer.UNUSABLE]
    assert importer.counts(sheet)[1].value == "Import 2 images"


def test_uploads_wait_in_the_state_folder_and_are_removed_after_the_import(store, folder):
    made = catalogue.create_project(store, "mine", patch_size=32)
    files = [str(folder / "good.tif")]
    _, sheet, paths = importer.see_uploads(files, None, store, made.id)
    values = shown(sheet)
    importer.start_import(store, made.id, paths, values, "train", files, None, 0)
    (folder / "good.tif").unlink()
    run_inline(store, jobs.active(store, made.id)[0])
    assert [image.name for image in catalogue.images(store, made.id)] == ["good"]
    assert list((store.root / "uploads").iterdir()) == []


def test_a_killed_import_does_not_complain_of_its_own_images(store, folder):
    made = catalogue.create_project(store, "mine", patch_size=32)
    files = [str(folder / "good.tif")]
    _, sheet, paths = importer.see_uploads(files, None, store, made.id)
    importer.start_import(store, made.id, paths, shown(sheet), "train", files, None, 0)
    (job,) = jobs.active(store, made.id)
    # The image is there, and then the worker was killed before it could say so.
    importing.run_import(store, made.id, silent, **{**job.params, "discard": None})
    done = run_inline(store, job)
    assert done.result == {"imported": ["good"], "problems": []}
    assert importer.last_report(store, made.id) == "<p>Imported 1 image.</p>"
    assert list((store.root / "uploads").iterdir()) == []


def test_uploads_that_could_not_be_copied_leave_nothing_behind(store, folder, monkeypatch):
    made = catalogue.create_project(store, "mine", patch_size=32)
    files = [str(folder / "good.tif")]
    _, sheet, paths = importer.see_uploads(files, None, store, made.id)

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importer.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        importer.start_import(store, made.id, paths, shown(sheet), "train", files, None, 0)
    assert list((store.root / "uploads").iterdir()) == []
    assert jobs.active(store) == []


def test_a_field_of_a_plate_is_imported(store, tmp_path):
    made = catalogue.create_project(store, "mine", patch_size=32)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 70), dtype=np.uint8)
    field = zarr.open_group(tmp_path / "plate.ome.zarr", mode="w", zarr_format=2).create_group("A/1/0")
    field.create_array("0", data=pixels)
    axes = [{"name": name, "type": "space"} for name in "yx"]
    field.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    sheet, paths = seen(tmp_path / "plate.ome.zarr" / "A" / "1" / "0", store)
    sheet.loc[0, importer.Y] = "?"
    with pytest.raises(InputError, match=r"plate\.ome\.zarr/A/1/0: the voxel size"):
        importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    sheet.loc[0, importer.Y] = ""
    importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    run_inline(store, jobs.active(store, made.id)[0])
    assert [image.name for image in catalogue.images(store, made.id)] == ["plate_A_1_0"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode only")
def test_files_whose_names_are_no_utf8_are_shown_and_imported(store, folder):
    made = catalogue.create_project(store, "mine", patch_size=32)
    (folder / "stack.tif").unlink()
    for name in ("good", "broken"):
        (folder / f"{name}.tif").rename(folder / f"{name}\udce9.tif")
    sheet, paths = seen(folder, store)
    assert sheet[importer.FILE].tolist() == ["broken?.tif", "good?.tif"]
    sheet.to_json(force_ascii=False).encode()  # the page is sent UTF-8
    importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    run_inline(store, jobs.active(store, made.id)[0])
    assert [image.name for image in catalogue.images(store, made.id)] == ["good?"]
    assert "<strong>broken?.tif</strong>" in importer.last_report(store, made.id)


def test_a_time_series_is_told_so_after_the_import(store, folder):
    made = catalogue.create_project(store, "mine", patch_size=32)
    for file in folder.iterdir():
        file.unlink()
    film = np.random.default_rng(0).integers(0, 255, (4, 80, 90), dtype=np.uint8)
    tifffile.imwrite(folder / "film.tif", film, imagej=True, metadata={"axes": "TYX"})
    sheet, paths = seen(folder, store)
    importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    run_inline(store, jobs.active(store, made.id)[0])
    assert "film.tif is a time series of 4 frames" in importer.last_report(store, made.id)


@pytest.mark.parametrize(("text", "words"), [("a lot", "not a number"), ("-1", "above 0"), ("inf", "must be a number")])
def test_an_impossible_voxel_size_is_named(store, folder, text, words):
    made = catalogue.create_project(store, "mine")
    sheet, paths = seen(folder, store)
    sheet.loc[1, importer.Y] = text
    with pytest.raises(InputError, match=rf"good.tif.*{words}"):
        importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    assert jobs.active(store) == []


def test_a_voxel_size_typed_halfway_is_filled_in_and_told(store, folder, monkeypatch):
    told = []
    monkeypatch.setattr(gr, "Info", told.append)
    made = catalogue.create_project(store, "mine")
    sheet, paths = seen(folder, store)
    sheet.loc[1, importer.X] = sheet.loc[2, importer.X] = "0,1"
    importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    (job,) = jobs.active(store, made.id)
    assert job.params["files"][1]["voxel_size"] == {"z": None, "y": 0.1, "x": 0.1}
    assert set(job.params["files"][1]) == {"path", "axes", "voxel_size"}
    (sentence,) = told
    assert sentence == "good.tif: y was left empty and is taken to be 0.1 µm, like x. The same of 1 other file."


def without_z(sheet):
    return sheet.drop(columns=importer.Z)


def renamed(sheet):
    return sheet.rename(columns={importer.Z: importer.Y, importer.Y: importer.Z})


def one_more_column(sheet):
    return sheet.assign(**{"Header 10": ""})


def one_row_less(sheet):
    return sheet.iloc[:-1]


def other_order(sheet):
    return sheet.iloc[::-1]


@pytest.mark.parametrize("edit", [without_z, renamed, one_more_column, one_row_less, other_order])
def test_a_sheet_whose_columns_or_rows_changed_is_refused(store, folder, edit):
    made = catalogue.create_project(store, "mine")
    sheet, paths = seen(folder, store)
    sheet.loc[:, [importer.Z, importer.Y, importer.X]] = ["0.5", "0.2", "0.1"]
    with pytest.raises(InputError, match="list of files changed while you edited it"):
        importer.start_import(store, made.id, paths, edit(sheet), "train", None, None, 0)
    assert jobs.active(store) == []
    importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    (job,) = jobs.active(store)
    assert job.params["files"][1]["voxel_size"] == {"z": 0.5, "y": 0.2, "x": 0.1}


def test_deleting_a_project_can_be_undone(store):
    keep, gone = (catalogue.create_project(store, name) for name in ("keep", "gone"))
    opened, _, fold, menu = project.delete_project(store, gone.id, None, 0)
    (hidden,) = catalogue.projects(store, deleted=True)
    assert (opened, hidden.id) == (keep.id, gone.id)
    assert (fold.open, fold.visible, menu.value) == (True, True, gone.id)
    catalogue.restore_project(store, hidden.id)
    assert {item.name for item in catalogue.projects(store)} == {"keep", "gone"}


def test_names_stay_unique(store):
    first = catalogue.create_project(store, "one")
    catalogue.create_project(store, "two")
    with pytest.raises(InputError, match="already a project called 'two'"):
        project.rename_project(store, first.id, " two ", 0)
    with pytest.raises(InputError, match="already a project"):
        project.create_project(store, "two", "light", None, 0)


def test_settings_are_kept_and_checked(store):
    made = catalogue.create_project(store, "one")
    project.keep(store, made.id, "modality", "em", 0)
    project.keep(store, made.id, "validation_share", 7, 0)
    kept = catalogue.project(store, made.id)
    assert (kept.modality, kept.validation_share) == ("em", 0.9)
    with pytest.raises(ValueError, match="xray"):
        project.keep(store, made.id, "modality", "xray", 0)


def test_without_a_project_the_page_tells_how_it_goes():
    shown = sheets.no_project()
    assert "No project is open" in shown
    assert all(title in shown for title, _, _ in sheets.STEPS)


def test_one_click_makes_a_sample_project_with_its_job(store):
    made = spaces.create_sample(store, "bacteria", None)
    assert made.expires is None
    (job,) = jobs.active(store, made.id)
    assert (job.kind, job.params) == ("sample", {"sample": "bacteria"})


def test_only_what_is_there_can_be_removed(store, opened):
    with gr.Blocks():
        tab = project.build(Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None)))
    ids = [component.elem_id for component in tab.outputs]
    empty = catalogue.create_project(store, "empty")
    for project_id, shown in ((opened.id, True), (empty.id, False)):
        updates = dict(zip(ids, tab.refresh(project_id), strict=True))
        assert updates["remove-name"].visible is updates["remove-image"].visible is shown
        assert not updates["restore-image"].visible


def test_removing_an_image_can_be_undone_also_after_a_reload(store, opened):
    first, *others = catalogue.images(store, opened.id)
    assert image_menu.remove_image(store, opened.id, first.id, 0) == 1
    assert [image.id for image in catalogue.images(store, opened.id)] == [image.id for image in others]
    for missing in (first.id, image_menu.NO_IMAGE[1], None):
        with pytest.raises(InputError, match="Choose the image"):
            image_menu.remove_image(store, opened.id, missing, 0)
    _, menu, remove, back = image_menu.refresh(store, opened, catalogue.images(store, opened.id))
    assert (f"{first.name} (removed)", first.id) in menu.choices
    assert remove.visible is bool(others)
    assert back.visible
    for there in (0, *(image.id for image in others)):
        with pytest.raises(InputError, match="Choose the removed image"):
            image_menu.restore_image(store, opened.id, there, 0)
    assert image_menu.restore_image(store, opened.id, first.id, 1) == 2
    assert first.id in [image.id for image in catalogue.images(store, opened.id)]
    assert not image_menu.refresh(store, opened, catalogue.images(store, opened.id))[3].visible


@pytest.mark.parametrize(("spoil", "words"), [("unlink", "file is missing"), ("empty", "file is damaged")])
def test_an_image_whose_file_is_missing_can_be_removed(store, opened, spoil, words):
    image = catalogue.images(store, opened.id)[0]

    def page():
        return image_menu.refresh(store, opened, catalogue.images(store, opened.id))

    assert "file is" not in page()[0]
    path = store.files.resolve(image.path)
    path.unlink()
    if spoil == "empty":
        path.write_bytes(b"")
        sheets._thumbnail.cache_clear()
    table, menu, *_ = page()
    assert words in table
    assert (image.name, image.id) in menu.choices
    image_menu.remove_image(store, opened.id, image.id, 0)
    assert words not in page()[0]


def test_the_grid_is_shown_before_it_is_applied(store, opened, monkeypatch):
    made = opened
    before = len(catalogue.patches(store, made.id))
    drawn = project.show_grid(store, made.id, 32, 1, 0)
    assert drawn.label == "Patch grid on image_0: 16 patches"
    assert len(catalogue.patches(store, made.id)) == before
    said = []
    monkeypatch.setattr(project, "info", said.append)
    project.apply_grid(store, made.id, 32, 1, 0, 0)
    assert len(catalogue.patches(store, made.id)) == 2 * 16
    assert said == ["2 images are now cut into 32 patches."]


def test_the_images_are_not_offered_to_be_cut_after_the_first_batch(store, opened):
    with gr.Blocks():
        tab = project.build(Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None)))
    shown = tab.refresh(opened.id)
    assert len(shown) == len(tab.outputs) == len(tab.refresh(None))
    at = next(i for i, each in enumerate(shown) if isinstance(each, gr.Button) and each.value.startswith("Cut"))
    assert tab.outputs[at].value == shown[at].value
    assert shown[at].interactive
    rounds.add(store, opened.id, "random", 1, 0, [(catalogue.patches(store, opened.id)[0].id, PatchRole.TRAIN, {})])
    after = tab.refresh(opened.id)[at]
    assert (after.value, after.interactive) == ("The patches have been fixed since the first batch", False)


def test_patches_that_had_to_be_moved_in_are_told(store, opened):
    label = project.show_grid(store, opened.id, 96, 1, 0).label  # of 128 pixels
    assert label.endswith("4 patches; the last ones are moved in, and share up to 64 pixels with their neighbours")
    assert "moved in" not in project.show_grid(store, opened.id, 80, 1, 32).label  # as much as was asked for


def test_a_grid_that_cannot_be_has_a_sentence(store, opened):
    with pytest.raises(InputError, match="A patch size of 10 pixels is too small: choose at least 32"):
        project.apply_grid(store, opened.id, 10, 1, 0, 0)


def test_the_table_counts_one_image_and_one_patch(store):
    made = catalogue.create_project(store, "one", patch_size=64)
    importing.add_array(store, made.id, "image", np.zeros((1, 64, 64, 1), np.uint8))
    assert "one: 1 image, 1 patch</h3>" in sheets.images(store, made, catalogue.images(store, made.id))


def test_user_text_is_escaped_in_the_table(store, opened):
    made = catalogue.update_project(store, opened.id, name="<img src=x onerror=alert(1)>")
    text = sheets.images(store, made, catalogue.images(store, made.id))
    assert "<img src=x" not in text
    assert text.count("<tr>") == 3


def test_a_demo_visitor_keeps_one_project_and_cannot_import(store, tmp_path):
    first = spaces.create_sample(store, "hela", VISITOR)
    second = spaces.create_sample(store, "hela", VISITOR)
    assert [item.id for item in catalogue.projects(store, VISITOR)] == [second.id]
    assert second.expires is not None
    for attempt in (
        lambda: project.create_project(store, "mine", "light", VISITOR, 0),
        lambda: importer.see_path(str(tmp_path), VISITOR, store, second.id),
        lambda: importer.start_import(store, second.id, [], None, "train", None, VISITOR, 0),
    ):
        with pytest.raises(InputError, match="demo"):
            attempt()
    assert first.id != second.id


def test_two_uploads_with_one_name_are_not_mixed_up(store, tmp_path):
    made = catalogue.create_project(store, "mine", patch_size=32)
    files = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        tifffile.imwrite(tmp_path / str(number) / "cell.tif", np.full((40, 40), number, np.uint8))
        files.append(str(tmp_path / str(number) / "cell.tif"))
    _, sheet, paths = importer.see_uploads(files, None, store, made.id)
    values = shown(sheet)
    importer.start_import(store, made.id, paths, values, "train", files, None, 0)
    run_inline(store, jobs.active(store, made.id)[0])
    (image,) = catalogue.images(store, made.id)
    assert (catalogue.read_image(store, image) == 1).all()
    assert "already an image with this name" in importer.last_report(store, made.id)
    assert list((store.root / "uploads").iterdir()) == []


def test_kinds_of_objects_are_saved_only_when_the_field_was_changed(store, opened):
    assert project.kinds_of(store, opened.id) == ("objects", "objects")
    text, shown, changed = project.keep_kinds(store, opened.id, "whole,\ncut", "objects", 0)
    assert (text, shown, changed) == ("whole, cut", "whole, cut", 1)
    assert catalogue.project(store, opened.id).classes == ("whole", "cut")
    # Another page that still shows the old names, and was only looked at, must not bring them back.
    project.keep_kinds(store, opened.id, "objects", "objects", 0)
    assert catalogue.project(store, opened.id).classes == ("whole", "cut")
    with pytest.raises(InputError, match="two kinds called"):
        project.keep_kinds(store, opened.id, "whole, whole", "whole, cut", 0)
    project.keep_kinds(store, opened.id, "", "whole, cut", 0)
    assert catalogue.project(store, opened.id).classes == ()
    assert project.kinds_of(store, None) == ("", "")


def test_kinds_that_are_being_typed_are_left_alone_when_the_target_was_kept(store, opened):
    nothing = (gr.skip(), gr.skip())
    assert project.follow_target(store, opened.id, "objects", "objects") == nothing
    assert project.follow_target(store, opened.id, "who", "objects") == nothing
    project.keep(store, opened.id, "target", "nuclei", 0)
    assert project.follow_target(store, opened.id, "whole, c", "objects") == nothing
    assert project.follow_target(store, opened.id, "objects", "objects") == ("nuclei", "nuclei")


def test_a_target_with_a_comma_is_not_taken_for_two_kinds(store, opened):
    project.keep(store, opened.id, "target", "nuclei, mitochondria", 0)
    assert project.follow_target(store, opened.id, "objects", "objects") == ("", "")
    text, shown = project.kinds_of(store, opened.id)
    assert (text, shown) == ("", "")  # as there is one kind, whose name is no name of a kind
    text, shown, _ = project.keep_kinds(store, opened.id, "nuclei, mitochondria", shown, 0)
    assert annotation_classes.names(catalogue.project(store, opened.id)) == {1: "nuclei", 2: "mitochondria"}
    assert text == shown == "nuclei, mitochondria"
    project.keep_kinds(store, opened.id, "nuclei, mitochondria, dead", shown, 0)
    assert annotation_classes.names(catalogue.project(store, opened.id)) == {1: "nuclei", 2: "mitochondria", 3: "dead"}
    project.keep_kinds(store, opened.id, "", "nuclei, mitochondria, dead", 0)
    project.keep(store, opened.id, "target", "x" * 60, 0)  # longer than a kind may be called
    assert project.kinds_of(store, opened.id) == ("", "")


def test_a_new_name_for_a_kind_that_objects_have_is_told(store, opened, monkeypatch):
    told = []
    monkeypatch.setattr(project.gr, "Info", told.append)
    project.keep_kinds(store, opened.id, "whole, cut", "objects", 0)
    assert told == []
    patch = catalogue.patches(store, opened.id)[0]
    annotation.submit_labels(store, patch.id, np.eye(64, dtype=np.int32), "oracle")
    project.keep_kinds(store, opened.id, "whole, broken", "whole, cut", 0)
    assert told == ["“cut” is now called “broken”."]
