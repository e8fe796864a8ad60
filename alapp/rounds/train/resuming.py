"""Whether a training that was stopped goes on where it was.

A run is named by all that it learns from, see `training.run_hash`: with other labels, another plan or another model to
start from it is another run, which begins anew.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from alapp.errors import NotReadyError
from alapp.jobs import Job
from alapp.rounds.train import pretrain_check, training
from alapp.rounds.train.training_cases import human_cases, pseudo_cases
from alapp.storage import models
from alapp.storage.db import Store


def begins_anew(store: Store, job: Job) -> bool:
    """Whether a training that is paused or was cancelled loses what it learned when it is started with the same
    parameters, because something that it learns from has changed since. False where it has learned nothing yet."""
    learned = _unfinished_run(store, job)
    if learned is None:
        return False
    try:
        possible = _possible_runs(store, job)
    except NotReadyError:  # which it raises, too, when it is started
        return False
    return bool(possible) and learned not in possible


def _unfinished_run(store: Store, job: Job) -> str | None:
    """The hash of the run that the job learned in last; None before its first epoch, and when that run is finished."""
    finished = {item.input_hash for item in models.checkpoints(store, job.project_id)}
    begun = datetime.fromisoformat(job.created).timestamp()
    # A run that an earlier job left unfinished has an old folder.
    touched = {
        key: _last_change(store, job.project_id, key)
        for key in models.training_runs(store, job.project_id)
        if key not in finished
    }
    newest = max(touched, key=touched.__getitem__, default=None)
    return newest if newest is not None and touched[newest] >= begun else None


def _last_change(store: Store, project_id: int, key: str) -> float:
    plans = (store.files.project(project_id) / "nnunet").glob("*")
    newest = 0.0
    for path in (path for plan in plans for path in training.run_folder(plan, key).glob("*")):
        with suppress(FileNotFoundError):  # removed in the meantime
            newest = max(newest, path.stat().st_mtime)
    return newest


def _possible_runs(store: Store, job: Job) -> Collection[str]:
    """Hashes of the runs that the job may carry out on what there is now; none where there is nothing to learn from."""
    project = training.project_with(store, job.project_id, job.params.get("preset"))
    plan, iterations = models.find_plan(store, project.id, project.preset), job.params.get("iterations")
    pretrains = job.kind == "pretrain"
    cases = (pseudo_cases if pretrains else human_cases)(store, project)
    if plan is None or not cases:
        return ()
    if pretrains:
        return (training.run_hash(plan, training.pretraining(project, plan, cases, iterations)),)
    this = training.round_of(store, project.id, job.params.get("round_id"))
    run = training.fine_tuning(store, project, plan, this, cases, iterations)
    runs = [run]
    if pretrain_check.due(project, run.start_from):  # which may find that starting from scratch is better
        runs.append(replace(run, start_from=None))
    return [training.run_hash(plan, each) for each in runs]
