"""The queue of long jobs. Every change is one statement, so that processes never wait for each other in vain."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from alapp.storage.db import Store, insert, now, required, to_json
from alapp.storage.processes import hostname, pid_alive, runs_beside

DEAD_SECONDS = 15.0
"""A running job without a sign of life for this long belongs to a dead process."""

MAX_ATTEMPTS = 3
"""A job whose process died this often is not tried again."""

MAX_KILLED = 1
"""A job that the system ended more often than this, because memory ran out, is not tried again."""


class JobState(StrEnum):
    """Where a job is; the last three are final. `PAUSED` waits for its user, without a process."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Asked(StrEnum):
    """What the user wants of a running job."""

    GO_ON = "go on"
    PAUSE = "pause"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Job:
    """A row of `job`; see the schema for the columns. `result` is what the job's function returned."""

    id: int
    project_id: int | None
    kind: str
    params: dict[str, Any]
    state: JobState
    done: float
    total: float
    message: str
    error: str | None
    result: dict[str, Any] | None
    attempts: int
    cancel_requested: bool
    worker: str | None
    heartbeat: float | None
    eta: float | None
    created: str
    started: str | None
    finished: str | None
    pause_requested: bool
    killed: int

    @property
    def active(self) -> bool:
        """Whether it waits for a worker or runs."""
        return self.state in (JobState.QUEUED, JobState.RUNNING)

    @property
    def paused(self) -> bool:
        """Whether it waits for its user."""
        return self.state is JobState.PAUSED

    @property
    def asked(self) -> Asked:
        """What the user wants of it; to cancel outweighs to pause."""
        if self.cancel_requested:
            return Asked.CANCEL
        return Asked.PAUSE if self.pause_requested else Asked.GO_ON

    @property
    def fraction(self) -> float:
        """Progress in [0, 1]; 0 before the first report."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0 else 0.0

    @property
    def log(self) -> str:
        """The job's log, relative to the state folder."""
        return f"logs/job-{self.id}.log"

    @property
    def seconds(self) -> float | None:
        """How long its last attempt ran, or None before it started."""
        if self.started is None:
            return None
        end = self.finished or now()
        return (datetime.fromisoformat(end) - datetime.fromisoformat(self.started)).total_seconds()


_OF_KINDS = """(:only IS NULL OR kind IN (SELECT value FROM json_each(:only)))
    AND kind NOT IN (SELECT value FROM json_each(:without))"""
_RESUME = """UPDATE job SET pause_requested = 0, state = CASE state WHEN 'paused' THEN 'queued' ELSE state END
    WHERE id = :id AND state IN ('paused', 'queued', 'running') RETURNING *"""


def add(store: Store, kind: str, project_id: int | None, params: Mapping[str, Any]) -> Job:
    """Queue a job, or the active one of the same kind and project if there is one; a paused one goes on."""
    with store.atomic() as db:
        same = list(
            db.query(
                """SELECT * FROM job WHERE kind = ? AND project_id IS ? AND state IN ('queued', 'running', 'paused')
                   ORDER BY id LIMIT 1""",
                (kind, project_id),
            )
        )
        if same:
            return _job(next(db.query(_RESUME, {"id": same[0]["id"]}), same[0]))
        values = {
            "project_id": project_id,
            "kind": kind,
            "params": to_json(dict(params)),
            "state": JobState.QUEUED,
            "created": now(),
        }
        job_id = insert(db, "job", values)
    return job(store, job_id)


def job(store: Store, job_id: int) -> Job:
    """The job with this id. Raises `NotReadyError` if there is none."""
    return _job(required(store.row("SELECT * FROM job WHERE id = ?", (job_id,)), "This job"))


def active(store: Store, project_id: int | None = None) -> list[Job]:
    """Jobs that wait or run, oldest first; of one project, or of all."""
    sql = "SELECT * FROM job WHERE state IN ('queued', 'running') AND (:project IS NULL OR project_id = :project)"
    return [_job(row) for row in store.rows(sql + " ORDER BY id", {"project": project_id})]


def history(store: Store, project_id: int | None) -> list[Job]:
    """All jobs of a project, newest first."""
    rows = store.rows("SELECT * FROM job WHERE project_id IS ? ORDER BY id DESC", (project_id,))
    return [_job(row) for row in rows]


def newest_done(store: Store, kind: str, limit: int) -> list[Job]:
    """The jobs of this kind that succeeded last, of all projects, newest first."""
    rows = store.rows("SELECT * FROM job WHERE kind = ? AND state = 'done' ORDER BY id DESC LIMIT ?", (kind, limit))
    return [_job(row) for row in rows]


