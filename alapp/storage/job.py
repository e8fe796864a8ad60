"""A long job as the database knows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from alapp.storage.db import Store, now


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


def update(store: Store, sql: str, params: Mapping[str, Any]) -> Job | None:
    """Carry out a statement that returns the row of at most one job; that job, or None."""
    with store.atomic() as db:
        rows = list(db.query(sql, params))
    return job_of(rows[0]) if rows else None


def job_of(row: dict[str, Any]) -> Job:
    """The job of a row of the table."""
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
