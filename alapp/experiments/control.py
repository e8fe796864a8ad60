"""Starting, watching and stopping experiments as jobs, and deleting them so that it can be undone.

The pages and the command line call these same functions.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from alapp import jobs
from alapp.errors import ConflictError, InputError, NotReadyError
from alapp.experiments import runner
from alapp.experiments.outlook import Outlook, look_ahead
from alapp.experiments.study import Study
from alapp.jobs import Job
from alapp.storage import experiments as rows
from alapp.storage.db import Store
from alapp.storage.experiments import Experiment, ExperimentRun, RunState
from alapp.storage.files import atomic_write

KIND = "experiment"
REMOVED = "removed.json"


def define(store: Store, name: str, study: Study) -> tuple[Experiment, Outlook]:
    """A new experiment on images that were checked. Raises `InputError` for a name that is empty or taken, and what
    `look_ahead` raises."""
    name = name.strip()
    if not name:
        raise InputError("Give the experiment a name.")
    ahead = look_ahead(store, study)
    return runner.create(store, name, ahead.study), ahead


def extend(store: Store, name: str, study: Study) -> tuple[int, Outlook]:
    """Add to an experiment what it lacks, on images that were checked; returns how many runs that is. Raises
    `InputError` where there is none of this name, and what `look_ahead` and `runner.extend` raise."""
    experiment = rows.by_name(store, name.strip())
    ahead = look_ahead(store, study)
    return runner.extend(store, experiment, ahead.study), ahead


def start(store: Store, experiment_id: int, workers: int = 1) -> Job:
    """Queue what is not done of an experiment; one that is paused goes on. Raises `ConflictError` while another
    experiment is waiting, running or paused, and `NotReadyError` when there is nothing to do."""
    experiment = rows.by_id(store, experiment_id)
    other = busy(store)
    if other is not None and other.params["experiment"] != experiment_id:
        known = next((item.name for item in rows.every(store) if item.id == other.params["experiment"]), "Another")
        raise ConflictError(
            f"The experiment {known!r} is {'paused' if other.paused else 'running'}. Let it end or cancel it first; "
            "what it has done is kept."
        )
    if other is None and not rows.claimable(store, experiment_id):
        raise NotReadyError(f"Nothing of {experiment.name!r} is left to do; what failed can be tried again.")
    return jobs.enqueue(store, KIND, None, {"experiment": experiment_id, "workers": workers})


def retry(store: Store, experiment_id: int, workers: int = 1) -> int:
    """Let what failed wait again, and start. Returns how many. Raises as `start`."""
    other = busy(store)
    if other is not None and other.params["experiment"] != experiment_id:
        start(store, experiment_id)
    number = rows.retry(store, experiment_id)
    start(store, experiment_id, workers)
    return number


def job_of(store: Store, experiment_id: int) -> Job | None:
    """The newest job of an experiment."""
    mine = (job for job in jobs.history(store, None) if job.kind == KIND)
    return next((job for job in mine if job.params.get("experiment") == experiment_id), None)


def busy(store: Store) -> Job | None:
    """The experiments' job that waits, runs or is paused; there is at most one."""
    return next((job for job in jobs.history(store, None) if job.kind == KIND and (job.active or job.paused)), None)


def remove(store: Store, experiment_id: int) -> None:
    """Delete an experiment, its results and models; `undo_removal` brings back the one that was deleted last.

    Raises `ConflictError` while it waits, runs or is paused, here or in another process.
    """
    experiment = rows.by_id(store, experiment_id)
    job = busy(store)
    rows.recover_dead(store, experiment_id)
    working = any(run.state is RunState.RUNNING for run in rows.runs(store, experiment_id))
    if working or (job is not None and job.params["experiment"] == experiment_id):
        raise ConflictError(f"The experiment {experiment.name!r} is not at rest. Cancel it, then delete it.")
    forget_removed(store)
    bin_folder = _bin(store)
    bin_folder.mkdir(parents=True)
    kept = {"experiment": asdict(experiment), "runs": [asdict(run) for run in rows.runs(store, experiment_id)]}
    with atomic_write(bin_folder / REMOVED) as handle:
        handle.write(json.dumps(kept).encode())
    folder = runner.folder(store, experiment)
    if folder.exists():
        os.replace(folder, bin_folder / "files")
    rows.remove(store, experiment_id)


def removed(store: Store) -> str | None:
    """The name of the experiment that can be brought back."""
    path = _bin(store) / REMOVED
    return json.loads(path.read_text(encoding="utf-8"))["experiment"]["name"] if path.is_file() else None


def undo_removal(store: Store) -> Experiment:
    """Bring back what was deleted last. Raises `NotReadyError` if that is nothing, `InputError` for a name that was
    taken in the meantime."""
    path = _bin(store) / REMOVED
    if not path.is_file():
        raise NotReadyError("No deleted experiment is left to bring back.")
    kept = json.loads(path.read_text(encoding="utf-8"))
    back = [ExperimentRun(**{**run, "state": RunState(run["state"])}) for run in kept["runs"]]
    made = rows.restore(store, Experiment(**kept["experiment"]), back)
    files, folder = _bin(store) / "files", runner.folder(store, made)
    if files.exists():
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(files, folder)
    forget_removed(store)
    return made


def forget_removed(store: Store) -> None:
    """Free the disk space of what was deleted; it cannot be brought back then."""
    shutil.rmtree(_bin(store), ignore_errors=True)


def _bin(store: Store) -> Path:
    return store.root / "experiments" / "removed"
