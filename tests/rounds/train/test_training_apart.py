"""Which round a training belongs to that waits, or is paused: the one it was started for; and what it is kept apart
from meanwhile."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.domain import PatchRole, silent
from alapp.errors import InputError, NotReadyError
from alapp.jobs import JobState
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import results
from alapp.rounds.select import selection
from alapp.rounds.train import training
from alapp.running import run_inline
from alapp.storage import catalogue, models
from alapp.storage import rounds as round_rows
from alapp.ui import header
from alapp.ui.rounds import rounds as rounds_tab
from alapp.ui.train import train as train_tab
from tests.rounds.test_loop import answer


@pytest.fixture
def annotated(store, project, fast):
    """A project whose first batch waits for its training."""
    pseudo.decide(store, project.id, pseudo.NONE)
    answer(store, selection.run_select(store, project.id, silent, 4)["patches"])
    return project


def start(store, project):
    """The training that the Train tab queues."""
    train_tab.start_training(store, project.id, None, 0)
    (job,) = jobs.active(store, project.id)
    return job


def next_batch(store, project):
    """Another batch, as if a page had queued it in the same moment as the training."""
    taken = round_rows.selected_in_project(store, project.id)
    free = [patch.id for patch in catalogue.patches(store, project.id) if patch.id not in taken]
    return round_rows.add(store, project.id, "random", 2, 0, [(key, PatchRole.TRAIN, {}) for key in free[:2]])


def said(store, project):
    """What the button for the next step says."""
    return header.look(store, project.id, None, None, 0)[2].value


def test_a_training_that_waited_is_of_the_round_it_was_started_for(store, annotated):
    first = round_rows.latest(store, annotated.id)
    job = start(store, annotated)
    assert job.params == {"round_id": first.id, "preset": "quick"}
    next_batch(store, annotated)
    ended = run_inline(store, job)
    assert (ended.state, ended.result["round"]) == (JobState.DONE, 1)
    (made,) = models.checkpoints(store, annotated.id)
    assert (made.round_id, made.seed) == (first.id, annotated.seed + 1)
    assert [point.round_number for point in results.learning_curve(store, annotated.id)] == [1]
    assert [stage for stage in models.timings(store, annotated.id)[1] if stage in ("plan", "train")] == [
        "plan",
        "train",
    ]


def test_the_header_and_a_second_training_name_the_round_too(store, annotated):
    first = round_rows.latest(store, annotated.id)
    header.take_next_step(store, annotated.id, 0, said(store, annotated))
    (job,) = jobs.active(store, annotated.id)
    assert job.params == {"round_id": first.id, "preset": "quick"}
    run_inline(store, job)
    again = train_tab.what_to_start(store, annotated.id)
    assert (again.text, again.params) == ("Train round 1 again", {"round_id": first.id})
    train_tab.start_training(store, annotated.id, 7, 0)
    (again,) = jobs.active(store, annotated.id)
    assert again.params == {"round_id": first.id, "iterations": 7, "preset": "quick"}


def test_a_training_of_an_earlier_version_takes_the_newest_round(store, annotated):
    assert run_inline(store, jobs.enqueue(store, "train", annotated.id)).result["round"] == 1


@pytest.mark.parametrize(
    ("paused", "button", "sentence"),
    [
        (False, "Wait until the round is trained", "is not finished: wait for it, or cancel it, first"),
        (True, "Resume or cancel the paused training first", "is paused: let it go on, or cancel it, first"),
    ],
)
def test_no_batch_is_selected_while_its_training_is_unfinished(store, annotated, paused, button, sentence):
    job = start(store, annotated)
    if paused:
        jobs.pause(store, job.id)
    shown = rounds_tab.select_button_state(store, annotated.id)
    assert (shown.value, shown.interactive) == (button, False)
    for select in (
        lambda: rounds_tab.start_selection(store, annotated.id, 4, "random", 0),
        lambda: selection.run_select(store, annotated.id, silent, 4),
    ):
        with pytest.raises(NotReadyError, match=f"Training the round {sentence}"):
            select()
    jobs.cancel(store, job.id)
    assert rounds_tab.select_button_state(store, annotated.id).interactive
    assert selection.run_select(store, annotated.id, silent, 4)["round"] == 2


def test_nothing_is_trained_while_a_batch_is_being_selected(store, annotated):
    waiting = start(store, annotated)
    jobs.pause(store, waiting.id)
    # As a page of an earlier version did.
    selecting = jobs.rows.add(store, "select", annotated.id, {"budget": 2, "strategy": "random"})
    shown = train_tab.start_button(store, annotated.id, train_tab.what_to_start(store, annotated.id))
    assert (shown.value, shown.interactive) == ("Wait until the batch is selected", False)
    sentence = "Selecting a batch is not finished: wait for it, or cancel it, first"
    for go_on in (
        lambda: train_tab.start_training(store, annotated.id, None, 0),
        lambda: header.take_next_step(store, annotated.id, 0, said(store, annotated)),
        lambda: jobs.resume(store, waiting.id),
    ):
        with pytest.raises(NotReadyError, match=sentence):
            go_on()
    jobs.cancel(store, waiting.id)
    with pytest.raises(NotReadyError, match=sentence):
        train_tab.start_training(store, annotated.id, None, 0)
    jobs.cancel(store, selecting.id)
    assert train_tab.what_to_start(store, annotated.id).text == "Train round 1"


def test_a_round_with_a_model_is_not_discarded(store, annotated):
    this = round_rows.latest(store, annotated.id)
    training.run_round(store, annotated.id, silent)
    # Nothing else tells that work was done here where its patches count as open again, as of removed images.
    for pick in round_rows.selected(store, this.id):
        store.execute("DELETE FROM annotation_event WHERE patch_id = ?", (pick.patch_id,))
    states = annotation.patch_states(store, [pick.patch_id for pick in round_rows.selected(store, this.id)])
    assert set(states.values()) <= {annotation.OPEN}
    assert not selection.is_untouched(store, this.id)
    with pytest.raises(InputError, match="A model was trained in this round"):
        selection.discard_round(store, annotated.id)
    assert len(models.checkpoints(store, annotated.id)) == 1
