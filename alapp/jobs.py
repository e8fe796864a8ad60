"""Long jobs, as the pages and the command line see them: what can be run, start it, watch it, cancel it.

A job is a row in the database that the worker process (`alapp.worker`) runs. Its function is named as
"module:function" in `KINDS` and imported only by the worker, so listing the kinds imports nothing.
"""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alapp.domain import Report
from alapp.errors import ConflictError, InputError, NotReadyError
from alapp.storage import catalogue, dead_jobs
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from alapp.storage.job import Job, JobState

__all__ = ["KINDS", "Job", "JobFunction", "JobKind", "JobState", "Report"]

JobFunction = Callable[..., dict[str, Any] | None]
"""`fn(store, project_id, report, **params)`; what it returns must be JSON. It may be run again after a
crash, so it skips work whose result is already stored. It lets `Cancelled`, raised by `report`, through."""


@dataclass(frozen=True)
class JobKind:
    """A kind of job. `target` is "module:function", `title` what the user reads, `gpu` whether it uses one.

    `pausable` jobs keep what is done, so that they can be stopped for a while. `shrinks`: its function takes
    `killed`, how often the system ended this job because memory ran out, and then works in smaller portions.
    `beside` jobs mostly wait for the network, so they run while another job does; they may start no processes.
    `apart_from`: kinds of which none may be unfinished in the project when one of this kind is started.
    `settings`: those of the project that its function takes as they were when the job was queued, because it may wait,
    or be paused, while they are changed.
    """

    target: str
    title: str
    gpu: bool = False
    pausable: bool = False
    shrinks: bool = False
    beside: bool = False
    apart_from: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def load(self) -> JobFunction:
        """The function of this kind."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


KINDS: dict[str, JobKind] = {
    "import": JobKind("alapp.rounds.importing:run_import", "Importing images"),
    "sample": JobKind("alapp.rounds.importing:run_sample", "Copying the sample images"),
    "preview": JobKind("alapp.rounds.pseudolabel.pseudo:run_preview", "Previewing pseudo-labels", gpu=True),
    "pseudo_label": JobKind("alapp.rounds.pseudolabel.pseudo:run_all", "Making pseudo-labels", gpu=True, pausable=True),
    "plan": JobKind("alapp.rounds.train.planning:run_plan", "Planning the network", gpu=True),
    "pretrain": JobKind(
        "alapp.rounds.train.training:run_pretrain",
        "Pre-training on pseudo-labels",
        gpu=True,
        pausable=True,
        shrinks=True,
        settings=("preset",),
    ),
    "select": JobKind(
        "alapp.rounds.select.click_ahead:run_select", "Selecting a batch", gpu=True, apart_from=("train",)
    ),
    "embed_clicks": JobKind(
        "alapp.rounds.select.click_ahead:run_embed", "Getting the batch ready for clicks", gpu=True
    ),
    "train": JobKind(
        "alapp.rounds.train.training:run_round",
        "Training the round",
        gpu=True,
        pausable=True,
        shrinks=True,
        apart_from=("select",),
        settings=("preset",),
    ),
    "predict": JobKind(
        "alapp.rounds.predict.evaluation:run_predict", "Applying the model to new images", gpu=True, pausable=True
    ),
    "rescore": JobKind("alapp.rounds.predict.evaluation:run_rescore", "Scoring what you corrected"),
    "apply": JobKind("alapp.rounds.apply.apply:run_apply", "Applying the model to other images", gpu=True),
    "finetune_sam": JobKind(
        "alapp.rounds.train.finetune_sam:run_finetune", "Fine-tuning micro_sam on your labels", gpu=True
    ),
    "map": JobKind("alapp.rounds.select.mapping:run_map", "Drawing the map of patches"),
    "advise": JobKind("alapp.rounds.results.adviser:run_advise", "Comparing the last two rounds"),
    "experiment": JobKind("alapp.experiments.runner:run_experiment", "Carrying out the experiment", True, True),
    "export": JobKind("alapp.rounds.export.export:run_export", "Exporting"),
    "download_model": JobKind(
        "alapp.rounds.pseudolabel.foundation_jobs:run_download", "Downloading a model", beside=True
    ),
    "try_model": JobKind("alapp.rounds.pseudolabel.foundation_jobs:run_try", "Testing a model", gpu=True),
}


def kind(name: str) -> JobKind:
    """The kind called `name`. Raises `InputError` if there is none."""
    if name not in KINDS:
        raise InputError(f"There is no job called {name!r}. Choose one of: {', '.join(KINDS)}.")
    return KINDS[name]


def beside() -> list[str]:
    """The kinds of jobs that run while another job does."""
    return [name for name, each in KINDS.items() if each.beside]


def enqueue(
    store: Store,
    name: str,
    project_id: int | None = None,
    params: dict[str, Any] | None = None,
    behind_running: bool = False,
) -> Job:
    """Queue a job of kind `name`. While one of the same kind and project is active, that one is returned; one that
    is paused goes on, as it was started. One that is being cancelled does not count, and with `behind_running` one that
    runs does not either: for a job that reads the project's settings when it begins, after these were changed.

    `params` are keyword arguments of its function and must be JSON; `with_settings` adds to them. Raises `InputError`
    for an unknown kind, and `NotReadyError` while a job that it is kept apart from is unfinished.
    """
    check_apart(store, name, project_id)
    return rows.add(store, name, project_id, with_settings(store, name, project_id, params or {}), behind_running)


def with_settings(store: Store, name: str, project_id: int | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params`, and those settings of the project, as they are now, that a job of kind `name` keeps. What is in
    `params` already stays: a job that is tried again has the settings of the first time."""
    settings = kind(name).settings
    if project_id is None or not settings:
        return dict(params)
    project = catalogue.project(store, project_id)
    return {each: getattr(project, each) for each in settings} | dict(params)


