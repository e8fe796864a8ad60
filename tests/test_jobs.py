from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alapp import jobs, worker
from alapp.errors import ConflictError, InputError, NotReadyError
from alapp.jobs import JobState
from alapp.storage import catalogue, dead_jobs, processes
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from tests.job_kinds import KINDS


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KINDS", KINDS)


def die(store: Store, job: jobs.Job, token: str = "gone") -> jobs.Job:
    """Claim a job in the name of a process of another host that stops beating."""
    claimed = rows.claim(store, f"elsewhere:1:{token}", job.id)
    assert claimed is not None
    store.execute("UPDATE job SET heartbeat = ? WHERE id = ?", (time.time() - dead_jobs.DEAD_SECONDS - 1, job.id))
    return rows.job(store, job.id)


def test_enqueue_returns_the_active_job_of_the_same_kind_and_project(store: Store) -> None:
    project = catalogue.create_project(store, "cells").id
    first = jobs.enqueue(store, "count", project, {"steps": 2})
    assert first.state is JobState.QUEUED
    assert first.params == {"steps": 2}
    assert jobs.enqueue(store, "count", project, {"steps": 9}) == first
    other_kind, no_project = jobs.enqueue(store, "loud", project), jobs.enqueue(store, "count")
    assert len({first.id, other_kind.id, no_project.id}) == 3
    assert [job.id for job in jobs.active(store, project)] == [first.id, other_kind.id]
    assert len(jobs.active(store)) == 3
    jobs.cancel(store, first.id)
    assert jobs.enqueue(store, "count", project).id not in (first.id, no_project.id)
    assert [job.kind for job in jobs.history(store, project)] == ["count", "loud", "count"]


def test_unknown_kinds_and_ids_are_named(store: Store) -> None:
    with pytest.raises(InputError, match=r"'dance'.*count"):
        jobs.enqueue(store, "dance")
    with pytest.raises(NotReadyError, match="This job"):
        jobs.get(store, 99)


def test_claim_takes_the_oldest_once(store: Store) -> None:
    first, second = jobs.enqueue(store, "count"), jobs.enqueue(store, "loud")
    claimed = [rows.claim(store, "host:1:a"), rows.claim(store, "host:2:b"), rows.claim(store, "host:3:c")]
    assert [job and job.id for job in claimed] == [first.id, second.id, None]
    assert claimed[0].attempts == 1
    assert claimed[0].state is JobState.RUNNING


def _take_all(root: Path, number: int, results: multiprocessing.Queue) -> None:
    store, taken = Store(root), []
    try:
        for index in range(25):
            store.insert("job", {"kind": f"k{number}", "params": "{}", "state": "queued", "created": str(index)})
            job = rows.claim(store, f"other:{number}:t")
            if job:
                rows.beat(store, job.id, job.worker, 1, 2, "half", None)
                rows.finish(store, job.id, job.worker, JobState.DONE, None, {})
                taken.append(job.id)
        results.put((None, taken))
    except Exception as error:
        results.put((repr(error), taken))


def test_four_processes_share_the_queue_without_locking_each_other_out(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_take_all, args=(store.root, number, results)) for number in range(4)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert [error for error, _ in answers] == [None] * 4
    taken = [job_id for _, ids in answers for job_id in ids]
    assert len(taken) == len(set(taken))
    while job := rows.claim(store, "here:1:rest"):
        taken.append(job.id)
    assert sorted(taken) == list(range(1, 101))


def test_cancel_before_during_and_after(store: Store) -> None:
    waiting = jobs.enqueue(store, "count")
    assert jobs.cancel(store, waiting.id).state is JobState.CANCELLED
    running = rows.claim(store, processes.worker_name("t"), jobs.enqueue(store, "count").id)
    assert jobs.cancel(store, running.id).state is JobState.RUNNING
    assert rows.beat(store, running.id, running.worker, 1, 2, "", None) is rows.Asked.CANCEL
    rows.finish(store, running.id, running.worker, JobState.DONE, None, {"a": 1})
    ended = jobs.cancel(store, running.id)
    assert (ended.state, ended.result) == (JobState.DONE, {"a": 1})


