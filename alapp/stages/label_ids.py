"""Label maps as they come from elsewhere: any integers, and in connectomics any 64 of their bits, become int32."""

from __future__ import annotations

import numpy as np

from alapp.errors import InputError

KEPT_TO = 1_000_000  # with higher ids, lists and tables by id would take more memory than the map


def instance_map(labels: np.ndarray, name: str) -> np.ndarray:
    """`labels` (Y, X) or (Z, Y, X) as int32 with every object. Where an id is above `KEPT_TO`, the objects are numbered
    anew from 1 in the order of their ids; else they keep them. `name` says in an error which map it is.

    Raises `InputError` for what is no label map: fractions, or negative numbers.
    """
    if labels.dtype.kind not in "iub":
        raise InputError(f"{name} holds {labels.dtype} values; a label map has one integer per pixel.")
    if labels.min(initial=0) < 0:
        raise InputError(f"{name} holds negative numbers; a label map has 0 for background and numbers above it.")
    if labels.max(initial=0) <= KEPT_TO:
        return labels.astype(np.int32, copy=False)
    return _numbered(labels)


def _numbered(labels: np.ndarray) -> np.ndarray:
    # By planes (rows of an image), because sorting all of a stack at once takes several times its memory.
    ids = np.unique(np.concatenate([np.unique(plane) for plane in labels]))
    ids = ids[ids > 0]
    numbered = np.empty(labels.shape, np.int32)
    for number, plane in enumerate(labels):
        numbered[number] = np.searchsorted(ids, plane, side="right")
    return numbered
