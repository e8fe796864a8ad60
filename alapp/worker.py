"""The process that runs long jobs, one at a time: `python -m alapp.worker --state DIR`. Jobs that only wait for the
network (`jobs.beside`) run beside, from a thread, so that a download need not wait for the end of a training.

One worker a state folder (an operating-system lock that dies with its holder). It survives a restart of
the app, and ends by itself after `IDLE_SECONDS` without work and without an app. A worker that is killed
leaves a running job with a dead heartbeat; the next worker queues it again. SIGTERM gives the job back to
the queue at its next report. After a job that was paused, with nothing else to do, the process ends.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from alapp import __version__, jobs
from alapp.environment import prepare
from alapp.errors import AlappError, Cancelled, ConflictError, Paused, StorageError
from alapp.storage import dead_jobs, processes
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from alapp.storage.job import Asked, Job, JobState
from alapp.supervisor import (
    TOKEN_VARIABLE,
    Supervisor,
    app_alive,
    end_descendants,
    end_orphans,
    ensure_worker,
    forget_worker,
    record_worker,
)

__all__ = ["Reporter", "Stopped", "Supervisor", "Worker", "ensure_worker", "main", "run_inline"]

HEARTBEAT_SECONDS = 2.0
REPORT_SECONDS = 1.0
POLL_SECONDS = 0.3
IDLE_SECONDS = 600.0
DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no EDQUOT


class Stopped(Cancelled):
    """The worker was told to stop, or lost the job; unlike a cancelled job, this one goes on later."""


class Reporter:
    """The `Report` of a running job, and its heartbeat.

    Writes at most once a second; what was held back is written with the next heartbeat (every 2 s, from a
    thread, so a silent phase does not look dead). Raises `Cancelled` or `Paused` once the user asked for that, and
    `Stopped` once `stop` is set or the job's row belongs to somebody else.
    """

    def __init__(self, store: Store, job: Job, worker: str, stop: threading.Event):
        self._store, self._job, self._worker, self._stop = store, job, worker, stop
        self._progress: tuple[float, float, str] = (0.0, 0.0, "")
        self._first: tuple[float, float] | None = None
        self._written = float("-inf")
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._asked = Asked.GO_ON
        self.lost = False

    def __call__(self, done: float, total: float, message: str = "") -> None:
        self._progress = (float(done), float(total), message)
        if self._first is None:
            self._first = (float(done), time.monotonic())
        if time.monotonic() - self._written >= REPORT_SECONDS:
            self.write()
        self.check()

    def check(self) -> None:
        """Raises what is due."""
        if self.lost or self._stop.is_set():
            raise Stopped("The work was interrupted and goes on later.")
        if self._asked is Asked.CANCEL:
            raise Cancelled("The work was cancelled.")
        if self._asked is Asked.PAUSE:
            raise Paused("The work was paused.")

    def write(self) -> None:
        """Write progress and a sign of life now; learn whether to stop."""
        with self._lock:
            self._written = time.monotonic()
            answer = rows.beat(self._store, self._job.id, self._worker, *self._progress, self._eta())
        if answer is None:
            self.lost = True
        else:
            self._asked = answer

    def _eta(self) -> float | None:
        done, total, _ = self._progress
        if self._first is None:
            return None
        # From the first report of this attempt, so that a resumed job does not count what was done before.
        first_done, first_at = self._first
        elapsed = time.monotonic() - first_at
        if done <= first_done or elapsed < REPORT_SECONDS:
            return None
        return max(0.0, (total - done) * elapsed / (done - first_done))

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Heartbeats from a thread while the block runs."""
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                self.write()
            except Exception:
                # The disk may be full for a moment; a heart that gives up would lose a living job.
                traceback.print_exc()


def run_inline(store: Store, job: Job) -> Job:
    """Run a queued job in this process, for tests and the command line; returns it as it ended.

    Raises `ConflictError` if a worker took it first. The job's own errors are in the returned row.
    """
    name = processes.worker_name(uuid.uuid4().hex)
    claimed = rows.claim(store, name, job.id)
    if claimed is None:
        raise ConflictError(f"Job {job.id} was already started elsewhere. Wait for it to end.")
    run(store, claimed, name, threading.Event())
    return rows.job(store, job.id)


def run(store: Store, job: Job, worker: str, stop: threading.Event) -> None:
    """Run a claimed job to its end, whatever that is, and record it."""
    report = Reporter(store, job, worker, stop)
    with report.beating():
        try:
            kind = jobs.kind(job.kind)
            smaller = {"killed": job.killed} if kind.shrinks and job.killed else {}
            result = kind.load()(store, job.project_id, report, **job.params, **smaller)
            outcome = (JobState.DONE, None, result)
        except (Stopped, Paused) as interruption:
            outcome, paused = None, isinstance(interruption, Paused)
        except Cancelled:
            outcome = (JobState.CANCELLED, None, None)
        except (Exception, SystemExit) as error:  # a library that exits must not end the worker
            write_log(store, job, traceback.format_exc())
            outcome = (JobState.FAILED, sentence(error, job), None)
        if not report.lost:
            report.write()
    if outcome is None:
        (rows.pause if paused else rows.release)(store, job.id, worker)
        return
    state, error_text, result = outcome
    try:
        rows.finish(store, job.id, worker, state, error_text, result)
    except TypeError as error:  # a result that is not JSON is a bug of the job, not of the worker
        write_log(store, job, traceback.format_exc())
        rows.finish(store, job.id, worker, JobState.FAILED, sentence(error, job))


