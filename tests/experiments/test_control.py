"""Defining, starting and deleting experiments, as the page and the command line do it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alapp import jobs, running
from alapp.domain import silent
from alapp.errors import ConflictError, InputError, NotReadyError, Paused
from alapp.experiments import control, outlook, runner, sources
from alapp.experiments.study import Source, Study
from alapp.jobs import JobState
from alapp.storage import catalogue, experiments
from alapp.storage.experiments import RunState
from tests.rounds.conftest import project  # noqa: F401  (fixture)
from tests.rounds.fakes import ThresholdTrainer

pytestmark = pytest.mark.usefixtures("fast")


@pytest.fixture
def study(source):
    return Study(source, budgets=(2, 4), strategies=("random",), seeds=(0, 1))


def test_runs_and_time_are_told_before(store, study):
    ahead = outlook.look_ahead(store, study)
    assert (ahead.survey.train, ahead.survey.test, ahead.survey.patches) == (3, 1, 12)
    assert ahead.runs == 2 * (1 + 2 + 1)
    made = runner.create(store, "discs", study)
    assert len(experiments.runs(store, made.id)) == ahead.runs
    assert "8 runs on 3 images with 12 patches" in ahead.told


def test_time_follows_from_the_last_runs(store, study):
    made = runner.create(store, "discs", replace(study, iterations=10))
    runner.run(store, made.id, silent)
    for item in experiments.runs(store, made.id):
        store.execute(
            "UPDATE experiment_run SET result = json_set(result, '$.seconds', 5.0, '$.iterations', 10) WHERE id = ?",
            (item.id,),
        )
    ahead = outlook.look_ahead(store, replace(study, iterations=10, seeds=(0,)))
    # pre-training 10, two budgets 10 each, all patches as long as both together
    assert ahead.iterations == 50
    assert ahead.measured
    assert ahead.seconds == pytest.approx(25.0)


def test_budgets_that_leave_no_choice_are_left_out(store, study):
    ahead = outlook.look_ahead(store, replace(study, budgets=(4, 16, 32)))
    assert ahead.study.budgets == (4,)
    assert "16, 32" in ahead.told
    with pytest.raises(InputError, match="only 12 patches"):
        outlook.look_ahead(store, replace(study, budgets=(64,)))


def test_folders_are_checked_before(store, study, tmp_path):
    with pytest.raises(InputError, match=r"no folder .*nowhere"):
        outlook.look_ahead(store, replace(study, source=Source(images=str(tmp_path / "nowhere"), labels=str(tmp_path))))
    (tmp_path / "labels" / "2.tif").unlink()
    with pytest.raises(InputError, match="no labels for 1 image, 2 among"):
        control.define(store, "discs", study)
    assert not experiments.every(store)


def test_a_survey_says_what_loading_gives(store, source, project):  # noqa: F811
    for each in (source, sources.of_project(store, project.id), sources.of_sample("cho")):
        seen, loaded = outlook.survey(store, each), sources.load(each, store)
        assert (seen.train, seen.test, seen.patches) == (len(loaded.train), len(loaded.test), len(loaded.patches))
        assert seen.is_3d == loaded.train[0].is_3d


def test_a_project_with_reference_masks_is_a_source(store, project):  # noqa: F811
    study = Study(sources.of_project(store, project.id), budgets=(2,), strategies=("random",), seeds=(0,))
    made, _ = control.define(store, "mine", study)
    job = running.run_inline(store, control.start(store, made.id))
    assert (job.state, job.result) == (JobState.DONE, {"done": 3, "failed": 0})
    catalogue.delete_project(store, project.id)
    catalogue.erase_project(store, project.id)
    with pytest.raises(NotReadyError, match="reference masks"):
        sources.load(study.source, store)


def test_one_experiment_at_a_time(store, study):
    one, _ = control.define(store, "one", study)
    two, _ = control.define(store, "two", study)
    job = control.start(store, one.id)
    assert control.start(store, one.id).id == job.id
    with pytest.raises(ConflictError, match="'one' is running"):
        control.start(store, two.id)
    jobs.pause(store, job.id)
    with pytest.raises(ConflictError, match="'one' is paused"):
        control.start(store, two.id)
    assert control.start(store, one.id).state is JobState.QUEUED
    assert running.run_inline(store, job).result == {"done": 8, "failed": 0}
    with pytest.raises(NotReadyError, match="left to do"):
        control.start(store, one.id)
    assert control.start(store, two.id).params["experiment"] == two.id


def test_what_failed_is_tried_again(store, study, monkeypatch):
    made, _ = control.define(store, "one", study)
    with monkeypatch.context() as broken:
        broken.setattr(ThresholdTrainer, "train", lambda *_, **__: 1 / 0)
        assert running.run_inline(store, control.start(store, made.id)).result == {"done": 0, "failed": 2}
    assert control.retry(store, made.id) == 2
    assert running.run_inline(store, control.job_of(store, made.id)).result == {"done": 8, "failed": 0}


def test_deleting_can_be_undone(store, study):
    made, _ = control.define(store, "one", study)
    job = control.start(store, made.id)
    with pytest.raises(ConflictError, match="Cancel it"):
        control.remove(store, made.id)
    running.run_inline(store, job)
    before = experiments.runs(store, made.id)
    control.remove(store, made.id)
    assert not experiments.every(store)
    assert control.removed(store) == "one"
    taken, _ = control.define(store, "one", study)
    with pytest.raises(InputError, match="already"):
        control.undo_removal(store)
    experiments.remove(store, taken.id)
    back = control.undo_removal(store)
    assert control.removed(store) is None
    assert back.created == made.created
    again = experiments.runs(store, back.id)
    assert [(run.key, run.result, run.finished) for run in again] == [
        (run.key, run.result, run.finished) for run in before
    ]
    assert (runner.folder(store, back) / before[0].result["checkpoint"]).is_file()
    # and it can be extended, from the models that came back
    assert runner.extend(store, back, replace(study, seeds=(0, 1, 2))) == 4
    assert runner.run(store, back.id, silent) == {"done": 12, "failed": 0}


def test_processes_that_end_early_are_told(store, study, monkeypatch):
    made = runner.create(store, "one", study)
    monkeypatch.setattr(runner.sys, "executable", "/bin/false" if runner.os.name != "nt" else "where")
    with pytest.raises(runner.BackendError, match="ended before"):
        runner.run(store, made.id, silent, workers=2)
    assert {run.state for run in experiments.runs(store, made.id)} == {RunState.WAITING}


def test_processes_that_are_stopped_leave_no_run_at_work(store, study, monkeypatch):
    """A process takes a run and works on it, until it is told to end."""
    made = runner.create(store, "one", study)
    script = (
        "import sys, time, pathlib; from alapp.storage import db, experiments, processes;"
        "store = db.Store(pathlib.Path(sys.argv[-1])); experiments.claim(store, 1, processes.worker_name('t'));"
        "time.sleep(60)"
    )
    start = runner.subprocess.Popen
    monkeypatch.setattr(
        runner.subprocess, "Popen", lambda command, **rest: start([command[0], "-c", script, command[-1]], **rest)
    )

    def stop(done, total, message=""):
        if all(run.state is RunState.RUNNING for run in experiments.runs(store, made.id)[::4]):
            raise Paused("The work was paused.")

    with pytest.raises(Paused):
        runner.run(store, made.id, stop, workers=2)
    assert {run.state for run in experiments.runs(store, made.id)} == {RunState.WAITING}
