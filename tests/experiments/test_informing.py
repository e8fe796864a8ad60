"""What strategies are told in an experiment."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import silent
from alapp.experiments import informing, runner, runs
from alapp.experiments.lab import Lab
from alapp.experiments.runs import Result
from alapp.experiments.study import Run, Study
from alapp.stages.select import measures
from alapp.stages.select.base import SELECTORS, Context, Need
from alapp.storage import experiments
from tests.rounds.fakes import MeanEmbedder, ThresholdTrainer

pytestmark = pytest.mark.usefixtures("fast")
ALL = frozenset(Need)


@pytest.fixture
def study(source):
    return Study(source, budgets=(2, 4), strategies=tuple(SELECTORS), seeds=(0,), starts=("auto",), full=False)


@pytest.fixture
def lab(tmp_path, study):
    return Lab(tmp_path / "lab", study)


@pytest.fixture
def model(lab):
    """The run of the smaller budget, and the model that it starts from."""
    run = Run("auto", 0, "coreset", "chain", 2)
    before = runs.carry_out(lab, Run("auto", 0), None, silent)
    return run, lab.folder / before.checkpoint


def test_before_a_model_the_pseudo_labels_tell(lab):
    run = Run("auto", 0, "coreset", "chain", 2)
    known = informing.inform(lab, run, None, 1, ALL, silent)
    assert set(known) == {"contrast", "content", "place", "foreground", "cost", "round_number"}
    labels = lab.pseudo("auto", 0, silent)
    expected = [(patch.of(labels[patch.image]) > 0).mean() for patch in lab.images.patches]
    np.testing.assert_allclose(known["foreground"], expected)


def test_with_a_model_its_predictions_tell(lab, model):
    known = informing.inform(lab, *model, 2, ALL, silent)
    assert set(known) == {str(need) for need in Need}
    Context(**known)
    n = len(lab.images.patches)
    assert known["class_entropy"].shape == (n, 3)
    assert known["round_number"] == 2
    objects = [len(np.unique(lab.images.labels(patch))) - 1 for patch in lab.images.patches]
    assert np.abs(known["cost"] - measures.cost(np.array(objects))).mean() < measures.SECONDS_PER_OBJECT


def test_nothing_is_computed_that_nobody_needs(lab, model, monkeypatch):
    monkeypatch.setattr(ThresholdTrainer, "predict", lambda *_: pytest.fail("nobody needs predictions"))
    monkeypatch.setattr(MeanEmbedder, "fit", lambda *_: pytest.fail("nobody looks at embeddings"))
    assert informing.inform(lab, *model, 2, frozenset(), silent) == {}
    run = Run("auto", 0, "random", "chain", 2)
    assert len(runs.choose(lab, run, None, model[1], silent)) == 2


def test_every_strategy_can_be_compared(store, study):
    made = runner.create(store, "all", study)
    assert runner.run(store, made.id, silent) == {"done": 1 + 2 * len(list(SELECTORS)), "failed": 0}
    for row in experiments.runs(store, made.id):
        assert len(set(Result.of(row.result).rows)) in (0, 2, 4)
