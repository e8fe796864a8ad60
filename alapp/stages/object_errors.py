"""What kind of mistakes a segmentation makes: merged, split and invented objects, and sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from elf.evaluation.util import contigency_table

COVERED = 0.5
"""More than this share of an object must lie in another one to belong to it, so that it belongs to one at most (as
in the detection measure of the Cell Tracking Challenge; Matula et al. 2015)."""

INVENTED = 0.1
"""A predicted object with less than this share of its pixels on true objects marks something that is no object; one
that is only badly outlined has more."""


@dataclass(frozen=True)
class ObjectErrors:
    """Counts of objects. `merges`: predicted objects to which two or more true ones belong; `splits`: true objects
    to which two or more predicted ones belong; `invented`: predicted objects that lie on none. `true_sizes` and
    `found_sizes` are the pixels (voxels) of every true and every predicted object."""

    merges: int
    splits: int
    invented: int
    true_sizes: tuple[int, ...]
    found_sizes: tuple[int, ...]


def object_errors(reference: np.ndarray, predicted: np.ndarray) -> ObjectErrors:
    """The mistakes of `predicted` against `reference`, integer instance maps of the same shape, 2D or 3D, 0 is
    background. Raises `ValueError` when the shapes differ."""
    if reference.shape != predicted.shape:
        raise ValueError(f"The maps have different shapes: {reference.shape} and {predicted.shape}.")
    true_pixels, found_pixels, pairs, overlap = contigency_table(
        np.ascontiguousarray(reference, dtype=np.uint32), np.ascontiguousarray(predicted, dtype=np.uint32)
    )
    objects = (pairs > 0).all(axis=1)
    pairs, overlap = pairs[objects].astype(np.int64), overlap[objects].astype(float)
    of_true = np.array([true_pixels[int(a)] for a, _ in pairs], dtype=float)
    of_found = np.array([found_pixels[int(b)] for _, b in pairs], dtype=float)
    touched = np.zeros(int(predicted.max(initial=0)) + 1)
    np.add.at(touched, pairs[:, 1], overlap)
    found = {int(key): int(count) for key, count in found_pixels.items() if key}
    return ObjectErrors(
        merges=_holding_several(pairs[overlap > COVERED * of_true, 1]),
        splits=_holding_several(pairs[overlap > COVERED * of_found, 0]),
        invented=sum(touched[key] < INVENTED * count for key, count in found.items()),
        true_sizes=tuple(int(count) for key, count in true_pixels.items() if key),
        found_sizes=tuple(found.values()),
    )


def _holding_several(owners: np.ndarray) -> int:
    return int((np.unique(owners, return_counts=True)[1] > 1).sum())
