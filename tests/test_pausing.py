"""Pause and resume, and jobs that the system ended because memory ran out: rows, and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from alapp import jobs, oom, running, supervisor
from alapp.errors import InputError
from alapp.jobs import JobState
from alapp.storage import dead_jobs, processes
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from tests.job_kinds import KINDS
from tests.test_worker import ROOT, unique, until

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
COUNT = {"steps": 600, "seconds": 0.1}


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KINDS", KINDS)


@pytest.fixture
def start(store: Store) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Starts workers as the supervisor does, which know the test jobs; ends what is left of them."""
    started: list[subprocess.Popen] = []

    def start(token: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.job_kinds", "--state", str(store.root)]
        environment = {**os.environ, supervisor.TOKEN_VARIABLE: unique(token, store)}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        started.append(process)
        supervisor._started.append(process)
        supervisor._kills_before[process.pid] = oom.out_of_memory_kills()
        return process

    yield start
    for process in started:
        if process.poll() is None:
            for child in (*psutil.Process(process.pid).children(recursive=True), process):
                child.kill()
        process.wait()
        if process in supervisor._started:
            supervisor._started.remove(process)


def claimed(store: Store, kind: str = "count", **params) -> jobs.Job:
    return rows.claim(store, processes.worker_name("t"), jobs.enqueue(store, kind, params=params).id)


def test_a_waiting_job_is_paused_at_once_and_goes_on_when_resumed(store: Store) -> None:
    job = jobs.enqueue(store, "count")
    assert jobs.pause(store, job.id).state is JobState.PAUSED
    assert rows.claim(store, "host:1:t") is None
    assert jobs.active(store) == []
    assert jobs.resume(store, job.id).state is JobState.QUEUED
    assert rows.claim(store, "host:1:t").id == job.id


def test_a_running_job_is_asked_and_keeps_its_progress(store: Store) -> None:
    job = claimed(store)
    assert jobs.pause(store, job.id).state is JobState.RUNNING
    assert rows.beat(store, job.id, job.worker, 3, 8, "step 3", 20.0) is rows.Asked.PAUSE
    assert rows.pause(store, job.id, job.worker)
    paused = jobs.get(store, job.id)
    assert (paused.state, paused.done, paused.total, paused.message) == (JobState.PAUSED, 3, 8, "step 3")
    assert (paused.attempts, paused.worker, paused.pause_requested) == (0, None, False)


def test_to_cancel_outweighs_to_pause(store: Store) -> None:
    job = claimed(store)
    jobs.pause(store, job.id)
    jobs.cancel(store, job.id)
    assert rows.beat(store, job.id, job.worker, 3, 8, "", None) is rows.Asked.CANCEL
    rows.pause(store, job.id, job.worker)
    assert jobs.get(store, job.id).state is JobState.CANCELLED


def test_a_paused_job_is_cancelled_at_once(store: Store) -> None:
    job = jobs.enqueue(store, "count")
    jobs.pause(store, job.id)
    cancelled = jobs.cancel(store, job.id)
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.finished is not None
    assert jobs.resume(store, job.id).state is JobState.CANCELLED


def test_a_pause_that_is_taken_back_in_time_has_no_effect(store: Store) -> None:
    job = claimed(store)
    jobs.pause(store, job.id)
    assert not jobs.resume(store, job.id).pause_requested
    assert rows.beat(store, job.id, job.worker, 3, 8, "", None) is rows.Asked.GO_ON
    # Too late: the worker has stopped already.
    rows.pause(store, job.id, job.worker)
    assert jobs.get(store, job.id).state is JobState.QUEUED


def test_a_job_that_was_to_pause_when_its_process_died_is_paused(store: Store) -> None:
    job = claimed(store)
    rows.request_pause(store, job.id)
    store.execute("UPDATE job SET heartbeat = ? WHERE id = ?", (time.time() - dead_jobs.DEAD_SECONDS - 1, job.id))
    assert jobs.pause(store, job.id).state is JobState.PAUSED


def test_starting_a_paused_kind_again_resumes_it(store: Store) -> None:
    job = jobs.enqueue(store, "count", params={"steps": 5})
    jobs.pause(store, job.id)
    again = jobs.enqueue(store, "count", params={"steps": 9})
    assert (again.id, again.state, again.params) == (job.id, JobState.QUEUED, {"steps": 5})


def test_short_jobs_cannot_be_paused(store: Store) -> None:
    with pytest.raises(InputError, match="cannot be paused"):
        jobs.pause(store, jobs.enqueue(store, "loud").id)


def test_a_paused_job_frees_its_process_and_goes_on_where_it_was(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "count", params={"steps": 14, "seconds": 0.3})
    first = start("first")
    until(lambda: (store.root / "steps" / "2").exists(), "three steps")
    jobs.pause(store, job.id)
    assert first.wait(30) == 0
    paused = jobs.get(store, job.id)
    assert (paused.state, paused.attempts) == (JobState.PAUSED, 0)
    done = len(list((store.root / "steps").iterdir()))
    assert 3 <= done < 14
    # Another start of app and worker leaves it alone.
    reopened = Store(store.root)
    assert dead_jobs.recover_dead(reopened) == []
    assert not rows.any_queued(reopened)
    jobs.resume(reopened, job.id)
    start("second")
    until(lambda: jobs.get(store, job.id).state is JobState.DONE, "the job to end")
    assert jobs.get(store, job.id).result["done_before"] == done


def test_a_paused_job_lets_the_next_one_run(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "count", params=COUNT)
    process = start("first")
    until(lambda: (store.root / "steps" / "0").exists(), "the first step")
    after = jobs.enqueue(store, "loud")
    jobs.pause(store, job.id)
    until(lambda: jobs.get(store, after.id).state is JobState.DONE, "the next job")
    assert jobs.get(store, job.id).state is JobState.PAUSED
    assert process.poll() is None


@posix
def test_the_end_of_memory_is_told_from_another_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "out_of_memory_kills", lambda: 4)
    assert oom.killed_for_memory(-signal.SIGKILL, 3)
    assert oom.killed_for_memory(137, 3)
    assert not oom.killed_for_memory(-signal.SIGKILL, 4)
    assert not oom.killed_for_memory(-signal.SIGTERM, 3)
    monkeypatch.setattr(oom, "out_of_memory_kills", lambda: None)
    assert oom.killed_for_memory(-signal.SIGKILL, None)


