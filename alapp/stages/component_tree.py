"""Regions above rising thresholds, nested as they are, and which of them are objects.

Arteta et al. 2016, Detecting overlapping instances in microscopy images using extremal region trees. There the worth of
a region is learned from labels; here it is its area^0.8 times how convex it is, so that two that touch are worth more
than both as one, but a whole is worth more than its bright parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

CLEFT = 0.2
"""A region that fills 20% less than its convex hull is worth nothing."""

STEEPNESS = 8
"""How fast a region loses its worth as it leaves more of its hull empty."""

_MOST_VOXELS = 30_000


@dataclass(eq=False)
class Region:
    """A connected part above a threshold: `mask` bool (Y, X) or (Z, Y, X) at the slices `place`."""

    place: tuple[slice, ...]
    mask: np.ndarray
    inner: list[Region] = field(default_factory=list)
    """The regions that are left of it above the next threshold."""

    @cached_property
    def filled(self) -> np.ndarray:
        """`mask` without its holes."""
        return ndimage.binary_fill_holes(self.mask)

    @cached_property
    def area(self) -> int:
        """Its pixels (voxels), those of its holes too."""
        return int(np.count_nonzero(self.filled))

    @cached_property
    def solidity(self) -> float:
        """Its area over that of its convex hull, 0..1. The hull goes through the middles of pixels, so that slanted
        sides of small objects do not look rough; a line has no such hull, and is convex."""
        shape = _coarse(self.filled).squeeze()
        if shape.ndim < 2:
            return 1.0
        area = np.count_nonzero(shape)
        return area / max(area, np.count_nonzero(convex_hull_image(shape, offset_coordinates=False)))

    @cached_property
    def worth(self) -> float:
        """How much it looks like one object; see the module."""
        return self.area**0.8 * max(0.0, 1 - (1 - self.solidity) / CLEFT) ** STEEPNESS


def regions(values: np.ndarray, levels: Sequence[float], smallest: float) -> list[Region]:
    """The tree of regions of `values` (Y, X) or (Z, Y, X) above rising `levels`: those of the lowest one, with what is
    in them. Regions of fewer than `smallest` pixels are left out."""
    outer: list[Region] = []
    before: tuple[np.ndarray, dict[int, Region]] | None = None
    for level in levels:
        parts, _ = ndimage.label(values > level)
        known = dict(_regions_of(parts, smallest))
        for number, region in known.items():
            if before is None:
                outer.append(region)
                continue
            at = tuple(np.argwhere(parts[region.place] == number)[0])
            before[1][int(before[0][region.place][at])].inner.append(region)
        before = parts, known
    return outer


def _coarse(mask: np.ndarray) -> np.ndarray:
    """Every so many voxels of a stack's large region: the hull of 113,000 took 1.3 seconds."""
    while mask.ndim == 3 and mask.size > _MOST_VOXELS:
        longest = int(np.argmax(mask.shape))
        mask = mask[tuple(slice(None, None, 2 if axis == longest else 1) for axis in range(3))]
    return mask


def in_labels(labels: np.ndarray) -> Iterator[Region]:
    """The objects of an instance map as regions."""
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        if place is not None:
            yield Region(place, labels[place] == number)


def _regions_of(parts: np.ndarray, smallest: float) -> Iterator[tuple[int, Region]]:
    sizes = np.bincount(parts.ravel())
    for number, place in enumerate(ndimage.find_objects(parts), 1):
        if sizes[number] >= smallest:
            yield number, Region(place, parts[place] == number)


def worth(found: Sequence[Region]) -> float:
    """What regions are worth together."""
    return sum(region.worth for region in found)


def best(tree: Sequence[Region]) -> list[Region]:
    """The disjoint regions of a tree that together are worth most; a region rather than its parts where both are worth
    the same, and none where all are worth nothing."""
    chosen: list[Region] = []
    for region in tree:
        inside = best(region.inner)
        if region.worth >= worth(inside):
            inside = [region] if region.worth > 0 else []
        chosen += inside
    return chosen


def apart(region: Region, solidity: float) -> list[Region]:
    """A region, or the regions in it that it is taken for where it has less than this `solidity`: two or more that
    together are worth more."""
    inside = [part for inner in region.inner for part in apart(inner, solidity)]
    is_one = len(inside) < 2 or region.solidity >= solidity or region.worth >= worth(inside)
    return [region] if is_one else inside
