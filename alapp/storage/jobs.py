"""The queue of long jobs. Every change is one statement, so that processes never wait for each other in vain."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from typing import Any

from alapp.storage.db import Store, insert, now, required, to_json
from alapp.storage.dead_jobs import is_dead, recover
from alapp.storage.job import Asked, Job, JobState, job_of, update

_OF_KINDS = """(:only IS NULL OR kind IN (SELECT value FROM json_each(:only)))
    AND kind NOT IN (SELECT value FROM json_each(:without))"""
_RESUME = """UPDATE job SET pause_requested = 0, state = CASE state WHEN 'paused' THEN 'queued' ELSE state END
    WHERE id = :id AND state IN ('paused', 'queued', 'running') RETURNING *"""


def add(
    store: Store, kind: str, project_id: int | None, params: Mapping[str, Any], behind_running: bool = False
) -> Job:
    """Queue a job, or the active one of the same kind and project if there is one; a paused one goes on.

    One that is being cancelled will not do the work, so it does not count; nor, with `behind_running`, does one that
    runs, because it has read its settings already.
    """
    with store.atomic() as db:
        same = list(
            db.query(
                """SELECT * FROM job WHERE kind = ? AND project_id IS ? AND state IN ('queued', 'running', 'paused')
                       AND NOT cancel_requested AND NOT (? AND state = 'running')
                   ORDER BY id LIMIT 1""",
                (kind, project_id, behind_running),
            )
        )
        if same:
            return job_of(next(db.query(_RESUME, {"id": same[0]["id"]}), same[0]))
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
    return job_of(required(store.row("SELECT * FROM job WHERE id = ?", (job_id,)), "This job"))


def active(store: Store, project_id: int | None = None) -> list[Job]:
    """Jobs that wait or run, oldest first; of one project, or of all."""
    sql = "SELECT * FROM job WHERE state IN ('queued', 'running') AND (:project IS NULL OR project_id = :project)"
    return [job_of(row) for row in store.rows(sql + " ORDER BY id", {"project": project_id})]


def history(store: Store, project_id: int | None) -> list[Job]:
    """All jobs of a project, newest first."""
    rows = store.rows("SELECT * FROM job WHERE project_id IS ? ORDER BY id DESC", (project_id,))
    return [job_of(row) for row in rows]


def newest_done(store: Store, kind: str, limit: int) -> list[Job]:
    """The jobs of this kind that succeeded last, of all projects, newest first."""
    rows = store.rows("SELECT * FROM job WHERE kind = ? AND state = 'done' ORDER BY id DESC LIMIT ?", (kind, limit))
    return [job_of(row) for row in rows]


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
    return update(
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
    row = update(
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
    row = update(
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
    row = update(
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
    row = update(
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
    update(
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
    update(store, _RESUME, {"id": job_id})
    return job(store, job_id)


def request_cancel(store: Store, job_id: int) -> Job:
    """Cancel a waiting or paused job at once; ask the worker of a running one to stop. No effect on a finished job."""
    update(
        store,
        """UPDATE job SET cancel_requested = 1,
               state = CASE WHEN state IN ('queued', 'paused') THEN 'cancelled' ELSE state END,
               finished = CASE WHEN state IN ('queued', 'paused') THEN :now ELSE finished END
           WHERE id = :id AND state IN ('queued', 'running', 'paused') RETURNING *""",
        {"id": job_id, "now": now()},
    )
    current = job(store, job_id)
    return (recover(store, current) or current) if is_dead(current) else current


def _kinds(only: Collection[str] | None, without: Collection[str]) -> dict[str, Any]:
    return {"only": None if only is None else json.dumps(list(only)), "without": json.dumps(list(without))}
