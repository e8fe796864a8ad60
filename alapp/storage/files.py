"""Array files under the state folder, written atomically and hashed.

A file is written under a temporary name, flushed to disk and renamed; only then does a row point to it. A
crash leaves an orphan (found by `alapp doctor`), never a row without its file.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from alapp.disk import patiently, save_array, told
from alapp.errors import CorruptFileError, StorageError


@dataclass(frozen=True)
class StoredFile:
    """A finished file: `path` relative to the state folder, with forward slashes."""

    path: str
    sha256: str


@contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """A binary file that appears as `target` only when the block ends without an error.

    Raises `DiskFullError` when the disk is full; nothing is left behind then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not by `tempfile`: its files are for their owner alone, and who shares a folder could not read what appears in it.
    name = target.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        with told(target.name), open(name, "xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        patiently(os.replace, name, target)
    finally:
        name.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hash of a file's content, as hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def smallest_unsigned(labels: np.ndarray) -> np.ndarray:
    """`labels` in the smallest unsigned type that holds its largest id."""
    top = int(labels.max(initial=0))
    return labels.astype(np.min_scalar_type(max(top, 1)), copy=False)


def _part(page: tifffile.TiffPage, rows: slice, columns: slice) -> np.ndarray:
    """Of a page only these rows and columns, for which only some strips are unpacked."""
    if rows == columns == slice(None):
        return page.asarray()
    import zarr

    return np.asarray(zarr.open_array(page.aszarr(), mode="r")[rows, columns])


class Files:
    """Reads and writes arrays below `root`, the state folder."""

    def __init__(self, root: Path):
        self.root = root

    def project(self, project_id: int) -> Path:
        """Folder of a project's arrays."""
        return self.root / "projects" / str(project_id)

    def resolve(self, relative: str) -> Path:
        """The absolute path of a stored file. Raises `StorageError` if it points outside the state folder."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StorageError(f"The stored path {relative!r} points outside the state folder.")
        return path

    def register(self, path: Path) -> StoredFile:
        """A file that is already in place, hashed."""
        return StoredFile(path.relative_to(self.root).as_posix(), sha256_of(path))

    def write(self, target: Path, write: Callable[[BinaryIO], object]) -> StoredFile:
        """Write `target` atomically by calling `write(handle)`."""
        with atomic_write(target) as handle:
            write(handle)
        return self.register(target)

    def write_array(self, target: Path, array: np.ndarray) -> StoredFile:
        """An array as .npy, so that it can be mapped into memory and read by parts."""
        return self.write(target, lambda handle: save_array(handle, array))

    def write_labels(self, target: Path, labels: np.ndarray) -> StoredFile:
        """A label map as a compressed TIFF that any image program opens. `labels` (Y, X) or (Z, Y, X)."""
        stored = smallest_unsigned(labels)
        return self.write(
            target, lambda handle: tifffile.imwrite(handle, stored, compression="zlib", photometric="minisblack")
        )

    def read_array(self, relative: str) -> np.ndarray:
        """A .npy file, memory-mapped and read-only. Raises `CorruptFileError` when it is gone or unreadable."""
        path = self.resolve(relative)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:  # the last for an empty file
            raise self._corrupt(relative) from error

    def read_labels(self, relative: str, window: Sequence[slice] | None = None) -> np.ndarray:
        """A label map, int32 (Y, X) or (Z, Y, X); of a large one, only what `window` wants, a slice for each axis, is
        unpacked.

        Raises `CorruptFileError` when it is gone or unreadable.
        """
        try:
            with tifffile.TiffFile(self.resolve(relative)) as file:
                if window is None:
                    return file.asarray().astype(np.int32)
                *slices, rows, columns = window
                planes = [_part(page, rows, columns) for page in file.pages[slices[0] if slices else slice(1)]]
                return (np.stack(planes) if slices else planes[0]).astype(np.int32)
        except (OSError, ValueError, IndexError, zlib.error, RuntimeError, tifffile.TiffFileError) as error:
            raise self._corrupt(relative) from error

    def verify(self, relative: str, sha256: str) -> None:
        """Raises `CorruptFileError` unless the file has the recorded content."""
        path = self.resolve(relative)
        if not path.is_file() or sha256_of(path) != sha256:
            raise self._corrupt(relative)

    def remove_project(self, project_id: int) -> None:
        """Remove all array files of a project."""
        shutil.rmtree(self.project(project_id), ignore_errors=True)

    @staticmethod
    def _corrupt(relative: str) -> CorruptFileError:
        return CorruptFileError(
            f"The stored file {relative} is missing or damaged. Run `python -m alapp doctor` to see what is affected."
        )
