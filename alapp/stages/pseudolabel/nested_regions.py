"""Built-in pseudo-labels for objects of any convex shape: the best of the regions that thresholds leave, nested as they
are."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from alapp.domain import Modality, Parameter
from alapp.stages import component_tree
from alapp.stages.component_tree import best, regions
from alapp.stages.pseudolabel.grayscale import BuiltIn, drop_small, gray_plane
from alapp.stages.pseudolabel.log_watershed import LogWatershed, above_background, object_diameter

LEVELS = 24
"""Thresholds, at even steps of the share of the foreground that lies above them."""

SMOOTHING = 0.05
"""Blur before the thresholds, as a part of the diameter: the texture of large objects would come apart."""

SMALLEST = 0.2
"""Regions below this part of a typical object's area are texture."""

EDGELESS = 4
"""Flat objects that touch without any edge are one region at every threshold. Where blobs and watershed, which cuts at
necks too, finds objects that are worth so many times as much, its are taken. On 41 real images they were worth up to
1.7 times as much, but for one where neither was better (11 times); discs that overlap: 14 to 20."""


class NestedRegions(BuiltIn):
    """Of all regions above any threshold, those that together are worth most, each grown by a watershed.

    See `alapp.stages.component_tree`.
    """

    title: ClassVar[str] = "Nested thresholds"
    suits: ClassVar[str] = "Nuclei, cells, rods and other convex shapes, bright or dark, that may touch."
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.LIGHT})
    parameters: ClassVar[tuple[Parameter, ...]] = LogWatershed.parameters
    revision: ClassVar[int] = 2

    def label_plane(self, image: np.ndarray, params: dict[str, float]) -> np.ndarray:
        """See `BuiltIn.label_plane`."""
        plane = gray_plane(image)
        diameter = params["diameter"] or object_diameter(above_background(ndimage.gaussian_filter(plane, 1)))
        bright = above_background(ndimage.gaussian_filter(plane, float(np.clip(SMOOTHING * diameter, 0.7, 3))))
        if not bright.any():
            return np.zeros(bright.shape, np.int32)
        lowest = 0.5 * threshold_otsu(bright) / params["sensitivity"]
        labels = self._nested(bright, lowest, diameter, params)
        found = _worth(labels)
        # What all foreground is worth as objects of the smallest size that is kept: hardly more can be found.
        smallest = params["min_size"] or SMALLEST * np.pi * diameter**2 / 4
        if EDGELESS * found >= np.count_nonzero(bright > lowest) * smallest**-0.2:
            return labels
        cut_at_necks = LogWatershed().label_plane(image, {**params, "diameter": diameter})
        return cut_at_necks if _worth(cut_at_necks) > EDGELESS * found else labels

    def _nested(self, bright: np.ndarray, lowest: float, diameter: float, params: dict[str, float]) -> np.ndarray:
        chosen = best(regions(bright, _levels(bright, lowest), max(20, SMALLEST * np.pi * diameter**2 / 4)))
        if not chosen:
            return np.zeros(bright.shape, np.int32)
        seeds = np.zeros(bright.shape, np.int32)
        for number, region in enumerate(chosen, 1):
            seeds[region.place][region.filled] = number
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


def _worth(labels: np.ndarray) -> float:
    return component_tree.worth(list(component_tree.in_labels(labels)))
