"""Whether the system ended a process because memory ran out.

Linux ends the largest process with SIGKILL and counts that: for the container in its control group, for the whole
machine in /proc/vmstat. Where no count can be read, a SIGKILL that nobody of us sent is taken for it.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


def out_of_memory_kills() -> int | None:
    """How many processes the system has ended so far because memory ran out; None where it does not tell."""
    counts = [count for path in _COUNTERS if (count := _count(path)) is not None]
    return sum(counts) if counts else None


def killed_for_memory(exit_status: int, kills_before: int | None) -> bool:
    """Whether a process with this exit status (negative: the signal that ended it, as `Popen.returncode`; a shell
    adds 128) was probably ended because memory ran out; `kills_before` is `out_of_memory_kills` at its start."""
    if sys.platform == "win32" or exit_status not in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return False
    now = out_of_memory_kills()
    return now is None or kills_before is None or now > kills_before


def _count(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:  # another system, or a container that hides it
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
