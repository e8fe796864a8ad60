"""Putting finished weights in their place, and taking them away so that it can be undone.

A removal renames: what was removed waits in the folder `.removed` beside it, and is deleted when the app starts anew.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from alapp.disk import patiently
from alapp.errors import InputError, StorageError
from alapp.stages.foundation import folders, own
from alapp.stages.foundation.catalogue import Model

REMOVED = ".removed"
UNFINISHED = (".part-*", ".tmp-*")
OLD_SECONDS = 86_400.0
"""Temporary files of killed downloads and imports are deleted after a day without a change."""


def put(made: Path, target: Path) -> None:
    """Give the finished file or folder `made` the name `target` in one step; what was there gives way.

    Both must be on the same disk. Raises `StorageError` when something holds the old file open (Windows).
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            # A folder cannot be replaced by a rename: the old one steps aside first.
            aside = target.with_name(f".tmp-{target.name}-{time.monotonic_ns()}")
            patiently(os.rename, target, aside)
            try:
                patiently(os.rename, made, target)
            except OSError:
                os.rename(aside, target)
                raise
            shutil.rmtree(aside, ignore_errors=True)
        else:
            patiently(os.replace, made, target)
    except OSError as error:
        raise StorageError(
            f"{target} could not be put in place: {error.strerror or error}. Close what uses it and try again."
        ) from error


def remove(name: str, places: Sequence[Path]) -> None:
    """Take away the files or folders of the model `name`; `undo` brings them back. All or none of them.

    Raises `InputError` when there is nothing, `StorageError` when one is in use or cannot be moved.
    """
    here = [place for place in places if place.exists()]
    if not here:
        raise InputError(f"{name} is not on this computer, so there is nothing to remove.")
    moved: list[tuple[Path, Path]] = []
    try:
        for place in here:
            aside = place.parent / REMOVED / place.name
            aside.parent.mkdir(exist_ok=True)
            _delete(aside)
            os.rename(place, aside)
            moved.append((place, aside))
    except OSError as error:
        for place, aside in reversed(moved):
            os.rename(aside, place)
        raise StorageError(
            f"{name} could not be removed: {error.strerror or error}. Close what uses it and try again."
        ) from error


def can_undo(places: Sequence[Path]) -> bool:
    """Whether a removal of these can be taken back: something was removed, and its place is free."""
    gone = [place for place in places if (place.parent / REMOVED / place.name).exists()]
    return bool(gone) and not any(place.exists() for place in gone)


def undo(name: str, places: Sequence[Path]) -> None:
    """Bring back what `remove` took away. Raises `InputError` when that is not possible any more, `StorageError`."""
    if not can_undo(places):
        raise InputError(f"{name} cannot be brought back: it was deleted, or another file has taken its place.")
    try:
        for place in places:
            aside = place.parent / REMOVED / place.name
            if aside.exists():
                os.rename(aside, place)
    except OSError as error:
        raise StorageError(f"{name} could not be brought back: {error.strerror or error}. Try again.") from error


def places_of(model: Model | own.OwnModel) -> tuple[Path, ...]:
    """What belongs to a model on the disk: its files, or the folder that is its own."""
    if isinstance(model, own.OwnModel):
        return (model.folder,)
    if model.unpacked:
        return (model.paths[0].parent,)
    return model.paths


def tidy(now: float | None = None) -> None:
    """Delete what was removed, and what killed downloads left a day ago; for the start of the app. Never raises."""
    now = time.time() if now is None else now
    for folder in (folders.microsam(), folders.deepcell(), folders.sam2(), own.folder()):
        shutil.rmtree(folder / REMOVED, ignore_errors=True)
        for pattern in UNFINISHED:
            for path in folder.glob(pattern):
                try:
                    if now - path.stat().st_mtime > OLD_SECONDS:
                        _delete(path)
                except OSError:
                    continue


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