def any_queued(store: Store, only: Collection[str] | None = None, without: Collection[str] = ()) -> bool:
    """Whether a job waits, of the kinds `only` (all) but not of those in `without`; only reads, so it can be asked
    often."""
    sql = f"SELECT 1 FROM job WHERE state = 'queued' AND {_OF_KINDS} LIMIT 1"
    return store.row(sql, _kinds(only, without)) is not None


def claim(
    store: Store,
    worker: str,
    job_id: int | None = None,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
) -> Job | None:
    """Take the oldest waiting job (or this one) of the kinds `only` (all), but not of those in `without`, for `worker`;
    None if there is none."""
    return _update(
        store,
        f"""UPDATE job SET state = 'running', worker = :worker, heartbeat = :at, started = :now, error = NULL,
               attempts = attempts + 1, done = 0, total = 0, eta = NULL, message = ''
           WHERE id = (SELECT id FROM job WHERE state = 'queued' AND (:id IS NULL OR id = :id) AND {_OF_KINDS}
                       ORDER BY id LIMIT 1)
             AND state = 'queued'
           RETURNING *""",
        {"worker": worker, "at": time.time(), "now": now(), "id": job_id, **_kinds(only, without)},
    )


def beat(
    store: Store, job_id: int, worker: str, done: float, total: float, message: str, eta: float | None
) -> Asked | None:
    """Write progress and a sign of life. What the user wants; None if the job is no longer this worker's."""
    row = _update(
        store,
        """UPDATE job SET heartbeat = :at, done = :done, total = :total, message = :message, eta = :eta
           WHERE id = :id AND worker = :worker AND state = 'running' RETURNING *""",
        {
            "id": job_id,
            "worker": worker,
            "at": time.time(),
            "done": done,
            "total": total,
            "message": message,
            "eta": eta,
        },
    )
    return row.asked if row else None


def finish(
    store: Store,
    job_id: int,
    worker: str,
    state: JobState,
    error: str | None = None,
    result: Mapping[str, Any] | None = None,
) -> bool:
    """End a job; False if it is no longer this worker's."""
    row = _update(
        store,
        """UPDATE job SET state = :state, error = :error, result = :result, finished = :now, eta = NULL,
               done = CASE WHEN :state = 'done' AND total > 0 THEN total ELSE done END
           WHERE id = :id AND worker = :worker AND state = 'running' RETURNING *""",
        {
            "id": job_id,
            "worker": worker,
            "state": state,
            "error": error,
            "result": None if result is None else to_json(dict(result)),
            "now": now(),
        },
    )
    return row is not None


def release(store: Store, job_id: int, worker: str) -> bool:
    """Give a running job back to the queue (the worker was told to stop); not counted as an attempt."""
    row = _update(
        store,
        """UPDATE job SET state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'queued' END, worker = NULL,
               heartbeat = NULL, eta = NULL, attempts = attempts - 1,
               finished = CASE WHEN cancel_requested THEN :now END
           WHERE id = :id AND worker = :worker AND state = 'running' RETURNING *""",
        {"id": job_id, "worker": worker, "now": now()},
    )
    return row is not None


def pause(store: Store, job_id: int, worker: str) -> bool:
    """A running job stopped where it can be taken up again, as its user wished; not counted as an attempt.

    False if it is no longer this worker's.
    """
    row = _update(
        store,
        """UPDATE job SET state = CASE WHEN cancel_requested THEN 'cancelled' WHEN pause_requested THEN 'paused'
                                       ELSE 'queued' END,
               finished = CASE WHEN cancel_requested THEN :now END,
               pause_requested = 0, worker = NULL, heartbeat = NULL, eta = NULL, attempts = attempts - 1
           WHERE id = :id AND worker = :worker AND state = 'running' RETURNING *""",
        {"id": job_id, "worker": worker, "now": now()},
    )
    return row is not None


def request_pause(store: Store, job_id: int) -> Job:
    """Pause a waiting job at once; ask the worker of a running one to stop where it can be taken up again.

    No effect on a job that has ended.
    """
    _update(
        store,
        """UPDATE job SET pause_requested = CASE state WHEN 'running' THEN 1 ELSE 0 END,
               state = CASE state WHEN 'queued' THEN 'paused' ELSE state END
           WHERE id = :id AND state IN ('queued', 'running') RETURNING *""",
        {"id": job_id},
    )
    current = job(store, job_id)
    return (recover(store, current) or current) if is_dead(current) else current


