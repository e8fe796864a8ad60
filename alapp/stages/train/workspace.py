"""The folder of a project's nnU-Net, and the conditions nnU-Net needs to run quietly inside an app."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alapp.disk import is_full, patiently
from alapp.errors import AlappError, DiskFullError, NotReadyError, OutOfMemoryError
from alapp.stages.foundation.residency import is_out_of_memory

DATASET = "Dataset001_objects"

_log = logging.getLogger(__name__)
_environment_lock = threading.RLock()
_LITTLE_DISK = 32 * 2**20


@dataclass(frozen=True)
class Layout:
    """Where things are below `root`, the workspace of one project and preset."""

    root: Path

    @property
    def plan(self) -> Path:
        """The configuration: nnU-Net's plans and ours. Written once."""
        return self.root / "plan.json"

    @property
    def raw(self) -> Path:
        """nnU-Net's `nnUNet_raw`."""
        return self.root / "nnunet" / "raw"

    @property
    def preprocessed(self) -> Path:
        """nnU-Net's `nnUNet_preprocessed`."""
        return self.root / "nnunet" / "preprocessed"

    @property
    def results(self) -> Path:
        """nnU-Net's `nnUNet_results`."""
        return self.root / "nnunet" / "results"

    @property
    def incoming(self) -> Path:
        """Cases that are being written; anything here after a crash is rubbish."""
        return self.root / "nnunet" / "incoming"

    def cases(self, data_identifier: str) -> Path:
        """Preprocessed cases of a configuration."""
        return self.preprocessed / DATASET / data_identifier

    def read_plan(self) -> dict[str, Any]:
        """The content of `plan`. Raises `NotReadyError` before `NnUNet.plan` was called."""
        if not self.plan.exists():
            raise NotReadyError("nnU-Net is not configured for this project yet: make pseudo-labels or labels first.")
        return json.loads(self.plan.read_text(encoding="utf-8"))


@contextlib.contextmanager
def nnunet_environment(layout: Layout) -> Iterator[None]:
    """nnU-Net's folders point below `layout.root` inside the block.

    nnU-Net takes its folders from the environment at the moment it uses them. `nnUNet_n_proc_DA` is 1 here
    because its planner hands the number to torch.set_num_threads, which refuses 0.
    """
    wanted = {
        "nnUNet_raw": str(layout.raw),
        "nnUNet_preprocessed": str(layout.preprocessed),
        "nnUNet_results": str(layout.results),
        "nnUNet_n_proc_DA": "1",
    }
    with _environment_lock:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What nnU-Net prints inside the block goes to the log, at level DEBUG."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        if text := said.getvalue().strip():
            _log.debug("%s", text)


@contextlib.contextmanager
def resources(folder: Path, doing: str, remedy: str = "") -> Iterator[None]:
    """Turns "out of memory" and "disk full", in all their disguises, into `OutOfMemoryError` and `DiskFullError`.

    `doing` completes the sentence "... while ...". `remedy` is what helps against the former beside memory that other
    programs give back, completing "..., or ...".
    """
    try:
        yield
    except AlappError:
        raise
    except (MemoryError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(
                f"Memory ran out while {doing}. Close other programs and try again{remedy and f', or {remedy}'}."
            ) from error
        if _is_disk(error, folder):
            raise DiskFullError(
                f"The disk that holds {folder} is full: it ran out while {doing}. Free some space and try again."
            ) from error
        raise


def _is_disk(error: BaseException, folder: Path) -> bool:
    if isinstance(error, OSError):
        return is_full(error)
    # blosc2 only says that writing failed.
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free < _LITTLE_DISK


def write_atomic(target: Path, content: bytes) -> None:
    """`target` has its old or its new content at any moment, also when the process is killed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        patiently(os.replace, name, target)
    finally:
        if os.path.exists(name):
            os.unlink(name)


def remove_unfinished(folder: Path) -> None:
    """Removes what `write_atomic` left in `folder` when its process was killed."""
    for path in folder.glob(".tmp-*"):
        path.unlink(missing_ok=True)


def write_json(target: Path, value: Any) -> None:
    """`value` as a JSON file, atomically."""
    write_atomic(target, json.dumps(value, indent=1).encode("utf-8"))


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Seeding inside the block leaves the generators of the caller (random, numpy, torch) as they were."""
    import torch

    python, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


def seed_everything(*seed: int) -> None:
    """Seeds random, numpy and torch from a sequence of non-negative numbers."""
    import torch

    first, second = np.random.SeedSequence(seed).generate_state(2)
    random.seed(int(first))
    np.random.seed(int(first))
    torch.manual_seed(int(second))
