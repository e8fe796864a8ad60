"""Disks that are full: how they say so, and arrays that hear of it in time. Files that Windows holds for a moment."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alapp.errors import DiskFullError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no EDQUOT
_BLOCK = 2**24
_SHARED = 2**15
"""Bytes by which SQLite's shared memory grows."""

_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or what its user may have of it, is full; of SQLite, too."""
    if isinstance(error, sqlite3.Error):
        return sqlite_code(error) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _FULL


def sqlite_code(error: sqlite3.Error) -> int | None:
    """The number of SQLite's error without what it adds to it (`sqlite3.SQLITE_FULL`, ...); None for one of Python's
    own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


@contextmanager
def telling_full(folder: Path) -> Iterator[None]:
    """Lets `is_full` know an error of a database in `folder` where its disk is full. What SQLite maps into memory does
    not grow then, of which it says no more than "disk I/O error"."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if sqlite_code(error) == sqlite3.SQLITE_IOERR and _has_no_room(folder):
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise


def _has_no_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _SHARED
    except OSError:
        return False


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raises `DiskFullError` where the block meets a full disk: `what` could not be written."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise DiskFullError(
                f"The disk is full: {what} could not be written. Free some space and try again."
            ) from error
        raise


def patiently(act: Callable[..., object], *paths: Path | str) -> None:
    """`act(*paths)`, which renames or replaces files.

    Windows refuses that while somebody reads one of them. Virus scanners, search and backups do so to whatever was just
    written, for a moment, and so do other processes of the app; it is tried again until that moment is over.
    """
    for pause in _PAUSES if sys.platform == "win32" else ():
        try:
            act(*paths)
            return
        except PermissionError:
            time.sleep(pause)
    act(*paths)


class _Stream:
    """A file that numpy does not know as one: it then writes by `write`, whose errors say what went wrong. Its own way
    to write files raises an OSError without a number on a full disk."""

    def __init__(self, handle: BinaryIO):
        self.write = handle.write


def save_array(handle: BinaryIO, array: np.ndarray) -> None:
    """An array as .npy into an open file. A full disk raises an OSError that `is_full` knows."""
    np.save(_Stream(handle), array, allow_pickle=False)


def new_array(path: Path, dtype: np.dtype | type, shape: Sequence[int]) -> np.memmap:
    """An array of zeros in a new .npy file, mapped into memory, whose space is reserved: without, a process that writes
    to the array on a full disk is ended by a signal. Raises `DiskFullError`."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape))
    with releasing(array), told(f"a file of {array.nbytes / 1e9:.1f} GB"), open(path, "r+b") as handle:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), 0, array.offset + array.nbytes)
        else:
            handle.seek(array.offset)
            for done in range(0, array.nbytes, _BLOCK):
                handle.write(bytes(min(_BLOCK, array.nbytes - done)))
    return array


@contextmanager
def releasing(array: np.memmap | None) -> Iterator[None]:
    """Release the file of `array` where the block fails; the array must not be used any more then. As long as it is
    mapped, and an error holds what it met on its way, Windows does not remove it."""
    try:
        yield
    except BaseException:
        if array is not None:
            array._mmap.close()
        raise
