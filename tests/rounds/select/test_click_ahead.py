"""The batch made ready for clicks by the worker: what, in which order, and when not."""

from __future__ import annotations

import numpy as np
import pytest

from alapp import jobs
from alapp.domain import PatchRole, silent
from alapp.errors import BackendError, Cancelled
from alapp.jobs import JobState
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, clicks
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import click_ahead, selection
from alapp.running import run_inline
from alapp.stages.annotate import embedding_cache
from alapp.stages.annotate.base import CLICK_SEGMENTERS, Embeds
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from tests.rounds.fake_clicks import Slow


@pytest.fixture
def slow(monkeypatch):
    """micro_sam, as `auto` finds it, is a fake that is slow and has its weights."""
    monkeypatch.setitem(CLICK_SEGMENTERS._targets, "micro_sam", "tests.rounds.fake_clicks:Slow")
    monkeypatch.setattr(clicks, "_segmenters", {})
    monkeypatch.setattr(clicks, "_failures", {})
    monkeypatch.setattr(Slow, "embedded", [])
    monkeypatch.setattr(Slow, "fails", None)
    return Slow


@pytest.fixture
def stacks(store):
    """A project with a batch of two stacks of three slices; slice z of stack s has the mean 10 * s + z."""
    made = catalogue.create_project(store, "stacks", patch_size=32, patch_depth=3, click_method="micro_sam")
    for number in (1, 2):
        pixels = np.empty((3, 32, 32, 1), np.uint8)
        pixels[:] = (10 * number + np.arange(3))[:, None, None, None]
        importing.add_array(store, made.id, f"stack {number}", pixels)
    picks = [(item.id, PatchRole.TRAIN, {"sentence": "chosen"}) for item in catalogue.patches(store, made.id)]
    round_rows.add(store, made.id, "random", len(picks), 0, picks)
    return made


def mine(store, project, *states):
    return [job for job in jobs.history(store, project.id) if job.kind == "embed_clicks" and job.state in states]


def test_what_is_slow_is_known_by_its_methods():
    assert issubclass(Slow, Embeds)
    assert not issubclass(CLICK_SEGMENTERS.load("watershed"), Embeds)


def test_middle_slices_come_first_and_a_second_run_finds_all_there(store, stacks, slow):
    assert click_ahead.run_embed(store, stacks.id, silent) == {
        "embedded": 6,
        "left": 0,
        "gave_way": False,
        "method": "micro_sam",
    }
    assert slow.embedded == [11, 21, 10, 12, 20, 22]
    assert click_ahead.run_embed(store, stacks.id, silent) == {
        "embedded": 0,
        "left": 0,
        "gave_way": False,
        "method": "micro_sam",
    }
    assert len(slow.embedded) == 6


def test_what_is_finished_needs_nothing(store, stacks, slow):
    first = catalogue.patches(store, stacks.id)[0]
    annotation.mark_done(store, first.id, "me")
    click_ahead.run_embed(store, stacks.id, silent)
    assert slow.embedded == [21, 20, 22]


def test_selecting_a_batch_queues_it(store, project, fast, slow):
    pseudo.decide(store, project.id, pseudo.NONE)
    ended = run_inline(store, jobs.enqueue(store, "select", project.id, {"budget": 3}))
    assert ended.state is JobState.DONE, ended.error
    (queued,) = mine(store, project, JobState.QUEUED)
    ended = run_inline(store, queued)
    assert ended.result == {"embedded": 3, "left": 0, "gave_way": False, "method": "micro_sam"}
    assert ended.message == "Ready"


def test_the_built_in_method_never_queues_it(store, project, fast, slow):
    catalogue.update_project(store, project.id, click_method="watershed")
    pseudo.decide(store, project.id, pseudo.NONE)
    run_inline(store, jobs.enqueue(store, "select", project.id, {"budget": 3}))
    assert selection.open_patches(store, project.id)
    assert click_ahead.go_on(store, project.id) is None
    assert mine(store, project, *JobState) == []
    assert click_ahead.run_embed(store, project.id, silent)["embedded"] == 0


def test_it_gives_way_to_another_job_and_goes_on_when_the_batch_is_opened(store, stacks, slow):
    job = click_ahead.queue(store, stacks.id)
    other = jobs.enqueue(store, "train", stacks.id)
    ended = run_inline(store, job)
    assert ended.result == {"embedded": 0, "left": 6, "gave_way": True, "method": "micro_sam"}
    assert click_ahead.go_on(store, stacks.id) is None  # not before the other one has ended
    jobs.cancel(store, other.id)
    assert run_inline(store, click_ahead.go_on(store, stacks.id)).result["embedded"] == 6
    assert click_ahead.go_on(store, stacks.id) is None


def test_weights_that_arrive_after_the_selection_count_when_the_batch_is_opened(store, stacks, slow):
    assert mine(store, stacks, *JobState) == []
    assert click_ahead.go_on(store, stacks.id) is not None
    assert len(mine(store, stacks, JobState.QUEUED)) == 1


def test_another_method_makes_the_batch_ready_anew(store, stacks, slow, monkeypatch):
    run_inline(store, click_ahead.queue(store, stacks.id))
    assert click_ahead.go_on(store, stacks.id) is None
    monkeypatch.setattr(clicks, "click_method", lambda store, project_id: "micro_sam:vit_b_lm")
    monkeypatch.setattr(click_ahead, "_needed", lambda store, project_id: True)
    assert click_ahead.go_on(store, stacks.id) is not None


def test_cancelled_it_keeps_what_is_there_and_stays_cancelled(store, stacks, slow):
    def report(done, total, message=""):
        if done == 2:
            raise Cancelled("The work was cancelled.")

    with pytest.raises(Cancelled):
        click_ahead.run_embed(store, stacks.id, report)
    assert slow.embedded == [11, 21]
    jobs.cancel(store, click_ahead.queue(store, stacks.id).id)
    assert click_ahead.go_on(store, stacks.id) is None
    assert click_ahead.run_embed(store, stacks.id, silent)["embedded"] == 4


def test_a_batch_larger_than_the_space_does_not_push_itself_out(store, stacks, slow, monkeypatch):
    monkeypatch.setattr(embedding_cache, "LEAST_BYTES", 1)
    cache = clicks.embedding_cache(store)
    cache.set_max_bytes(4_600_000)  # four entries
    found = click_ahead.run_embed(store, stacks.id, silent)
    assert found == {"embedded": 4, "left": 2, "gave_way": False, "method": "micro_sam"}
    assert click_ahead.run_embed(store, stacks.id, silent)["embedded"] == 0


def test_a_model_that_fails_is_an_error_only_where_the_user_chose_it(store, stacks, slow, monkeypatch):
    monkeypatch.setattr(slow, "fails", BackendError("Slow ran out of memory."))
    with pytest.raises(BackendError, match="Slow ran out"):
        click_ahead.run_embed(store, stacks.id, silent)
    catalogue.update_project(store, stacks.id, click_method="auto")
    found = click_ahead.run_embed(store, stacks.id, silent)
    assert found == {
        "embedded": 0,
        "left": 6,
        "gave_way": False,
        "method": "micro_sam",
        "note": "Slow ran out of memory.",
    }


def test_nothing_is_queued_without_a_batch(store, project, slow):
    catalogue.update_project(store, project.id, click_method="micro_sam")
    assert click_ahead.queue(store, project.id) is None
    assert click_ahead.go_on(store, project.id) is None
