"""Whether each published model can be used on this computer. Nothing is downloaded, torch is not imported."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from alapp.domain import BackendState, Status
from alapp.environment import home_relative
from alapp.stages.foundation import access
from alapp.stages.foundation.catalogue import CELLSAM, MICRO_SAM, Model, WeightsFile, how_to_accept

HOW_TO_INSTALL = {
    "micro_sam": "Run: pip install -r requirements.txt",
    "mobile_sam": "Run: pip install mobilesam-mirror",
    "sam2": "requirements-sam2.txt tells how to add it.",
    "cellSAM": "requirements-cellsam.txt tells how to add it.",
    "kornia": "Run: pip install -r requirements-cellsam.txt",
    "dask_image": "Run: pip install -r requirements-cellsam.txt",
    "distributed": "Run: pip install -r requirements-cellsam.txt",
}
TRUNCATED = 0.5
"""A file below this share of its estimated size broke off."""

_BLOCK = 1 << 20
_checksums: dict[tuple[str, int, int, str], str] = {}
_lock = threading.Lock()


class ModelState(StrEnum):
    """Where a model stands. `DOWNLOADING` is known only to whoever knows the jobs (`rounds.pseudolabel.foundation`)."""

    NOT_INSTALLED = "not installed"
    LICENCE = "licence not accepted"
    WEIGHTS_MISSING = "weights missing"
    DOWNLOADING = "downloading"
    READY = "ready"
    BROKEN = "broken"


def status(model: Model, *, thorough: bool = False) -> Status:
    """The first thing that stands in the way of using `model`, with its remedy.

    By default a file counts as whole when its size is right; `thorough` reads all of it and compares its hash, which
    takes about a second a gigabyte. A file that was read once is read again only when it changed.
    """
    missing = absent(model.needs)
    if missing:
        names = " and ".join(missing)
        packages = "packages" if len(missing) > 1 else "package"
        verb = "are" if len(missing) > 1 else "is"
        return Status(
            BackendState.NOT_INSTALLED, f"The {packages} {names} {verb} not installed.", HOW_TO_INSTALL[missing[0]]
        )
    if model.terms and not access.accepted(model.name):
        return Status(
            BackendState.LICENCE,
            "Its licence allows academic, non-commercial use only.",
            how_to_accept(model.name),
        )
    return of_files(model, thorough=thorough)


def state(model: Model, *, thorough: bool = False) -> ModelState:
    """`status(model)` in one word."""
    return ModelState(status(model, thorough=thorough).state.value)


def absent(modules: tuple[str, ...]) -> list[str]:
    """Those of the modules that are not installed. Imports none of them."""
    return [name for name in modules if not _installed(name)]


def checksum(path: Path, algorithm: str, told: Callable[[int], None] | None = None) -> str:
    """Hexadecimal digest of a file by "xxh128", "sha256" or "md5"; `told` hears the bytes read so far.

    Remembered for as long as size and time of the file stay the same. Raises `OSError`.
    """
    found = path.stat()
    key = (str(path), found.st_size, found.st_mtime_ns, algorithm)
    with _lock:
        if key in _checksums:
            return _checksums[key]
    hasher = _hasher(algorithm)
    done = 0
    with open(path, "rb") as handle:
        while block := handle.read(_BLOCK):
            hasher.update(block)
            done += len(block)
            if told is not None:
                told(done)
    digest = hasher.hexdigest()
    with _lock:
        _checksums[key] = digest
    return digest


def matches(path: Path, file: WeightsFile, told: Callable[[int], None] | None = None) -> bool:
    """Whether the content of `path` is what was published as `file`."""
    algorithm, _, digest = file.checksum.partition(":")
    return checksum(path, algorithm, told) == digest


def of_files(model: Model, *, thorough: bool = False) -> Status:
    """The state of the files of `model` alone: ready, missing or broken, whatever else is lacking."""
    again = f"Download {model.name} again; the broken file is replaced."
    for path, file in zip(model.paths, model.files, strict=False):
        if path.is_file() and _is_broken(path, file, bool(model.unpacked), thorough):
            return Status(BackendState.BROKEN, f"{home_relative(path)} is not the published file.", again)
    gone = [path for path in model.paths if not path.is_file()]
    if not gone:
        return Status(BackendState.READY, "Installed, with its weights.")
    if model.backend == CELLSAM and gone[0].parent.is_dir():
        # The package takes the folder for the weights, and never downloads again.
        return Status(
            BackendState.BROKEN,
            f"The folder {home_relative(gone[0].parent)} holds no {gone[0].name}; its download broke off.",
            again,
        )
    if model.backend == MICRO_SAM and len(gone) < len(model.paths):
        half = "the decoder" if gone[0].name.endswith("_decoder") else "the weights"
        detail = f"Of its two files, {half} ({gone[0].name}) is not in {home_relative(model.folder)}."
        return Status(BackendState.WEIGHTS_MISSING, detail, f"Download {model.name}: only what is missing is fetched.")
    return Status(
        BackendState.WEIGHTS_MISSING,
        f"No weights were found in {home_relative(model.folder)}.",
        f"Download them ({size_text(model.size)}), or add the file from another computer.",
    )


def size_text(size: float) -> str:
    """A number of bytes as people read it: 41 MB, 1.2 GB."""
    if size < 999.5e6:
        return f"{max(1, round(size / 1e6))} MB"
    return f"{size / 1e9:.1f} GB"


def _is_broken(path: Path, file: WeightsFile, archived: bool, thorough: bool) -> bool:
    """`archived`: `path` came out of `file`, so neither size nor hash of the file are its own."""
    try:
        size = path.stat().st_size
        if archived:
            return size == 0
        wrong = size != file.size if file.exact else size < TRUNCATED * file.size
        return wrong or (thorough and not matches(path, file))
    except OSError:
        return True


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a broken installation
        return False


def _hasher(algorithm: str) -> Any:
    if algorithm == "xxh128":
        import xxhash

        return xxhash.xxh128()
    if algorithm == "md5":  # CellSAM publishes no better one
        return hashlib.md5(usedforsecurity=False)
    return hashlib.new(algorithm)
