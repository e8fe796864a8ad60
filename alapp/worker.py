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
from alapp.console import print_anything
from alapp.environment import prepare
from alapp.errors import DiskFullError, NotReadyError, StorageError
from alapp.running import HEARTBEAT_SECONDS, run, write_log
from alapp.storage import dead_jobs, processes
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from alapp.storage.job import Job
from alapp.storage.scratch import remove_dead
from alapp.supervisor import (
    TOKEN_VARIABLE,
    app_alive,
    end_descendants,
    end_orphans,
    forget_worker,
    record_worker,
)

POLL_SECONDS = 0.3
IDLE_SECONDS = 600.0


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
        self.name_beside = processes.worker_name(self.token, beside=True)
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
                remove_dead(self.store.root)
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
                paused = self._is_paused(job)
                idle_since = time.monotonic()
                continue
            if paused and not self._waited_for():
                # What libraries hold in memory, of a GPU too, is only given back by the end of the process.
                return
            if self._busy_beside:
                idle_since = time.monotonic()
            if time.monotonic() - checked > HEARTBEAT_SECONDS:
                checked = time.monotonic()
                # One that its thread gave up, as when its end could not be written, is dead all the same.
                dead_jobs.recover_dead(self.store, (self.name_beside,) if self._busy_beside else ())
                if app_alive(self.store.root):
                    idle_since = checked
            if time.monotonic() - idle_since > self.idle_seconds and not self._waited_for():
                return
            self.stop.wait(POLL_SECONDS)

    def _is_paused(self, job: Job) -> bool:
        """Whether the job that just ran is paused. Not when its row is gone: its project may have been erased."""
        try:
            return rows.job(self.store, job.id).paused
        except NotReadyError:
            return False

    def _waited_for(self) -> bool:
        """Whether a job waits, or runs beside; the flag is set before a job is claimed, so it is asked last."""
        return rows.any_queued(self.store) or self._busy_beside

    def _beside(self) -> None:
        """Run the jobs that may run beside another. They print nothing: output goes to the log of the other."""
        name = self.name_beside
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
    print_anything("utf-8")  # as the rest of the logs
    prepare()
    try:
        worker = Worker(Store(options.state), options.idle_seconds)
    except (StorageError, DiskFullError) as error:
        print(error, file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.on_signal)
    print(f"worker {worker.name}, version {__version__}, state {worker.store.root}", flush=True)
    worker.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
