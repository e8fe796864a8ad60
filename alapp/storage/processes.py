"""Who works on a row of the queue: processes, by the name with which they sign."""

from __future__ import annotations

import os
import socket

_BESIDE = "+beside"
"""Ends the name with which a worker signs a job that runs beside another."""


def hostname() -> str:
    """This host's name as it stands in the signature of a worker, without the separator."""
    return socket.gethostname().replace(":", "-")


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
