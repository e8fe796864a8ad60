"""Whose a run is: signs of life, and what becomes of a run that another process has taken up."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from alapp.domain import silent
from alapp.errors import Cancelled
from alapp.experiments import runner
from alapp.experiments.study import Study
from alapp.storage import experiments, processes
from alapp.storage.experiments import RunState
from tests.rounds.fakes import ThresholdTrainer

pytestmark = pytest.mark.usefixtures("fast")
ANOTHER = "elsewhere:1:t"


@pytest.fixture
def made(store, source):
    """An experiment of a single run, the pre-training."""
    made = runner.create(store, "one", Study(source, budgets=(2,), strategies=("random",), seeds=(0,), full=False))
    store.execute("DELETE FROM experiment_run WHERE id > 1")
    return made


@pytest.fixture
def other_process():
    """A process of this host that lives."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


def the_run(store, made):
    (run,) = experiments.runs(store, made.id)
    return run


def hours_pass(monkeypatch) -> None:
    later = time.time() + 36_000
    monkeypatch.setattr(experiments, "time", SimpleNamespace(time=lambda: later))


def test_a_silent_run_of_a_process_that_lives_here_is_not_given_away(store, made, other_process, monkeypatch):
    name = f"{processes.hostname()}:{other_process.pid}:t"
    experiments.claim(store, made.id, name)
    hours_pass(monkeypatch)
    experiments.recover_dead(store, made.id)
    assert (the_run(store, made).state, the_run(store, made).worker) == (RunState.RUNNING, name)
    other_process.kill()
    other_process.wait()
    experiments.recover_dead(store, made.id)
    assert the_run(store, made).state is RunState.WAITING


def test_a_process_that_has_the_number_of_one_that_is_gone_does_not_hold_its_run(store, made, other_process):
    experiments.claim(store, made.id, f"{processes.hostname()}:{other_process.pid}:t")
    store.execute("UPDATE experiment_run SET heartbeat = heartbeat - 3600")  # so the process began later
    experiments.recover_dead(store, made.id)
    assert the_run(store, made).state is RunState.WAITING


@pytest.mark.parametrize("own", [False, True])
def test_a_silent_run_of_another_computer_or_of_this_process_is_given_back(store, made, monkeypatch, own):
    name = processes.worker_name("given up") if own else ANOTHER
    experiments.claim(store, made.id, name)
    experiments.recover_dead(store, made.id)
    assert the_run(store, made).state is RunState.RUNNING
    hours_pass(monkeypatch)
    experiments.recover_dead(store, made.id)
    assert the_run(store, made).state is RunState.WAITING


def test_a_step_without_a_report_gives_signs_of_life(store, made, monkeypatch):
    monkeypatch.setattr(runner, "HEART_SECONDS", 0.02)
    predict, beaten = ThresholdTrainer.predict, []

    def slow(self, *given):
        before, end = the_run(store, made).heartbeat, time.monotonic() + 60
        while the_run(store, made).heartbeat == before and time.monotonic() < end:
            time.sleep(0.02)
        beaten.append(the_run(store, made).heartbeat > before)
        return predict(self, *given)

    monkeypatch.setattr(ThresholdTrainer, "predict", slow)
    assert runner.run(store, made.id, silent) == {"done": 1, "failed": 0}
    assert beaten
    assert all(beaten)


def test_a_cancel_is_heard_while_a_test_image_is_predicted(store, made, monkeypatch):
    def predict(self, workspace, checkpoint, image, report):
        report(1, 2, "a tile")
        pytest.fail("The cancel was not heard.")

    monkeypatch.setattr(ThresholdTrainer, "predict", predict)
    told = []

    def cancel(done, total, message=""):
        told.append(message)
        if told[-2:] == [message] * 2 and "Testing on" in message:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        runner.run(store, made.id, cancel)
    assert the_run(store, made).state is RunState.WAITING


def until_it_waits(done, total, message=""):
    """Reports; another process never ends here."""
    if message == "Waiting for another process":
        raise Cancelled("enough")


def taken_up(store, made):
    """Another process takes the run up, as after the computer slept."""
    experiments.release(store, 1, the_run(store, made).worker)
    assert experiments.claim(store, made.id, ANOTHER)


def test_what_another_process_works_with_stays(store, made, monkeypatch):
    finish = experiments.finish

    def late(store, *given):
        taken_up(store, made)
        return finish(store, *given)

    monkeypatch.setattr(experiments, "finish", late)
    with pytest.raises(Cancelled):
        runner.run(store, made.id, until_it_waits)
    assert (the_run(store, made).worker, the_run(store, made).result) == (ANOTHER, None)
    assert list((runner.folder(store, made) / "runs").iterdir())


def test_the_model_of_a_run_that_was_taken_up_is_not_kept(store, made, monkeypatch):
    predict = ThresholdTrainer.predict

    def late(self, *given):
        if the_run(store, made).worker != ANOTHER:
            taken_up(store, made)
        return predict(self, *given)

    monkeypatch.setattr(ThresholdTrainer, "predict", late)
    with pytest.raises(Cancelled):
        runner.run(store, made.id, until_it_waits)
    assert (the_run(store, made).worker, the_run(store, made).result) == (ANOTHER, None)
    assert not (runner.folder(store, made) / "models").exists()
    assert list((runner.folder(store, made) / "runs").iterdir())
