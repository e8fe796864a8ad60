"""Small jobs for the tests of the queue and the worker, and a worker that knows them (`python -m tests.job_kinds`)."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from typing import Any

from alapp import jobs, worker
from alapp.domain import Report
from alapp.errors import InputError
from alapp.storage.db import Store


def count(
    store: Store, project_id: int | None, report: Report, steps: int = 3, seconds: float = 0.05
) -> dict[str, Any]:
    """Counts to `steps`, one finished file a step, and goes on where an earlier attempt ended."""
    folder = store.root / "steps"
    folder.mkdir(exist_ok=True)
    done_before = len(list(folder.iterdir()))
    for step in range(steps):
        report(step, steps, f"step {step}")
        file = folder / str(step)
        if not file.exists():
            time.sleep(seconds)
            file.write_text(str(os.getpid()))
    return {"done_before": done_before, "steps": steps}


def silent(store: Store, project_id: int | None, report: Report, seconds: float = 60.0) -> None:
    """One phase without a report."""
    (store.root / "silent").touch()
    time.sleep(seconds)


def loud(store: Store, project_id: int | None, report: Report) -> None:
    """Prints from Python, from a child and straight to the descriptor."""
    print("from python", flush=True)
    os.write(2, b"from the descriptor\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)


def with_child(store: Store, project_id: int | None, report: Report) -> None:
    """Leaves a child behind, as a pool would, and works on."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    process.start()
    (store.root / "child").write_text(str(process.pid))
    time.sleep(300)


def leaves_child(store: Store, project_id: int | None, report: Report) -> dict[str, Any]:
    """Ends without ending its child."""
    return {"child": subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]).pid}


def fails(store: Store, project_id: int | None, report: Report, how: str) -> dict[str, Any]:
    """Fails in one of the ways that a job can."""
    if how == "not json":
        return {"x": object()}
    if how == "exit":
        sys.exit("library gave up")
    raise {
        "user": InputError("The file cells.tif is empty. Remove it and try again."),
        "bug": KeyError("no such thing"),
        "memory": MemoryError(),
        "cuda": RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        "disk": OSError(errno.ENOSPC, "No space left on device"),
    }[how]


def crashes(store: Store, project_id: int | None, report: Report) -> None:
    """Takes its whole process down, as the system does when memory runs out."""
    os._exit(137)


def big(store: Store, project_id: int | None, report: Report, killed: int = 0) -> None:
    """Works until it is killed; a file of the process says how often that was so before."""
    temporary = store.root / "big.tmp"
    temporary.write_text(str(killed))
    temporary.replace(store.root / f"big-{os.getpid()}")
    for step in range(3000):
        report(step, 3000)
        time.sleep(0.1)


def fetch(store: Store, project_id: int | None, report: Report, steps: int = 3000) -> None:
    """Waits, as a download does, with a report every twentieth of a second."""
    (store.root / "fetching").touch()
    for step in range(steps):
        report(step, steps)
        time.sleep(0.05)


def shrinking(store: Store, project_id: int | None, report: Report, killed: int = 0) -> dict[str, Any]:
    """Says how often the system ended it."""
    return {"killed": killed}


PAUSABLE, SHRINKING = ("count", "silent", "big"), ("big", "shrinking")
KINDS = {
    name: jobs.JobKind(f"tests.job_kinds:{name}", name, pausable=name in PAUSABLE, shrinks=name in SHRINKING)
    for name in ("count", "silent", "loud", "with_child", "leaves_child", "fails", "crashes", "big", "shrinking")
} | {"fetch": jobs.JobKind("tests.job_kinds:fetch", "fetch", beside=True)}

if __name__ == "__main__":
    jobs.KINDS.update(KINDS)
    sys.exit(worker.main())
