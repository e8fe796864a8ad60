"""A plan that an expert changes: which models training goes on from, and when another plan is made."""

from dataclasses import replace

import pytest

from alapp import jobs
from alapp.domain import LabelKind, Preset, silent
from alapp.errors import InputError, NotReadyError
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.rounds.train import plan_in_use, planning, training, training_cases
from alapp.stages.train.base import Overrides
from alapp.storage import catalogue, labels, models
from alapp.ui.train import plan as plan_part
from alapp.ui.train import train as train_tab
from tests.rounds.fakes import ThresholdTrainer


@pytest.fixture(autouse=True)
def planned_with(fast, monkeypatch):
    """The overrides that the stand-in for nnU-Net was given."""
    given, plain = [], ThresholdTrainer.plan

    def plan(self, workspace, cases, preset, machine, report, overrides=None):
        given.append(overrides)
        assert not workspace.exists()
        summary = plain(self, workspace, cases, preset, machine, report)
        fixed = overrides.chosen if overrides else {}
        return replace(summary, overrides=fixed, object_diameter_px=12.0 * len(given))

    monkeypatch.setattr(ThresholdTrainer, "plan", plan)
    return given


def annotate(store, project, budget=4):
    references = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    for patch_id in selection.run_select(store, project.id, silent, budget=budget)["patches"]:
        patch = catalogue.patch(store, patch_id)
        truth = catalogue.crop(labels.read(store, references[patch.image_id]), patch)
        annotation.submit_labels(store, patch_id, truth, "oracle")


@pytest.fixture
def trained(store, project, planned_with):
    """A project with one trained round."""
    pseudo.decide(store, project.id, pseudo.NONE)
    annotate(store, project)
    training.run_round(store, project.id, silent)
    return project


def test_planning_before_the_first_training_is_used_by_it(store, project, planned_with):
    pseudo.decide(store, project.id, "log_watershed")
    made = planning.run_plan(store, project.id, silent, {"batch_size": 3})
    assert planned_with == [Overrides(batch_size=3)]
    training.run_pretrain(store, project.id, silent)
    (checkpoint,) = models.checkpoints(store, project.id)
    assert checkpoint.plan_id == made["plan"]
    assert planning.models_of_plan(store, project.id) == 1


def test_asking_again_for_the_same_values_changes_nothing(store, trained, planned_with):
    first = planning.run_plan(store, trained.id, silent, {"batch_size": 3})
    assert planning.run_plan(store, trained.id, silent, {"batch_size": 3}) == first
    assert len(models.plans(store, trained.id, Preset.QUICK)) == 2
    assert len(planned_with) == 2


def test_with_new_labels_the_same_values_make_another_plan(store, trained, planned_with):
    first = planning.run_plan(store, trained.id, silent)
    assert planning.same_plan(store, trained.id, Overrides()).id == first["plan"]
    annotate(store, trained)
    assert planning.same_plan(store, trained.id, Overrides()) is None
    assert planning.run_plan(store, trained.id, silent) != first
    assert planning.same_plan(store, trained.id, Overrides()) is not None
    assert len(planned_with) == 2


def test_with_slices_of_another_thickness_the_same_values_make_another_plan(store, trained, monkeypatch):
    first = planning.run_plan(store, trained.id, silent)
    monkeypatch.setattr(ThresholdTrainer, "same_spacing", lambda *_: False)
    assert planning.same_plan(store, trained.id, Overrides()) is None
    assert planning.run_plan(store, trained.id, silent) != first


def test_another_plan_starts_a_new_network_and_keeps_the_old_models(store, trained):
    (old,) = models.checkpoints(store, trained.id)
    planning.run_plan(store, trained.id, silent, {"batch_size": 3})
    assert planning.models_of_plan(store, trained.id) == 0
    training.run_round(store, trained.id, silent)
    assert ThresholdTrainer.seen[-1]["start_from"] is None
    kept, new = models.checkpoints(store, trained.id)
    assert kept == old
    assert store.files.resolve(old.path).exists()
    assert models.plan(store, new.plan_id).workspace != models.plan(store, old.plan_id).workspace
    annotate(store, trained)
    training.run_round(store, trained.id, silent)
    assert ThresholdTrainer.seen[-1]["start_from"] == store.files.resolve(new.path)
    assert models.checkpoints(store, trained.id)[-1].parent_id == new.id


