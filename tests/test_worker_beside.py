"""Jobs that run beside another: a download does not wait for a training, and neither harms the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from alapp import jobs, supervisor, worker
from alapp.jobs import JobState
from alapp.storage import dead_jobs
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from tests.test_worker import kinds, posix, start, state, until

__all__ = ["kinds", "start"]
LONG = {"steps": 1200, "seconds": 0.05}


@pytest.fixture
def both(store: Store, start: Callable) -> tuple[jobs.Job, jobs.Job]:
    """A long job, and one that runs beside it in the same worker, which was queued later."""
    made = jobs.enqueue(store, "count", params=LONG), jobs.enqueue(store, "fetch")
    start()
    until(lambda: {state(store, job) for job in made} == {JobState.RUNNING}, "both to run")
    until(lambda: (store.root / "fetching").exists() and (store.root / "steps" / "0").exists(), "both to be at work")
    return made


def test_cancelling_either_leaves_the_other(store: Store, both: tuple[jobs.Job, jobs.Job]) -> None:
    main, beside = both
    jobs.cancel(store, beside.id)
    until(lambda: state(store, beside) is JobState.CANCELLED, "the one beside to end")
    assert state(store, main) is JobState.RUNNING
    again = jobs.enqueue(store, "fetch", params={"steps": 40})
    until(lambda: state(store, again) is JobState.RUNNING, "the next one beside")
    jobs.cancel(store, main.id)
    until(lambda: state(store, main) is JobState.CANCELLED, "the main one to end")
    until(lambda: state(store, again) is JobState.DONE, "the one beside to be done")
    assert "fetch, attempt 1" in (store.root / again.log).read_text()


@posix
def test_a_cancelled_download_that_does_not_end_does_not_take_the_training_with_it(
    store: Store, both: tuple[jobs.Job, jobs.Job]
) -> None:
    record, overdue = supervisor.worker_record(store.root), supervisor.Overdue(seconds=-1)
    main, beside = both
    with store.atomic():  # it hangs, but not while it writes: nobody else could
        os.kill(record.pid, signal.SIGSTOP)
    jobs.cancel(store, beside.id)
    overdue.end(store)
    assert [state(store, job) for job in both] == [JobState.RUNNING] * 2
    jobs.cancel(store, main.id)
    overdue.end(store)
    assert [state(store, job) for job in both] == [JobState.CANCELLED] * 2
    assert not record.alive


@posix
def test_after_kill_9_both_go_on(store: Store, both: tuple[jobs.Job, jobs.Job], start: Callable) -> None:
    record = supervisor.worker_record(store.root)
    until(lambda: record.alive, "the worker")
    main, beside = both
    for job in both:
        assert rows.job(store, job.id).worker.startswith(f"{record.host}:{record.pid}:")
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not record.alive, "the worker to be gone")
    start(token="second")
    until(lambda: [jobs.get(store, job.id).attempts for job in both] == [2, 2], "both to go on")
    assert [state(store, job) for job in (main, beside)] == [JobState.RUNNING] * 2


@posix
def test_sigterm_gives_both_back(store: Store, both: tuple[jobs.Job, jobs.Job]) -> None:
    record = supervisor.worker_record(store.root)
    os.kill(record.pid, signal.SIGTERM)
    until(lambda: not record.alive, "the worker to end")
    for job in both:
        now = jobs.get(store, job.id)
        assert (now.state, now.attempts, now.worker) == (JobState.QUEUED, 0, None)


@posix
def test_one_beside_is_not_blamed_for_memory(store: Store, both: tuple[jobs.Job, jobs.Job]) -> None:
    record = supervisor.worker_record(store.root)
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not record.alive, "the worker to be gone")
    dead_jobs.recover_killed(store, record.pid)
    assert [(jobs.get(store, job.id).state, jobs.get(store, job.id).killed) for job in both] == [
        (JobState.QUEUED, 1),
        (JobState.QUEUED, 0),
    ]


def test_a_worker_waits_for_one_beside_before_it_ends(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "fetch", params={"steps": 30})
    assert start("--idle-seconds", "0").wait(180) == 0
    assert state(store, job) is JobState.DONE


def test_after_a_pause_the_process_ends_when_the_one_beside_is_done(store: Store, start: Callable) -> None:
    main, beside = jobs.enqueue(store, "count", params=LONG), jobs.enqueue(store, "fetch", params={"steps": 60})
    process = start("--idle-seconds", "600")
    until(lambda: {state(store, job) for job in (main, beside)} == {JobState.RUNNING}, "both to run")
    jobs.pause(store, main.id)
    assert process.wait(180) == 0
    assert [state(store, job) for job in (main, beside)] == [JobState.PAUSED, JobState.DONE]


@pytest.mark.parametrize("busy", [True, False])
def test_a_worker_does_not_take_its_own_download_for_dead(store: Store, monkeypatch, busy: bool) -> None:
    ours = worker.Worker(store)
    ours._busy_beside = busy
    job = jobs.enqueue(store, "fetch")
    rows.claim(store, ours.name_beside, only=["fetch"])
    store.execute("UPDATE job SET heartbeat = heartbeat - 3600")  # as after the computer slept
    recover = dead_jobs.recover_dead

    def once(*given: object) -> None:
        recover(*given)
        ours.stop.set()

    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(dead_jobs, "recover_dead", once)
    ours._loop()
    assert state(store, job) is (JobState.RUNNING if busy else JobState.QUEUED)
