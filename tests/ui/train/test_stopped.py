"""What the Train tab says of a training that is paused or was cancelled, and that what it names is on the page."""

from __future__ import annotations

import re

import gradio as gr
import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.errors import Cancelled
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.storage import catalogue, dead_jobs
from alapp.ui.page import Page
from alapp.ui.train import stopped as stopped_part
from alapp.ui.train import train
from tests.rounds.conftest import project, store  # noqa: F401  (fixtures)
from tests.rounds.test_loop import answer
from tests.rounds.train.test_resuming import correct, stopped


@pytest.fixture
def annotated(store, project, fast):  # noqa: F811
    """A project whose first batch waits for its training."""
    pseudo.decide(store, project.id, pseudo.NONE)
    answer(store, selection.run_select(store, project.id, silent, 4)["patches"])
    return project


def said(store, project):  # noqa: F811
    return re.sub(r"<style.*?</style>|<[^>]*>", "", train.status_text(store, project.id, None), flags=re.DOTALL)


def test_a_paused_training_says_when_it_will_begin_anew(store, annotated):  # noqa: F811
    stopped(store, annotated)
    assert said(store, annotated).startswith("The training is paused; all that it learned is saved. It was here: ")
    assert "It keeps the preset" not in said(store, annotated)
    train.choose_preset(store, annotated.id, "full")
    assert said(store, annotated).endswith("It keeps the preset that it was started with, “quick”.")
    correct(store, annotated)
    assert "have changed since: when you resume it, it begins anew." in said(store, annotated)
    assert "all that it learned is saved" not in said(store, annotated)


def test_a_cancelled_training_says_how_it_goes_on(store, annotated):  # noqa: F811
    stopped(store, annotated, Cancelled)
    goes_on = "The last training was cancelled. Start it again and it goes on where it stopped."
    assert said(store, annotated) == goes_on
    catalogue.update_project(store, annotated.id, preset="standard")
    assert said(store, annotated).endswith("The next one begins anew.")
    catalogue.update_project(store, annotated.id, preset="quick")
    assert said(store, annotated) == goes_on
    correct(store, annotated)
    assert said(store, annotated).endswith("The next one begins anew.")


def test_it_goes_on_with_the_iterations_that_it_was_to_have(store, annotated):  # noqa: F811
    job = stopped(store, annotated, Cancelled, iterations=5000)
    assert said(store, annotated) == (
        "The last training was cancelled. It was to have 5,000 iterations. Start it again with that number, under “For "
        "experts”, and it goes on where it stopped."
    )
    again = stopped(store, annotated, Cancelled, iterations=5000)
    assert again.params == job.params
    assert len(list((store.root / "projects").glob("*/nnunet/*/runs/*"))) == 1


def test_nothing_is_promised_where_something_else_comes_next(store, annotated):  # noqa: F811
    job = stopped(store, annotated, Cancelled)
    for kind, params in ((None, {}), ("pretrain", {}), ("train", {"round_id": job.params["round_id"] + 1})):
        assert stopped_part.cancelled_text(store, job, kind, params) == "The last training was cancelled."


def test_what_the_sentences_name_is_on_the_page(store, annotated):  # noqa: F811
    with gr.Blocks() as demo:
        train.build(Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None)))
    labels = {getattr(block, "label", None) for block in demo.blocks.values()}
    stopped(store, annotated, Cancelled, iterations=5000)
    for text in (dead_jobs.LESS_MEMORY, said(store, annotated)):
        named = re.findall("“(.*?)”", text)
        assert named
        assert set(named) <= labels


def test_no_job_is_advised_to_take_a_preset_that_it_does_not_have(store, project):  # noqa: F811
    for out_of_memory in (True, False):
        job = jobs.enqueue(store, "pseudo_label", project.id)
        while job.active:
            job = dead_jobs.recover(store, jobs.rows.claim(store, "elsewhere:1:t", job.id), out_of_memory)
        assert job.state is jobs.JobState.FAILED
        assert "preset" not in job.error
        assert job.error.endswith(dead_jobs.LESS_MEMORY)