def start(store: Store, name: str, project_id: int | None, params: dict[str, Any]) -> Job:
    """As `enqueue`, for work that a person asks for. Raises `ConflictError` where the job that is active has other
    `params`: it would be taken for what was asked for."""
    before = unfinished(store, project_id, (name,))
    job = enqueue(store, name, project_id, params)
    goes_on = before is not None and before.paused
    if job.params != with_settings(store, name, project_id, params) and not goes_on:
        does = "runs" if job.state is JobState.RUNNING else "waits"
        raise ConflictError(
            f"“{kind(name).title}” {does} already, with other settings. Wait until it has ended, or "
            "cancel it in the bar at the top; then start this again."
        )
    return job


def get(store: Store, job_id: int) -> Job:
    """The job with this id. Raises `NotReadyError` if there is none."""
    return rows.job(store, job_id)


def active(store: Store, project_id: int | None = None) -> list[Job]:
    """Jobs that wait or run, oldest first; of one project, or of all."""
    return rows.active(store, project_id)


def history(store: Store, project_id: int | None) -> list[Job]:
    """All jobs of a project, newest first."""
    return rows.history(store, project_id)


def unfinished(store: Store, project_id: int | None, kinds: Collection[str]) -> Job | None:
    """The newest job of a project of one of these kinds that waits, runs or is paused; None if there is none."""
    return next((job for job in history(store, project_id) if job.kind in kinds and (job.active or job.paused)), None)


def first_end(job: Job) -> str:
    """What has to be done about an unfinished job before something else can be started, as a sentence."""
    how = "is paused: let it go on, or cancel it" if job.paused else "is not finished: wait for it, or cancel it"
    return f"{kind(job.kind).title} {how}, first."


def check_apart(store: Store, name: str, project_id: int | None) -> None:
    """Raises `NotReadyError` while a job of the project that those of kind `name` are kept apart from is unfinished."""
    apart_from = kind(name).apart_from
    if apart_from and (other := unfinished(store, project_id, apart_from)):
        raise NotReadyError(first_end(other))


def cancel(store: Store, job_id: int) -> Job:
    """Cancel a job: at once if it waits, is paused, or its process is dead, else at its next report. Returns it.

    Cancelling a job that has ended changes nothing. What was uploaded for jobs that ended is removed.
    """
    cancelled = rows.request_cancel(store, job_id)
    sweep_uploads(store)
    return cancelled


def cancel_all(store: Store, project_id: int) -> list[Job]:
    """Cancel every job of a project that waits, runs or is paused; returns them as they are now, oldest first. One that
    runs ends at its next report."""
    found = [job for job in history(store, project_id) if job.active or job.paused]
    return [cancel(store, job.id) for job in reversed(found)]


def pause(store: Store, job_id: int) -> Job:
    """Pause a job: at once if it waits or its process is dead, else where it can next be taken up again. Returns it.

    It stays paused, also when the app and the computer are started anew, until it is resumed or cancelled. Raises
    `InputError` for a kind of job that is too short to be paused.
    """
    it = rows.job(store, job_id)
    if not kind(it.kind).pausable:
        raise InputError(f"“{kind(it.kind).title}” cannot be paused; it can be cancelled and started again.")
    return rows.request_pause(store, job_id)


def resume(store: Store, job_id: int) -> Job:
    """Let a paused job go on from where it was. Returns it. Without effect on a job that is not paused. Raises
    `NotReadyError` as `enqueue` does."""
    it = rows.job(store, job_id)
    check_apart(store, it.kind, it.project_id)
    return rows.resume(store, job_id)


def stalled(job: Job) -> bool:
    """Whether a running job shows no sign of life; it goes on as soon as a worker runs."""
    return dead_jobs.is_dead(job)


def eta_seconds(job: Job) -> float | None:
    """Seconds until a running job is done, counted down since the estimate; None while it is unknown."""
    if job.state is not JobState.RUNNING or job.eta is None or job.heartbeat is None:
        return None
    return max(0.0, job.eta - (time.time() - job.heartbeat))


def uploads_folder(store: Store) -> Path:
    """Where uploads wait for the job that imports them, in a folder for each job."""
    return store.root / "uploads"


def remove_uploads(store: Store, folder: str) -> None:
    """Remove the uploads of a job: `folder` is its parameter "discard", relative to the state folder."""
    path = store.files.resolve(folder)
    if path.parent == uploads_folder(store).resolve():
        shutil.rmtree(path, ignore_errors=True)


def sweep_uploads(store: Store, project_id: int | None = None) -> None:
    """Remove the uploads that no job needs any more, for instance of one that was cancelled before it began; with
    `project_id`, all those of a project that is about to be erased.

    A failed job needs them as long as it is the newest of its project: until then it can be tried again.
    """
    found = store.rows(
        """SELECT json_extract(params, '$.discard') AS folder,
               max(project_id IS NOT :project AND (state IN ('queued', 'running', 'paused')
                   OR (state = 'failed' AND NOT EXISTS (SELECT 1 FROM job AS newer
                       WHERE newer.project_id IS job.project_id AND newer.id > job.id)))) AS needed
           FROM job WHERE kind = 'import' AND folder IS NOT NULL GROUP BY folder""",
        {"project": project_id if project_id is not None else -1},
    )
    for row in found:
        if not row["needed"] and (store.root / row["folder"]).exists():
            remove_uploads(store, row["folder"])
