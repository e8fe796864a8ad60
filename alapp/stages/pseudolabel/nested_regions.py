"""Built-in pseudo-labels for objects of any convex shape: the best of the regions that thresholds leave, nested as they
are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import convex_hull_image
from skimage.segmentation import watershed

from alapp.domain import Modality, Parameter
from alapp.stages.pseudolabel.grayscale import BuiltIn, drop_small, gray_plane
from alapp.stages.pseudolabel.log_watershed import LogWatershed, above_background, object_diameter

LEVELS = 24
"""Thresholds, at even steps of the share of the foreground that lies above them."""

CLEFT = 0.2
"""A region that fills 20% less than its convex hull is no object at all."""

STEEPNESS = 8
"""How fast a region loses its worth as it leaves more of its hull empty."""

SMOOTHING = 0.05
"""Blur before the thresholds, as a part of the diameter: the texture of large objects would come apart."""

SMALLEST = 0.2
"""Regions below this part of a typical object's area are texture."""


EDGELESS = 4
"""Flat objects that touch without any edge are one region at every threshold. Where blobs and watershed, which cuts at
necks too, finds objects that are worth so many times as much, its are taken (real images: up to 1.7 times where the
regions are better or as good; discs that overlap: 14 to 20)."""


class NestedRegions(BuiltIn):
    """Of all regions above any threshold, those that together are worth most, each grown by a watershed.

    Regions above rising thresholds are nested: they form a tree, from which disjoint ones are chosen by dynamic
    programming (Arteta et al. 2016, Detecting overlapping instances in microscopy images using extremal region trees).
    There the worth of a region is learned from labels; here it is its area^0.8 times how convex it is, so that two
    that touch are worth more than both as one, but a whole is worth more than its bright parts.
    """

    title: ClassVar[str] = "Nested thresholds"
    suits: ClassVar[str] = "Nuclei, cells, rods and other convex shapes, bright or dark, that may touch."
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.LIGHT})
    parameters: ClassVar[tuple[Parameter, ...]] = LogWatershed.parameters

    def label_plane(self, image: np.ndarray, params: dict[str, float]) -> np.ndarray:
        """See `BuiltIn.label_plane`."""
        plane = gray_plane(image)
        diameter = params["diameter"] or object_diameter(above_background(ndimage.gaussian_filter(plane, 1)))
        labels = self._nested(plane, diameter, params)
        cut_at_necks = LogWatershed().label_plane(image, {**params, "diameter": diameter})
        return cut_at_necks if worth(cut_at_necks) > EDGELESS * worth(labels) else labels

    def _nested(self, plane: np.ndarray, diameter: float, params: dict[str, float]) -> np.ndarray:
        bright = above_background(ndimage.gaussian_filter(plane, float(np.clip(SMOOTHING * diameter, 0.7, 3))))
        if not bright.any():
            return np.zeros(bright.shape, np.int32)
        lowest = 0.5 * threshold_otsu(bright) / params["sensitivity"]
        chosen = best(regions(bright, _levels(bright, lowest), max(20, SMALLEST * np.pi * diameter**2 / 4)))
        if not chosen:
            return np.zeros(bright.shape, np.int32)
        seeds = np.zeros(bright.shape, np.int32)
        for number, region in enumerate(chosen, 1):
            seeds[region.place][region.mask] = number
        # From the areas that were found: their shape says more than the diameter of blobs.
        area = float(np.median([region.area for region in chosen]))
        usual = ndimage.gaussian_filter(bright, 0.7 * 2 * np.sqrt(area / np.pi))
        mask = ndimage.binary_opening((bright > lowest) & (bright > usual)) | (seeds > 0)
        labels = watershed(-bright, seeds, mask=ndimage.binary_fill_holes(mask))
        return drop_small(labels, params["min_size"] or 0.2 * area)


def _levels(bright: np.ndarray, lowest: float) -> np.ndarray:
    above = bright[bright > lowest]
    if not len(above):
        return np.array([lowest])
    return np.unique([lowest, *np.quantile(above, np.linspace(0, 0.98, LEVELS)[1:])])


@dataclass
class Region:
    """A connected part above a threshold, its holes filled: `mask` bool (Y, X) at the slices `place`."""

    place: tuple[slice, slice]
    mask: np.ndarray
    inner: list[Region] = field(default_factory=list)
    """The regions that are left of it above the next threshold."""

    def __post_init__(self) -> None:
        self.area = int(np.count_nonzero(self.mask))
        # Of the middles of pixels, so that slanted sides of small objects do not look rough. A line has no such hull.
        is_line = 1 in self.mask.shape
        hull = self.mask if is_line else convex_hull_image(self.mask, offset_coordinates=False)
        emptiness = 1 - self.area / np.count_nonzero(hull)
        self.worth = self.area**0.8 * max(0.0, 1 - emptiness / CLEFT) ** STEEPNESS


def worth(labels: np.ndarray) -> float:
    """What the objects of `labels` (Y, X) are worth together as regions."""
    places = enumerate(ndimage.find_objects(labels), 1)
    return sum(Region(place, labels[place] == number).worth for number, place in places if place)


def regions(bright: np.ndarray, levels: np.ndarray, smallest: float) -> list[Region]:
    """The tree of regions of `bright` (Y, X) above rising `levels`: those of the lowest one, with what is in them.
    Regions of fewer than `smallest` pixels are left out."""
    outer: list[Region] = []
    before: tuple[np.ndarray, dict[int, Region]] | None = None
    for level in levels:
        parts, _ = ndimage.label(bright > level)
        known = dict(_regions_of(parts, smallest))
        for number, region in known.items():
            if before is None:
                outer.append(region)
                continue
            y, x = np.argwhere(parts[region.place] == number)[0]
            before[1][int(before[0][region.place][y, x])].inner.append(region)
        before = parts, known
    return outer


def _regions_of(parts: np.ndarray, smallest: float) -> Iterator[tuple[int, Region]]:
    sizes = np.bincount(parts.ravel())
    for number, place in enumerate(ndimage.find_objects(parts), 1):
        if sizes[number] >= smallest:
            yield number, Region(place, ndimage.binary_fill_holes(parts[place] == number))


def best(tree: list[Region]) -> list[Region]:
    """The disjoint regions of a tree that together are worth most; a region rather than its parts where both are worth
    the same."""
    chosen: list[Region] = []
    for region in tree:
        inside = best(region.inner)
        if region.worth >= sum(each.worth for each in inside):
            inside = [region] if region.worth > 0 else []
        chosen += inside
    return chosen
