"""What the app does about the worker process: start it, know whether it lives, leave no process behind.

`state/worker.json` names the worker, `state/app.alive` is touched by a running app.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from alapp import __version__
from alapp.environment import inherited
from alapp.oom import killed_for_memory, out_of_memory_kills
from alapp.storage import dead_jobs, processes
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from alapp.storage.job import JobState

TOKEN_VARIABLE = "ALAPP_WORKER"
"""Environment variable that marks a worker and all its children, so that leftovers can be found."""

CANCEL_SECONDS = 60.0
"""A job that does not end within so long after it was cancelled is ended with the worker that runs it."""

ALIVE_SECONDS = 90.0
TOUCH_SECONDS = 20.0


def code_version() -> str:
    """The version of the app and a hash of its Python files as they are now: an update may keep the version."""
    package = Path(__file__).resolve().parent
    told = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        state = path.stat()
        told.update(f"{path.relative_to(package).as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return f"{__version__}+{told.hexdigest()[:12]}"


VERSION = code_version()
"""Of the code that this process runs, as it was when it started."""
BORN = psutil.Process().create_time()

_started: list[subprocess.Popen[bytes]] = []
_kills_before: dict[int, int | None] = {}
"""By process id of a worker in `_started`: `out_of_memory_kills` at its start."""
_told_to_stop: set[tuple[int, float]] = set()
"""Process ids, and starts, of the workers that were told to stop."""


@dataclass(frozen=True)
class WorkerRecord:
    """Content of `worker.json`. `born` is the process's start, so that a pid used again is not mistaken; `root` is its
    state folder, so that a copy of the folder does not take the worker for its own. Earlier versions left it out."""

    host: str
    pid: int
    born: float
    token: str
    version: str
    root: str = ""

    @property
    def alive(self) -> bool:
        """Whether that very process runs on this computer."""
        if not processes.is_here(self.host) or not processes.pid_alive(self.pid):
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.born) < 2.0
        except psutil.NoSuchProcess:
            return False


def worker_record(root: Path) -> WorkerRecord | None:
    """The last worker of a state folder, dead or alive; None if it ended in good order, or if the file says something
    else or was copied from another state folder. Raises `OSError` when it cannot be read, as on Windows in the moment
    in which it is replaced."""
    try:
        record = WorkerRecord(**json.loads((root / "worker.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return record if not record.root or _is_same(record.root, root) else None


def _is_same(recorded: str, root: Path) -> bool:
    """Whether a recorded path is a state folder, by whatever name it goes."""
    try:
        return os.path.samefile(recorded, root)
    except OSError:  # the original was moved or removed
        return False


def record_worker(root: Path, token: str) -> None:
    """This process is the worker of the state folder."""
    born = psutil.Process().create_time()
    record = WorkerRecord(processes.hostname(), os.getpid(), born, token, VERSION, str(root.resolve()))
    with atomic_write(root / "worker.json") as handle:
        handle.write(json.dumps(asdict(record)).encode())


def forget_worker(root: Path, token: str) -> None:
    """This process is not the worker any more."""
    record = worker_record(root)
    if record and record.token == token:
        (root / "worker.json").unlink(missing_ok=True)


def ensure_worker(store: Store) -> int:
    """The pid of the state folder's worker, started if there is none. Returns without waiting for it.

    A worker from before this process that runs other code is told to stop; its job goes back to the queue and the next
    call starts a new worker. A younger one has the newer code, where it was changed while this process ran. Safe to
    call often and from several processes: a second worker ends at once. The job of a worker that the system
    ended because memory ran out is told so.
    """
    _recover_killed(store)
    _started[:] = [it for it in _started if it.poll() is None or it.args[-1] != str(store.root)]
    record = worker_record(store.root)
    if record and record.alive:
        if record.version != VERSION and record.born < BORN:
            _tell_to_stop(record)
        return record.pid
    ours = [process for process in _started if process.args[-1] == str(store.root)]
    if ours:
        return ours[-1].pid
    logs = store.root / "logs"
    logs.mkdir(exist_ok=True)
    detached = (
        {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    with open(logs / "worker.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "alapp.worker", "--state", str(store.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The app may have been started from another folder than the one that holds the package.
            cwd=Path(__file__).resolve().parent.parent,
            env={**inherited(), TOKEN_VARIABLE: uuid.uuid4().hex},
            **detached,
        )
    _started.append(process)
    _kills_before[process.pid] = out_of_memory_kills()
    return process.pid


def _tell_to_stop(record: WorkerRecord) -> None:
    """Ask a worker, once, to give back its job and end: a second signal would end it in the middle of its work."""
    if (record.pid, record.born) in _told_to_stop:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(record.pid).terminate()
    _told_to_stop.add((record.pid, record.born))


def _recover_killed(store: Store) -> None:
    for process in _started:
        if process.args[-1] != str(store.root) or process.poll() is None:
            continue
        if killed_for_memory(process.returncode, _kills_before.get(process.pid)):
            dead_jobs.recover_killed(store, process.pid)
        _kills_before.pop(process.pid, None)


class Overdue:
    """Ends jobs that were cancelled and do not end: they hang, or are in a step that takes long."""

    def __init__(self, seconds: float = CANCEL_SECONDS):
        self._seconds = seconds
        self._since: dict[tuple[int, str], float] = {}

    def end(self, store: Store) -> None:
        """End the worker that has been at work on a cancelled job for too long; the job is cancelled, and one that ran
        beside it goes on in the next worker. What it was writing is found and finished or removed, as after a crash.

        Not for a download that runs beside work which nobody cancelled.
        """
        now = time.monotonic()
        running = [job for job in rows.active(store) if job.state is JobState.RUNNING and job.worker]
        cancelled = {(job.id, job.worker) for job in running if job.cancel_requested}
        self._since = {key: self._since.get(key, now) for key in cancelled}
        late = {worker for (_, worker), since in self._since.items() if now - since > self._seconds}
        at_work = {job.worker for job in running if not job.cancel_requested and not processes.runs_beside(job.worker)}
        record = worker_record(store.root)
        if not late or record is None or not record.alive:
            return
        signed = f"{record.host}:{record.pid}:"
        if any(name.startswith(signed) for name in late) and not any(name.startswith(signed) for name in at_work):
            _kill(record)
            dead_jobs.recover_dead(store)


def _kill(record: WorkerRecord) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(record.pid)
        children = process.children(recursive=True)
        process.kill()
        psutil.wait_procs([process], timeout=10)
        _end(children)


class Supervisor:
    """A thread of the app that touches `app.alive`, starts a worker whenever a job waits for one, and ends one that
    does not end a cancelled job."""

    def __init__(self, store: Store, touch_seconds: float = TOUCH_SECONDS, poll_seconds: float = 1.0):
        self._store, self._touch_seconds, self._poll_seconds = store, touch_seconds, poll_seconds
        self._overdue = Overdue()
        self._ended = threading.Event()
        self._touched = time.monotonic()
        self._away = False
        self._pid: int | None = None
        self._thread = threading.Thread(target=self._watch, name="worker supervisor", daemon=True)

    def start(self) -> Supervisor:
        """Start the worker and watch over it until `stop`."""
        touch_app(self._store.root)
        try:
            ensure_worker(self._store)
        except Exception:  # the page need not wait for it: as soon as there is a job, the thread tries again
            traceback.print_exc()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop watching. The worker goes on with its job, and ends by itself when idle."""
        self._ended.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join()
        with contextlib.suppress(OSError):  # the folder may be on a disk that is away
            (self._store.root / "app.alive").unlink(missing_ok=True)

    def _watch(self) -> None:
        pause = self._poll_seconds
        while not self._ended.wait(pause):
            try:
                pause = self._longer(pause) if self._is_away() else self._look(pause)
            except Exception:
                # Memory, the disk or the database may be short for a moment; without this thread every later job
                # would wait for ever.
                traceback.print_exc()
                pause = self._longer(pause)

    def _is_away(self) -> bool:
        """Whether the state folder cannot be seen, as while its disk or network is away; said once each time. It may
        come back, and its jobs must not wait for ever then."""
        before, self._away = self._away, not self._store.database.exists()
        if self._away and not before:
            print(f"The state folder {self._store.root} is not there. Jobs wait until it is back.", file=sys.stderr)
        return self._away

    def _look(self, pause: float) -> float:
        """Do what is due; returns the seconds until the next look."""
        if time.monotonic() - self._touched > self._touch_seconds:
            self._touched = time.monotonic()
            touch_app(self._store.root)
        if not rows.active(self._store):
            return self._poll_seconds
        self._overdue.end(self._store)
        previous, self._pid = self._pid, ensure_worker(self._store)
        # A worker that cannot even start must not be started every second for ever.
        return self._poll_seconds if previous in (None, self._pid) else self._longer(pause)

    @staticmethod
    def _longer(pause: float) -> float:
        return min(2 * pause, TOUCH_SECONDS)


def touch_app(root: Path) -> None:
    """An app uses this state folder now."""
    (root / "app.alive").touch()


def app_alive(root: Path) -> bool:
    """Whether an app used this state folder within the last minute and a half."""
    try:
        return time.time() - (root / "app.alive").stat().st_mtime < ALIVE_SECONDS
    except FileNotFoundError:
        return False


def end_descendants() -> None:
    """End every process that this one started, directly or not (pools that a library left open).

    Except multiprocessing's resource tracker, which ends with its parent by itself.
    """
    children = psutil.Process().children(recursive=True)
    _end([child for child in children if not _is_resource_tracker(child)])


def end_orphans(root: Path) -> None:
    """End the children of the previous worker, if it was killed: they carry its token in their environment."""
    record = worker_record(root)
    if record is None or record.alive or not processes.is_here(record.host):
        return
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(TOKEN_VARIABLE) == record.token:
                found.append(process)
    _end(found)


def _is_resource_tracker(process: psutil.Process) -> bool:
    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _end(children: list[psutil.Process]) -> None:
    for process in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(children, timeout=3)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=3)
