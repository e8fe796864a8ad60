"""How much to trust each suggested object, so that a person sees the doubtful ones first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries

RING = 2  # pixels outside of an object that count as its surroundings
CORE_LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the object's largest inner radius
NECK = 0.8  # two cores are two where the object between them is narrower than this share of the lesser
MIN_CORE_AREA = 100  # pixels; the distance transform of smaller objects is all steps
SIZE_RATIO = 2.5  # an object this many times larger or smaller than the median is unusual ...
SIZE_DEVIATIONS = 2.5  # ... if it is also so many standard deviations of the log sizes away

MERGED, LARGE, SMALL = "merged", "large", "small"


@dataclass(frozen=True)
class Assessment:
    """`confidence` in [0, 1] that the object is right as it is; `flag` names a suspicion: `MERGED` (two cores with
    a neck between them), `LARGE` or `SMALL` (unusual among the objects of its image), or "" for none."""

    confidence: float
    flag: str = ""


@dataclass(frozen=True)
class Sizes:
    """Median and robust standard deviation of the natural logarithm of object sizes in pixels (voxels)."""

    log_median: float
    log_deviation: float


def typical_sizes(labels: np.ndarray) -> Sizes | None:
    """Sizes of the objects of a label map (Y, X) or (Z, Y, X), 0 background; None with fewer than five."""
    counts = np.bincount(labels.ravel())[1:]
    logs = np.log(counts[counts > 0])
    if len(logs) < 5:
        return None
    median = float(np.median(logs))
    # 1.4826 times the median absolute deviation is the standard deviation of normal data.
    return Sizes(median, float(1.4826 * np.median(np.abs(logs - median))))


def assess(
    labels: np.ndarray, image: np.ndarray, foreground: np.ndarray | None = None, sizes: Sizes | None = None
) -> dict[int, Assessment]:
    """The assessment of every object of `labels` int32 (Z, Y, X), 0 background, ids from 1 without large gaps.

    `image` (Z, Y, X, C) of any numeric dtype; `foreground` float32 (Z, Y, X) in [0, 1], the network's probability.
    With it, confidence is the soft Jaccard index of the object and the probability in it and in a ring around it;
    without it, how coherently the image changes across the object's outline. Objects that the patch cuts are never
    called small. Deterministic.
    """
    counts = np.bincount(labels.ravel())
    present = np.flatnonzero(counts[1:]) + 1
    if not len(present):
        return {}
    confidence = _agreement(labels, foreground) if foreground is not None else _outline_coherence(labels, image)
    merged = _with_two_cores(labels)
    cut = set(np.unique(np.concatenate([labels[:, [0, -1]].ravel(), labels[:, :, [0, -1]].ravel()])).tolist())
    found = {}
    for identity in present.tolist():
        flag = MERGED if identity in merged else _unusual(counts[identity], sizes)
        found[identity] = Assessment(
            round(float(confidence[identity]), 3), "" if flag == SMALL and identity in cut else flag
        )
    return found


def mean_doubt(foreground: np.ndarray) -> float:
    """How undecided a network is on average: the mean over pixels of the entropy of foreground against background, in
    bits, from 0 (certain everywhere) to 1 (a coin toss everywhere). `foreground` uint8 in 1/255, any shape but empty.
    """
    return float(np.bincount(foreground.ravel(), minlength=256) @ _ENTROPY / foreground.size)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -sum(np.where(q > 0, q * np.log2(np.where(q > 0, q, 1)), 0) for q in (p, 1 - p))


_ENTROPY = _entropy(np.arange(256) / 255)
"""By value of a uint8 probability: looked up, because a stack has more pixels than there are values."""


def _agreement(labels: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """By id: sum of min(object, probability) over sum of max(object, probability), surroundings included."""
    size = (1, 2 * RING + 1, 2 * RING + 1)
    around = np.where(labels == 0, ndimage.maximum_filter(labels, size), 0)
    n = int(labels.max()) + 1
    inside = np.bincount(labels.ravel(), foreground.ravel(), n)
    outside = np.bincount(around.ravel(), foreground.ravel(), n)
    return np.clip(inside / np.maximum(np.bincount(labels.ravel(), minlength=n) + outside, 1), 0, 1)


def _outline_coherence(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """By id: |sum of the gradient across the outline| over the sum of its magnitude there, in [0, 1]: 1 where the
    image changes straight across the outline everywhere and in the same sense."""
    gray = image.astype(np.float32).mean(axis=-1)
    n = int(labels.max()) + 1
    across, total = np.zeros(n), np.full(n, 1e-6)
    for plane, pixels in zip(labels, gray, strict=True):
        rows, columns = np.nonzero(find_boundaries(plane, mode="inner"))
        if not len(rows):
            continue
        slopes = [g[rows, columns] for g in np.gradient(ndimage.gaussian_filter(pixels, 1.0))]
        inward = [g[rows, columns] for g in np.gradient(ndimage.gaussian_filter((plane > 0).astype(np.float32), 2.0))]
        ids = plane[rows, columns]
        steepness = np.hypot(*inward) + 1e-6
        across += np.bincount(ids, (slopes[0] * inward[0] + slopes[1] * inward[1]) / steepness, n)
        total += np.bincount(ids, np.hypot(*slopes), n)
    return np.abs(across) / total


def _with_two_cores(labels: np.ndarray) -> set[int]:
    """Ids of objects that fall into two substantial parts when they are eroded, on a slice where they are large."""
    n = int(labels.max()) + 1
    areas = np.stack([np.bincount(plane.ravel(), minlength=n) for plane in labels])
    considered = (areas >= MIN_CORE_AREA) & (areas >= areas.max(axis=0) / 2)
    found: set[int] = set()
    for z, plane in enumerate(labels):
        for identity, window in enumerate(ndimage.find_objects(plane, n - 1), start=1):
            if window is None or not considered[z, identity] or identity in found:
                continue
            if _has_two_cores(np.pad(plane[window] == identity, 1)):
                found.add(identity)
    return found


def _has_two_cores(mask: np.ndarray) -> bool:
    """Whether a bool mask (Y, X) has two cores with a neck between them. Its outermost pixels are background."""
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    depth /= depth.max()
    for level in CORE_LEVELS:
        parts, count = ndimage.label(depth >= level)
        if count < 2:
            continue
        peaks = ndimage.maximum(depth, parts, np.arange(1, count + 1))
        if np.count_nonzero(np.asarray(peaks) * NECK >= level) > 1:
            return True
    return False


def _unusual(size: int, sizes: Sizes | None) -> str:
    if sizes is None:
        return ""
    away = float(np.log(size)) - sizes.log_median
    if abs(away) < max(np.log(SIZE_RATIO), SIZE_DEVIATIONS * sizes.log_deviation):
        return ""
    return LARGE if away > 0 else SMALL
