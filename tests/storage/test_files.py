from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import tifffile

from alapp.errors import CorruptFileError, ResourceError, StorageError
from alapp.storage.db import Store
from alapp.storage.files import atomic_write, sha256_of, smallest_unsigned


def write_half(target: Path) -> None:
    with atomic_write(target) as handle:
        handle.write(b"new")
        raise RuntimeError("half way")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.npy"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half way"):
        write_half(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    modes = []
    for umask in (0o022, 0o077):
        before = os.umask(umask)
        try:
            with atomic_write(tmp_path / "summary.csv") as handle:
                handle.write(b"image")
        finally:
            os.umask(before)
        modes.append(stat.S_IMODE((tmp_path / "summary.csv").stat().st_mode))
    assert modes == [0o644, 0o600]


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"disk is full: a\.npy"), atomic_write(tmp_path / "a.npy"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_cannot_be_renamed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("in use")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError), atomic_write(tmp_path / "a.npy") as handle:
        handle.write(b"new")
    assert list(tmp_path.iterdir()) == []


def test_arrays_and_labels_come_back(store: Store) -> None:
    folder = store.files.project(1)
    array = np.arange(24, dtype=np.uint16).reshape(1, 4, 3, 2)
    stored = store.files.write_array(folder / "images" / "a.npy", array)
    assert stored.path == "projects/1/images/a.npy"
    assert stored.sha256 == sha256_of(store.root / stored.path)
    back = store.files.read_array(stored.path)
    assert not back.flags.writeable
    np.testing.assert_array_equal(back, array)
    labels = np.array([[0, 300], [1, 70000]], dtype=np.int32)
    kept = store.files.write_labels(folder / "l.tif", labels)
    again = store.files.read_labels(kept.path)
    assert again.dtype == np.int32
    np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize(("top", "dtype"), [(0, np.uint8), (255, np.uint8), (256, np.uint16), (70000, np.uint32)])
def test_labels_take_the_smallest_type(top: int, dtype: type) -> None:
    assert smallest_unsigned(np.array([[0, top]], dtype=np.int32)).dtype == dtype


def test_an_empty_file_is_noticed(store: Store) -> None:
    (store.root / "empty.npy").touch()
    with pytest.raises(CorruptFileError, match=r"empty\.npy"):
        store.files.read_array("empty.npy")


def test_damage_is_noticed(store: Store) -> None:
    stored = store.files.write_array(store.files.project(1) / "a.npy", np.zeros(3))
    store.files.verify(stored.path, stored.sha256)
    (store.root / stored.path).write_bytes(b"not an array")
    with pytest.raises(CorruptFileError, match=r"a\.npy"):
        store.files.verify(stored.path, stored.sha256)
    with pytest.raises(CorruptFileError, match=r"a\.npy"):
        store.files.read_array(stored.path)
    with pytest.raises(CorruptFileError):
        store.files.read_labels("projects/1/gone.tif")


def test_paths_stay_inside_the_state_folder(store: Store) -> None:
    with pytest.raises(StorageError, match="outside"):
        store.files.resolve("../secret.npy")


@pytest.mark.parametrize("shape", [(900, 700), (5, 600, 700), (1, 60, 70)])
def test_a_window_of_labels_is_read_alone(store: Store, shape: tuple[int, ...], monkeypatch) -> None:
    labels = np.random.default_rng(0).integers(0, 70000, shape).astype(np.int32)
    kept = store.files.write_labels(store.root / "projects" / "1" / "labels.tif", labels)
    slices = (slice(0, 1),) * (len(shape) - 2)
    some = (*slices, slice(20, 50), slice(11, 60))
    whole = (*slices, slice(None), slice(None))
    for window in (some, whole):
        np.testing.assert_array_equal(store.files.read_labels(kept.path, window), labels[window])
    assert store.files.read_labels(kept.path, some).dtype == np.int32

    def unpacked(page: tifffile.TiffPage) -> np.ndarray:
        raise AssertionError("A whole plane is unpacked.")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", unpacked)
    np.testing.assert_array_equal(store.files.read_labels(kept.path, some), labels[some])


def test_slices_that_a_stack_does_not_have_are_told_as_damage(store: Store) -> None:
    labels = np.arange(5 * 6 * 7).reshape(5, 6, 7).astype(np.int32)
    kept = store.files.write_labels(store.root / "projects" / "1" / "stack.tif", labels)
    with pytest.raises(CorruptFileError, match=r"stack\.tif"):
        store.files.read_labels(kept.path, (slice(7, 9), slice(None), slice(None)))


@pytest.mark.parametrize("window", [None, (slice(0, 900), slice(0, 9)), (slice(None), slice(None))])
def test_damaged_labels_are_told_by_their_file(store: Store, window: tuple[slice, slice] | None) -> None:
    labels = np.random.default_rng(0).integers(0, 70000, (900, 700)).astype(np.int32)
    kept = store.files.write_labels(store.root / "projects" / "1" / "labels.tif", labels)
    path = store.root / kept.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"labels\.tif"):
        store.files.read_labels(kept.path, window)
