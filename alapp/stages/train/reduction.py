"""The same training in smaller portions, for when memory runs out; and a check of the disk before it begins."""

from __future__ import annotations

import copy
import gc
import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alapp.errors import DiskFullError

MOST_REDUCTIONS = 2
"""How often a training is made smaller before it gives up."""

_FEWEST_WINDOWS = 2
_COPIES = 3  # a network and AdamW's two moments of each weight
_FILES = 3  # the newest checkpoint, the one before, and the one that is being written
_SPARE_BYTES = 64 * 2**20


def portions(plan: Mapping[str, Any], reduction: int) -> tuple[int, tuple[int, ...]]:
    """Windows in a batch, and the window's size ((z,) y, x) in pixels, after `reduction` steps.

    A step halves the batch, down to two windows; then the window, as far as the network's strides allow.
    """
    configuration = plan["nnunet"]["configurations"][plan["configuration"]]
    batch, window = int(configuration["batch_size"]), [int(n) for n in configuration["patch_size"]]
    strides = [math.prod(axis) for axis in zip(*configuration["architecture"]["arch_kwargs"]["strides"], strict=True)]
    for _ in range(reduction):
        if batch > _FEWEST_WINDOWS:
            batch = max(_FEWEST_WINDOWS, batch // 2)
        else:
            # Two pixels at the bottom of the network: instance normalisation needs more than one.
            window = [n // 2 if n % (2 * s) == 0 and n >= 4 * s else n for n, s in zip(window, strides, strict=True)]
    return batch, tuple(window)


def reduced(plan: dict[str, Any], reduction: int) -> dict[str, Any]:
    """`plan` with the `portions` of a reduction. The network stays the same, so a training can go on with it."""
    if not reduction:
        return plan
    batch, window = portions(plan, reduction)
    smaller = copy.deepcopy(plan)
    smaller["nnunet"]["configurations"][plan["configuration"]] |= {"batch_size": batch, "patch_size": list(window)}
    return smaller


def difference(plan: Mapping[str, Any], reduction: int) -> str | None:
    """What a reduction changes against the one before, completing "training went on with ..."; None if nothing."""
    before, after = portions(plan, reduction - 1), portions(plan, reduction)
    if after == before:
        return None
    if after[0] < before[0]:
        return f"batches of {after[0]} instead of {before[0]}"
    sizes = [" × ".join(str(n) for n in window) for window in (after[1], before[1])]
    return f"windows of {sizes[0]} pixels instead of {sizes[1]}"


def release_memory() -> None:
    """Give back what a computation that failed still holds, the GPU's memory too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def check_disk(out: Path, weights: int) -> None:
    """Raises `DiskFullError` when the checkpoints of a network with so many `weights` (float32) do not fit on the
    disk that holds the folder `out`, so that a training does not end in the middle."""
    existing = next(folder for folder in (out, *out.parents) if folder.exists())
    # What an interrupted run has written already is replaced, not added to.
    written = sum(path.stat().st_size for path in out.glob("checkpoint_*.pth"))
    needed = max(0, 4 * weights * _COPIES * _FILES - written) + _SPARE_BYTES
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskFullError(
            f"The disk that holds {existing} has {free / 1e6:,.0f} MB free, but this training needs "
            f"{needed / 1e6:,.0f} MB for its checkpoints. Free some space (the Train tab shows what this project uses) "
            "and start it again; what is there is unchanged."
        )
