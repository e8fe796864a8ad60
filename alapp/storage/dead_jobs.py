"""Jobs whose process is gone: how they are known, and what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Collection

from alapp.storage.db import Store, now
from alapp.storage.job import Job, JobState, job_of, update
from alapp.storage.processes import gone, hostname, runs_beside

DEAD_SECONDS = 15.0
"""A running job without a sign of life for this long belongs to a dead process, where nothing else tells whether it
lives."""

MAX_ATTEMPTS = 3
"""A job whose process died this often is not tried again."""

MAX_KILLED = 1
"""A job that the system ended more often than this, because memory ran out, is not tried again."""

LESS_MEMORY = (
    "Close other programs and start it again. If it is a training, it takes less memory with fewer “Windows a batch” "
    "or a smaller “Window”: both are under “For experts” on the Train tab."
)
"""What helps where memory runs out, as the user reads it. A smaller preset does not: it only trains for less long."""


def recover(store: Store, dead: Job, out_of_memory: bool = False) -> Job | None:
    """Queue a dead job again: cancelled or paused if that was asked for, failed after `MAX_ATTEMPTS`, or after the
    system ended it more than `MAX_KILLED` times because memory ran out (`out_of_memory`: this time it did).

    None if somebody else did it first, or the job lives after all.
    """
    killed = dead.killed + out_of_memory
    given_up = killed > MAX_KILLED or dead.attempts >= MAX_ATTEMPTS
    sentence = (
        f"The system ended this job {killed} times, probably because memory ran out. What was finished is kept. "
        f"{LESS_MEMORY}"
        if killed > MAX_KILLED
        else f"The process that ran this job ended unexpectedly {dead.attempts} times; often the computer ran out of "
        f"memory. The details are in {dead.log}. {LESS_MEMORY}"
    )
    return update(
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
        found = job_of(row)
        if (found.worker or "").startswith(f"{hostname()}:{pid}:"):
            recover(store, found, out_of_memory=not runs_beside(found.worker))


def recover_dead(store: Store, mine: Collection[str] = ()) -> list[Job]:
    """Recover every dead job; returns them as they are now.

    Not those signed with a name in `mine`, which the calling process is at work on: after the computer slept their
    heartbeats are old, and the next ones on their way.
    """
    running = [job_of(row) for row in store.rows("SELECT * FROM job WHERE state = 'running'")]
    recovered = [recover(store, item) for item in running if item.worker not in mine and is_dead(item)]
    return [item for item in recovered if item is not None]


def is_dead(item: Job) -> bool:
    """Whether the process of a running job is gone: on this host its pid is free; elsewhere its heartbeat is old. Here
    that tells nothing: after the computer slept, the heartbeat of a process that lives is old, too."""
    if item.state is not JobState.RUNNING:
        return False
    beaten = item.heartbeat or 0.0
    known = gone(item.worker or "::", beaten)
    return time.time() - beaten > DEAD_SECONDS if known is None else known
