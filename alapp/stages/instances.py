"""Instances from the class probabilities of a border-core network.

Cores are the seeds of a watershed that floods the foreground (core and border), so objects that touch come
apart along their borders. Stacks with thick slices are decoded slice by slice and linked through the slices.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label
from skimage.segmentation import relabel_sequential, watershed

from alapp.domain import VoxelSize

FOREGROUND = 0.5
"""A pixel belongs to an object where core and border together are more likely than background."""

SEED_HIGH, SEED_LOW = 0.5, 0.2
"""Hysteresis on core minus border probability: a seed is where it exceeds the low value and somewhere the high."""

FRAGMENT_SHARE = 0.15
"""Objects smaller than this share of the median object's size are fragments."""

ANISOTROPIC = 3.0
"""From this ratio of slice thickness to pixel size (nnU-Net's threshold), slices are decoded one by one."""

LINK_SHARE = 0.15
"""Objects of neighbouring slices are one object when they share at least this much of the smaller one."""


def from_probabilities(
    prob: np.ndarray, voxel_size: VoxelSize | None = None, min_size: int | None = None, in_plane: bool | None = None
) -> np.ndarray:
    """Instance map int32 (Y, X) or (Z, Y, X), 0 background, ids 1..n without gaps.

    `prob` is float (K, Y, X) or (K, Z, Y, X) in [0, 1] with the classes background, core, border. Objects with
    fewer than `min_size` pixels (voxels) are removed; by default those below 15% of the median object's size.
    Stacks are decoded slice by slice and linked if `in_plane`, by default when slices are at least three times
    as thick as pixels are wide according to `voxel_size`. Deterministic.
    """
    if prob.ndim not in (3, 4) or prob.shape[0] != 3:
        raise ValueError(f"expected probabilities (3, Y, X) or (3, Z, Y, X), got {prob.shape}")
    if prob.ndim == 4:
        by_slice = _is_anisotropic(voxel_size or VoxelSize()) if in_plane is None else in_plane
        if by_slice:
            planes = [_watershed(prob[:, z]) for z in range(prob.shape[1])]
            return remove_fragments(link_slices(np.stack(planes)), min_size)
    return remove_fragments(_watershed(prob), min_size)


def _is_anisotropic(voxel_size: VoxelSize) -> bool:
    if voxel_size.z is None or voxel_size.y is None or voxel_size.x is None:
        return False
    return voxel_size.z >= ANISOTROPIC * math.sqrt(voxel_size.y * voxel_size.x)


def _watershed(prob: np.ndarray) -> np.ndarray:
    core, border = prob[1].astype(np.float32), prob[2].astype(np.float32)
    foreground = core + border > FOREGROUND
    inside = core - border
    seeds = label(apply_hysteresis_threshold(inside, SEED_LOW, SEED_HIGH) & foreground, connectivity=1)
    # Objects so small that the border swallowed their core still count as one object each.
    parts, _ = ndimage.label(foreground)
    seeded = np.zeros(parts.max() + 1, bool)
    seeded[np.unique(parts[seeds > 0])] = True
    seeded[0] = True
    lone = np.where(seeded[parts], 0, parts)
    seeds = np.where(lone > 0, lone + seeds.max(), seeds)
    return watershed(-inside, seeds, mask=foreground).astype(np.int32)


def remove_fragments(labels: np.ndarray, min_size: int | None = None) -> np.ndarray:
    """`labels` int32 without objects below `min_size` pixels, ids closed up to 1..n.

    By default the limit is 15% of the median size of the objects that are not specks of a few pixels.
    """
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    present = sizes[sizes > 0]
    if not present.size:
        return np.zeros(labels.shape, np.int32)
    limit = FRAGMENT_SHARE * _typical(present) if min_size is None else min_size
    kept = sizes >= max(limit, 1)
    return relabel_sequential(np.where(kept[labels], labels, 0))[0].astype(np.int32)


def _typical(sizes: np.ndarray) -> float:
    """Size of the object in which the median foreground pixel lies, so that specks do not lower it."""
    ordered = np.sort(sizes)
    return float(ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)])


def link_slices(labels: np.ndarray, min_share: float = LINK_SHARE) -> np.ndarray:
    """3D instances int32 (Z, Y, X) from a stack of independent 2D instance maps.

    Objects of neighbouring slices are linked when their overlap is at least `min_share` of the smaller one;
    what is linked, also over several slices or through a branch, is one object. Ids of different slices in
    `labels` need not agree.
    """
    highest = labels.max(axis=(1, 2), initial=0).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(highest)])
    unique = np.where(labels > 0, labels + offsets[:-1, None, None], 0)
    sizes = np.bincount(unique.ravel(), minlength=offsets[-1] + 1)
    links = [np.zeros((2, 0), np.int64)]
    for above, below in pairwise(unique):
        both = (above > 0) & (below > 0)
        pairs, shared = np.unique(np.stack([above[both], below[both]]), axis=1, return_counts=True)
        links.append(pairs[:, shared >= min_share * np.minimum(*sizes[pairs])])
    start, end = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(len(sizes), len(sizes)))
    _, groups = connected_components(graph, directed=False)
    return relabel_sequential(np.where(unique > 0, groups[unique] + 1, 0))[0].astype(np.int32)


def size_limit(sizes: np.ndarray, min_size: int | None = None) -> float:
    """The size in pixels below which objects are left out, of `sizes` (n,) of all objects, n > 0; see
    `remove_fragments`."""
    return max(FRAGMENT_SHARE * _typical(sizes) if min_size is None else min_size, 1)


def is_anisotropic(voxel_size: VoxelSize) -> bool:
    """Whether stacks of this voxel size are decoded slice by slice."""
    return _is_anisotropic(voxel_size)
