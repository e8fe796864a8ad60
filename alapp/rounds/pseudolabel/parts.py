"""Slices and tiles that are labelled while the rest of their image is not: they outlive a pause, and any end.

Each is a file in a folder of its image and recipe, which goes when the image's labels are stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from alapp.errors import CorruptFileError
from alapp.stages.pseudolabel.base import Keep
from alapp.storage.db import Store

_PREFIX = ".tmp-parts-"
"""As all that is unfinished; `alapp doctor` knows it by that."""


class Parts:
    """Parts of the images of a project. `decision` names what the user chose: those of another choice are removed."""

    def __init__(self, store: Store, project_id: int, decision: str):
        self._store = store
        self._folder = store.files.project(project_id) / "labels" / f"{_PREFIX}{decision[:16]}"
        for folder in self._folder.parent.glob(f"{_PREFIX}*"):
            if folder != self._folder:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def of(self, key: str) -> Iterator[Keep]:
        """Keeps the parts of the labels with the input hash `key` until the block ends without an error."""
        folder = self._folder / key[:16]

        def keep(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
            path = folder / f"{name}.tif"
            if path.exists() and (known := self._read(path)) is not None:
                return known
            made = make()
            self._store.files.write_labels(path, made)
            return made

        yield keep
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # those of another image are there, or nothing was kept
            self._folder.rmdir()

    def _read(self, path: Path) -> np.ndarray | None:
        """int32; None for what cannot be read."""
        try:
            return self._store.files.read_labels(path.relative_to(self._store.root).as_posix())
        except CorruptFileError:
            return None