def sentence(error: BaseException, job: Job) -> str:
    """What the user reads about an error of a job."""
    if isinstance(error, AlappError):
        return str(error)
    # torch need not be imported to recognise its error by name.
    if any(base.__name__ == "OutOfMemoryError" for base in type(error).__mro__) or "CUDA out of memory" in str(error):
        return "The GPU ran out of memory. Close other programs that use it, or choose a smaller preset."
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "The computer ran out of memory. Close other programs, or use smaller patches or a smaller preset."
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return "The disk is full. Free some space and start this again; what was finished is kept."
    return f"Something went wrong inside the app ({type(error).__name__}). The details are in {job.log}."


def write_log(store: Store, job: Job, text: str) -> None:
    """Append to the job's log."""
    path = store.root / job.log
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", encoding="utf-8") as log:
        log.write(text)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send what this process and its children print to the end of a file, C libraries included."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(path, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)


class Worker:
    """Claims and runs the jobs of a state folder until told to stop or idle without an app for too long."""

    def __init__(self, store: Store, idle_seconds: float = IDLE_SECONDS):
        self.store = store
        self.idle_seconds = idle_seconds
        self.token = os.environ.get(TOKEN_VARIABLE) or uuid.uuid4().hex
        self.name = processes.worker_name(self.token)
        self.stop = threading.Event()
        self._busy_beside = False

    def serve(self) -> bool:
        """Run until the end. False, at once, if another worker serves this state folder."""
        lock = FileLock(self.store.root / "worker.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        with lock:
            end_orphans(self.store.root)
            record_worker(self.store.root, self.token)
            beside = threading.Thread(target=self._beside, name="jobs beside", daemon=True)
            try:
                dead_jobs.recover_dead(self.store)
                beside.start()
                self._loop()
            finally:
                self.stop.set()
                if beside.ident is not None:
                    beside.join()
                end_descendants()
                forget_worker(self.store.root, self.token)
        return True

    def _loop(self) -> None:
        idle_since = checked = time.monotonic()
        paused = False
        while not self.stop.is_set() and self.store.database.exists():
            if rows.any_queued(self.store, without=jobs.beside()) and (
                job := rows.claim(self.store, self.name, without=jobs.beside())
            ):
                self._run(job)
                paused = rows.job(self.store, job.id).paused
                idle_since = time.monotonic()
                continue
            if paused and not self._waited_for():
                # What libraries hold in memory, of a GPU too, is only given back by the end of the process.
                return
            if self._busy_beside:
                idle_since = time.monotonic()
            if time.monotonic() - checked > HEARTBEAT_SECONDS:
                checked = time.monotonic()
                dead_jobs.recover_dead(self.store)
                if app_alive(self.store.root):
                    idle_since = checked
            if time.monotonic() - idle_since > self.idle_seconds and not self._waited_for():
                return
            self.stop.wait(POLL_SECONDS)

    def _waited_for(self) -> bool:
        """Whether a job waits, or runs beside; the flag is set before a job is claimed, so it is asked last."""
        return rows.any_queued(self.store) or self._busy_beside

    def _beside(self) -> None:
        """Run the jobs that may run beside another. They print nothing: output goes to the log of the other."""
        name = processes.worker_name(self.token, beside=True)
        while not self.stop.wait(POLL_SECONDS):
            try:
                if not rows.any_queued(self.store, only=jobs.beside()):
                    continue
                self._busy_beside = True
                if job := rows.claim(self.store, name, only=jobs.beside()):
                    self._note_start(job, name)
                    run(self.store, job, name, self.stop)
            except Exception:  # the disk may be full for a moment; the next job needs this thread
                if self.store.database.exists():
                    traceback.print_exc()
            finally:
                self._busy_beside = False

    def _note_start(self, job: Job, name: str) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        write_log(self.store, job, f"--- {stamp} {job.kind}, attempt {job.attempts}, {name}\n")

    def _run(self, job: Job) -> None:
        self._note_start(job, self.name)
        with output_to(self.store.root / job.log):
            run(self.store, job, self.name, self.stop)
            end_descendants()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """First signal: stop at the next report. Second: end now, as the system would."""
        self.stop.set()
        signal.signal(number, signal.SIG_DFL)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 also when another worker was there first."""
    parser = argparse.ArgumentParser(prog="python -m alapp.worker", description="Runs the app's long jobs.")
    parser.add_argument("--state", required=True, type=Path, help="the state folder")
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS, help="end after so long without work")
    options = parser.parse_args(arguments)
    prepare()
    try:
        worker = Worker(Store(options.state), options.idle_seconds)
    except StorageError as error:
        print(error, file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.on_signal)
    print(f"worker {worker.name}, version {__version__}, state {worker.store.root}", flush=True)
    worker.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
