"""Carrying out the runs of an experiment, in this process or in several."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alapp.domain import Report
from alapp.environment import prepare, usable_cores
from alapp.errors import AlappError, BackendError, Cancelled
from alapp.experiments import exchange, extending, manifest
from alapp.experiments.lab import Lab
from alapp.experiments.runs import Claim, Result, carry_out
from alapp.experiments.study import Run, Study, runs
from alapp.storage import experiments as rows
from alapp.storage.db import Store
from alapp.storage.experiments import Experiment, ExperimentRun, RunState
from alapp.storage.processes import beating, worker_name

BEAT_SECONDS = 5.0
"""Between two signs of life of a run that reports what it does."""

HEART_SECONDS = 30.0
"""Between two that a run gives in any case: a step without a report, such as the objects of a large stack, may take
longer than others wait."""

POLL_SECONDS = 1.0


class _TakenUpError(Cancelled):
    """The run is another process's by now."""


class _Claim(Claim):
    """This process's hold on a run: signs of life, and no result of a run that another process has taken up."""

    def __init__(self, store: Store, run_id: int, name: str):
        self._store, self._id, self._name = store, run_id, name
        self._beaten = time.monotonic()
        self._lost = threading.Event()

    def beat(self) -> None:
        """A sign of life now."""
        self._beaten = time.monotonic()
        if not rows.beat(self._store, self._id, self._name):
            self._lost.set()

    def told(self) -> None:
        """The run reports something. Raises `_TakenUpError`."""
        if time.monotonic() - self._beaten > BEAT_SECONDS:
            self.beat()
        if self._lost.is_set():
            raise _TakenUpError("Another process has taken up this run.")

    def check(self) -> None:
        self.beat()
        self.told()

    def finish(self, result: Result) -> bool:
        return rows.finish(self._store, self._id, self._name, result.as_json())


def create(store: Store, name: str, study: Study) -> Experiment:
    """A new experiment, none of whose runs is done. Raises `InputError` for a taken name."""
    return rows.add(store, name, study.as_json(), _listed(study))


def extend(store: Store, experiment: Experiment, study: Study) -> int:
    """Add what `study` compares beyond the experiment's own study. Returns how many runs were added. Raises
    `InputError` for a study whose runs could not be compared with those that are there, see `extending`."""
    before = Study.of(experiment.study)
    whole = before.extended(study)
    known = [{"key": each.key, "after": each.after, "run": each.run} for each in rows.runs(store, experiment.id)]
    extending.check(before, known, study, _listed(study))
    added = rows.extend(store, experiment.id, whole.as_json(), _listed(study))
    exchange.give_back(store, experiment)
    return added


def run_experiment(
    store: Store, project_id: int | None, report: Report, experiment: int, workers: int = 1
) -> dict[str, Any]:
    """The job: every run that is not done, one by one or in `workers` processes. Returns {"done", "failed"}."""
    return run(store, experiment, report, workers)


def run(store: Store, experiment_id: int, report: Report, workers: int = 1) -> dict[str, Any]:
    """Carry out every run that is not done; with more than one worker, in as many processes, each with its share of
    the cores. Returns {"done": n, "failed": n} of all runs. `report` counts runs; when it raises `Cancelled`, what was
    begun is given back, to go on later. Raises what `manifest.settled` raises before anything is begun."""
    experiment = rows.by_id(store, experiment_id)
    rows.recover_dead(store, experiment.id)
    if workers > 1:
        _in_processes(store, experiment, report, workers)
    else:
        _here(store, experiment, report)
    states = [item.state for item in rows.runs(store, experiment.id)]
    return {"done": states.count(RunState.DONE), "failed": states.count(RunState.FAILED)}


def folder(store: Store, experiment: Experiment) -> Path:
    """Where its files are."""
    return store.root / "experiments" / str(experiment.id)


def _listed(study: Study) -> list[dict[str, Any]]:
    listed = []
    for item in runs(study):
        before = item.after(study)
        listed.append({"key": item.key, "after": before.key if before else None, "run": asdict(item)})
    return listed


def _here(store: Store, experiment: Experiment, report: Report) -> None:
    prepare()
    lab = Lab(folder(store, experiment), Study.of(experiment.study), store)
    if _is_waiting(store, experiment):
        _ = lab.images  # now, so that images that cannot be used do not let one run after the other fail
    name = worker_name(uuid.uuid4().hex)
    while True:
        rows.recover_dead(store, experiment.id)
        claimed = rows.claim(store, experiment.id, name)
        if claimed is not None:
            _one(store, experiment, lab, claimed, name, report)
        elif any(item.state is RunState.RUNNING for item in rows.runs(store, experiment.id)):
            # What another process works on may be what the rest waits for.
            report(*_progress(store, experiment), "Waiting for another process")
            time.sleep(POLL_SECONDS)
        else:
            return


def _one(store: Store, experiment: Experiment, lab: Lab, claimed: ExperimentRun, name: str, report: Report) -> None:
    done, total = _progress(store, experiment)
    claim = _Claim(store, claimed.id, name)

    def inner(part: float, whole: float, message: str = "") -> None:
        claim.told()
        report(done + (part / whole if whole else 0.0), total, f"{claimed.key}: {message}")

    try:
        with beating(claim.beat, HEART_SECONDS):
            carry_out(lab, Run(**claimed.run), _before(store, experiment, claimed), inner, claim)
    except _TakenUpError:
        return  # as after the computer slept: the next run is for this process
    except Cancelled:
        rows.release(store, claimed.id, name)
        raise
    except AlappError as error:
        rows.fail(store, claimed.id, name, str(error))
    except Exception as error:
        # One run that breaks must not end a night of others; its traceback stands in the log.
        traceback.print_exc()
        rows.fail(store, claimed.id, name, f"Something went wrong inside the app ({type(error).__name__}).")
    except BaseException:
        rows.release(store, claimed.id, name)
        raise


def _before(store: Store, experiment: Experiment, claimed: ExperimentRun) -> Result | None:
    if claimed.after is None:
        return None
    stored = rows.run_of(store, experiment.id, claimed.after).result
    return Result.of(stored) if stored else None


def _is_waiting(store: Store, experiment: Experiment) -> bool:
    return any(item.state is RunState.WAITING for item in rows.runs(store, experiment.id))


def _progress(store: Store, experiment: Experiment) -> tuple[int, int]:
    states = [item.state for item in rows.runs(store, experiment.id)]
    return sum(state in (RunState.DONE, RunState.FAILED) for state in states), len(states)


def _in_processes(store: Store, experiment: Experiment, report: Report, workers: int) -> None:
    environment: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": str(max(1, usable_cores() // workers))}
    command = [sys.executable, "-m", "alapp", "experiment", "run", experiment.name, "--state", str(store.root)]
    if _is_waiting(store, experiment):
        # Here first: of the processes only the log would tell.
        manifest.settled(folder(store, experiment), Study.of(experiment.study).source, store)
    log = folder(store, experiment) / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        started = [
            subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output) for _ in range(workers)
        ]
        try:
            while any(process.poll() is None for process in started):
                report(*_progress(store, experiment), f"{workers} processes")
                time.sleep(POLL_SECONDS)
        finally:
            for process in started:
                if process.poll() is None:
                    process.terminate()
            for process in started:
                process.wait()
            rows.recover_dead(store, experiment.id)
    if rows.claimable(store, experiment.id):
        raise BackendError(
            f"The processes of the experiment {experiment.name!r} ended before all of it was done; {log} tells why. "
            "Start it again, with fewer processes if memory ran out."
        )