def test_going_back_to_the_first_values_is_a_new_network_too(store, trained):
    planning.run_plan(store, trained.id, silent, {"batch_size": 3})
    planning.run_plan(store, trained.id, silent, {})
    hashes = [plan.input_hash for plan in models.plans(store, trained.id, Preset.QUICK)]
    assert len(set(hashes)) == 3
    training.run_round(store, trained.id, silent)
    assert len(models.checkpoints(store, trained.id)) == 2


def test_the_plan_in_use_stays_when_another_cannot_be_made(store, trained, monkeypatch):
    before = models.find_plan(store, trained.id, Preset.QUICK)

    def fail(*_, **__):
        raise InputError("cannot be")

    monkeypatch.setattr(ThresholdTrainer, "plan", fail)
    with pytest.raises(InputError, match="cannot be"):
        planning.run_plan(store, trained.id, silent, {"batch_size": 3})
    assert models.find_plan(store, trained.id, Preset.QUICK) == before


def test_what_a_planning_left_behind_is_not_taken_for_a_plan(store, trained):
    rubbish = store.files.project(trained.id) / "nnunet" / "quick-2" / "plan.json"
    rubbish.parent.mkdir(parents=True)
    rubbish.write_text("{}")
    planning.run_plan(store, trained.id, silent, {"batch_size": 3})
    assert not rubbish.exists()


def test_planning_needs_something_labelled_and_values_that_can_be(store, project):
    with pytest.raises(NotReadyError, match="Pseudo-labels tab"):
        planning.check(store, project.id, Overrides())
    pseudo.decide(store, project.id, "log_watershed")
    planning.check(store, project.id, Overrides())
    with pytest.raises(InputError, match="images are flat"):
        planning.check(store, project.id, Overrides(three_d=True))


def filled(**fixed):
    values = dict(
        zip(("resolution", "window", "view", "features", "batch", "each", "rate"), plan_part.NOTHING, strict=True)
    )
    return list((values | fixed).values())


def test_fields_are_read_as_people_write_them():
    assert plan_part.parsed(filled()) == Overrides()
    values = filled(resolution="1,5", window="8 × 96 x 96", view="3D", features="8, 16; 32", batch="2.0", rate="1e-3")
    assert plan_part.parsed(values) == Overrides(1.5, (8, 96, 96), 2, (8, 16, 32), True, None, 1e-3)


@pytest.mark.parametrize(
    ("fixed", "sentence"),
    [
        ({"window": "large"}, "The window must be whole numbers"),
        ({"features": "16, -4, 8"}, "The features must be whole numbers"),
        ({"resolution": "half"}, "The resolution factor must be a number"),
        ({"batch": "2.5"}, "The batch must be a whole number"),
        ({"each": "inf"}, "must be a whole number"),
    ],
)
def test_what_is_no_number_is_named(fixed, sentence):
    with pytest.raises(InputError, match=sentence):
        plan_part.parsed(filled(**fixed))


def test_the_page_asks_only_when_a_trained_network_would_be_left(store, trained):
    with pytest.raises(NotReadyError, match="has these values already"):
        plan_part.ask(store, trained.id, None, 0, filled())
    group, question, changed, about = plan_part.ask(store, trained.id, None, 0, filled(batch="3"))
    assert group.visible
    assert "1 model has been trained" in question
    assert changed == 0
    _, _, changed, _ = plan_part.go(store, trained.id, None, 0, filled(batch="3"), about)
    assert changed == 1
    with pytest.raises(NotReadyError, match="Planning the network is not finished"):
        plan_part.go(store, trained.id, None, 0, filled(batch="4"), about)
    with pytest.raises(InputError, match="public demo"):
        plan_part.go(store, trained.id, "visitor", 0, filled(batch="4"), about)


