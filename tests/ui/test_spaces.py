"""The public demo: each visitor alone, for a while, within limits."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from alapp import jobs
from alapp.domain import silent
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.storage import catalogue
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from alapp.ui import header, shell, spaces
from alapp.ui.annotate import annotate
from alapp.ui.project import importer, project


@pytest.fixture
def space(tmp_path, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/demo")
    return Store(tmp_path / "state")


def test_every_visitor_gets_a_sample_of_their_own(space):
    first, one, _ = shell.arrive(space, None)
    second, other, _ = shell.arrive(space, None)
    assert one != other
    assert first != second
    assert [item.id for item in catalogue.projects(space, one)] == [first]
    assert catalogue.project(space, first).expires
    assert {job.project_id for job in jobs.active(space)} == {first, second}


def test_a_visitor_who_comes_back_finds_the_project_again(space):
    project_id, visitor, _ = shell.arrive(space, None)
    assert shell.arrive(space, [project_id, visitor])[:2] == (project_id, visitor)
    assert len(catalogue.projects(space, visitor)) == 1


def test_a_made_up_visitor_or_project_opens_nothing_of_others(space):
    theirs, _, _ = shell.arrive(space, None)
    mine, visitor, _ = shell.arrive(space, [theirs, "' OR 1=1 --"])
    assert mine != theirs
    assert spaces._is_id(visitor)


def test_patches_of_others_are_refused(space):
    theirs, _, _ = shell.arrive(space, None)
    mine, _, _ = shell.arrive(space, None)
    importing.run_sample(space, theirs, silent, "hela")
    patch = catalogue.patches(space, theirs)[0]
    load = {function.__name__: function for function in annotate.server_functions(space)}["load_patch"]
    assert "another project" in load({"project": mine, "patch": patch.id, "session": "abc"})["error"]


def test_expired_projects_are_erased_with_their_files(space, monkeypatch):
    project_id, visitor, _ = shell.arrive(space, None)
    importing.run_sample(space, project_id, silent, "hela")
    folder = space.files.project(project_id)
    assert spaces.sweep(space) == 0
    catalogue.update_project(space, project_id, expires="2000-01-01T00:00:00.000+00:00")
    assert folder.is_dir()
    assert spaces.sweep(space) == 1
    assert not folder.exists()
    assert catalogue.projects(space, visitor) == []


def test_own_projects_and_imports_are_switched_off(space):
    _, visitor, _ = shell.arrive(space, None)
    with pytest.raises(InputError, match="switched off on this public demo"):
        project.create_project(space, "mine", "light", visitor, 0)


@pytest.mark.parametrize(
    "act",
    [
        lambda store, folder: project.create_project(store, "mine", "light", None, 0),
        lambda store, folder: spaces.create_sample(store, "hela", None),
        lambda store, folder: importer.see_path(str(folder), None, store, None),
        lambda store, folder: importer.start_import(store, 1, [], None, "train", None, None, 0),
    ],
)
def test_a_request_that_did_not_pass_through_the_page_is_no_workstation(space, tmp_path, act):
    tifffile.imwrite(tmp_path / "secret.tif", np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=r"switched off on this public demo|not loaded completely"):
        act(space, tmp_path)
    assert space.rows("SELECT * FROM project") == []


def test_uploads_have_limits_without_a_visitor_too(space, tmp_path):
    with pytest.raises(InputError, match="at most 3 images at once"):
        spaces.check_uploads(space, None, ["a.png"] * 4)
    tifffile.imwrite(tmp_path / "large.tif", np.zeros((2000, 2000), np.uint8))
    with pytest.raises(InputError, match="too large for this public demo"):
        spaces.check_uploads(space, None, [str(tmp_path / "large.tif")])


def test_a_workstation_has_no_visitors(tmp_path, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    store = Store(tmp_path / "state")
    assert shell.arrive(store, None)[:2] == (None, None)
    assert project.create_project(store, "mine", "light", None, 0)[0] == 1


def test_a_full_demo_asks_to_come_back(space, monkeypatch):
    monkeypatch.setattr(spaces, "MAX_WAITING", 1)
    shell.arrive(space, None)
    project_id, visitor, _ = shell.arrive(space, None)
    assert project_id is None
    with pytest.raises(InputError, match="come back"):
        spaces.create_sample(space, "hela", visitor)


def test_a_demo_whose_places_are_taken_says_so_and_makes_no_more_projects(space, monkeypatch, capsys):
    monkeypatch.setattr(spaces, "MAX_PROJECTS", 2)
    first, visitor, _ = shell.arrive(space, None)
    shell.arrive(space, None)
    opened, late, _ = shell.arrive(space, None)
    assert opened is None
    assert spaces.FULL in capsys.readouterr().out
    with pytest.raises(InputError, match="come back later"):
        spaces.create_sample(space, "hela", late)
    again = spaces.create_sample(space, "hela", visitor)  # takes the place of the visitor's own
    assert [item.id for item in catalogue.projects(space, visitor)] == [again.id]
    assert again.id != first
    catalogue.update_project(space, again.id, expires="2000-01-01T00:00:00.000+00:00")
    spaces.create_sample(space, "hela", late)  # what expired makes room without waiting for the sweep
    assert len(space.rows("SELECT * FROM project")) == 2


def test_visitors_who_come_at_once_are_not_all_let_in(space, monkeypatch):
    monkeypatch.setattr(spaces, "MAX_PROJECTS", 2)
    make = importing.create_sample_project
    monkeypatch.setattr(importing, "create_sample_project", lambda *given: (time.sleep(0.2), make(*given))[1])
    threads = [threading.Thread(target=shell.arrive, args=(space, None)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(space.rows("SELECT * FROM project")) == 2


def test_a_full_disk_takes_no_more_projects(space, monkeypatch):
    free = type("Usage", (), {"free": spaces.MIN_FREE - 1})
    monkeypatch.setattr(spaces.shutil, "disk_usage", lambda folder: free)
    with pytest.raises(InputError, match="come back later"):
        spaces.create_sample(space, "hela", "0" * 32)
    assert shell.arrive(space, None)[0] is None


def test_a_project_is_erased_only_after_its_running_job_has_ended(space):
    project_id, _, _ = shell.arrive(space, None)
    folder = Path(space.files.project(project_id))
    folder.mkdir(parents=True)
    running = rows.claim(space, "elsewhere:1:t")
    waiting = jobs.enqueue(space, "plan", project_id)
    catalogue.update_project(space, project_id, expires="2000-01-01T00:00:00.000+00:00")
    assert spaces.sweep(space) == 0
    assert folder.is_dir()
    assert jobs.get(space, running.id).cancel_requested
    assert jobs.get(space, waiting.id).state is jobs.JobState.CANCELLED
    rows.finish(space, running.id, "elsewhere:1:t", jobs.JobState.CANCELLED)
    assert spaces.sweep(space) == 1
    assert not folder.exists()


def test_another_visitors_project_is_not_opened(space):
    mine, visitor, _ = shell.arrive(space, None)
    theirs, _, _ = shell.arrive(space, None)
    assert header.opened(space, mine, visitor) == mine
    for wrong, of in ((theirs, visitor), (mine, None)):
        with pytest.raises(InputError, match="not there any more"):
            header.opened(space, wrong, of)


def test_a_visitor_cannot_have_files_looked_at(space, tmp_path):
    with pytest.raises(InputError, match="switched off on this public demo"):
        importer.see_uploads([str(tmp_path / "a.tif")], None, space, None)
