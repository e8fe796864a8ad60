"""Pseudo-labels that are wrong in a known way: what pre-training on bad labels costs.

A start is the name of a pseudo-label method, "auto", "reference" (perfect labels), or "none" (no pre-training); a
corruption may follow a colon: "reference:drop=0.5". All take instance maps int32 (Y, X) or (Z, Y, X), 0 background.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.segmentation import relabel_sequential

from alapp.errors import InputError
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS

REFERENCE = "reference"

Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def drop(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Without a random `share` of the objects: what a method misses."""
    ids = np.unique(labels[labels > 0])
    gone = rng.permutation(ids)[: round(share * len(ids))]
    return relabel_sequential(np.where(np.isin(labels, gone), 0, labels))[0].astype(np.int32)


def merge(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """With a random `share` of the objects joined to their nearest neighbour, by a bridge through what lies between:
    what a method without a sense of borders does."""
    ids = np.unique(labels[labels > 0])
    if len(ids) < 2:
        return labels.astype(np.int32)
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, ids))
    merged, root = labels.copy(), np.arange(int(ids.max()) + 1)
    for row in rng.permutation(len(ids))[: round(share * len(ids))]:
        away = np.linalg.norm(centres - centres[row], axis=1)
        away[row] = np.inf
        other = int(np.argmin(away))
        for point in np.linspace(centres[row], centres[other], int(np.ceil(away[other])) + 1):
            bridge = merged[_around(point, merged.shape)]
            bridge[bridge == 0] = ids[row]
        root[root == root[ids[other]]] = root[ids[row]]
    return relabel_sequential(root[merged])[0].astype(np.int32)


def shift(labels: np.ndarray, diameters: float, rng: np.random.Generator) -> np.ndarray:
    """Every object moved by `diameters` of the typical object in a random direction in the plane: what is not aligned
    with the image."""
    ids, sizes = np.unique(labels[labels > 0], return_counts=True)
    if not len(ids):
        return labels.astype(np.int32)
    planes = labels.shape[0] if labels.ndim == 3 else 1
    distance = diameters * 2 * np.sqrt(np.median(sizes) / planes / np.pi)
    moved = np.zeros_like(labels)
    for key, angle in zip(ids, rng.uniform(0, 2 * np.pi, len(ids)), strict=True):
        where = np.array(np.nonzero(labels == key))
        where[-2] += round(distance * np.sin(angle))
        where[-1] += round(distance * np.cos(angle))
        inside = ((where >= 0) & (where < np.array(labels.shape)[:, None])).all(axis=0)
        moved[tuple(where[:, inside])] = key
    return relabel_sequential(moved)[0].astype(np.int32)


def wrong(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """With a random `share` of the objects turned into shapes of the same size somewhere in the background: what a
    method finds that is not wanted."""
    result = labels.copy()
    ids = np.unique(labels[labels > 0])
    for key in rng.permutation(ids)[: round(share * len(ids))]:
        where = np.array(np.nonzero(labels == key))
        result[tuple(where)] = 0
        size = where.max(axis=1) - where.min(axis=1) + 1
        corner = [rng.integers(0, max(n - s, 0) + 1) for n, s in zip(labels.shape, size, strict=True)]
        placed = tuple(where - where.min(axis=1)[:, None] + np.array(corner)[:, None])
        free = (result[placed] == 0) & (labels[placed] == 0)
        result[tuple(axis[free] for axis in placed)] = key
    return relabel_sequential(result)[0].astype(np.int32)


CORRUPTIONS: dict[str, Corruption] = {"drop": drop, "merge": merge, "shift": shift, "wrong": wrong}


def parse(start: str) -> tuple[str, str | None, float]:
    """(method, name of the corruption or None, its strength) of a start. Raises `InputError` for one that is none."""
    method, _, corruption = start.partition(":")
    known = ("none", "auto", REFERENCE, *PSEUDO_LABELLERS)
    if method not in known:
        raise InputError(f"There is no start called {method!r}. Choose one of: {', '.join(known)}.")
    if not corruption:
        return method, None, 0.0
    name, _, strength = corruption.partition("=")
    try:
        value = float(strength)
    except ValueError:
        value = -1.0
    if name not in CORRUPTIONS or value < 0 or method == "none":
        example = f"{REFERENCE}:{name if name in CORRUPTIONS else 'drop'}=0.5"
        raise InputError(
            f"{start!r} is no way to corrupt labels. Write one like {example!r}; there are: {', '.join(CORRUPTIONS)}."
        )
    return method, name, value


def check_start(start: str) -> None:
    """Raises `InputError` unless `start` is one."""
    parse(start)


def _around(point: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A small box in the plane around a point: a bridge three pixels wide."""
    centre = np.rint(point).astype(int)
    reach = [0] * (len(shape) - 2) + [1, 1]
    return tuple(slice(max(c - r, 0), min(c + r + 1, n)) for c, r, n in zip(centre, reach, shape, strict=True))
