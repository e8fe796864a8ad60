"""The public demo: each visitor alone, for a while, within limits."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.ui import shell, spaces
from alapp.ui.annotate import annotate
from alapp.ui.project import project


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
