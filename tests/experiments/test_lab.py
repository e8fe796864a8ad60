"""What the runs of an experiment share."""

from __future__ import annotations

import pytest

from alapp.domain import silent
from alapp.experiments import lab as labs
from alapp.experiments import runs
from alapp.experiments.lab import Lab
from alapp.experiments.study import CHAIN, Run, Study
from alapp.stages.pseudolabel.base import choose_automatically
from tests.rounds.fakes import ThresholdTrainer

pytestmark = pytest.mark.usefixtures("fast")


def test_automatic_is_settled_once(tmp_path, source, monkeypatch):
    study = Study(source)
    first = Lab(tmp_path / "lab", study).method("auto")
    assert first == choose_automatically(source.modality)[0]
    # As after a download of weights, half-way through.
    monkeypatch.setattr(labs, "choose_automatically", lambda modality: ("micro_sam", "its weights are there"))
    assert Lab(tmp_path / "lab", study).method("auto") == first
    assert Lab(tmp_path / "another", study).method("auto") == "micro_sam"
    assert Lab(tmp_path / "lab", study).method("reference:drop=0.5") == "reference"


class TestPlanThatDoesNotSuit:
    """Pseudo-labels that show objects of another size than people mark."""

    @pytest.fixture
    def used(self, monkeypatch):
        """What each training and prediction found in the plan of its workspace."""
        read = []
        plan, train, predict = ThresholdTrainer.plan, ThresholdTrainer.train, ThresholdTrainer.predict

        def planned(self, workspace, cases, preset, machine, report, overrides=None):
            summary = plan(self, workspace, cases, preset, machine, report, overrides)
            if cases:
                (workspace / "plan.json").write_text(cases[0].key[:2])
            return summary

        def trained(self, workspace, *args):
            read.append(("train", (workspace / "plan.json").read_text()))
            return train(self, workspace, *args)

        def predicted(self, workspace, *args):
            read.append(("predict", (workspace / "plan.json").read_text()))
            return predict(self, workspace, *args)

        monkeypatch.setattr(ThresholdTrainer, "plan", planned)
        monkeypatch.setattr(ThresholdTrainer, "train", trained)
        monkeypatch.setattr(ThresholdTrainer, "predict", predicted)
        monkeypatch.setattr(ThresholdTrainer, "plan_suits", lambda *_: False)
        return read

    def chain(self, lab):
        before = None
        for run in (
            Run("auto", 0),
            Run("auto", 0, "foreground_random", CHAIN, 2),
            Run("auto", 0, "foreground_random", CHAIN, 4),
        ):
            before = runs.carry_out(lab, run, before, silent)
        return before

    def test_is_made_anew_once_and_goes_along_with_the_model(self, tmp_path, source, used):
        lab = Lab(tmp_path / "lab", Study(source, budgets=(2, 4)))
        self.chain(lab)
        assert [plan for what, plan in used if what == "train"] == ["pl", "gt", "gt"]
        # The first batch is chosen by what the pre-trained model predicts, with its own plan; the second by the next.
        predicted = [plan for what, plan in used if what == "predict"]
        assert set(predicted) == {"pl", "gt"}
        assert predicted == sorted(predicted, reverse=True)
        assert ThresholdTrainer.seen[1]["start_from"] is not None
        assert not list((lab.folder / "runs").iterdir())

    def test_waits_for_labels_that_tell_the_size_of_objects(self, tmp_path, source, used, monkeypatch):
        monkeypatch.setattr(ThresholdTrainer, "plan_suits", lambda *args: None if len(args[2]) < 4 else False)
        self.chain(Lab(tmp_path / "lab", Study(source, budgets=(2, 4))))
        assert [plan for what, plan in used if what == "train"] == ["pl", "pl", "gt"]
        assert ThresholdTrainer.seen[-1]["start_from"] is not None

    def test_stays_in_studies_that_were_begun_without(self, tmp_path, source, used):
        stored = Study(source, budgets=(2, 4)).as_json()
        del stored["replan"]
        self.chain(Lab(tmp_path / "lab", Study.of(stored)))
        assert {plan for _, plan in used} == {"pl"}
