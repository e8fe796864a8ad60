"""Results of runs that were made on another computer, or on a disk that is gone: only their scores, no models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from alapp.experiments.runs import Result
from alapp.storage import experiments as rows
from alapp.storage.db import Store
from alapp.storage.experiments import Experiment, RunState


def portable(store: Store, experiment: Experiment) -> list[dict[str, Any]]:
    """What is done, in the order of the runs: {"key", "run", "rows", "patches", "iterations", "seconds", "objects",
    "scores"}, the scores pooled over the test images."""
    found = []
    for item in rows.runs(store, experiment.id):
        if item.state is RunState.DONE and item.result is not None:
            result = Result.of(item.result)
            found.append(
                {
                    "key": item.key,
                    "run": item.run,
                    "rows": list(result.rows),
                    "patches": result.patches,
                    "iterations": result.iterations,
                    "seconds": result.seconds,
                    "objects": result.objects,
                    "scores": asdict(result.pooled),
                }
            )
    return found


def adopt(store: Store, experiment: Experiment, made: Iterable[Mapping[str, Any]]) -> int:
    """Take runs as done that `portable` told of. Returns how many are now.

    Only those whose model nobody needs: each run that starts from it is done too, here or there.
    """
    known = {each["key"]: each for each in made}
    listed = rows.runs(store, experiment.id)
    followers: dict[str, list[str]] = {}
    for item in listed:
        followers.setdefault(item.after or "", []).append(item.key)
    settled: dict[str, bool] = {}
    taken = 0
    # A run stands after the one it starts from, so backwards every follower is settled first.
    for item in reversed(listed):
        free = all(settled[key] for key in followers.get(item.key, ()))
        settled[item.key] = item.state is RunState.DONE or (free and item.key in known)
        if item.state is RunState.WAITING and settled[item.key]:
            taken += rows.adopt(store, item.id, result_of(known[item.key]).as_json())
    return taken


def result_of(told: Mapping[str, Any]) -> Result:
    """One of `portable` as a result."""
    return Result(
        rows=tuple(told["rows"]),
        patches=told["patches"],
        iterations=told["iterations"],
        seconds=told["seconds"],
        scores=(Result.scores_of(told["scores"]),),
        checkpoint=None,
        elsewhere=True,
        objects=told.get("objects"),
    )


def give_back(store: Store, experiment: Experiment) -> int:
    """Let adopted runs wait again whose model a run that was added needs. Returns how many."""
    listed = rows.runs(store, experiment.id)
    needed = {item.after for item in listed if item.state is not RunState.DONE}
    back = 0
    # Backwards: what waits again needs the one before it in turn.
    for item in reversed(listed):
        if item.key in needed and item.result is not None and Result.of(item.result).elsewhere:
            back += rows.undo(store, item.id)
            needed.add(item.after)
    return back
