"""How one job runs: its progress, its heartbeat, and its end in a result or a sentence for the user."""

from __future__ import annotations

import re
import threading
import time
import traceback
import uuid

from alapp import jobs
from alapp.disk import is_full
from alapp.errors import AlappError, Cancelled, ConflictError, Paused
from alapp.pace import Pace
from alapp.stages.foundation.residency import is_out_of_memory
from alapp.stages.images import printable
from alapp.storage import dead_jobs, processes
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from alapp.storage.job import Asked, Job, JobState

HEARTBEAT_SECONDS = 2.0
REPORT_SECONDS = 1.0

_OF_A_GPU = re.compile(r"\b(cuda|cudnn|cublas|hip|mps)", re.IGNORECASE)


class Stopped(Cancelled):
    """The worker was told to stop, or lost the job; unlike a cancelled job, this one goes on later."""


class Reporter:
    """The `Report` of a running job.

    Writes at most once a second; what was held back is written with the next heartbeat. Raises `Cancelled` or `Paused`
    once the user asked for that, and `Stopped` once `stop` is set or the job's row belongs to somebody else.
    """

    def __init__(self, store: Store, job: Job, worker: str, stop: threading.Event):
        self._store, self._job, self._worker, self._stop = store, job, worker, stop
        self._progress: tuple[float, float, str] = (0.0, 0.0, "")
        self._pace = Pace()
        self._written = float("-inf")
        self._lock = threading.Lock()
        self._asked = Asked.GO_ON
        self.lost = False

    def __call__(self, done: float, total: float, message: str = "") -> None:
        self._progress = (float(done), float(total), printable(message))
        now = time.monotonic()
        if total > 0:
            self._pace.add(now, done / total)
        if now - self._written >= REPORT_SECONDS:
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
            left = self._pace.seconds_left(self._written)
            answer = rows.beat(self._store, self._job.id, self._worker, *self._progress, left)
        if answer is None:
            self.lost = True
        else:
            self._asked = answer


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
    with processes.beating(report.write, HEARTBEAT_SECONDS):
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
        return printable(str(error))
    # torch need not be imported to recognise its error by name.
    by_torch = any(base.__name__ == "OutOfMemoryError" for base in type(error).__mro__)
    if is_out_of_memory(error) and (by_torch or _OF_A_GPU.search(str(error))):
        return f"The GPU ran out of memory. {dead_jobs.LESS_MEMORY}"
    if is_out_of_memory(error):
        return f"The computer ran out of memory. {dead_jobs.LESS_MEMORY}"
    if "no kernel image is available" in str(error):
        return (
            "The installed PyTorch does not support the GPU of this computer, which is too old or too new for it. To "
            "work without the GPU, set the environment variable CUDA_VISIBLE_DEVICES to -1 and restart the computer; "
            "or install a PyTorch that supports the GPU."
        )
    if is_full(error):
        return "The disk is full. Free some space and start this again; what was finished is kept."
    return f"Something went wrong inside the app ({type(error).__name__}). The details are in {job.log}."


def write_log(store: Store, job: Job, text: str) -> None:
    """Append to the job's log."""
    path = store.root / job.log
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as log:  # it may name files that are no UTF-8
        log.write(text)
