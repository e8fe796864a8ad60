"""Instances from the class probabilities of a network that was trained on `alapp.stages.train.targets`.

The middles of objects are the seeds of a watershed that floods the foreground, so objects that touch come apart.
Stacks with thick slices are decoded slice by slice and linked through the slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label
from skimage.segmentation import relabel_sequential, watershed

from alapp.domain import VoxelSize
from alapp.stages import component_tree
from alapp.stages.linking import link_slices


@dataclass(frozen=True)
class Decoding:
    """How instances are read from probabilities; the defaults suit most images, `alapp.stages.decoding` fits them.

    An object is found where pixels are likely not to be background by more than `foreground`, and reaches as far as
    they are by more than `outline`, unless what is connected becomes half as large again by that: of objects unlike the
    few that were labelled, a network is sure of a part only, but one that has hardly learned takes much of the
    background for likely. A seed is where the depth below the outline (see `depth`) exceeds `seed_low` and somewhere
    `seed_high` (hysteresis): higher values split more. A seed of less than this `solidity` (its area over that of its
    convex hull) is taken for several objects, and cut where its depth has more than one top (0: never). Objects smaller
    than `fragment_share` of the typical object's size are removed, and those less certain than `certainty_share` of the
    typical object's certainty (mean probability not to be background): where little is labelled, what only resembles an
    object is found with less certainty than the objects are.
    """

    foreground: float = 0.5
    outline: float = 0.3
    seed_high: float = 0.6
    seed_low: float = 0.4
    fragment_share: float = 0.15
    certainty_share: float = 0.9
    solidity: float = 0.9


DEFAULTS = {3: Decoding(), 4: Decoding(seed_high=0.7, seed_low=0.6)}
"""By number of classes: border-core and levels."""

_LEVELS = (0.6, 0.75, 0.85, 0.92, 0.96, 0.98, 0.99)
"""Of depth, at which a seed may come apart. Between two nuclei that touch there is often no more than a dip from 1 to
0.97."""

_SMALLEST_SEED = 10

_MOST_GROWTH = 1.5
"""From the pixels where objects are found to those that they reach."""

ANISOTROPIC = 3.0
"""From this ratio of slice thickness to pixel size (nnU-Net's threshold), slices are decoded one by one."""


def from_probabilities(
    prob: np.ndarray,
    voxel_size: VoxelSize | None = None,
    min_size: int | None = None,
    in_plane: bool | None = None,
    decoding: Decoding | None = None,
) -> np.ndarray:
    """Instance map int32 (Y, X) or (Z, Y, X), 0 background, ids 1..n without gaps.

    `prob` is float (K, Y, X) or (K, Z, Y, X) in [0, 1] with the classes background, core, border (K = 3), or
    background, rim, inside, centre (K = 4). `decoding` is by default that of `DEFAULTS`. Objects with
    fewer than `min_size` pixels (voxels) are removed; by default those below `decoding.fragment_share` of the typical
    object's size. So are those that are less certain than `decoding.certainty_share` of the typical object.
    Stacks are decoded slice by slice and linked if `in_plane`, by default when slices are at least three times
    as thick as pixels are wide according to `voxel_size`. Deterministic.
    """
    if prob.ndim not in (3, 4) or prob.shape[0] not in DEFAULTS:
        raise ValueError(f"expected probabilities (K, Y, X) or (K, Z, Y, X) with K = 3 or 4, got {prob.shape}")
    decoding = decoding or DEFAULTS[prob.shape[0]]
    labels = separated(prob, by_slices(voxel_size or VoxelSize()) if in_plane is None else in_plane, decoding)
    sizes, sums = measured(labels, prob[0])
    return only(labels, kept_objects(sizes, sums, min_size, decoding.fragment_share, decoding.certainty_share))


def separated(prob: np.ndarray, in_plane: bool, decoding: Decoding) -> np.ndarray:
    """`from_probabilities` before anything is removed, int32."""
    if prob.ndim == 4 and in_plane:
        # Not filled: what lies in a gap is background to the network, and objects stay by how certain it is of them.
        return link_slices(np.stack([_watershed(prob[:, z], decoding) for z in range(prob.shape[1])]), fill=False)
    return _watershed(prob, decoding)


def by_slices(voxel_size: VoxelSize, learned_slices: bool = False) -> bool:
    """Whether stacks of this voxel size are decoded slice by slice: thick slices are. Where nobody knows how thick
    slices are, those of a network are that learned borders in the plane only (`learned_slices`)."""
    if voxel_size.z is None or voxel_size.y is None or voxel_size.x is None:
        return learned_slices
    return voxel_size.z >= ANISOTROPIC * math.sqrt(voxel_size.y * voxel_size.x)


def decoded_at_once(labels: np.ndarray, in_plane: bool) -> list[np.ndarray]:
    """What of an instance map (Y, X) or (Z, Y, X) is decoded at once: the whole, or with `in_plane` each slice of a
    stack."""
    return list(labels) if labels.ndim == 3 and in_plane else [labels]


def depth(prob: np.ndarray) -> np.ndarray:
    """How deep in an object each pixel is, float32 of the shape of one class, from its probabilities (K, ...).

    Border-core: core minus border, in [-1, 1]. Levels: the expected level, 0 in the rim or outside to 1 in the centre.
    """
    if prob.shape[0] == 3:
        return prob[1].astype(np.float32) - prob[2]
    return 0.5 * prob[2].astype(np.float32) + prob[3]


def _watershed(prob: np.ndarray, decoding: Decoding) -> np.ndarray:
    likely = prob[1:].sum(0, dtype=np.float32)
    foreground = likely > decoding.foreground
    inside = depth(prob)
    seeds = label(
        apply_hysteresis_threshold(inside, decoding.seed_low, decoding.seed_high) & foreground, connectivity=1
    )
    _cut(seeds, inside, decoding)
    # Objects so small that the border swallowed their core still count as one object each.
    parts, _ = ndimage.label(foreground)
    seeded = np.zeros(parts.max() + 1, bool)
    seeded[np.unique(parts[seeds > 0])] = True
    seeded[0] = True
    lone = np.where(seeded[parts], 0, parts)
    seeds = np.where(lone > 0, lone + seeds.max(), seeds)
    return watershed(-inside, seeds, mask=_reached(likely, foreground, decoding.outline)).astype(np.int32)


def _reached(likely: np.ndarray, foreground: np.ndarray, outline: float) -> np.ndarray:
    """`foreground` and what is likelier than `outline` around it, but for connected parts that become too large:
    there the network has not yet learned to tell the background from objects. Decided before objects compete for
    pixels, so that a block of an image gives what the whole does."""
    parts, count = ndimage.label(foreground | (likely > outline))
    found, reached = (np.bincount(each.ravel(), minlength=count + 1) for each in (parts * foreground, parts))
    return foreground | (reached <= _MOST_GROWTH * found)[parts] & (parts > 0)


def _cut(seeds: np.ndarray, inside: np.ndarray, decoding: Decoding) -> None:
    """Cut the seeds that are several objects in place; see `Decoding`. The parts are at least as large as an object has
    to be beside the typical one."""
    count = int(seeds.max())
    if count == 0 or decoding.solidity <= 0:
        return
    smallest = max(_SMALLEST_SEED, decoding.fragment_share * np.median(np.bincount(seeds.ravel())[1:]))
    levels = [decoding.seed_low, *(level for level in _LEVELS if level > decoding.seed_low)]
    for whole in component_tree.regions(np.where(seeds > 0, inside, -np.inf), levels, smallest):
        parts = component_tree.apart(whole, decoding.solidity)
        if len(parts) < 2:
            continue
        seeds[whole.place][whole.mask] = 0
        for part in parts:
            count += 1
            seeds[part.place][part.mask] = count


def measured(labels: np.ndarray, background: np.ndarray, count: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """By id, from 0 to at least `count`: the pixels of each object, and the sum over them of the probability not to be
    background. 0 for the id 0, which is no object. `background` has the shape of `labels`."""
    flat = labels.ravel()
    sizes = np.bincount(flat, minlength=count + 1)
    sums = np.bincount(flat, 1.0 - background.ravel(), len(sizes))
    sizes[0] = sums[0] = 0
    return sizes, sums


def only(labels: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`labels` int32 with the objects that are `kept` (bool by id), ids closed up to 1..n."""
    return relabel_sequential(np.where(kept[labels], labels, 0))[0].astype(np.int32)


def kept_objects(
    sizes: np.ndarray, sums: np.ndarray, min_size: int | None, fragment_share: float, certainty_share: float
) -> np.ndarray:
    """Which objects stay, bool (N,), by what `measured` gives: those of at least `size_limit` pixels, of which the
    network is about as certain as of the typical one; see `Decoding` for the two shares."""
    present = sizes > 0
    if not present.any():
        return present
    certainty = np.divide(sums, sizes, out=np.zeros(len(sizes)), where=present)
    kept = present & (sizes >= size_limit(sizes[present], min_size, fragment_share))
    if kept.any():
        # Of the object in which the median pixel lies, as for sizes: specks do not lower it.
        order = np.argsort(certainty[kept])
        covered = np.cumsum(sizes[kept][order])
        typical = certainty[kept][order][np.searchsorted(covered, covered[-1] / 2)]
        kept &= certainty >= certainty_share * typical
    return kept


def typical(sizes: np.ndarray) -> float:
    """Size of the object in which the median foreground pixel lies, so that specks do not lower it."""
    ordered = np.sort(sizes)
    return float(ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)])


def size_limit(sizes: np.ndarray, min_size: int | None = None, share: float = Decoding.fragment_share) -> float:
    """The size in pixels below which objects are left out, of `sizes` (n,) of all objects, n > 0: `min_size`, by
    default `share` of the size of the typical object, in which the median foreground pixel lies."""
    return max(share * typical(sizes) if min_size is None else min_size, 1)
