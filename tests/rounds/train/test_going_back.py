"""Going back to an earlier model, and forth again: what is predicted, what a training starts from, and files that are
gone."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.errors import NotReadyError
from alapp.jobs import JobState
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import lineage, promotion, training
from alapp.running import run_inline
from alapp.storage import labels, models, verdicts
from alapp.ui.train import models as model_list
from tests.rounds.fakes import ThresholdTrainer
from tests.rounds.test_loop import run_round


@pytest.fixture
def rounds(store, project, fast):
    """The models of three rounds; the last is in use."""
    pseudo.decide(store, project.id, pseudo.NONE)
    for _ in range(3):
        run_round(store, project, 4)
    found = models.checkpoints(store, project.id)
    assert verdicts.current_checkpoint(store, project.id) == found[-1]
    return found


@pytest.fixture
def while_predicting(monkeypatch):
    """What is put in here is called once, as soon as an image is predicted."""
    acts, plain = [], ThresholdTrainer.predict

    def predict(self, *values):
        while acts:
            acts.pop()()
        return plain(self, *values)

    monkeypatch.setattr(ThresholdTrainer, "predict", predict)
    return acts


def applying(store, project, model):
    """The job that a page queues when a person chooses a model."""
    model_list.use(store, project.id, model.id, 0)
    (job,) = jobs.active(store, project.id)
    return job


def complete(store, model):
    """Whether a model has the probabilities of every image that it predicted."""
    return labels.without_probability(store, model.id) == set()


def test_a_model_that_is_chosen_while_another_is_applied_is_applied_behind_it(store, project, rounds, while_predicting):
    first, second, _ = rounds
    job = applying(store, project, first)
    while_predicting.append(lambda: model_list.use(store, project.id, second.id, 0))
    assert run_inline(store, job).state is JobState.DONE
    # The one that ran could have been past the moment at which it looks for another model.
    (behind,) = jobs.active(store, project.id)
    assert (behind.kind, behind.state) == ("predict", JobState.QUEUED)
    assert run_inline(store, behind).state is JobState.DONE
    assert not promotion.needs_predicting(store, project.id)
    assert complete(store, second)


def test_applying_goes_on_with_the_model_that_came_into_use_meanwhile(store, project, rounds, while_predicting):
    first, second, _ = rounds
    promotion.use(store, project.id, first.id)
    while_predicting.append(lambda: promotion.use(store, project.id, second.id))
    evaluation.run_predict(store, project.id, silent)
    assert not promotion.needs_predicting(store, project.id)
    assert complete(store, second)


def test_undoing_while_a_model_is_applied_keeps_what_the_other_has(store, project, rounds, while_predicting):
    first, second, _ = rounds
    run_inline(store, applying(store, project, second))
    assert complete(store, second)
    job = applying(store, project, first)
    while_predicting.append(lambda: model_list.undo_use(store, project.id, 0))
    evaluation.predict(store, project.id, first, silent)
    assert jobs.active(store, project.id) == [job]
    assert verdicts.current_checkpoint(store, project.id) == second
    assert complete(store, second)
    assert not promotion.needs_predicting(store, project.id)


def start(store, project, model):
    """What the round of a model starts from when it is trained again."""
    return training.start_checkpoint(store, project, training.round_of(store, project.id, model.round_id))


def test_a_look_at_an_earlier_model_changes_nothing_once_it_is_undone(store, project, rounds):
    first, second, third = rounds
    assert start(store, project, third) == second
    promotion.use(store, project.id, first.id)
    promotion.undo(store, project.id)
    assert start(store, project, third) == second
    training.run_round(store, project.id, silent, iterations=9)
    fourth = models.checkpoints(store, project.id)[-1]
    assert (fourth.round_id, fourth.parent_id) == (third.round_id, second.id)
    # Also once a model of the same round, which was trained after that, is in use.
    assert verdicts.current_checkpoint(store, project.id) == fourth
    assert start(store, project, fourth) == second


def test_a_round_is_trained_again_from_the_model_that_a_person_chose(store, project, rounds):
    first, _, third = rounds
    promotion.use(store, project.id, first.id)
    assert start(store, project, third) == first
    training.run_round(store, project.id, silent)
    fourth = models.checkpoints(store, project.id)[-1]
    assert (fourth.round_id, fourth.parent_id) == (third.round_id, first.id)
    training.run_round(store, project.id, silent, iterations=9)
    assert models.checkpoints(store, project.id)[-1].parent_id == first.id


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("half of")])
def test_training_the_round_again_brings_back_a_model_whose_file_is_gone_or_damaged(store, project, rounds, spoil):
    *_, third = rounds
    maps = labels.of_checkpoint(store, third.id)
    spoil(store.files.resolve(third.path))
    assert not lineage.intact(store, third)
    trained = len(ThresholdTrainer.seen)
    for _ in range(2):  # the second time there is nothing to do
        training.run_round(store, project.id, silent)
        assert len(ThresholdTrainer.seen) == trained + 1
    assert models.checkpoints(store, project.id) == rounds
    assert lineage.intact(store, models.checkpoint(store, third.id))
    assert labels.of_checkpoint(store, third.id) == maps


def test_what_is_damaged_is_not_there_any_more_when_the_model_is_trained_anew(store, project, rounds, monkeypatch):
    path = store.files.resolve(rounds[-1].path)
    path.write_text("half of")
    there, plain = [], ThresholdTrainer.train

    def train(self, *values):
        there.append(path.exists())
        return plain(self, *values)

    monkeypatch.setattr(ThresholdTrainer, "train", train)
    training.run_round(store, project.id, silent)
    assert there == [False]


def test_only_of_the_newest_round_it_is_said_that_training_again_helps(store, project, rounds):
    first, _, third = rounds
    promotion.use(store, project.id, first.id)
    for model, end in ((first, "disk is shown."), (third, "disk is shown, or train the round again.")):
        store.files.resolve(model.path).unlink()
        with pytest.raises(NotReadyError) as refusal:
            promotion.use(store, project.id, model.id)
        assert str(refusal.value).endswith(end)
