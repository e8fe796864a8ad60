"""Published weights that somebody brings from another computer: recognised by their hash and put in their place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from alapp.disk import is_full
from alapp.domain import Report, silent
from alapp.environment import prepare
from alapp.errors import DiskFullError, InputError, StorageError
from alapp.stages.foundation import deepcell, download, landing, states
from alapp.stages.foundation.catalogue import MODELS, Model, WeightsFile

BLOCK = 1 << 20
ZIP = b"PK\x03\x04"
"""Begins every checkpoint that a torch of this decade wrote."""
CELLSAM_NAME = "cellsam_v1.2"
CELLSAM_PARTS = ("cellfinder.", "model.")


def adopt(path: Path, report: Report = silent) -> tuple[Model, WeightsFile]:
    """Copy the published file `path` to where its model looks for it; its name does not matter. Returns what it is.

    Raises `InputError` for a file that is none of the published ones, `DiskFullError`, `StorageError`, and what
    `report` raises; nothing is left behind then.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path.")
    if is_cellsam(path):
        model = MODELS[CELLSAM_NAME]
        _copy(path, model.paths[0], report)
        return model, model.files[0]
    found = recognised(path, report)
    if found is None:
        raise InputError(
            f"{path.name} is none of the published files, or is damaged. A checkpoint of your own is imported instead."
        )
    model, file = found
    if model.unpacked:
        download.check_space(model.folder, 2 * file.size)
        deepcell.unpack(model, path, report)
        return model, file
    target = model.folder / file.name
    if path.resolve() != target.resolve():
        _copy(path, target, report)
    return model, file


def is_cellsam(path: Path) -> bool:
    """Whether `path` is what CellSAM's archive holds. No hash of that is published, so its parts have to tell. Raises
    `InputError` for a file that cannot be read."""
    with _reading(path), open(path, "rb") as handle:
        if handle.read(len(ZIP)) != ZIP:
            return False
    prepare()
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged file can raise anything from inside of the unpickler
        return False
    names = [name for name in content if isinstance(name, str)] if isinstance(content, dict) else []
    return all(any(name.startswith(part) for name in names) for part in CELLSAM_PARTS)


def recognised(path: Path, report: Report = silent) -> tuple[Model, WeightsFile] | None:
    """Which published file has the content of `path`, or None. Raises `InputError` for one that cannot be read."""
    with _reading(path):
        return _recognised(path, report)


def _recognised(path: Path, report: Report) -> tuple[Model, WeightsFile] | None:
    size = path.stat().st_size
    fit = [
        (model, file)
        for model in MODELS.values()
        for file in model.files
        if (size == file.size if file.exact else states.TRUNCATED * file.size <= size <= file.size * 3)
    ]
    for algorithm in sorted({file.checksum.partition(":")[0] for _, file in fit}):
        digest = states.checksum(path, algorithm, lambda done: report(done, size * 2, f"Checking {path.name}"))
        for model, file in fit:
            if file.checksum == f"{algorithm}:{digest}":
                return model, file
    return None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be read ({error.strerror or error}). Check its permissions, or copy it to a disk of "
            "this computer first."
        ) from error


def _copy(path: Path, target: Path, report: Report) -> None:
    size = path.stat().st_size
    download.check_space(target.parent, size)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
        with open(descriptor, "wb") as handle, open(path, "rb") as source:
            _copy_blocks(source, handle, size, report, path.name)
        landing.put(Path(temporary), target)
    except OSError as error:
        if is_full(error):
            raise DiskFullError(f"The disk is full: {path.name} could not be copied. Free some space.") from error
        raise StorageError(f"{path.name} could not be copied to {target.parent}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _copy_blocks(source: BinaryIO, handle: BinaryIO, size: int, report: Report, name: str) -> None:
    done = 0
    while block := source.read(BLOCK):
        handle.write(block)
        done += len(block)
        report(size + done, size * 2, f"Copying {name}")
    handle.flush()
    os.fsync(handle.fileno())
