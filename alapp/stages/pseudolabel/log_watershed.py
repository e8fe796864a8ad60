"""Built-in pseudo-labels for light microscopy: blob seeds and a watershed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import reconstruction
from skimage.segmentation import watershed

from alapp.stages.pseudolabel.foreground import OnBackground, above_background, object_diameter, side_of
from alapp.stages.pseudolabel.grayscale import drop_small, gray_and_shown


class LogWatershed(OnBackground):
    """Laplacian-of-Gaussian and distance-transform seeds, then a watershed in the foreground.

    Lindeberg (1998), Feature detection with automatic scale selection, for the size of the objects.
    """

    title: ClassVar[str] = "Blobs and watershed"
    suits: ClassVar[str] = "Roundish objects of similar size that differ from the background in brightness."
    revision: ClassVar[int] = 3

    def label_plane(self, image: np.ndarray, params: dict[str, float]) -> np.ndarray:
        """See `BuiltIn.label_plane`."""
        plane, shown = gray_and_shown(image, int(params["channel"]))
        smooth = ndimage.gaussian_filter(plane, 1)
        side = side_of(smooth, shown, int(params["polarity"]), params["diameter"])
        bright = above_background(smooth, side, shown)
        if not bright.any():
            return np.zeros(bright.shape, np.int32)
        diameter = params["diameter"] or object_diameter(bright)
        threshold = 0.5 * threshold_otsu(bright[shown]) / params["sensitivity"]
        # Objects in a crowd rise above their own surroundings, not only above the background.
        mask = (bright > threshold) & (bright > ndimage.gaussian_filter(bright, 0.7 * diameter))
        mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask)) & shown
        if not mask.any():
            return np.zeros(mask.shape, np.int32)
        height = _height(bright, mask, diameter)
        seeds, _ = ndimage.label(_domes(height, 0.1) & mask)
        labels = watershed(-height, seeds, mask=mask)
        return drop_small(labels, params["min_size"] or 0.2 * np.pi * diameter**2 / 4)


def _height(bright: np.ndarray, mask: np.ndarray, diameter: float) -> np.ndarray:
    """Highest in the middle of each object: half by brightness (blob filter), half by shape (distance)."""
    sigma = diameter / 2 / np.sqrt(2)
    blob = -ndimage.gaussian_laplace(bright, sigma) * sigma**2
    blob /= max(np.percentile(blob[mask], 95), 1e-9)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), max(1, 0.4 * sigma)) / (diameter / 2)
    height = 0.5 * blob + 0.5 * distance
    return np.where(mask, height, height.min()).astype(np.float32)


def _domes(height: np.ndarray, depth: float) -> np.ndarray:
    """Tops of the regional maxima that rise at least about `depth` above their saddles (h-maxima)."""
    return height - reconstruction(height - depth, height, method="dilation") > 0.5 * depth
