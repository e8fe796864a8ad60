"""Folders for what is only needed while something is made; a process that is killed leaves one behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alapp.storage.processes import hostname, pid_alive

_PREFIX = ".tmp-work"


@contextmanager
def work_folder(place: Path) -> Iterator[Path]:
    """An empty folder in the folder `place`, so that finished files need only be renamed; gone in the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{hostname()}-{os.getpid()}-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_dead(place: Path) -> None:
    """Remove the work folders in `place` whose process is gone. Those of other hosts are left: they may be at work."""
    for folder in place.glob(f"{_PREFIX}-{hostname()}-*"):
        pid = folder.name.removeprefix(f"{_PREFIX}-{hostname()}-").split("-")[0]
        if pid.isdecimal() and not pid_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
