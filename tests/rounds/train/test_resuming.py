"""Whether a training that was stopped goes on where it was, and with which preset."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.domain import LabelKind, PatchRole, silent
from alapp.errors import Cancelled, Paused
from alapp.jobs import JobState
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.rounds.train import promotion, resuming, training
from alapp.running import run_inline
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.ui.train import train as train_tab
from tests.rounds.fakes import ThresholdTrainer
from tests.rounds.test_loop import answer, run_round


@pytest.fixture
def annotated(store, project, fast):
    """A project whose first batch waits for its training."""
    pseudo.decide(store, project.id, pseudo.NONE)
    answer(store, selection.run_select(store, project.id, silent, 4)["patches"])
    return project


def stopped(store, project, how=Paused, learns=True, iterations=None):
    """A training that was started on the Train tab and paused or cancelled, after an epoch or before."""
    train_tab.start_training(store, project.id, iterations, 0)
    (job,) = jobs.active(store, project.id)
    plain = ThresholdTrainer.train

    def train(self, *values, **options):
        if learns:
            plain(self, *values, **options)
        if how is Paused:
            jobs.pause(store, job.id)
        raise how("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThresholdTrainer, "train", train)
        ended = run_inline(store, job)
    assert ended.state is (JobState.PAUSED if how is Paused else JobState.CANCELLED)
    return ended


def correct(store, project, role=PatchRole.TRAIN):
    """Remove an object from the labels of a finished patch."""
    chosen = round_rows.selected_in_project(store, project.id)
    patch_id = next(patch_id for patch_id, pick in chosen.items() if pick.role is role)
    mask = labels.read(store, labels.latest_of_patch(store, patch_id, LabelKind.HUMAN)).copy()
    mask[mask == mask.max()] = 0
    annotation.submit_labels(store, patch_id, mask, "oracle")


@pytest.mark.parametrize("how", [Paused, Cancelled])
def test_it_begins_anew_once_a_label_that_it_learns_from_is_corrected(store, annotated, how):
    job = stopped(store, annotated, how, iterations=7)
    assert not resuming.begins_anew(store, job)
    correct(store, annotated, PatchRole.VALIDATION)
    assert not resuming.begins_anew(store, job)
    correct(store, annotated)
    assert resuming.begins_anew(store, job)


def test_it_begins_anew_once_it_starts_from_another_model(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    for _ in range(2):
        run_round(store, project, 4)
    answer(store, selection.run_select(store, project.id, silent, 4)["patches"])
    job = stopped(store, project)
    assert not resuming.begins_anew(store, job)
    promotion.use(store, project.id, models.checkpoints(store, project.id)[0].id)
    assert resuming.begins_anew(store, job)
    promotion.undo(store, project.id)
    assert not resuming.begins_anew(store, job)


def test_what_has_learned_nothing_yet_loses_nothing(store, annotated):
    stopped(store, annotated, Cancelled)
    # The run of the job before is there, with the labels of then.
    correct(store, annotated)
    job = stopped(store, annotated, learns=False)
    assert not resuming.begins_anew(store, job)
    correct(store, annotated)
    assert not resuming.begins_anew(store, job)


def test_nothing_is_lost_where_the_start_has_to_be_chosen_first(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project, 4)
    answer(store, selection.run_select(store, project.id, silent, 4)["patches"])
    job = stopped(store, project)
    store.files.resolve(models.checkpoints(store, project.id)[0].path).unlink()
    assert not resuming.begins_anew(store, job)


def test_a_round_goes_on_from_the_pre_trained_model_or_without_it(store, project, fast, monkeypatch):
    """What the check of the pre-training says is not known before it is asked again."""
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    answer(store, selection.run_select(store, project.id, silent, 6)["patches"])
    for chosen in (lambda *values: values[3], lambda *values: None):
        monkeypatch.setattr(training.pretrain_check, "choose", chosen)
        job = stopped(store, project, Cancelled)
        assert not resuming.begins_anew(store, job)
    correct(store, project)
    assert resuming.begins_anew(store, job)


def test_pre_training_begins_anew_with_other_pseudo_labels(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    job = stopped(store, project)
    assert job.kind == "pretrain"
    assert not resuming.begins_anew(store, job)
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 30.0})
    pseudo.run_all(store, project.id, silent)
    assert resuming.begins_anew(store, job)


@pytest.mark.parametrize("pretrains", [False, True])
def test_a_paused_training_keeps_the_preset_that_it_was_started_with(store, project, fast, pretrains):
    pseudo.decide(store, project.id, "log_watershed" if pretrains else pseudo.NONE)
    if not pretrains:
        answer(store, selection.run_select(store, project.id, silent, 4)["patches"])
    job = stopped(store, project)
    begun = set((store.root / "projects").glob("*/nnunet/*/runs/*"))
    train_tab.choose_preset(store, project.id, "standard")
    assert not resuming.begins_anew(store, job)
    train_tab.start_training(store, project.id, None, 0)
    assert run_inline(store, job).state is JobState.DONE
    (made,) = models.checkpoints(store, project.id)
    assert made.preset == "quick"
    assert set((store.root / "projects").glob("*/nnunet/*/runs/*")) == begun
    assert [plan.preset for plan in models.plans(store, project.id, "quick")] == ["quick"]
    assert catalogue.project(store, project.id).preset == "standard"


def test_a_training_that_waits_keeps_its_preset_too(store, annotated):
    train_tab.start_training(store, annotated.id, None, 0)
    (job,) = jobs.active(store, annotated.id)
    catalogue.update_project(store, annotated.id, preset="full")  # as the settings of the project do
    assert run_inline(store, job).state is JobState.DONE
    assert [item.preset for item in models.checkpoints(store, annotated.id)] == ["quick"]


def test_a_training_that_an_earlier_version_queued_takes_the_preset_of_the_project(store, annotated):
    catalogue.update_project(store, annotated.id, preset="standard")
    job = jobs.rows.add(store, "train", annotated.id, {})
    assert run_inline(store, job).state is JobState.DONE
    assert [item.preset for item in models.checkpoints(store, annotated.id)] == ["standard"]
