"""Results that come without their models, as from a disk that is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alapp.domain import silent
from alapp.experiments import exchange, findings, runner
from alapp.experiments.runs import Result
from alapp.experiments.study import CHAIN, SINGLE, Study
from alapp.storage import experiments
from alapp.storage.experiments import RunState
from tests.rounds.fakes import ThresholdTrainer

pytestmark = pytest.mark.usefixtures("fast")


@pytest.fixture
def study(source):
    return Study(source, budgets=(2, 4), strategies=("coreset", "random"), seeds=(0,), full=False)


@pytest.fixture
def made(store, study):
    """What another computer found out."""
    first = runner.create(store, "elsewhere", study)
    runner.run(store, first.id, silent)
    return exchange.portable(store, first)


def states(store, experiment):
    return {item.key: item.state for item in experiments.runs(store, experiment.id)}


def test_everything_known_is_not_run_again(store, study, made):
    here = runner.create(store, "here", study)
    assert exchange.adopt(store, here, made) == 5
    ThresholdTrainer.seen.clear()
    assert runner.run(store, here.id, silent) == {"done": 5, "failed": 0}
    assert ThresholdTrainer.seen == []
    assert exchange.portable(store, here) == made
    there = experiments.by_name(store, "elsewhere")
    both = [findings.as_text(findings.lines(experiments.runs(store, item.id))) for item in (here, there)]
    assert both[0] == both[1]


def test_what_an_unknown_run_starts_from_is_run_again(store, study, made):
    here = runner.create(store, "here", study)
    told = [each for each in made if each["key"] != "auto/chain/random/4/0"]
    assert exchange.adopt(store, here, told) == 2
    assert {key for key, state in states(store, here).items() if state is RunState.DONE} == {
        "auto/chain/coreset/2/0",
        "auto/chain/coreset/4/0",
    }
    ThresholdTrainer.seen.clear()
    assert runner.run(store, here.id, silent) == {"done": 5, "failed": 0}
    assert len(ThresholdTrainer.seen) == 3


def test_adopted_runs_wait_again_when_what_is_added_starts_from_them(store, study, made):
    here = runner.create(store, "here", study)
    exchange.adopt(store, here, made)
    assert runner.extend(store, here, replace(study, budgets=(2, 4, 6), strategies=("random",))) == 1
    again = {key for key, state in states(store, here).items() if state is RunState.WAITING}
    assert again == {"auto/-/-/0/0", "auto/chain/random/2/0", "auto/chain/random/4/0", "auto/chain/random/6/0"}
    assert runner.run(store, here.id, silent) == {"done": 6, "failed": 0}
    assert not any(Result.of(item.result).elsewhere for item in experiments.runs(store, here.id) if item.key in again)


def test_runs_of_its_own_stay_when_more_is_added(store, study):
    here = runner.create(store, "here", study)
    runner.run(store, here.id, silent)
    runner.extend(store, here, replace(study, schedules=(CHAIN, SINGLE)))
    assert list(states(store, here).values()).count(RunState.DONE) == 5
