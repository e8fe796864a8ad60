"""Patches that share pixels: where the user wants overlap, and at the ends of sides that are no multiple of a patch.

What a training patch shares with a validation patch is not trained on (`rounds.train.training_cases`), so that work on
it would be wasted. Hence such patches are picked last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from alapp.storage.catalogue import Patch


def shared(patches: Sequence[Patch], others: Sequence[Patch]) -> np.ndarray:
    """How much of each of `patches` (N) lies in that of `others` with which it shares most: float64 (N,), 0 to 1."""
    found = np.zeros(len(patches))
    by_image = defaultdict(list)
    for row, patch in enumerate(patches):
        by_image[patch.image_id].append(row)
    starts, sizes = _boxes(patches)
    their_starts, their_sizes = _boxes(others)
    for number, other in enumerate(others):
        rows = np.array(by_image.get(other.image_id, ()), np.int64)
        first = np.maximum(starts[rows], their_starts[number])
        last = np.minimum(starts[rows] + sizes[rows], their_starts[number] + their_sizes[number])
        common = np.maximum(last - first, 0).prod(axis=1)
        found[rows] = np.maximum(found[rows], common / sizes[rows].prod(axis=1))
    return found


def apart(free: np.ndarray, share: np.ndarray, wanted: int) -> np.ndarray:
    """Of the rows `free`, bool (N,), those that share nothing with others (`share`, as of `shared`), and as many more,
    those that share least first, that `wanted` can be picked; bool (N,)."""
    kept = free & (share == 0)
    lacking = wanted - int(kept.sum())
    if lacking > 0:
        rest = np.flatnonzero(free & (share > 0))
        kept[rest[np.argsort(share[rest], kind="stable")[:lacking]]] = True
    return kept


def _boxes(patches: Sequence[Patch]) -> tuple[np.ndarray, np.ndarray]:
    """Starts and sizes, int64 (N, 3) each."""
    boxes = [(item.box.z, item.box.y, item.box.x, item.box.depth, item.box.height, item.box.width) for item in patches]
    table = np.array(boxes, np.int64).reshape(-1, 6)
    return table[:, :3], table[:, 3:]
