"""The shell: it builds, every tab refreshes in every state of a project, the header says where we are."""

from __future__ import annotations

import gradio as gr
import pytest

from alapp import jobs
from alapp.jobs import JobState
from alapp.storage import catalogue
from alapp.storage import jobs as job_rows
from alapp.ui import header, shell
from alapp.ui.page import TABS, Page


@pytest.fixture
def tabs(store):
    with gr.Blocks():
        project_id, changed, open_patch, visitor = (gr.State(None) for _ in range(4))
        with gr.Tabs() as switch:
            page = Page(store, project_id, switch, changed, open_patch, visitor)
            built = []
            for name, title in TABS.items():
                with gr.Tab(title, id=name):
                    built.append(shell.MODULES[name].build(page))
    return built


def fail_job(store, project_id, sentence="It did not work."):
    job = jobs.enqueue(store, "preview", project_id)
    job_rows.claim(store, "host:1:t", job.id)
    job_rows.finish(store, job.id, "host:1:t", JobState.FAILED, sentence)
    return job


def test_no_event_is_public(store):
    demo = shell.build(store)
    assert demo.fns
    assert {fn.api_visibility for fn in demo.fns.values()} == {"private"}


@pytest.mark.parametrize("stage", ["none", "empty", "images"])
def test_every_tab_refreshes(store, project, tabs, stage):
    empty = catalogue.create_project(store, "empty")
    project_id = {"none": None, "empty": empty.id, "images": project.id}[stage]
    assert [tab.id for tab in tabs] == list(TABS)
    for tab in tabs:
        assert len(tab.refresh(project_id)) == len(tab.outputs), tab.id


def test_the_page_opens_with_the_project_it_showed_last(store, project):
    other = catalogue.create_project(store, "newer")
    assert shell.arrive(store, [project.id, None])[0] == project.id
    assert shell.arrive(store, None)[0] == other.id
    catalogue.delete_project(store, project.id)
    assert shell.arrive(store, [project.id, None])[0] == other.id


def test_a_browser_can_read_its_memory_after_a_restart(store):
    def key():
        [state] = [block for block in shell.build(store).blocks.values() if isinstance(block, gr.BrowserState)]
        return state.secret

    first = key()
    assert key() == first
    (store.root / shell.BROWSER_KEY).write_text("damaged ¬")
    assert key() not in (first, "damaged ¬")
    assert key() == shell.browser_key(store.root)


def test_a_visitor_sees_only_their_own_project(store, project, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/app")
    opened, visitor, _ = shell.arrive(store, [project.id, None])
    assert opened != project.id
    assert catalogue.project(store, opened).visitor == visitor
    assert catalogue.project(store, opened).expires is not None
    assert shell.arrive(store, [opened, visitor])[:2] == (opened, visitor)
    stranger, _, _ = shell.arrive(store, [opened, None])
    assert stranger != opened


def test_the_header_stays_still_when_nothing_changes(store, project):
    first = header.look(store, project.id, None, None, 0)
    seen = first[10]
    again = header.look(store, project.id, None, seen, 0)
    assert len(again) == len(first)
    assert all(update == gr.skip() for update in again)


def test_a_job_that_ends_changes_the_number_that_refreshes_the_tab(store, project):
    seen, before = header.look(store, project.id, None, None, 0)[10:]
    job = jobs.enqueue(store, "preview", project.id)
    seen, during = header.look(store, project.id, None, seen, 0)[10:]
    jobs.cancel(store, job.id)
    _, after = header.look(store, project.id, None, seen, 0)[10:]
    assert before == during != after


def test_a_failure_shows_its_sentence_until_it_is_dismissed_or_tried_again(store, project):
    job = fail_job(store, project.id, "The disk <full>.")
    assert header.shown_job(jobs.history(store, project.id)).id == job.id
    text = header.job_html(header.shown_job(jobs.history(store, project.id)))
    assert "The disk &lt;full&gt;." in text
    assert header.shown_job(jobs.history(store, project.id), header.last_failed_id(store, project.id)) is None
    header.run_again(store, project.id, 0)
    (queued,) = jobs.active(store, project.id)
    assert (queued.kind, queued.params) == (job.kind, job.params)


def test_cancel_ends_the_job_that_is_shown(store, project):
    jobs.enqueue(store, "preview", project.id)
    assert header.cancel_job(store, project.id, 4) == 5
    assert not jobs.active(store, project.id)


def test_the_next_step_starts_its_job(store):
    empty_sample = catalogue.create_project(store, "sample", sample="hela")
    switch, changed = header.take_next_step(store, empty_sample.id, 7)
    assert switch.selected == "project"
    assert changed == 8
    assert [job.kind for job in jobs.active(store, empty_sample.id)] == ["sample"]
    assert header.take_next_step(store, None, 7)[1] == 7


def test_a_change_is_one_event_for_all_tabs_and_refreshes_the_open_one(store, project):
    demo = shell.build(store)
    found = [fn for fn in demo.fns.values() if "refresh_when_changed" in getattr(fn.fn, "__qualname__", "")]
    assert len(found) == 1
    assert len(found[0].targets) == 2
    refreshed = found[0].fn(project.id, "apply")
    assert 0 < len(refreshed) < len(found[0].outputs)
    assert set(refreshed) <= set(found[0].outputs)
