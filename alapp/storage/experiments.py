"""Experiments and their runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alapp.errors import InputError
from alapp.storage.db import Store, insert, now, required, to_json
from alapp.storage.processes import gone

DEAD_SECONDS = 180.0
"""A run of another computer without a sign of life for so long is taken up by another process."""


class RunState(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Experiment:
    """A row of `experiment`. `study` as JSON, see `experiments.study`."""

    id: int
    name: str
    study: dict[str, Any]
    created: str


@dataclass(frozen=True)
class ExperimentRun:
    """A row of `experiment_run`. `after` is the key of the run that must be done before; `result` None until done."""

    id: int
    experiment_id: int
    key: str
    after: str | None
    run: dict[str, Any]
    state: RunState
    worker: str | None
    heartbeat: float | None
    error: str | None
    result: dict[str, Any] | None
    finished: str | None


def add(store: Store, name: str, study: Mapping[str, Any], runs: Iterable[Mapping[str, Any]]) -> Experiment:
    """A new experiment with its runs (`key`, `after`, `run`), in their order. Raises `InputError` for a taken name."""
    with store.atomic() as db:
        if list(db.query("SELECT 1 FROM experiment WHERE name = ?", (name,))):
            raise InputError(f"There is an experiment called {name!r} already. Choose another name.")
        made = insert(db, "experiment", {"name": name, "study": to_json(study), "created": now()})
        for run in runs:
            insert(
                db, "experiment_run",
                {"experiment_id": made, "key": run["key"], "after": run["after"], "run": to_json(run["run"])},
            )  # fmt: skip
    return by_id(store, made)


def extend(store: Store, experiment_id: int, study: Mapping[str, Any], runs: Iterable[Mapping[str, Any]]) -> int:
    """Change the study to one with more runs; what is done stays. Returns how many runs were added."""
    added = 0
    with store.atomic() as db:
        db.conn.execute("UPDATE experiment SET study = ? WHERE id = ?", (to_json(study), experiment_id))
        for run in runs:
            cursor = db.conn.execute(
                "INSERT OR IGNORE INTO experiment_run (experiment_id, key, after, run) VALUES (?, ?, ?, ?)",
                (experiment_id, run["key"], run["after"], to_json(run["run"])),
            )
            added += cursor.rowcount
    return added


def by_id(store: Store, experiment_id: int) -> Experiment:
    """The experiment with this id. Raises `NotReadyError` if there is none."""
    return _experiment(required(store.row("SELECT * FROM experiment WHERE id = ?", (experiment_id,)), "The experiment"))


def by_name(store: Store, name: str) -> Experiment:
    """The experiment with this name. Raises `InputError` if there is none."""
    row = store.row("SELECT * FROM experiment WHERE name = ?", (name,))
    if row is None:
        known = ", ".join(repr(item.name) for item in every(store)) or "none"
        raise InputError(f"There is no experiment called {name!r} in {store.root}. It has: {known}.")
    return _experiment(row)


def every(store: Store) -> list[Experiment]:
    """All experiments, oldest first."""
    return [_experiment(row) for row in store.rows("SELECT * FROM experiment ORDER BY id")]


def remove(store: Store, experiment_id: int) -> None:
    """Forget an experiment and its runs."""
    store.execute("DELETE FROM experiment WHERE id = ?", (experiment_id,))


def runs(store: Store, experiment_id: int) -> list[ExperimentRun]:
    """All runs of an experiment, in the order in which they are done."""
    return [
        _run(row)
        for row in store.rows("SELECT * FROM experiment_run WHERE experiment_id = ? ORDER BY id", (experiment_id,))
    ]


def run_of(store: Store, experiment_id: int, key: str) -> ExperimentRun:
    """A run by its key."""
    row = store.row("SELECT * FROM experiment_run WHERE experiment_id = ? AND key = ?", (experiment_id, key))
    return _run(required(row, "The run"))


def claim(store: Store, experiment_id: int, worker: str) -> ExperimentRun | None:
    """Take the first run that waits and whose predecessor is done; None if there is none now."""
    with store.atomic() as db:
        rows = list(
            db.query(
                """UPDATE experiment_run SET state = 'running', worker = :worker, heartbeat = :at, error = NULL
                   WHERE state = 'waiting' AND id = (
                       SELECT r.id FROM experiment_run r LEFT JOIN experiment_run b
                           ON b.experiment_id = r.experiment_id AND b.key = r.after
                       WHERE r.experiment_id = :experiment AND r.state = 'waiting'
                         AND (r.after IS NULL OR b.state = 'done')
                       ORDER BY r.id LIMIT 1)
                   RETURNING *""",
                {"worker": worker, "at": time.time(), "experiment": experiment_id},
            )
        )
    return _run(rows[0]) if rows else None


def claimable(store: Store, experiment_id: int) -> bool:
    """Whether `claim` would give a run; only reads."""
    state = {run.key: run.state for run in runs(store, experiment_id)}
    return any(
        run.state is RunState.WAITING and (run.after is None or state.get(run.after) is RunState.DONE)
        for run in runs(store, experiment_id)
    )


def restore(store: Store, experiment: Experiment, found: Iterable[ExperimentRun]) -> Experiment:
    """What `remove` forgot, under a new id. Raises `InputError` when its name was taken in the meantime."""
    kept = list(found)
    listed = [{"key": run.key, "after": run.after, "run": run.run} for run in kept]
    made = add(store, experiment.name, experiment.study, listed)
    with store.atomic() as db:
        db.conn.execute("UPDATE experiment SET created = ? WHERE id = ?", (experiment.created, made.id))
        for run in kept:
            if run.state in (RunState.DONE, RunState.FAILED):
                result = None if run.result is None else to_json(run.result)
                db.conn.execute(
                    """UPDATE experiment_run SET state = ?, error = ?, result = ?, finished = ?
                       WHERE experiment_id = ? AND key = ?""",
                    (run.state, run.error, result, run.finished, made.id, run.key),
                )
    return by_id(store, made.id)


def beat(store: Store, run_id: int, worker: str) -> bool:
    """A sign of life; False when the run is no longer this worker's."""
    return bool(
        store.execute(
            "UPDATE experiment_run SET heartbeat = ? WHERE id = ? AND worker = ? AND state = 'running'",
            (time.time(), run_id, worker),
        )
    )


