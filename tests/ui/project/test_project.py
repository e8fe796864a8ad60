"""The Project tab's handlers."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import tifffile

from alapp import jobs
from alapp.errors import InputError
from alapp.rounds.annotate import annotation
from alapp.storage import catalogue
from alapp.ui import spaces
from alapp.ui.page import Page
from alapp.ui.project import importer, project, sheets
from alapp.worker import run_inline

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


def seen(folder):
    _, sheet, paths = importer.see_path(str(folder), None)
    return SimpleNamespace(
        values=np.array(sheet.value["data"] if isinstance(sheet.value, dict) else sheet.value)
    ), paths


def test_what_was_seen_is_imported_and_every_file_is_reported(store, folder):
    made = catalogue.create_project(store, "mine", patch_size=32)
    sheet, paths = seen(folder)
    assert len(paths) == 3
    importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    run_inline(store, jobs.active(store, made.id)[0])
    assert [image.name for image in catalogue.images(store, made.id)] == ["good"]
    report = importer.last_report(store, made.id)
    assert "Imported 1 images. 2 could not be used" in report
    assert "broken.tif" in report
    assert "stack is 3D" in report


def test_uploads_wait_in_the_state_folder_and_are_removed_after_the_import(store, folder):
    made = catalogue.create_project(store, "mine", patch_size=32)
    files = [str(folder / "good.tif")]
    _, sheet, paths = importer.see_uploads(files)
    values = SimpleNamespace(values=np.array(sheet.value["data"] if isinstance(sheet.value, dict) else sheet.value))
    importer.start_import(store, made.id, paths, values, "train", files, None, 0)
    (folder / "good.tif").unlink()
    run_inline(store, jobs.active(store, made.id)[0])
    assert [image.name for image in catalogue.images(store, made.id)] == ["good"]
    assert list((store.root / "uploads").iterdir()) == []


@pytest.mark.parametrize(("text", "words"), [("a lot", "not a number"), ("-1", "above 0")])
def test_an_impossible_voxel_size_is_named(store, folder, text, words):
    made = catalogue.create_project(store, "mine")
    sheet, paths = seen(folder)
    sheet.values = sheet.values.astype(object)
    sheet.values[1, importer.Y] = text
    with pytest.raises(InputError, match=rf"good.tif.*{words}"):
        importer.start_import(store, made.id, paths, sheet, "train", None, None, 0)
    assert jobs.active(store) == []


def test_deleting_a_project_can_be_undone(store):
    keep, gone = (catalogue.create_project(store, name) for name in ("keep", "gone"))
    opened, _, hidden, _ = project.delete_project(store, gone.id, None, 0)
    assert (opened, hidden) == (keep.id, gone.id)
    catalogue.restore_project(store, hidden)
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


def test_removing_an_image_can_be_undone(store, opened):
    made = opened
    first = catalogue.images(store, made.id)[0]
    _, gone, _, chosen = project.remove_image(store, made.id, first.name, 0)
    assert chosen == project.NO_IMAGE[1]
    with pytest.raises(InputError, match="Choose the image"):
        project.remove_image(store, made.id, chosen, 0)
    assert first.id not in [image.id for image in catalogue.images(store, made.id)]
    project.restore_image(store, gone, 0)
    assert first.id in [image.id for image in catalogue.images(store, made.id)]


def test_the_grid_is_shown_before_it_is_applied(store, opened):
    made = opened
    before = len(catalogue.patches(store, made.id))
    project.show_grid(store, made.id, 32, 1, 0)
    assert len(catalogue.patches(store, made.id)) == before
    project.apply_grid(store, made.id, 32, 1, 0, 0)
    assert len(catalogue.patches(store, made.id)) == 2 * 16


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
        lambda: importer.see_path(str(tmp_path), VISITOR),
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
    _, sheet, paths = importer.see_uploads(files)
    values = SimpleNamespace(values=np.array(sheet.value["data"] if isinstance(sheet.value, dict) else sheet.value))
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


def test_a_new_name_for_a_kind_that_objects_have_is_told(store, opened, monkeypatch):
    told = []
    monkeypatch.setattr(project.gr, "Info", told.append)
    project.keep_kinds(store, opened.id, "whole, cut", "objects", 0)
    assert told == []
    patch = catalogue.patches(store, opened.id)[0]
    annotation.submit_labels(store, patch.id, np.eye(64, dtype=np.int32), "oracle")
    project.keep_kinds(store, opened.id, "whole, broken", "whole, cut", 0)
    assert told == ["“cut” is now called “broken”."]
