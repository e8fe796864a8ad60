"""A training that ran out of memory goes on in smaller portions, and the user is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alapp import jobs
from alapp.errors import OutOfMemoryError
from alapp.jobs import JobState
from alapp.stages.train.base import TrainResult
from alapp.stages.train.reduction import MOST_REDUCTIONS, release_memory
from alapp.storage import models
from alapp.storage.db import Store

RAN_OUT = "Memory ran out"
ENDED = "The system ended the training, probably because memory ran out"


def within_memory(
    store: Store,
    project_id: int,
    key: str,
    reduction: Callable[[int], str | None],
    train: Callable[[Mapping[str, Any] | None], TrainResult],
    killed: int = 0,
) -> TrainResult:
    """Call `train(options)` with options that make its portions smaller each time it runs out of memory.

    `key` is the run's input hash, `reduction(n)` says what the n-th reduction changes (see `Trainer.reduction`),
    `killed` how often the system ended the job's process for want of memory. What was found to be too large is
    recorded, so a later call begins with what fitted. Raises `OutOfMemoryError` when nothing smaller is left.
    """
    known = models.memory_notes(store, project_id, key)
    level = max((number for number, _ in known), default=0)
    if killed > _answered(store, project_id, known) and (change := reduction(level + 1)) is not None:
        level = _note(store, project_id, key, level + 1, ENDED, change)
    while True:
        try:
            return train({"reduction": level} if level else None)
        except OutOfMemoryError:
            change = reduction(level + 1) if level < MOST_REDUCTIONS else None
            if change is None:
                raise
        # Outside of the handler: an exception that is handled keeps what its frames hold.
        release_memory()
        level = _note(store, project_id, key, level + 1, RAN_OUT, change)


def _answered(store: Store, project_id: int, known: Sequence[tuple[int, str]]) -> int:
    """How many reductions the job that runs was given because the system had ended it, as `known`, the notes on the
    run, tell. Those of earlier jobs do not count: `killed` begins at 0 with each job."""
    running = [job for job in jobs.active(store, project_id) if job.state is JobState.RUNNING]
    begun = next((job.created for job in running if jobs.kind(job.kind).shrinks), "")
    of_this_job = models.memory_notes_since(store, project_id, begun)
    return sum(sentence.startswith(ENDED) and sentence in of_this_job for _, sentence in known)


def _note(store: Store, project_id: int, key: str, level: int, what: str, change: str) -> int:
    models.add_memory_note(store, project_id, key, level, f"{what}; training went on with {change}.")
    return level