def test_a_dead_job_is_queued_again_and_given_up_after_three_attempts(store: Store) -> None:
    job = jobs.enqueue(store, "count")
    for attempt in (1, 2, 3):
        assert jobs.stalled(die(store, job))
        (recovered,) = dead_jobs.recover_dead(store)
        assert recovered.attempts == attempt
        assert recovered.state is (JobState.FAILED if attempt == 3 else JobState.QUEUED)
    assert "ended unexpectedly 3 times" in recovered.error
    assert recovered.log in recovered.error
    assert recovered.finished is not None


def test_a_job_cancelled_while_dead_is_cancelled(store: Store) -> None:
    job = jobs.enqueue(store, "count")
    die(store, job)
    assert jobs.cancel(store, job.id).state is JobState.CANCELLED
    assert dead_jobs.recover_dead(store) == []


def test_a_living_job_is_left_alone(store: Store) -> None:
    elsewhere = rows.claim(store, "elsewhere:1:t", jobs.enqueue(store, "count").id)
    here = rows.claim(store, processes.worker_name("t"), jobs.enqueue(store, "loud").id)
    assert dead_jobs.recover_dead(store) == []
    assert not jobs.stalled(elsewhere)
    assert not jobs.stalled(here)


def test_a_free_pid_on_this_host_is_dead_at_once(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    job = jobs.enqueue(store, "count")
    claimed = rows.claim(store, f"{processes.hostname()}:{process.pid}:t", job.id)
    assert jobs.stalled(claimed)


def test_a_worker_that_lost_its_job_cannot_write(store: Store) -> None:
    job = jobs.enqueue(store, "count")
    dead = die(store, job)
    dead_jobs.recover_dead(store)
    assert rows.beat(store, job.id, dead.worker, 1, 2, "", None) is None
    assert not rows.finish(store, job.id, dead.worker, JobState.DONE)
    assert jobs.get(store, job.id).state is JobState.QUEUED


def test_a_heartbeat_in_the_meantime_prevents_recovery(store: Store) -> None:
    seen = die(store, jobs.enqueue(store, "count"))
    rows.beat(store, seen.id, seen.worker, 1, 2, "awake again", None)
    assert dead_jobs.recover(store, seen) is None


def test_released_jobs_do_not_lose_an_attempt(store: Store) -> None:
    job = jobs.enqueue(store, "count")
    claimed = rows.claim(store, "host:1:t")
    assert rows.release(store, job.id, "host:1:t")
    after = jobs.get(store, job.id)
    assert (after.state, after.attempts) == (JobState.QUEUED, claimed.attempts - 1)


def test_eta_counts_down_from_the_heartbeat(store: Store) -> None:
    job = rows.claim(store, "host:1:t", jobs.enqueue(store, "count").id)
    assert jobs.eta_seconds(job) is None
    assert jobs.eta_seconds(replace(job, eta=100.0, heartbeat=time.time() - 40)) == pytest.approx(60, abs=2)
    assert jobs.eta_seconds(replace(job, eta=10.0, heartbeat=time.time() - 40)) == 0
    assert jobs.eta_seconds(replace(job, eta=10.0, state=JobState.DONE)) is None


def test_run_inline(store: Store) -> None:
    job = worker.run_inline(store, jobs.enqueue(store, "count", params={"steps": 2}))
    assert (job.state, job.result, job.fraction) == (JobState.DONE, {"done_before": 0, "steps": 2}, 1.0)
    with pytest.raises(ConflictError, match="already started"):
        worker.run_inline(store, job)


@pytest.mark.parametrize(
    ("how", "words", "logged"),
    [
        ("user", "The file cells.tif is empty. Remove it and try again.", "InputError"),
        ("bug", "Something went wrong inside the app (KeyError). The details are in logs/job-1.log", "no such thing"),
        ("memory", "The computer ran out of memory", "MemoryError"),
        ("cuda", "The GPU ran out of memory", "Tried to allocate"),
        ("disk", "The disk is full", "No space left"),
        ("not json", "Something went wrong inside the app (TypeError)", "not JSON serializable"),
        ("exit", "Something went wrong inside the app (SystemExit)", "library gave up"),
    ],
)
def test_failures_end_in_a_sentence_and_a_log(store: Store, how: str, words: str, logged: str) -> None:
    job = worker.run_inline(store, jobs.enqueue(store, "fails", params={"how": how}))
    assert job.state is JobState.FAILED
    assert job.error.startswith(words)
    log = (store.root / job.log).read_text()
    assert "Traceback" in log
    assert logged in log
