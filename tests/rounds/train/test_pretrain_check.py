"""Before a round goes on from a model that learned pseudo-labels, the labels tell whether that helps."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole, silent
from alapp.errors import Cancelled, OutOfMemoryError
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import pretrain_check, training, training_cases
from alapp.rounds.train.pretrain_check import Labelled
from alapp.stages.train.base import TRAINERS, Case
from alapp.storage import catalogue, models, verdicts
from alapp.storage.verdicts import VerdictKind
from tests.rounds.spoilt import SpoiltTrainer, annotate, dense_project, run_round

SHORT = 1  # 20% of the stand-in's six iterations
BATCH = 6  # half of it for validation, with more than 20 objects


@pytest.fixture
def trainer(fast, monkeypatch):
    monkeypatch.setattr(SpoiltTrainer, "spoilt", False)
    monkeypatch.setattr(SpoiltTrainer, "harmed", False)
    monkeypatch.setattr(SpoiltTrainer, "seen", [])
    monkeypatch.setitem(TRAINERS._targets, "nnunet", "tests.rounds.spoilt:SpoiltTrainer")
    return SpoiltTrainer


def pretrained(store, trainer, blind, validation_share=0.5):
    """A project whose pre-trained model finds everything, or, if `blind`, nothing, though the pseudo-labels are
    good."""
    project = dense_project(store, validation_share)
    pseudo.decide(store, project.id, "log_watershed")
    trainer.spoilt = blind
    training.run_pretrain(store, project.id, silent)
    trainer.spoilt = False
    return project


def trials(trainer):
    return [run for run in trainer.seen if run["iterations"] == SHORT]


def verdict(store, project):
    return pretrain_check.latest(store, project.id)


def test_harmful_pre_training_is_left_out_and_the_page_says_why(store, trainer):
    project = pretrained(store, trainer, blind=True)
    trainer.harmed = True
    run_round(store, project, BATCH)
    first, second = models.checkpoints(store, project.id)
    assert (first.round_id, second.parent_id) == (None, None)
    assert [run["start_from"] is None for run in trials(trainer)] == [False, True]
    found = verdict(store, project)
    assert not found.accepted
    assert found.checkpoint_id == first.id
    assert found.facts["trial"]["pretrained"] == 0.0
    assert found.facts["trial"]["scratch"] > 0.8
    said = pretrain_check.sentence(found)
    assert said.startswith("Round 1 left the pre-training out, because it does harm here: in a short trial of 1 iter")
    assert "starting from it gave F1 0.00 and starting from scratch" in said
    assert "the pre-trained model finds 0 objects where you marked" in said
    assert f"the pseudo-labels themselves have F1 {found.facts['f1_pseudo']:.2f}" in said
    assert found.facts["f1_pseudo"] > 0.7
    assert verdicts.current_checkpoint(store, project.id).id == second.id


def test_useful_or_harmless_pre_training_stays(store, trainer):
    project = pretrained(store, trainer, blind=True)
    run_round(store, project, BATCH)
    first, second = models.checkpoints(store, project.id)
    assert second.parent_id == first.id
    found = verdict(store, project)
    assert found.accepted
    assert found.facts["trial"]["pretrained"] == found.facts["trial"]["scratch"] > 0.8  # a tie
    assert "Round 1 started from the pre-trained model: in a short trial" in pretrain_check.sentence(found)


def test_a_pre_trained_model_that_is_good_already_needs_no_trial(store, trainer):
    project = pretrained(store, trainer, blind=False)
    run_round(store, project, BATCH)
    assert trials(trainer) == []
    assert verdict(store, project).facts["f1_model"] >= pretrain_check.GOOD
    assert "good enough to need no trial" in pretrain_check.sentence(verdict(store, project))


def test_with_too_few_labels_it_stays_untried(store, trainer):
    project = pretrained(store, trainer, blind=True, validation_share=0.0)
    trainer.harmed = True
    run_round(store, project, budget=2)
    assert trials(trainer) == []
    assert models.checkpoints(store, project.id)[-1].parent_id is not None
    assert "untried, because too few patches are labelled" in pretrain_check.sentence(verdict(store, project))


def test_it_can_be_switched_off(store, trainer):
    project = pretrained(store, trainer, blind=True)
    trainer.harmed = True
    catalogue.update_project(store, project.id, check_pretraining=False)
    run_round(store, project, BATCH)
    assert trials(trainer) == []
    assert verdict(store, project) is None


def test_without_pre_training_there_is_nothing_to_check(store, trainer):
    project = dense_project(store)
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project, BATCH)
    assert verdict(store, project) is None


def test_later_rounds_do_not_ask_again_but_a_refused_first_round_does(store, trainer):
    project = pretrained(store, trainer, blind=True)
    run_round(store, project, BATCH)
    run_round(store, project, BATCH)
    assert len(verdicts.of_project(store, project.id, VerdictKind.PRETRAINING)) == 1
    other = pretrained_again(store, trainer)
    assert len(verdicts.of_project(store, other.id, VerdictKind.PRETRAINING)) == 2


def pretrained_again(store, trainer):
    """Another project: its first round is worse than the pre-trained model, so the second starts from that again."""
    catalogue.update_project(store, catalogue.projects(store)[0].id, name="renamed")
    project = pretrained(store, trainer, blind=False)
    trainer.spoilt = True
    run_round(store, project, BATCH)
    trainer.spoilt = False
    run_round(store, project, BATCH)
    first, second, third = models.checkpoints(store, project.id)
    assert (second.parent_id, third.parent_id) == (first.id, first.id)
    return project


def test_a_cancelled_trial_leaves_no_verdict_and_the_next_start_finishes_it(store, trainer):
    project = pretrained(store, trainer, blind=True)
    annotate(store, project, BATCH)

    def cancel(done, total, message):
        if message.startswith("Trying a start from scratch"):
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        training.run_round(store, project.id, cancel)
    assert verdict(store, project) is None
    assert len(models.checkpoints(store, project.id)) == 1
    training.run_round(store, project.id, silent)
    assert verdict(store, project) is not None


def test_the_same_round_asks_once_and_leaves_no_files(store, trainer):
    project = pretrained(store, trainer, blind=True)
    run_round(store, project, BATCH)
    training.run_round(store, project.id, silent)
    assert len(trials(trainer)) == 2
    runs = store.files.project(project.id) / "nnunet" / "quick" / "runs"
    assert len(list(runs.iterdir())) == len(models.checkpoints(store, project.id)) == 2


def test_a_trial_that_runs_out_of_memory_goes_on_smaller(store, trainer, monkeypatch):
    project = pretrained(store, trainer, blind=True)
    plain, tried = SpoiltTrainer.train, []

    def train(self, workspace, cases, out, iterations, seed, start_from, report, log, options=None):
        if iterations == SHORT:
            tried.append((start_from is None, (options or {}).get("reduction", 0)))
            if tried[-1][1] == 0:
                raise OutOfMemoryError("Memory ran out while training.")
        return plain(self, workspace, cases, out, iterations, seed, start_from, report, log, options)

    monkeypatch.setattr(SpoiltTrainer, "train", train)
    monkeypatch.setattr(SpoiltTrainer, "reduction", lambda self, workspace, number: "batches of 2", raising=False)
    run_round(store, project, BATCH)
    assert tried == [(False, 0), (False, 1), (True, 1)]
    assert verdict(store, project).facts["trial"]["scratch"] > 0.8
    (sentence,) = models.memory_notes_since(store, project.id, project.created)
    assert sentence == "Memory ran out; training went on with batches of 2."


def test_progress_never_goes_back_and_names_the_trials(store, trainer):
    project = pretrained(store, trainer, blind=True)
    annotate(store, project, BATCH)
    told = []
    training.run_round(store, project.id, lambda done, total, message: told.append((done / total, message)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    messages = {message.split(".")[0] for _, message in told}
    assert {"Trying a start from the pre-trained model", "Trying a start from scratch"} <= messages
    trial = [run for run in trainer.seen if run["iterations"] == SHORT]
    assert all(key.startswith("gt_") for run in trial for key in run["keys"])
    assert len(models.training_runs(store, project.id)) == 2  # the pre-training and the round; no trial


def case(key, n_objects):
    labels = np.zeros((8, 8), np.int32)
    labels[0, :n_objects] = np.arange(1, n_objects + 1)
    return Case(key, key, lambda: (np.zeros((8, 8, 1), np.uint8), labels))


def test_a_trial_is_scored_on_validation_patches_if_there_are_enough():
    training_cases = {n: case(f"t{n}", 8) for n in range(6)}
    many = Labelled(training_cases, {n: case(f"v{n}", 8) for n in range(10, 13)})
    learn, held = pretrain_check.split(many, np.random.default_rng(0))
    assert [item.key for item in learn] == [f"t{n}" for n in range(6)]
    assert [item.key for item in held] == ["v10", "v11", "v12"]
    few = Labelled(training_cases, {10: case("v10", 8)})
    learn, held = pretrain_check.split(few, np.random.default_rng(0))
    assert (len(learn), len(held)) == (4, 2)
    assert {item.key for item in learn + held} == {f"t{n}" for n in range(6)}


@pytest.mark.parametrize("objects", [[8, 8], [0, 0, 0, 0], [8, 0, 0, 0, 0, 0]])
def test_no_trial_where_one_side_has_nothing_to_learn_or_to_find(objects):
    labelled = Labelled({n: case(f"t{n}", count) for n, count in enumerate(objects)}, {})
    assert pretrain_check.split(labelled, np.random.default_rng(0)) == ([], [])


def test_roles_are_kept_apart(store, trainer):
    project = dense_project(store)
    annotate(store, project, 6)
    train = training_cases.finished_cases(store, project, PatchRole.TRAIN)
    held = training_cases.finished_cases(store, project, PatchRole.VALIDATION)
    assert len(train) == len(held) == 3
    assert not train.keys() & held.keys()
    assert {item.key for item in training_cases.human_cases(store, project)} == {item.key for item in train.values()}
