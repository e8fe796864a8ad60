"""Who works on a row of the queue: processes, by the name with which they sign."""

from __future__ import annotations

import hashlib
import math
import os
import re
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

_BESIDE = "+beside"
"""Ends the name with which a worker signs a job that runs beside another."""


@lru_cache(maxsize=1)
def hostname() -> str:
    """This computer as it stands in the signature of a worker, without the separator.

    Not by its name in the network, which may change with every network that it joins. What an operating system has of
    its own goes together with the name that somebody gave to the computer: those that were set up as copies of one
    another share the first.
    """
    own = _identity()
    return hashlib.sha256(own.encode()).hexdigest()[:16] if own else _network_name()


def is_here(host: str) -> bool:
    """Whether a signature of `host` is of this computer. Earlier versions signed with its name in the network."""
    return host in (hostname(), _network_name())


def _network_name() -> str:
    return socket.gethostname().replace(":", "-")


def _identity() -> str:
    """What does not change while this computer lives; "" where nothing is known, as on Windows, whose names last."""
    return _by_linux() if sys.platform == "linux" else _by_macos() if sys.platform == "darwin" else ""


def _by_linux() -> str:
    """Nothing where the computer, or the container, does not have both."""
    found = []
    for path in ("/etc/machine-id", "/etc/hostname"):
        try:
            found.append(Path(path).read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            found.append("")
    return " ".join(found) if all(found) else ""


def _by_macos() -> str:
    """The identity of the hardware."""
    command = ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    found = re.search(r'"IOPlatformUUID" = "([^"]+)"', told)
    return found[1] if found else ""


def worker_name(token: str, beside: bool = False) -> str:
    """How this process signs the jobs it runs: host:pid:token, and otherwise those that run beside another."""
    return f"{hostname()}:{os.getpid()}:{token}{_BESIDE if beside else ''}"


def runs_beside(worker: str) -> bool:
    """Whether a job with this signature runs beside another of the same process."""
    return worker.endswith(_BESIDE)


def pid_alive(pid: int) -> bool:
    """Whether a process with this id runs on this host; one that ended but was not waited for does not."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def gone(worker: str, beaten: float) -> bool | None:
    """Whether the process that signs as `worker` is gone; it gave its last sign of life at `beaten`, in seconds since
    1970. None where only the age of that sign can tell: of a process of another computer, and of work of this very one,
    which asks between two pieces of work: it could not write the end of that one."""
    host, pid, _ = worker.split(":")
    if not is_here(host):
        return None
    if not pid_alive(int(pid)):
        return True
    # It lives, however long one step takes it or the computer slept.
    return False if int(pid) != os.getpid() and _born(int(pid)) <= beaten else None


def _born(pid: int) -> float:
    """When a process started, in seconds since 1970; endlessly late where that is not told. A pid is used again, so one
    that started after the last sign of life is another process."""
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return math.inf


@contextmanager
def beating(beat: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call `beat` every so many seconds, from a thread, while the block runs: a silent step must not look dead."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            try:
                beat()
            except Exception:
                # The disk may be full for a moment; a heart that gives up would lose living work.
                traceback.print_exc()

    thread = threading.Thread(target=work, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
