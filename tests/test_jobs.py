from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from alapp import jobs
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


def test_a_job_that_is_being_cancelled_does_not_stand_for_a_new_one(store: Store) -> None:
    running = rows.claim(store, processes.worker_name("t"), jobs.enqueue(store, "count").id)
    jobs.cancel(store, running.id)
    anew = jobs.enqueue(store, "count", params={"steps": 2})
    assert (anew.state, anew.params) == (JobState.QUEUED, {"steps": 2})
    assert anew.id != running.id
    assert jobs.enqueue(store, "count", params={"steps": 2}) == anew  # pressed twice
    assert [job.id for job in jobs.active(store)] == [running.id, anew.id]
    rows.finish(store, running.id, running.worker, JobState.CANCELLED)
    assert rows.claim(store, "host:1:t").id == anew.id


def test_a_job_that_reads_its_settings_when_it_begins_can_be_queued_behind_the_one_that_runs(store: Store) -> None:
    waiting = jobs.enqueue(store, "count")
    assert jobs.enqueue(store, "count", behind_running=True) == waiting  # it has not read them yet
    running = rows.claim(store, processes.worker_name("t"))
    behind = jobs.enqueue(store, "count", behind_running=True)
    assert behind.id != running.id
    assert jobs.enqueue(store, "count", behind_running=True) == behind
    assert rows.claim(store, "host:1:t").id == behind.id


def test_what_cannot_be_started_with_these_settings_is_refused_with_a_sentence(store: Store) -> None:
    first = jobs.start(store, "count", None, {"steps": 2})
    assert jobs.start(store, "count", None, {"steps": 2}) == first
    with pytest.raises(ConflictError, match=r"waits already, with other settings.*cancel it"):
        jobs.start(store, "count", None, {"steps": 3})
    rows.claim(store, processes.worker_name("t"))
    with pytest.raises(ConflictError, match="runs already"):
        jobs.start(store, "count", None, {"steps": 3})
    jobs.cancel(store, first.id)
    assert jobs.start(store, "count", None, {"steps": 3}).params == {"steps": 3}


def test_a_job_keeps_the_settings_that_the_project_had_when_it_was_queued(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jobs.KINDS, "count", replace(KINDS["count"], settings=("preset",)))
    project = catalogue.create_project(store, "cells").id
    first = jobs.start(store, "count", project, {"steps": 2})
    assert first.params == {"steps": 2, "preset": "quick"}
    assert jobs.start(store, "count", project, {"steps": 2}) == first
    catalogue.update_project(store, project, preset="full")
    assert jobs.get(store, first.id) == first
    with pytest.raises(ConflictError, match="with other settings"):
        jobs.start(store, "count", project, {"steps": 2})
    jobs.cancel(store, first.id)
    assert jobs.start(store, "count", project, first.params).params == first.params  # tried again
    assert jobs.enqueue(store, "count").params == {}


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


def test_what_the_process_itself_is_at_work_on_is_not_dead_after_the_computer_slept(store: Store) -> None:
    mine = processes.worker_name("t", beside=True)
    jobs.enqueue(store, "loud")
    rows.claim(store, mine)
    job = jobs.enqueue(store, "count")
    rows.claim(store, processes.worker_name("of another process"), job.id)
    store.execute("UPDATE job SET heartbeat = heartbeat - 3600")
    assert [item.id for item in dead_jobs.recover_dead(store, (mine,))] == [job.id]
    assert [item.kind for item in dead_jobs.recover_dead(store)] == ["loud"]


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen]:
    """A process of this host that lives."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


def test_a_job_of_a_process_that_lives_here_is_not_given_away_after_the_computer_slept(
    store: Store, other_process: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{processes.hostname()}:{other_process.pid}:t"
    job = rows.claim(store, name, jobs.enqueue(store, "count").id)
    later = time.time() + 36_000
    monkeypatch.setattr(dead_jobs, "time", SimpleNamespace(time=lambda: later))
    assert not jobs.stalled(job)
    assert dead_jobs.recover_dead(store) == []
    assert jobs.pause(store, job.id).state is JobState.RUNNING
    assert jobs.cancel(store, job.id).state is JobState.RUNNING
    other_process.kill()
    other_process.wait()
    assert [item.state for item in dead_jobs.recover_dead(store)] == [JobState.CANCELLED]


def test_a_process_that_has_the_number_of_one_that_is_gone_does_not_hold_its_job(
    store: Store, other_process: subprocess.Popen
) -> None:
    job = rows.claim(store, f"{processes.hostname()}:{other_process.pid}:t", jobs.enqueue(store, "count").id)
    store.execute("UPDATE job SET heartbeat = heartbeat - 3600")  # so the process began later
    assert [item.id for item in dead_jobs.recover_dead(store)] == [job.id]


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