def test_the_answer_counts_for_what_was_asked_only(store, trained):
    """The question stays on the page while values are changed, and for a moment after another project was opened."""
    *_, about = plan_part.ask(store, trained.id, None, 0, filled(batch="3"))
    group, question, changed, anew = plan_part.go(store, trained.id, None, 0, filled(batch="4"), about)
    assert (group.visible, changed, anew) == (True, 0, [*about[:3], {"batch_size": 4}])
    assert "1 model has been trained" in question
    for of in (None, [trained.id + 1, *anew[1:]]):
        assert plan_part.go(store, trained.id, None, 0, filled(batch="4"), of)[2] == 0
    assert jobs.active(store, trained.id) == []
    assert plan_part.go(store, trained.id, None, 0, filled(batch="4"), anew)[2:] == (1, None)


def test_no_other_plan_while_a_training_is_paused(store, project):
    pseudo.decide(store, project.id, pseudo.NONE)
    annotate(store, project)
    job = jobs.enqueue(store, "train", project.id)
    jobs.pause(store, job.id)
    for act in (plan_part.ask, lambda *values: plan_part.go(*values, None)):
        with pytest.raises(NotReadyError, match="Training the round is paused: let it go on, or cancel it, first"):
            act(store, project.id, None, 0, filled(batch="3"))
    jobs.cancel(store, job.id)
    assert plan_part.ask(store, project.id, None, 0, filled(batch="3"))[2] == 1


def test_fields_show_what_is_fixed_and_leave_alone_what_is_typed(store, trained):
    first = plan_part.fill(store, trained.id, None, (None, None, plan_part.NOTHING))
    assert all(isinstance(value, dict) for value in first[1:])
    fixed = {"batch_size": 3, "patch_size": [32, 48], "learning_rate": 0.001, "downsampling": 2.0, "three_d": False}
    planning.run_plan(store, trained.id, silent, fixed)
    shown = plan_part.fill(store, trained.id, None, first[0])
    assert shown[1:] == ["2", "32 x 48", "2D", "", "3", "", "0.001"]
    assert plan_part.parsed(shown[1:]).chosen == fixed


def test_after_another_plan_the_network_can_be_pretrained_before_the_next_batch(store, project):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    assert train_tab.what_to_start(store, project.id).job is None
    planning.run_plan(store, project.id, silent, {"batch_size": 3})
    assert train_tab.what_to_start(store, project.id).text == "Pre-train the new network"
    training.run_pretrain(store, project.id, silent)
    assert train_tab.what_to_start(store, project.id).job is None
    assert len(models.checkpoints(store, project.id)) == 2


