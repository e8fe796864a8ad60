"""What the Project tab's handlers do to the database."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile

from alapp import jobs
from alapp.domain import ImageRole, Modality
from alapp.errors import InputError
from alapp.storage import catalogue
from alapp.ui import importer, project, sheets, spaces

VISITOR = "0" * 32


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cell <1>.tif"
    tifffile.imwrite(path, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    return path


def confirmed(rows):
    return pd.DataFrame(rows, columns=importer.HEADERS)


def test_one_click_makes_a_sample_project_with_its_job(store):
    made = spaces.create_sample(store, "bacteria", None)
    assert made.expires is None
    (job,) = jobs.active(store, made.id)
    assert (job.kind, job.params) == ("sample", {"sample": "bacteria"})


def test_create_rename_delete_undo(store):
    number, changed, _ = project.create_project(store, " mine ", "em", None, 0)
    assert changed == 1
    assert catalogue.project(store, number).modality is Modality.EM
    project.rename_project(store, number, "ours", 0)
    assert catalogue.project(store, number).name == "ours"
    opened, _, gone, _ = project.delete_project(store, number, None, 0)
    assert (opened, gone, catalogue.projects(store)) == (None, number, [])
    catalogue.restore_project(store, gone)
    assert [item.id for item in catalogue.projects(store)] == [number]


def test_a_name_can_be_used_once(store):
    for name in ("one", "two"):
        number, _, _ = project.create_project(store, name, "light", None, 0)
    with pytest.raises(InputError, match="already a project called 'one'"):
        project.rename_project(store, number, "one", 0)


def test_removing_an_image_can_be_undone(store, opened):
    made = opened
    first = catalogue.images(store, made.id)[0]
    _, gone, _, _ = project.remove_image(store, made.id, first.name, 0)
    assert first.id not in [image.id for image in catalogue.images(store, made.id)]
    project.restore_image(store, gone, 0)
    assert first.id in [image.id for image in catalogue.images(store, made.id)]


def test_settings_are_saved_one_by_one(store, opened):
    made = opened
    project.keep(store, made.id, "target", "nuclei", 0)
    project.keep(store, made.id, "validation_share", 0.35, 0)
    kept = catalogue.project(store, made.id)
    assert (kept.target, kept.validation_share) == ("nuclei", 0.35)
    with pytest.raises(ValueError, match="x-ray"):
        project.keep(store, made.id, "modality", "x-ray", 0)


def test_the_grid_is_shown_before_it_is_applied(store, opened):
    made = opened
    before = len(catalogue.patches(store, made.id))
    project.show_grid(store, made.id, 32, 1, 0)
    assert len(catalogue.patches(store, made.id)) == before
    project.apply_grid(store, made.id, 32, 1, 0, 0)
    assert len(catalogue.patches(store, made.id)) == 2 * 16


def test_files_are_looked_at_before_they_are_imported(store, opened, file, tmp_path):
    (tmp_path / "notes.tif").write_text("no image")
    rows, paths = importer.see_path(str(tmp_path / "*.tif"), None)[1:]
    rows = rows.value if hasattr(rows, "value") and isinstance(rows.value, list) else rows.value["data"]
    assert [row[0] for row in rows] == [file.name, "notes.tif"]
    assert rows[0][1:4] == ["64 × 64", "uint16", "YX"]
    assert "cannot be used" in rows[1][-1]
    importer.start_import(store, opened.id, paths, confirmed(rows), ImageRole.TEST, None, None, 0)
    (job,) = jobs.active(store, opened.id)
    assert job.kind == "import"
    assert job.params["role"] == "test"
    assert [entry["path"] for entry in job.params["files"]] == [str(file)]


def test_a_voxel_size_must_be_a_number(store, opened, file):
    row = [file.name, "64 × 64", "uint16", "YX", "assumed", "", "wide", "", ""]
    with pytest.raises(InputError, match="'wide' is not a number"):
        importer.start_import(store, opened.id, [str(file)], confirmed([row]), "train", None, None, 0)


def test_uploads_are_copied_into_the_state_folder(store, opened, file):
    row = [file.name, "64 × 64", "uint16", "YX", "assumed", "", "0.5", "0,5", ""]
    importer.start_import(store, opened.id, [str(file)], confirmed([row]), "train", [str(file)], None, 0)
    (job,) = jobs.active(store, opened.id)
    (entry,) = job.params["files"]
    copy = store.files.resolve(job.params["discard"]) / file.name
    assert entry["path"] == str(copy)
    assert copy.read_bytes() == file.read_bytes()
    assert entry["voxel_size"] == {"z": None, "y": 0.5, "x": 0.5}


def test_user_text_is_escaped_in_the_table(store, opened):
    made = catalogue.update_project(store, opened.id, name="<img src=x onerror=alert(1)>")
    text = sheets.images(store, made, catalogue.images(store, made.id))
    assert "<img src=x" not in text
    assert text.count("<tr>") == 3


def test_a_demo_visitor_keeps_one_project_and_cannot_import(store, file):
    first = spaces.create_sample(store, "hela", VISITOR)
    second = spaces.create_sample(store, "hela", VISITOR)
    assert [item.id for item in catalogue.projects(store, VISITOR)] == [second.id]
    assert second.expires is not None
    for attempt in (
        lambda: project.create_project(store, "mine", "light", VISITOR, 0),
        lambda: importer.see_path(str(file), VISITOR),
        lambda: importer.start_import(store, second.id, [], confirmed([]), "train", None, VISITOR, 0),
    ):
        with pytest.raises(InputError, match="demo"):
            attempt()
    assert first.id != second.id


def test_expired_demo_projects_are_erased(store, opened):
    demo = spaces.create_sample(store, "hela", VISITOR)
    catalogue.update_project(store, demo.id, expires="2020-01-01T00:00:00.000+00:00")
    assert spaces.sweep(store) == 1
    assert catalogue.projects(store, VISITOR) == []
    assert [item.id for item in catalogue.projects(store)] == [opened.id]
