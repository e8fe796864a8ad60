"""Deleted projects: listed, brought back, erased for good."""

from __future__ import annotations

import gradio as gr
import pytest

from alapp import jobs
from alapp.errors import ConflictError, InputError
from alapp.jobs import JobState
from alapp.storage import catalogue
from alapp.storage import jobs as rows
from alapp.ui.project import deleted, project

VISITOR = "0" * 32


@pytest.fixture
def gone(store, opened):
    """A deleted project with two images, beside one that is open. Gives (the deleted one, the open one)."""
    other = catalogue.create_project(store, "other")
    catalogue.delete_project(store, opened.id)
    return opened, other


def choices(store, project_id):
    fold, menu, *_ = deleted.refresh(store, project_id)
    return fold.visible, [identity for _, identity in menu.choices], menu.value


def test_deleting_cancels_every_job_and_says_so(store, opened, monkeypatch):
    told = []
    monkeypatch.setattr(project.gr, "Info", told.append)
    running, waiting, paused = (jobs.enqueue(store, kind, opened.id) for kind in ("train", "map", "predict"))
    other = jobs.enqueue(store, "map", catalogue.create_project(store, "other").id)
    rows.claim(store, "elsewhere:1:t", running.id)
    jobs.pause(store, paused.id)
    project.delete_project(store, opened.id, None, 0)
    assert jobs.get(store, running.id).cancel_requested
    assert [jobs.get(store, job.id).state for job in (waiting, paused)] == [JobState.CANCELLED] * 2
    assert jobs.get(store, other.id).state is JobState.QUEUED
    assert "Its jobs “Training the round”, “Drawing the map of patches”, “Applying the model" in told[0]


def test_what_was_deleted_is_listed_after_a_reload(store, gone):
    made, other = gone
    assert choices(store, other.id) == choices(store, None) == (True, [made.id], made.id)
    catalogue.delete_project(store, other.id)
    store.execute("UPDATE project SET deleted = '2000-01-01' WHERE id = ?", (made.id,))
    assert choices(store, None) == (True, [other.id, made.id], other.id)  # the last one first
    for item in (made, other):
        assert deleted.bring_back(store, item.id, None, 3)[-2:] == [item.id, 4]
    assert choices(store, None) == (False, [], None)
    with pytest.raises(InputError, match="in another tab"):
        deleted.bring_back(store, made.id, None, 0)


def test_a_project_whose_name_was_taken_is_not_brought_back(store, gone):
    made, _ = gone
    catalogue.create_project(store, made.name)
    with pytest.raises(InputError, match="now another project called 'discs'"):
        deleted.bring_back(store, made.id, None, 0)


def test_two_deleted_projects_of_one_name_are_told_apart(store, gone):
    made, other = gone
    second = catalogue.create_project(store, made.name)
    for item, day in ((made, "2026-11-28"), (second, "2026-11-29"), (other, "2026-11-30")):
        store.execute("UPDATE project SET deleted = ? WHERE id = ?", (f"{day}T10:20:30.400+00:00", item.id))
    _, menu, *_ = deleted.refresh(store, None)
    assert menu.choices == [
        ("other", other.id),
        ("discs (2026-11-29 10:20)", second.id),
        ("discs (2026-11-28 10:20)", made.id),
    ]


def test_erasing_asks_first_and_removes_rows_files_and_uploads(store, gone):
    made, other = gone
    folder, uploads = store.files.project(made.id), store.root / "uploads" / "1234"
    uploads.mkdir(parents=True)
    failed = jobs.enqueue(store, "import", made.id, {"files": [], "discard": "uploads/1234"})
    store.execute("UPDATE job SET state = 'failed' WHERE id = ?", (failed.id,))
    question, answers, asked = deleted.ask_to_erase(store, made.id, None)
    assert answers.visible
    assert "Erase “discs” for good? Its 2 images" in question.value
    assert "cannot be undone" in question.value
    assert folder.exists()
    deleted.erase(store, asked, None, 0)
    assert not folder.exists()
    assert not uploads.exists()
    assert [row["id"] for row in store.rows("SELECT id FROM project")] == [other.id]
    assert store.rows("SELECT * FROM image") == store.rows("SELECT * FROM job") == []


def test_a_question_goes_only_when_another_project_is_chosen(store, gone):
    made, other = gone
    for asked in (made.id, None):  # None: the menu was left for the button, whose answer may come before or after
        assert deleted.follow_menu(made.id, asked) == [gr.skip()] * 3
    question, answers, asked = deleted.follow_menu(other.id, made.id)
    assert (question.visible, answers.visible, asked) == (False, False, None)


def test_nothing_is_erased_while_a_job_of_it_runs(store, gone):
    made, _ = gone
    running = jobs.enqueue(store, "train", made.id)
    rows.claim(store, "elsewhere:1:t", running.id)
    with pytest.raises(ConflictError, match="“discs” cannot be erased yet: its job “Training the round”"):
        deleted.erase(store, made.id, None, 0)
    assert store.files.project(made.id).exists()
    assert jobs.get(store, running.id).cancel_requested
    rows.finish(store, running.id, "elsewhere:1:t", JobState.CANCELLED)
    deleted.erase(store, made.id, None, 0)
    assert not store.files.project(made.id).exists()


def test_a_project_that_is_not_deleted_is_never_erased(store, opened):
    for chosen in (opened.id, None):
        with pytest.raises(InputError, match="Choose a deleted project"):
            deleted.erase(store, chosen, None, 0)
    assert len(catalogue.images(store, opened.id)) == 2


def test_visitors_see_and_erase_only_their_own(store, gone, monkeypatch):
    made, _ = gone
    theirs = catalogue.create_project(store, "demo", visitor=VISITOR)
    assert choices(store, theirs.id) == (False, [], None)
    monkeypatch.setenv("SPACE_ID", "someone/app")
    for visitor in (VISITOR, None):
        with pytest.raises(InputError, match=r"Choose a deleted|not loaded completely"):
            deleted.erase(store, made.id, visitor, 0)
