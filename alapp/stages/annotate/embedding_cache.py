"""What foundation models compute once a slice, kept on disk, so that the slice is ready for clicks at once.

An entry is named by all that its content follows from: the method, the weights and the pixels. It is therefore
never wrong, only missing, and any number of processes may read, write and remove entries at the same time: a file
appears whole under its name, and removing one that another process still wants costs that process a computation.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from alapp.errors import InputError
from alapp.stages.train.workspace import write_atomic, write_json

DEFAULT_BYTES = 2 * 10**9  # 476 slices for SAM, 119 for SAM 2: of a batch of eight stacks, with some to spare
LEAST_BYTES, MOST_BYTES = 10**8, 10**12
SPARE_BYTES = 5 * 10**8  # of the disk are left to the rest of the app
ROOM = 0.9  # of the bound are left once it was reached, so that not every entry removes another
ABANDONED_SECONDS = 3600.0  # after which an unfinished file belongs to no process any more
SETTINGS = "settings.json"


def entry_name(method: str, weights: str, image: np.ndarray) -> str:
    """The name of the entry for `image`, any array, under `method` (name and version of what computes it) with the
    weights of hash `weights` (`fingerprint.weights_hash`). The slice of a stack counts by its pixels."""
    pixels = np.ascontiguousarray(image)
    digest = hashlib.sha256(json.dumps([method, weights, str(pixels.dtype), pixels.shape]).encode())
    digest.update(pixels.data if pixels.size else b"")
    return digest.hexdigest()


class EmbeddingCache:
    """Named sets of arrays in `folder`, together at most `max_bytes`; those that were used longest ago go first.

    Arrays come back exactly as they were put in, in their own type: float16 would halve the files, and changes masks
    (see `benchmarks.segmenters`). Safe to use from threads and processes.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of an entry, or None. A damaged file (zip archives hold checksums) is removed."""
        path = self._path(name)
        try:
            # Opened here, because numpy leaves a file open that is no archive, and Windows removes no open file.
            with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as stored:
                arrays = {key: stored[key] for key in stored.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            with suppress(OSError):
                path.unlink()
            return None
        _touch(path)
        return arrays

    def put(self, name: str, arrays: Mapping[str, np.ndarray]) -> bool:
        """Keep `arrays`; makes room for them. False where they cannot be kept: the disk is nearly full, they are
        larger than the bound, or the folder cannot be written."""
        content = io.BytesIO()
        np.savez(content, **arrays)
        size = content.getbuffer().nbytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if size > self.max_bytes or shutil.disk_usage(self.folder).free < size + SPARE_BYTES:
                return False
            self._make_room(size)
            write_atomic(self._path(name), content.getbuffer())
            _touch(self._path(name))
        except OSError:
            return False
        return True

    def __contains__(self, name: str) -> bool:
        """Whether an entry is there, damaged or not; it counts as used."""
        path = self._path(name)
        if not path.is_file():
            return False
        _touch(path)
        return True

    @property
    def used_bytes(self) -> int:
        """What all entries take on the disk."""
        return sum(size for _, size, _ in self._entries())

    @property
    def entry_bytes(self) -> int:
        """What the largest entry takes; 0 without any."""
        return max((size for _, size, _ in self._entries()), default=0)

    @property
    def max_bytes(self) -> int:
        """The bound; the user's, for all processes, or `DEFAULT_BYTES`."""
        try:
            chosen = json.loads((self.folder / SETTINGS).read_bytes())["max_bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return DEFAULT_BYTES
        return chosen if isinstance(chosen, int) and LEAST_BYTES <= chosen <= MOST_BYTES else DEFAULT_BYTES

    def set_max_bytes(self, number: int) -> None:
        """Change the bound, and remove what is beyond it. Raises `InputError` for one that is out of range."""
        if not LEAST_BYTES <= number <= MOST_BYTES:
            raise InputError(f"The space must be between {LEAST_BYTES / 1e9:g} and {MOST_BYTES / 1e9:,.0f} GB.")
        write_json(self.folder / SETTINGS, {"max_bytes": int(number)})
        self._make_room(0)

    def clear(self) -> int:
        """Remove all entries; returns the bytes that this freed."""
        return sum(size for path, size, _ in self._entries() if _removed(path))

    def _make_room(self, size: int) -> None:
        entries, bound = sorted(self._entries(), key=lambda entry: entry[2]), self.max_bytes
        used = size + sum(each for _, each, _ in entries)
        if used > bound:
            for path, each, _ in entries:
                if used <= ROOM * bound:
                    break
                used -= each if _removed(path) else 0
        for path in self.folder.glob(".tmp-*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    def _entries(self) -> Iterator[tuple[Path, int, int]]:
        """Path, bytes and time of the last use of each entry."""
        with suppress(FileNotFoundError):
            for path in self.folder.glob("*.npz"):
                with suppress(FileNotFoundError):  # another process removed it
                    about = path.stat()
                    yield path, about.st_size, about.st_mtime_ns

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def _touch(path: Path) -> None:
    """Used now. Times of access are not kept on many disks, so that of change stands for it."""
    at = time.time_ns()
    with suppress(OSError):
        os.utime(path, ns=(at, at))


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:  # gone already; or Windows keeps a file that is being read
        return False
    return True
