"""The Apply tab: what is refused, what is queued, and what the page says of a run."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import tifffile

from alapp import jobs
from alapp.errors import InputError, NotReadyError
from alapp.running import run_inline
from alapp.storage import catalogue, models
from alapp.ui import apply, spaces
from alapp.ui.errors import told
from alapp.ui.page import Page
from tests.rounds.apply.conftest import folder, trained  # noqa: F401  (fixtures)
from tests.rounds.conftest import fast, project, store  # noqa: F401  (fixtures)


def start(store, project, dropped=None, path="", target="", visitor=None, size=""):  # noqa: F811
    return apply.start_applying(store, project and project.id, dropped, path, target, 16, ["table"], visitor, 0, size)


def texts(store, project_id):  # noqa: F811
    status, listing, files, _ = apply.watch(store, project_id)
    return status, listing, files


def test_refreshing_in_every_state(store, trained):  # noqa: F811
    with gr.Blocks():
        page = Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None))
        tab = apply.build(page)
    empty = catalogue.create_project(store, "empty")
    for project_id, words in [(None, "Open or create"), (empty.id, "no model yet"), (trained.id, "model of round 1")]:
        updates = tab.refresh(project_id)
        assert len(updates) == len(tab.outputs)
        assert words in updates[0]
        assert updates[3].interactive == (project_id == trained.id)


def test_a_folder_is_queued_and_told_about(store, trained, folder):  # noqa: F811
    (folder / "broken.tif").write_bytes(b"nothing")
    start(store, trained, path=str(folder))
    (job,) = jobs.active(store, trained.id)
    assert job.kind == "apply"
    assert "Waiting for its turn" in texts(store, trained.id)[0]
    with pytest.raises(InputError, match="already"):
        start(store, trained, path=str(folder))
    assert run_inline(store, job).state is jobs.JobState.DONE
    status, listing, files = texts(store, trained.id)
    assert "Found the objects in 2 images. 1 file could not be used" in status
    assert "The results are in" in status
    assert "broken.tif" in listing
    assert "b.tif" in listing
    assert "µm²" in listing
    assert not files.visible


def test_a_pixel_size_that_is_the_projects_is_told(store, trained, folder):  # noqa: F811
    voxel = '{"z": null, "y": 0.645, "x": 0.645}'
    store.execute("UPDATE image SET voxel_size = ? WHERE project_id = ?", (voxel, trained.id))
    start(store, trained, path=str(folder))
    run_inline(store, jobs.active(store, trained.id)[0])
    listing = texts(store, trained.id)[1]
    assert "pixel size taken from the project: 0.645 µm" in listing  # beside the image
    assert "1 file tells no pixel size" in listing  # b.tif tells its own
    start(store, trained, path=str(folder), size="0,5")
    run_inline(store, jobs.active(store, trained.id)[0])
    listing = texts(store, trained.id)[1]
    assert listing.count("pixel size as entered: 0.5 µm") == 2
    assert "tells no pixel size" not in listing


def test_dropped_files_are_kept_and_can_be_downloaded(store, trained, folder):  # noqa: F811
    start(store, trained, dropped=[str(folder / "a.tif")])
    (job,) = jobs.active(store, trained.id)
    assert Path(job.params["files"][0]).is_relative_to(store.files.project(trained.id))
    run_inline(store, job)
    _, _, files = texts(store, trained.id)
    assert files.visible
    assert store.root.joinpath(jobs.get(store, job.id).result["archive"]).is_file()
    assert (folder / "a.tif").exists()


def test_uploads_that_could_not_be_copied_leave_nothing_behind(store, trained, folder, monkeypatch):  # noqa: F811
    copied, copy = [], apply.shutil.copyfile

    def full(source, target):
        if copied:
            raise OSError(28, "No space left on device")
        copied.append(copy(source, target))

    monkeypatch.setattr(apply.shutil, "copyfile", full)
    with pytest.raises(gr.Error, match="The disk is full"):
        told(start)(store, trained, dropped=[str(folder / "a.tif"), str(folder / "b.tif")])
    assert copied
    assert list((store.files.project(trained.id) / "uploads").iterdir()) == []
    assert not jobs.active(store)


def test_cancelled_and_failed_runs_are_told(store, trained, folder):  # noqa: F811
    start(store, trained, path=str(folder))
    jobs.cancel(store, jobs.active(store, trained.id)[0].id)
    assert "was cancelled" in texts(store, trained.id)[0]
    start(store, trained, path=str(folder))
    for file in folder.iterdir():
        file.unlink()
    run_inline(store, jobs.active(store, trained.id)[0])
    assert "failed: The folder" in texts(store, trained.id)[0]


def test_what_cannot_be_done_is_refused(store, trained, folder):  # noqa: F811
    untrained = catalogue.create_project(store, "other")
    for options, error, words in [
        ({"project": None}, NotReadyError, "Open a project"),
        ({"project": untrained}, NotReadyError, "Train a model"),
        ({"project": trained}, InputError, "Enter a folder"),
        ({"project": trained, "path": str(folder / "none")}, InputError, "no file or folder"),
        ({"project": trained, "path": str(folder), "target": str(folder)}, InputError, "holds the images"),
        ({"project": trained, "path": str(folder), "dropped": [str(folder / "a.tif")]}, InputError, "Clear one"),
        ({"project": trained, "path": str(folder), "size": "half"}, InputError, "not a number of micrometres"),
        ({"project": trained, "path": str(folder), "size": "0"}, InputError, "above 0"),
    ]:
        with pytest.raises(error, match=words):
            start(store, **options)
    assert not jobs.active(store)
    assert models.latest_checkpoint(store, untrained.id) is None


def test_visitors_of_the_demo_have_limits(store, trained, folder, monkeypatch):  # noqa: F811
    image = str(folder / "a.tif")
    with pytest.raises(InputError, match="switched off on this public demo"):
        start(store, trained, path=str(folder), visitor="v")
    with pytest.raises(InputError, match="switched off on this public demo"):
        start(store, trained, dropped=[image], target=str(folder.parent / "out"), visitor="v")
    with pytest.raises(InputError, match="at most 3 images"):
        start(store, trained, dropped=[image] * 4, visitor="v")
    tifffile.imwrite(folder / "large.tif", np.zeros((2000, 1700), np.uint8))
    with pytest.raises(InputError, match=r"large\.tif is too large"):
        start(store, trained, dropped=[str(folder / "large.tif")], visitor="v")
    monkeypatch.setattr(spaces, "MAX_WAITING", 0)
    with pytest.raises(InputError, match="Many visitors"):
        start(store, trained, dropped=[image], visitor="v")
    assert not jobs.active(store)


def test_a_visitor_may_drop_small_images(store, trained, folder):  # noqa: F811
    start(store, trained, dropped=[str(folder / "a.tif")], visitor="v")
    assert len(jobs.active(store, trained.id)) == 1
