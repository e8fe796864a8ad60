"""The shell: it builds, every tab refreshes in every state of a project, the header says where we are."""

from __future__ import annotations

import gradio as gr
import pytest

from alapp import jobs
from alapp.jobs import JobState
from alapp.storage import catalogue, processes
from alapp.storage import jobs as job_rows
from alapp.ui import header, shell
from alapp.ui.page import TABS, Page
from alapp.ui.train import train


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
    # Else every event makes the page look for all components of which any ever had a status.
    assert all(fn.show_progress_on == [] for fn in demo.fns.values() if fn.show_progress == "hidden")


def test_the_last_of_two_quick_choices_counts(store):
    """Gradio drops an event while the one before it is being answered, unless it is told otherwise."""
    demo = shell.build(store)
    modes = {}
    for fn in demo.fns.values():
        for number, event in fn.targets:
            modes.setdefault(event, set()).add((fn.trigger_mode, type(demo.blocks.get(number)) is gr.Tab))
    for event in ("input", "blur"):
        assert modes[event] == {("always_last", False)}, event
    # What is put off comes with the event data of the one before: what was clicked must not be put off.
    for event in ("select", "picked"):
        assert {mode for mode, of_tab in modes[event] if not of_tab} == {"multiple"}, event


@pytest.mark.parametrize("stage", ["none", "empty", "images"])
def test_every_tab_refreshes(store, project, tabs, stage):
    empty = catalogue.create_project(store, "empty")
    project_id = {"none": None, "empty": empty.id, "images": project.id}[stage]
    assert [tab.id for tab in tabs] == list(TABS)
    for tab in tabs:
        assert len(tab.refresh(project_id)) == len(tab.outputs), tab.id


def test_what_is_being_filled_in_is_left_alone_until_there_is_something_new(store, project, tabs):
    """An image that was chosen to be removed, a number that is being typed, a question."""
    first = tabs[0]
    menu, fold = first.fields[0][0], first.fields[1][0]
    updates, sent = shell.refreshed(store, first, project.id, {})
    assert len(updates[menu].choices) == 3
    again, sent = shell.refreshed(store, first, project.id, sent)
    assert again[menu] == gr.skip()
    assert again[first.outputs[2]] == updates[first.outputs[2]]  # the table, which nobody fills in
    catalogue.set_image_deleted(store, catalogue.images(store, project.id)[0].id, True)
    updates, sent = shell.refreshed(store, first, project.id, sent)
    assert updates[menu].value == 0
    empty = catalogue.create_project(store, "empty")
    updates, sent = shell.refreshed(store, first, empty.id, sent)
    assert (updates[menu].visible, updates[fold].open) == (False, True)
    assert shell.refreshed(store, first, empty.id, sent)[0][fold] == gr.skip()
    assert shell.refreshed(store, first, project.id, sent)[0][menu].visible

    training = next(tab for tab in tabs if tab.id == "train")
    fields = [field for group in training.fields for field in group]
    updates, sent = shell.refreshed(store, training, project.id, sent)
    keep = next(field for field in fields if field.elem_id == "disk-keep")
    assert updates[keep] == 5
    again, sent = shell.refreshed(store, training, project.id, sent)
    assert [again[field] for field in fields] == [gr.skip()] * len(fields)
    catalogue.update_project(store, project.id, keep_checkpoints=3)
    assert shell.refreshed(store, training, project.id, sent)[0][keep] == 3


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


def test_the_menu_of_projects_is_left_alone_while_a_job_goes_on(store, project):
    seen = header.look(store, project.id, None, None, 0)[10]
    jobs.enqueue(store, "preview", project.id)
    menu, *_, bar = header.look(store, project.id, None, seen, 0)[:5]
    assert menu == gr.skip()
    assert "Previewing" in bar
    other = catalogue.create_project(store, "other")
    for now, before in ((other.id, seen), (project.id, None)):
        menu = header.look(store, now, None, before, 0)[0]
        assert (menu.value, len(menu.choices)) == (now, 2)


def test_a_job_that_ends_changes_the_number_that_refreshes_the_tab(store, project):
    seen, before = header.look(store, project.id, None, None, 0)[10:12]
    job = jobs.enqueue(store, "preview", project.id)
    seen, during = header.look(store, project.id, None, seen, 0)[10:12]
    jobs.cancel(store, job.id)
    _, after = header.look(store, project.id, None, seen, 0)[10:12]
    assert before == during != after