class TestPlanOnPseudoLabels:
    """The first plan was made on pseudo-labels, before anybody marked an object."""

    @pytest.fixture
    def pretrained(self, store, project, planned_with):
        pseudo.decide(store, project.id, "log_watershed")
        training.run_pretrain(store, project.id, silent)
        return project

    @pytest.fixture
    def unsuited(self, monkeypatch):
        """Workspaces whose plan does not suit what people marked."""
        asked = []

        def plan_suits(self, workspace, cases, machine):
            assert {case.key[:3] for case in cases} == {"gt_"}
            asked.append(workspace)
            return False

        monkeypatch.setattr(ThresholdTrainer, "plan_suits", plan_suits)
        return asked

    def test_it_stays_where_it_suits_what_people_mark(self, store, pretrained):
        annotate(store, pretrained)
        training.run_round(store, pretrained.id, silent)
        assert len(models.plans(store, pretrained.id, Preset.QUICK)) == 1
        assert "made anew" not in plan_part.text(store, pretrained.id, Preset.QUICK)

    def test_it_is_made_anew_before_the_first_round_and_the_pre_trained_model_goes_on(
        self, store, pretrained, unsuited
    ):
        (first,) = models.checkpoints(store, pretrained.id)
        annotate(store, pretrained)
        training.run_round(store, pretrained.id, silent)
        plans = models.plans(store, pretrained.id, Preset.QUICK)
        assert len(plans) == 2
        assert "the one before was for objects of 12 pixels" in plan_part.text(store, pretrained.id, Preset.QUICK)
        made = models.checkpoints(store, pretrained.id)[-1]
        assert (made.plan_id, made.parent_id) == (plans[1].id, first.id)
        assert ThresholdTrainer.seen[-1]["start_from"] == store.files.resolve(first.path)
        # And then never again.
        annotate(store, pretrained)
        training.run_round(store, pretrained.id, silent)
        assert models.plans(store, pretrained.id, Preset.QUICK) == plans
        assert ThresholdTrainer.seen[-1]["start_from"] == store.files.resolve(made.path)
        assert len(unsuited) == 1

    def test_a_round_with_few_objects_leaves_it_to_the_next(self, store, pretrained, monkeypatch):
        """The second round goes on from the model of the first, at another resolution."""
        annotate(store, pretrained)
        monkeypatch.setattr(ThresholdTrainer, "plan_suits", lambda *args: None if len(args[2]) <= 4 else False)
        training.run_round(store, pretrained.id, silent)
        (plan,) = models.plans(store, pretrained.id, Preset.QUICK)
        first = models.checkpoints(store, pretrained.id)[-1]
        annotate(store, pretrained)
        training.run_round(store, pretrained.id, silent)
        made = models.checkpoints(store, pretrained.id)[-1]
        assert made.plan_id != plan.id
        assert ThresholdTrainer.seen[-1]["start_from"] == store.files.resolve(first.path)

    def test_it_stays_for_good_once_enough_objects_were_marked(self, store, pretrained, monkeypatch):
        annotate(store, pretrained)
        training.run_round(store, pretrained.id, silent)
        monkeypatch.setattr(ThresholdTrainer, "plan_suits", lambda *args: len(args[2]) <= 4)
        annotate(store, pretrained)
        training.run_round(store, pretrained.id, silent)
        assert len(models.plans(store, pretrained.id, Preset.QUICK)) == 1

    def test_a_round_that_was_killed_keeps_the_plan_that_it_made(self, store, pretrained, unsuited, monkeypatch):
        annotate(store, pretrained)
        with monkeypatch.context() as patch:
            patch.setattr(training, "train", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                training.run_round(store, pretrained.id, silent)
        plans = models.plans(store, pretrained.id, Preset.QUICK)
        training.run_round(store, pretrained.id, silent)
        assert models.plans(store, pretrained.id, Preset.QUICK) == plans
        assert models.checkpoints(store, pretrained.id)[-1].plan_id == plans[-1].id

    def test_another_network_starts_from_scratch(self, store, pretrained, unsuited, monkeypatch):
        monkeypatch.setattr(ThresholdTrainer, "same_network", lambda self, workspace, other: False)
        annotate(store, pretrained)
        training.run_round(store, pretrained.id, silent)
        assert ThresholdTrainer.seen[-1]["start_from"] is None

    def test_what_an_expert_fixed_stays(self, store, project, unsuited):
        pseudo.decide(store, project.id, "log_watershed")
        planning.run_plan(store, project.id, silent, {"batch_size": 3})
        annotate(store, project)
        training.run_round(store, project.id, silent)
        assert len(models.plans(store, project.id, Preset.QUICK)) == 1


def test_after_a_kill_for_memory_it_is_not_measured_how_fast_the_computer_trains(store, project, fast, monkeypatch):
    """Which takes as much memory as what the system may have ended the job for."""
    trainer, _ = fast
    options = []
    monkeypatch.setattr(trainer, "__init__", lambda self, **kept: options.append(kept))
    cases = training_cases.reference_cases(store, project)
    for killed in (0, 1):
        plan_in_use.make_plan(store, project, cases, silent, killed=killed)
    assert options == [{}, {"timing": None}]
