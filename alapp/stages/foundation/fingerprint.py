"""Which weights a file holds: what was computed with one model must never be taken for another's."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from alapp.errors import WeightsMissingError

_known: dict[tuple[str, int, int], str] = {}
_lock = threading.Lock()


def weights_hash(path: Path | str) -> str:
    """SHA-256 of a file's content as 64 hexadecimal digits.

    Read once a process (half a second for 375 MB) as long as the file's path, size and time of change stay.
    Raises `WeightsMissingError` when the file is gone or cannot be read.
    """
    path = Path(path).absolute()
    try:
        about = path.stat()
        key = str(path), about.st_size, about.st_mtime_ns
        with _lock:
            if key in _known:
                return _known[key]
        with open(path, "rb") as handle:
            digits = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise WeightsMissingError(
            f"The weights {path} cannot be read ({error.strerror or error}). Put it back, or choose other weights."
        ) from error
    with _lock:
        _known[key] = digits
    return digits