def finish(store: Store, run_id: int, worker: str, result: Mapping[str, Any]) -> bool:
    """A run is done; False when it is no longer this worker's, and nothing was stored."""
    return bool(
        store.execute(
            """UPDATE experiment_run SET state = 'done', result = ?, finished = ?, worker = NULL
               WHERE id = ? AND worker = ?""",
            (to_json(result), now(), run_id, worker),
        )
    )


def fail(store: Store, run_id: int, worker: str, sentence: str) -> None:
    """A run failed; `retry` makes it wait again."""
    store.execute(
        """UPDATE experiment_run SET state = 'failed', error = ?, finished = ?, worker = NULL
           WHERE id = ? AND worker = ?""",
        (sentence, now(), run_id, worker),
    )


def adopt(store: Store, run_id: int, result: Mapping[str, Any]) -> int:
    """A run that waits is done by a result from elsewhere. Returns 1, or 0 when it does not wait any more."""
    return store.execute(
        "UPDATE experiment_run SET state = 'done', result = ?, finished = ? WHERE id = ? AND state = 'waiting'",
        (to_json(result), now(), run_id),
    )


def undo(store: Store, run_id: int) -> int:
    """A run that is done waits again. Returns 1, or 0 when it is not done."""
    return store.execute(
        "UPDATE experiment_run SET state = 'waiting', result = NULL, finished = NULL WHERE id = ? AND state = 'done'",
        (run_id,),
    )


def release(store: Store, run_id: int, worker: str) -> None:
    """Give a run back, to go on later."""
    store.execute(
        "UPDATE experiment_run SET state = 'waiting', worker = NULL, heartbeat = NULL WHERE id = ? AND worker = ?",
        (run_id, worker),
    )


def retry(store: Store, experiment_id: int) -> int:
    """Let what failed wait again. Returns how many."""
    return store.execute(
        "UPDATE experiment_run SET state = 'waiting', error = NULL WHERE experiment_id = ? AND state = 'failed'",
        (experiment_id,),
    )


def recover_dead(store: Store, experiment_id: int) -> None:
    """Give back the runs whose process is gone."""
    for run in runs(store, experiment_id):
        if run.state is RunState.RUNNING and run.worker and _is_dead(run):
            release(store, run.id, run.worker)


def _is_dead(run: ExperimentRun) -> bool:
    """Whether the process of a run is gone: on this host its pid is free; elsewhere its signs of life are old."""
    beaten = run.heartbeat or 0.0
    known = gone(run.worker or "::", beaten)
    return time.time() - beaten > DEAD_SECONDS if known is None else known


def _experiment(row: dict[str, Any]) -> Experiment:
    return Experiment(**row | {"study": json.loads(row["study"])})


def _run(row: dict[str, Any]) -> ExperimentRun:
    return ExperimentRun(
        **row
        | {
            "run": json.loads(row["run"]),
            "state": RunState(row["state"]),
            "result": None if row["result"] is None else json.loads(row["result"]),
        }
    )