def test_a_failure_shows_its_sentence_until_it_is_dismissed_or_tried_again(store, project):
    job = fail_job(store, project.id, "The disk <full>.")
    assert header.shown_job(jobs.history(store, project.id)).id == job.id
    text = header.job_html(header.shown_job(jobs.history(store, project.id)))
    assert "The disk &lt;full&gt;." in text
    assert header.shown_job(jobs.history(store, project.id), header.failed_id(store, project.id, job.id)) is None
    header.run_again(store, project.id, job.id, 0)
    (queued,) = jobs.active(store, project.id)
    assert (queued.kind, queued.params) == (job.kind, job.params)


def test_cancel_ends_the_job_that_is_shown(store, project):
    job = jobs.enqueue(store, "preview", project.id)
    assert header.look(store, project.id, None, None, 0)[12] == job.id
    assert header.cancel_job(store, project.id, job.id, 4) == 5
    assert not jobs.active(store, project.id)


def test_the_buttons_act_on_the_job_that_was_shown_and_on_no_other(store, project):
    """A job that was shown may have ended, or another project may be open, before the click arrives."""
    other = catalogue.create_project(store, "other")
    first, second = (jobs.enqueue(store, kind, project.id) for kind in ("export", "predict"))
    for _ in range(2):  # the second click of two
        header.cancel_job(store, project.id, first.id, 0)
        header.pause_job(store, project.id, first.id, 0)
    header.cancel_job(store, other.id, second.id, 0)
    assert jobs.active(store, project.id) == [second]
    jobs.pause(store, second.id)
    header.resume_job(store, project.id, first.id, 0)
    assert jobs.get(store, second.id).paused
    failed = fail_job(store, project.id)
    newer = jobs.enqueue(store, "advise", project.id)
    header.run_again(store, project.id, failed.id, 0)
    assert jobs.active(store, project.id) == [newer]
    assert header.failed_id(store, other.id, failed.id) == 0


def test_what_is_queued_while_its_like_is_being_cancelled_is_shown_when_that_ended(store, project):
    ending = job_rows.claim(store, processes.worker_name("t"), jobs.enqueue(store, "train", project.id).id)
    jobs.cancel(store, ending.id)
    anew = jobs.enqueue(store, "train", project.id)
    assert "is being cancelled" in header.job_html(header.shown_job(jobs.history(store, project.id)))
    assert header.look(store, project.id, None, None, 0)[2].interactive is False
    job_rows.finish(store, ending.id, ending.worker, JobState.CANCELLED)
    assert header.shown_job(jobs.history(store, project.id)).id == anew.id
    assert train.running(store, project.id).id == anew.id


def test_the_next_step_starts_its_job(store):
    empty_sample = catalogue.create_project(store, "sample", sample="hela")
    said = header.look(store, empty_sample.id, None, None, 0)[2].value
    switch, changed, _ = header.take_next_step(store, empty_sample.id, 7, said)
    assert switch.selected == "project"
    assert changed == 8
    assert [job.kind for job in jobs.active(store, empty_sample.id)] == ["sample"]
    assert header.take_next_step(store, None, 7, said)[1] == 7


def test_the_next_step_is_the_one_that_the_button_said(store):
    """What comes next may have changed since it was shown, in another project most of all."""
    sample = catalogue.create_project(store, "sample", sample="hela")
    nothing = (gr.skip(), 8, gr.skip())
    assert header.take_next_step(store, sample.id, 7, "Annotate the next patch (1 left)") == nothing
    assert jobs.history(store, sample.id) == []
    said = header.look(store, sample.id, None, None, 0)[2].value
    header.take_next_step(store, sample.id, 7, said)
    (job,) = jobs.active(store, sample.id)
    store.execute("UPDATE job SET state = 'paused' WHERE id = ?", (job.id,))
    assert header.take_next_step(store, sample.id, 7, said) == nothing
    assert jobs.get(store, job.id).paused
    header.take_next_step(store, sample.id, 7, header.look(store, sample.id, None, None, 0)[2].value)
    assert jobs.active(store, sample.id) == [jobs.get(store, job.id)]


def test_a_change_is_one_event_for_all_tabs_and_refreshes_the_open_one(store, project):
    demo = shell.build(store)
    found = [fn for fn in demo.fns.values() if "refresh_when_changed" in getattr(fn.fn, "__qualname__", "")]
    assert len(found) == 1
    assert len(found[0].targets) == 2
    refreshed = found[0].fn(project.id, "apply", {})
    assert 0 < len(refreshed) < len(found[0].outputs)
    assert set(refreshed) <= set(found[0].outputs)