def resume(store: Store, job_id: int) -> Job:
    """Queue a paused job; a running one that was to pause goes on. No effect on a job that has ended."""
    _update(store, _RESUME, {"id": job_id})
    return job(store, job_id)


def request_cancel(store: Store, job_id: int) -> Job:
    """Cancel a waiting or paused job at once; ask the worker of a running one to stop. No effect on a finished job."""
    _update(
        store,
        """UPDATE job SET cancel_requested = 1,
               state = CASE WHEN state IN ('queued', 'paused') THEN 'cancelled' ELSE state END,
               finished = CASE WHEN state IN ('queued', 'paused') THEN :now ELSE finished END
           WHERE id = :id AND state IN ('queued', 'running', 'paused') RETURNING *""",
        {"id": job_id, "now": now()},
    )
    current = job(store, job_id)
    return (recover(store, current) or current) if is_dead(current) else current


def recover(store: Store, dead: Job, out_of_memory: bool = False) -> Job | None:
    """Queue a dead job again: cancelled or paused if that was asked for, failed after `MAX_ATTEMPTS`, or after the
    system ended it more than `MAX_KILLED` times because memory ran out (`out_of_memory`: this time it did).

    None if somebody else did it first, or the job lives after all.
    """
    killed = dead.killed + out_of_memory
    given_up = killed > MAX_KILLED or dead.attempts >= MAX_ATTEMPTS
    sentence = (
        f"The system ended this job {killed} times, probably because memory ran out. What was finished is kept. Close "
        "other programs, or choose a smaller preset, and start it again."
        if killed > MAX_KILLED
        else f"The process that ran this job ended unexpectedly {dead.attempts} times; often the computer ran out of "
        f"memory. The details are in {dead.log}. Start it again, with a smaller preset if it happens again."
    )
    return _update(
        store,
        """UPDATE job SET
               state = CASE WHEN cancel_requested THEN 'cancelled' WHEN :given_up THEN 'failed'
                            WHEN pause_requested THEN 'paused' ELSE 'queued' END,
               error = CASE WHEN NOT cancel_requested AND :given_up THEN :error END,
               finished = CASE WHEN cancel_requested OR :given_up THEN :now END,
               pause_requested = 0, worker = NULL, heartbeat = NULL, eta = NULL, killed = :killed
           WHERE id = :id AND state = 'running' AND worker IS :worker AND heartbeat IS :heartbeat RETURNING *""",
        {
            "id": dead.id,
            "worker": dead.worker,
            "heartbeat": dead.heartbeat,
            "given_up": given_up,
            "killed": killed,
            "error": sentence,
            "now": now(),
        },
    )


def recover_killed(store: Store, pid: int) -> None:
    """Recover the jobs of the process `pid` of this host, which the system ended because memory ran out. One that ran
    beside another is not blamed for that."""
    for row in store.rows("SELECT * FROM job WHERE state = 'running'"):
        found = _job(row)
        if (found.worker or "").startswith(f"{hostname()}:{pid}:"):
            recover(store, found, out_of_memory=not runs_beside(found.worker))


def recover_dead(store: Store) -> list[Job]:
    """Recover every dead job; returns them as they are now."""
    running = [_job(row) for row in store.rows("SELECT * FROM job WHERE state = 'running'")]
    recovered = [recover(store, item) for item in running if is_dead(item)]
    return [item for item in recovered if item is not None]


def is_dead(item: Job) -> bool:
    """Whether the process of a running job is gone: its heartbeat is old, or on this host its pid is free."""
    if item.state is not JobState.RUNNING:
        return False
    if time.time() - (item.heartbeat or 0.0) > DEAD_SECONDS:
        return True
    host, pid, _ = (item.worker or "::").split(":")
    return host == hostname() and not pid_alive(int(pid))


def _update(store: Store, sql: str, params: Mapping[str, Any]) -> Job | None:
    with store.atomic() as db:
        rows = list(db.query(sql, params))
    return _job(rows[0]) if rows else None


def _kinds(only: Collection[str] | None, without: Collection[str]) -> dict[str, Any]:
    return {"only": None if only is None else json.dumps(list(only)), "without": json.dumps(list(without))}


def _job(row: dict[str, Any]) -> Job:
    return Job(
        **row
        | {
            "state": JobState(row["state"]),
            "params": json.loads(row["params"]),
            "result": None if row["result"] is None else json.loads(row["result"]),
            "cancel_requested": bool(row["cancel_requested"]),
            "pause_requested": bool(row["pause_requested"]),
        }
    )
