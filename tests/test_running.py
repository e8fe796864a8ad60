"""How one job runs: reports, heartbeats, what is asked of it, and how it ends."""

from __future__ import annotations

import threading
import time

import pytest

from alapp import jobs, running
from alapp.errors import Cancelled, ConflictError, InputError
from alapp.jobs import JobState
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from tests.job_kinds import KINDS


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KINDS", KINDS)


def test_reports_are_written_at_most_once_a_second(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = rows.claim(store, "host:1:t", jobs.enqueue(store, "count").id)
    clock = [100.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: clock[0])
    written = []
    real = rows.beat
    monkeypatch.setattr(running.rows, "beat", lambda *values: written.append(values[3]) or real(*values))
    report = running.Reporter(store, job, "host:1:t", threading.Event())
    for step in range(40):
        report(step, 100, "counting")
        clock[0] += 0.125
    assert written == [0, 8, 16, 24, 32]
    report.write()
    now = jobs.get(store, job.id)
    assert (now.done, now.total, now.message) == (39, 100, "counting")
    assert now.eta == pytest.approx((100 - 39) * 40 * 0.125 / 39)


def test_a_reporter_raises_what_was_asked_for(store: Store) -> None:
    job = rows.claim(store, "host:1:t", jobs.enqueue(store, "count").id)
    stop = threading.Event()
    report = running.Reporter(store, job, "host:1:t", stop)
    jobs.cancel(store, job.id)
    report.write()
    with pytest.raises(Cancelled) as cancelled:
        report(1, 2, "")
    assert not isinstance(cancelled.value, running.Stopped)
    stop.set()
    with pytest.raises(running.Stopped):
        report(1, 2, "")


def test_a_reporter_notices_that_its_job_was_given_to_another(store: Store) -> None:
    job = rows.claim(store, "host:1:t", jobs.enqueue(store, "count").id)
    report = running.Reporter(store, job, "host:1:t", threading.Event())
    rows.release(store, job.id, "host:1:t")
    rows.claim(store, "host:2:u", job.id)
    with pytest.raises(running.Stopped):
        report(1, 2, "")


def test_a_silent_job_keeps_its_heartbeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "HEARTBEAT_SECONDS", 0.05)
    job = jobs.enqueue(store, "silent", params={"seconds": 1.0})
    beats = set()
    thread = threading.Thread(target=running.run_inline, args=(store, job))
    thread.start()
    while thread.is_alive():
        beats.add(jobs.get(store, job.id).heartbeat)
        time.sleep(0.02)
    assert len(beats - {None}) > 3
    assert jobs.get(store, job.id).state is JobState.DONE


def not_utf8(store: Store, project_id: int | None, report: running.Reporter) -> None:
    report(1, 2, "Reading caf\udce9.tif")
    raise InputError("The file caf\udce9.tif is empty.")


def test_bytes_of_another_encoding_in_a_text_end_no_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "odd", jobs.JobKind(f"{__name__}:not_utf8", "odd"))
    job = running.run_inline(store, jobs.enqueue(store, "odd"))
    assert (job.state, job.message) == (JobState.FAILED, "Reading caf?.tif")
    assert job.error == "The file caf?.tif is empty."
    assert r"caf\udce9.tif" in (store.root / job.log).read_text()


def test_run_inline(store: Store) -> None:
    job = running.run_inline(store, jobs.enqueue(store, "count", params={"steps": 2}))
    assert (job.state, job.result, job.fraction) == (JobState.DONE, {"done_before": 0, "steps": 2}, 1.0)
    with pytest.raises(ConflictError, match="already started"):
        running.run_inline(store, job)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("MPS backend out of memory (MPS allocated: 8.00 GB)", "GPU"),
        ("CUDA error: out of memory", "GPU"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "GPU"),
        ("[enforce fail at alloc_cpu.cpp:83] DefaultCPUAllocator: not enough memory", "computer"),
    ],
)
def test_memory_that_runs_out_is_told_in_whatever_words_torch_says_it(store: Store, text: str, what: str) -> None:
    told = running.sentence(RuntimeError(text), jobs.enqueue(store, "count"))
    assert told.startswith(f"The {what} ran out of memory.")


def test_a_gpu_that_torch_does_not_support_is_told_with_its_remedy(store: Store) -> None:
    error = RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors")
    told = running.sentence(error, jobs.enqueue(store, "count"))
    assert told.startswith("The installed PyTorch does not support the GPU of this computer")
    assert "CUDA_VISIBLE_DEVICES to -1" in told


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
    job = running.run_inline(store, jobs.enqueue(store, "fails", params={"how": how}))
    assert job.state is JobState.FAILED
    assert job.error.startswith(words)
    log = (store.root / job.log).read_text()
    assert "Traceback" in log
    assert logged in log
