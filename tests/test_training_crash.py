"""kill -9 of the worker in mid-training, with the real nnU-Net: the next worker goes on where it was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from alapp import jobs, supervisor
from alapp.domain import silent
from alapp.jobs import JobState
from alapp.rounds import importing
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import planning
from alapp.storage import catalogue, models
from tests.rounds.conftest import discs
from tests.rounds.trained import SMALL

ROOT = Path(__file__).parent.parent
ITERATIONS = 200  # eight epochs


def start_worker(store, token: str) -> subprocess.Popen:
    environment = {**os.environ, supervisor.TOKEN_VARIABLE: f"{token}-{store.root.parent.name}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "alapp.worker", "--state", str(store.root)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)


def until(condition, what: str, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.1)


def epochs(store, project) -> dict[int, int]:
    """Row ids of the logged epochs: an epoch that was trained again has a new row."""
    runs = models.training_runs(store, project.id)
    return {row["epoch"]: row["id"] for run in runs.values() for row in run}


@pytest.mark.slow
def test_training_goes_on_after_kill_9(store):
    project = catalogue.create_project(store, "discs", patch_size=64)
    for seed in range(2):
        importing.add_array(store, project.id, f"image_{seed}", discs(seed)[0])
    pseudo.decide(store, project.id, "log_watershed")
    planning.run_plan(store, project.id, silent, SMALL)
    job = jobs.enqueue(store, "pretrain", project.id, {"iterations": ITERATIONS})
    workers = [start_worker(store, "first")]
    try:
        until(lambda: len(epochs(store, project)) >= 2, "two epochs")
        workers[0].kill()
        workers[0].wait()
        before = epochs(store, project)
        assert len(before) < ITERATIONS // 25
        workers.append(start_worker(store, "second"))
        until(lambda: not jobs.get(store, job.id).active, "the end of the training")
        done = jobs.get(store, job.id)
        assert (done.state, done.attempts) == (JobState.DONE, 2), done.error
    finally:
        for process in workers:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                child.kill()
            process.kill()
            process.wait()
    after = epochs(store, project)
    assert len(after) == ITERATIONS // 25
    # At most the epoch that was logged but not yet saved when the kill came is trained again.
    assert sum(after[epoch] != row for epoch, row in before.items()) <= 1
    assert len(models.checkpoints(store, project.id)) == 1
