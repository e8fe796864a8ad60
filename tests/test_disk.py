"""Full disks: /dev/full stands for one where there is such a file."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from alapp import disk
from alapp.errors import DiskFullError
from alapp.stages.train.workspace import write_atomic
from alapp.storage.files import atomic_write

FULL = "/dev/full"
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="has no /dev/full")


@needs_full
@pytest.mark.parametrize("shape", [(3,), (5_000_000,)], ids=["small", "large"])
def test_an_array_on_a_full_disk_says_so(shape):
    def save():
        with disk.told("a.npy"), open(FULL, "wb") as handle:
            disk.save_array(handle, np.zeros(shape))

    with pytest.raises(DiskFullError, match=r"disk is full: a\.npy could not be written"):
        save()


def test_other_errors_go_through(tmp_path):
    with pytest.raises(FileNotFoundError), disk.told("a.npy"):
        (tmp_path / "missing" / "a.npy").write_bytes(b"")


def test_a_full_disk_in_the_words_of_sqlite():
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE a (b)")
        with pytest.raises(sqlite3.OperationalError, match="database or disk is full") as full:
            database.execute("INSERT INTO a VALUES (zeroblob(100000))")
        assert disk.is_full(full.value)
        with pytest.raises(sqlite3.OperationalError) as other:
            database.execute("SELECT c FROM a")
        assert not disk.is_full(other.value)
    assert not disk.is_full(sqlite3.ProgrammingError("Cannot operate on a closed database."))  # has no number


def io_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "free", "full"),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, 0, True),
        (sqlite3.SQLITE_IOERR_SHMSIZE, 10**9, False),
        (sqlite3.SQLITE_BUSY, 0, False),
    ],
)
def test_what_sqlite_cannot_grow_on_a_full_disk(tmp_path, monkeypatch, code, free, full):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(sqlite3.OperationalError) as told, disk.telling_full(tmp_path):
        raise io_error(code)
    assert disk.is_full(told.value) == full


def test_a_disk_that_is_away_is_not_called_full(tmp_path):
    with pytest.raises(sqlite3.OperationalError) as told, disk.telling_full(tmp_path / "gone"):
        raise io_error(sqlite3.SQLITE_IOERR_READ)
    assert not disk.is_full(told.value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_saved_array_comes_back(tmp_path, order):
    array = np.asarray(np.arange(60).reshape(3, 4, 5), order=order)
    with open(tmp_path / "a.npy", "wb") as handle:
        disk.save_array(handle, array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), array)


@pytest.mark.parametrize("reserves", [True, False], ids=["fallocate", "zeros"])
def test_a_new_array_has_its_space(tmp_path, monkeypatch, reserves):
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    array = disk.new_array(tmp_path / "a.npy", np.int32, (3, 700, 900))
    assert not array.any()
    state = os.stat(tmp_path / "a.npy")
    assert state.st_size == array.offset + array.nbytes
    if hasattr(state, "st_blocks"):
        assert state.st_blocks * 512 >= array.nbytes
    array[:] = 7
    array.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="reserves by writing")
def test_a_new_array_on_a_full_disk_says_how_much_it_needs(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskFullError, match=r"a file of 0\.4 GB could not be written"):
        disk.new_array(tmp_path / "a.npy", np.int32, (100, 1000, 1000))


class _Busy:
    """`os.replace` on a Windows where somebody reads the target for the first `refusals` attempts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusals: int, platform: str = "win32") -> None:
        self.left, self.waited = refusals, []
        self._replace = os.replace
        monkeypatch.setattr(disk.sys, "platform", platform)
        monkeypatch.setattr(os, "replace", self)
        monkeypatch.setattr(disk.time, "sleep", self.waited.append)

    def __call__(self, made, target):
        if self.left:
            self.left -= 1
            raise PermissionError(errno.EACCES, "Access is denied", str(made))
        self._replace(made, target)


@pytest.fixture
def two_files(tmp_path):
    made, target = tmp_path / "made", tmp_path / "target"
    made.write_text("new", encoding="utf-8")
    target.write_text("old", encoding="utf-8")
    return made, target


def test_a_file_that_is_read_for_a_moment_on_windows_is_replaced_after_it(two_files, monkeypatch):
    busy = _Busy(monkeypatch, refusals=3)
    disk.patiently(os.replace, *two_files)
    assert two_files[1].read_text(encoding="utf-8") == "new"
    assert len(busy.waited) == 3


def test_a_file_that_stays_open_on_windows_is_not_waited_for_without_end(two_files, monkeypatch):
    busy = _Busy(monkeypatch, refusals=1000)
    with pytest.raises(PermissionError):
        disk.patiently(os.replace, *two_files)
    assert two_files[1].read_text(encoding="utf-8") == "old"
    assert sum(busy.waited) < 10


def test_elsewhere_a_file_that_may_not_be_replaced_is_told_at_once(two_files, monkeypatch):
    busy = _Busy(monkeypatch, refusals=1, platform="linux")
    with pytest.raises(PermissionError):
        disk.patiently(os.replace, *two_files)
    assert not busy.waited


@pytest.mark.parametrize("write", [atomic_write, write_atomic], ids=["arrays", "checkpoints"])
def test_what_is_written_at_once_waits_too(write, tmp_path, monkeypatch):
    _Busy(monkeypatch, refusals=2)
    if write is atomic_write:
        with write(tmp_path / "file") as handle:
            handle.write(b"whole")
    else:
        write(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