def test_the_systems_counts_are_read(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 2\n")
    monkeypatch.setattr(oom, "_COUNTERS", (tmp_path / "missing", tmp_path / "vmstat"))
    assert oom.out_of_memory_kills() == 2
    monkeypatch.setattr(oom, "_COUNTERS", (tmp_path / "missing",))
    assert oom.out_of_memory_kills() is None


@posix
def test_a_job_that_the_system_ended_is_tried_smaller_once(
    store: Store, start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real SIGKILL, of a process that this app started, while the system's count of such kills rises."""
    job = jobs.enqueue(store, "big")
    kills = [0]
    monkeypatch.setattr(oom, "out_of_memory_kills", lambda: kills[0])
    for attempt in (1, 2):
        process = start(str(attempt))
        until(lambda process=process: (store.root / f"big-{process.pid}").exists(), "the job to begin")
        assert (store.root / f"big-{process.pid}").read_text() == str(attempt - 1)
        kills[0] += 1
        process.kill()
        process.wait()
        supervisor._recover_killed(store)
        now = jobs.get(store, job.id)
        assert (now.state, now.killed) == ((JobState.QUEUED, JobState.FAILED)[attempt - 1], attempt)
    assert "ended this job 2 times, probably because memory ran out" in now.error


@posix
def test_another_kill_is_no_end_of_memory(store: Store, start: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "out_of_memory_kills", lambda: 0)
    job = jobs.enqueue(store, "count", params=COUNT)
    process = start("first")
    until(lambda: (store.root / "steps" / "0").exists(), "the first step")
    process.kill()
    process.wait()
    supervisor._recover_killed(store)
    assert jobs.get(store, job.id).state is JobState.RUNNING
    (recovered,) = dead_jobs.recover_dead(store)
    assert (recovered.state, recovered.killed) == (JobState.QUEUED, 0)


@posix
def test_killing_the_app_leaves_the_worker_and_killing_the_worker_leaves_nothing(store: Store) -> None:
    """kill -9 of the app: its worker goes on, so that no work is lost, and is found again. kill -9 of both: no
    process of theirs is left."""
    script = (
        "import sys, time; from alapp.storage.db import Store; from alapp.supervisor import Supervisor\n"
        "Supervisor(Store(sys.argv[1])).start(); time.sleep(300)"
    )
    app = subprocess.Popen([sys.executable, "-c", script, str(store.root)], cwd=ROOT)
    try:
        until(lambda: supervisor.worker_record(store.root), "the worker")
        record = supervisor.worker_record(store.root)
        app.kill()
        app.wait()
        assert record.alive
        assert supervisor.ensure_worker(store) == record.pid
    finally:
        app.kill()
        app.wait()
        psutil.Process(supervisor.worker_record(store.root).pid).kill()
    until(lambda: not record.alive, "the worker to be gone")
    left = []
    for process in psutil.process_iter():
        try:
            if str(store.root) in process.cmdline() or process.environ().get(supervisor.TOKEN_VARIABLE) == record.token:
                left.append(process)
        except psutil.Error:
            continue
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_job_is_told_how_often_it_was_ended(store: Store) -> None:
    job = jobs.enqueue(store, "shrinking")
    store.execute("UPDATE job SET killed = 1 WHERE id = ?", (job.id,))
    assert running.run_inline(store, job).result == {"killed": 1}
    assert running.run_inline(store, jobs.enqueue(store, "shrinking")).result == {"killed": 0}
