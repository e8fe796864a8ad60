"""The worker as a real process: killed, stopped, doubled, idle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from alapp import jobs, supervisor, worker
from alapp.errors import DiskFullError
from alapp.jobs import JobState
from alapp.storage import catalogue, processes
from alapp.storage.db import Store
from tests.job_kinds import KINDS

ROOT = Path(__file__).parent.parent
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def until(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    """Wait for a condition; fail with `what` when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.05)


def unique(token: str, store: Store) -> str:
    """The token of a worker of this test only: by its token a killed worker's children are found and ended, so one
    that another test uses at the same time would end that test's workers."""
    return f"{token}-{store.root.parent.name}"


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KINDS", KINDS)


@pytest.fixture
def start(store: Store) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts workers that know the test jobs; ends them, and whatever they left, afterwards."""
    started: list[subprocess.Popen] = []

    def start(*options: str, token: str = "first") -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.job_kinds", "--state", str(store.root), *options]
        environment = {**os.environ, supervisor.TOKEN_VARIABLE: unique(token, store)}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            for child in (*psutil.Process(process.pid).children(recursive=True), process):
                child.kill()
        process.wait()


def state(store: Store, job: jobs.Job) -> JobState:
    return jobs.get(store, job.id).state


@posix
def test_kill_9_in_mid_job_then_a_new_worker_goes_on(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "count", params={"steps": 12, "seconds": 0.25})
    first = start()
    until(lambda: (store.root / "steps" / "2").exists(), "three steps")
    first.kill()
    first.wait()
    assert jobs.stalled(jobs.get(store, job.id))
    second = start(token="second")
    until(lambda: state(store, job) is JobState.DONE, "the job to end")
    done = jobs.get(store, job.id)
    assert done.attempts == 2
    assert done.result["done_before"] >= 3
    pids = [(store.root / "steps" / str(step)).read_text() for step in range(12)]
    assert pids[:3] == [str(first.pid)] * 3
    assert pids[-1] == str(second.pid)


def test_a_job_that_kills_its_worker_fails_after_three_attempts(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "crashes")
    for attempt in range(3):
        assert start(token=str(attempt)).wait(180) == 137
    start("--idle-seconds", "0", token="last").wait(180)
    failed = jobs.get(store, job.id)
    assert (failed.state, failed.attempts) == (JobState.FAILED, 3)


@posix
def test_sigterm_gives_the_job_back(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "count", params={"steps": 200, "seconds": 0.1})
    process = start()
    until(lambda: (store.root / "steps" / "0").exists(), "the first step")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    queued = jobs.get(store, job.id)
    assert (queued.state, queued.attempts, queued.worker) == (JobState.QUEUED, 0, None)
    assert supervisor.worker_record(store.root) is None


def test_cancel_reaches_a_running_job(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "count", params={"steps": 600, "seconds": 0.1})
    start()
    until(lambda: (store.root / "steps" / "0").exists(), "the first step")
    jobs.cancel(store, job.id)
    until(lambda: state(store, job) is JobState.CANCELLED, "the cancellation")
    after = jobs.enqueue(store, "loud")
    until(lambda: state(store, after) is JobState.DONE, "the worker to take the next job")


def test_a_cancelled_job_that_does_not_end_is_ended_with_its_worker(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "silent", params={"seconds": 600})
    process = start()
    until(lambda: (store.root / "silent").exists(), "the job to be at work")
    overdue = supervisor.Overdue(seconds=1)
    overdue.end(store)
    assert process.poll() is None
    jobs.cancel(store, job.id)
    overdue.end(store)
    assert state(store, job) is JobState.RUNNING
    time.sleep(1.1)
    overdue.end(store)
    assert state(store, job) is JobState.CANCELLED
    process.wait(20)
    after = jobs.enqueue(store, "loud")
    start(token="second")
    until(lambda: state(store, after) is JobState.DONE, "the next worker to take the next job")


def test_one_that_is_started_while_its_like_is_being_cancelled_runs_after_it(store: Store, start: Callable) -> None:
    first = jobs.enqueue(store, "count", params={"steps": 600, "seconds": 0.1})
    start()
    until(lambda: (store.root / "steps" / "0").exists(), "the first step")
    jobs.cancel(store, first.id)
    again = jobs.enqueue(store, "count", params={"steps": 1})
    until(lambda: state(store, again) is JobState.DONE, "the second one to be done")
    assert state(store, first) is JobState.CANCELLED


def test_the_worker_outlives_a_job_whose_project_was_erased(store: Store, start: Callable) -> None:
    project = catalogue.create_project(store, "expired")
    jobs.enqueue(store, "count", project.id, {"steps": 600, "seconds": 0.1})
    process = start()
    until(lambda: (store.root / "steps" / "0").exists(), "the first step")
    catalogue.erase_project(store, project.id)
    after = jobs.enqueue(store, "loud")
    until(lambda: state(store, after) is JobState.DONE or process.poll() is not None, "the next job")
    assert process.poll() is None


def test_one_worker_a_state_folder(store: Store, start: Callable) -> None:
    first = start()
    until(lambda: supervisor.worker_record(store.root), "the worker")
    second = start(token="second")
    assert second.wait(180) == 0
    assert first.poll() is None
    assert supervisor.worker_record(store.root).pid == first.pid


def test_output_goes_to_the_log_of_the_job(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "loud")
    start()
    until(lambda: state(store, job) is JobState.DONE, "the job")
    log = (store.root / job.log).read_text()
    for line in ("loud, attempt 1", "from python", "from the descriptor", "from a child"):
        assert line in log


@posix
def test_children_of_a_killed_worker_are_ended_by_the_next(store: Store, start: Callable) -> None:
    jobs.enqueue(store, "with_child")
    first = start()
    until(lambda: (store.root / "child").exists() and (store.root / "child").read_text(), "the child")
    child = int((store.root / "child").read_text())
    first.kill()
    first.wait()
    assert processes.pid_alive(child)
    start("--idle-seconds", "600", token="second")
    until(lambda: not processes.pid_alive(child), "the orphan to be ended")
    until(lambda: jobs.active(store)[0].attempts == 2, "the lock to be free although a child was left")


def test_children_that_a_job_leaves_are_ended(store: Store, start: Callable) -> None:
    job = jobs.enqueue(store, "leaves_child")
    start()
    until(lambda: state(store, job) is JobState.DONE, "the job")
    child = jobs.get(store, job.id).result["child"]
    until(lambda: not processes.pid_alive(child), "the child to be ended")


def test_an_idle_worker_ends_unless_an_app_is_there(store: Store, start: Callable) -> None:
    assert start("--idle-seconds", "0").wait(180) == 0
    supervisor.touch_app(store.root)
    assert supervisor.app_alive(store.root)
    kept = start("--idle-seconds", "4", token="second")
    until(lambda: supervisor.worker_record(store.root), "the worker")
    time.sleep(6)
    assert kept.poll() is None
    old = time.time() - supervisor.ALIVE_SECONDS - 1
    os.utime(store.root / "app.alive", (old, old))
    assert kept.wait(180) == 0
    assert supervisor.worker_record(store.root) is None


def test_the_app_starts_one_worker_that_survives_it(store: Store) -> None:
    script = (
        "import sys; from alapp.storage.db import Store; from alapp.supervisor import ensure_worker\n"
        "store = Store(sys.argv[1]); print(ensure_worker(store))"
    )
    command = [sys.executable, "-c", script, str(store.root)]
    pid = int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    try:
        until(lambda: supervisor.worker_record(store.root), "the worker to outlive the app")
        assert supervisor.worker_record(store.root).pid == pid
        assert supervisor.ensure_worker(store) == pid
    finally:
        psutil.Process(pid).kill()
    until(lambda: not processes.pid_alive(pid), "the worker to be gone")
    again = supervisor.ensure_worker(store)
    try:
        assert again != pid
        until(lambda: (record := supervisor.worker_record(store.root)) and record.pid == again, "the next worker")
        assert supervisor.ensure_worker(store) == again
    finally:
        psutil.Process(again).kill()


def test_a_worker_of_another_version_is_replaced(
    store: Store, start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start()
    until(lambda: supervisor.worker_record(store.root), "the worker")
    monkeypatch.setattr(supervisor, "VERSION", "999")
    with monkeypatch.context() as never:  # it is younger, so its code is the newer one
        never.setattr(psutil.Process, "terminate", lambda self: pytest.fail("The worker is told to stop."))
        assert supervisor.ensure_worker(store) == process.pid
    monkeypatch.setattr(supervisor, "BORN", time.time() + 60)
    assert supervisor.ensure_worker(store) == process.pid
    process.wait(180)
    assert supervisor.worker_record(store.root) is None or not supervisor.worker_record(store.root).alive


def test_changed_code_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "supervisor.py"
    module.write_text("a = 1\n")
    monkeypatch.setattr(supervisor, "__file__", str(module))
    before = supervisor.code_version()
    assert supervisor.code_version() == before
    (tmp_path / "other.py").write_text("")
    added = supervisor.code_version()
    module.write_text("a = 10\n")
    assert len({before, added, supervisor.code_version()}) == 3


def test_the_supervisor_starts_a_worker_for_a_waiting_job(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(supervisor, "ensure_worker", lambda store: asked.append(store) or 1)
    watch = supervisor.Supervisor(store, touch_seconds=0.05, poll_seconds=0.02).start()
    assert len(asked) == 1
    assert supervisor.app_alive(store.root)
    jobs.enqueue(store, "count")
    until(lambda: len(asked) > 1, "the supervisor to ask for a worker")
    watch.stop()
    assert not supervisor.app_alive(store.root)


def test_a_full_disk_ends_a_worker_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(root: Path) -> Store:
        raise DiskFullError(f"The disk of the state folder {root} is full.")

    monkeypatch.setattr(worker, "Store", full)
    assert worker.main(["--state", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"The disk of the state folder {tmp_path} is full.\n"
