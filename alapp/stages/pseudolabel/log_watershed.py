"""Built-in pseudo-labels for light microscopy: blob seeds and a watershed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import reconstruction
from skimage.segmentation import watershed
from skimage.transform import resize

from alapp.domain import Modality, Parameter
from alapp.stages.pseudolabel.grayscale import BuiltIn, drop_small, gray_plane

SCALES = np.geomspace(1.5, 24, 11)
SEARCH_SIDE = 600
"""The size of the objects is looked for in an image of about this many pixels a side."""


class LogWatershed(BuiltIn):
    """Laplacian-of-Gaussian and distance-transform seeds, then a watershed in the foreground.

    Lindeberg (1998), Feature detection with automatic scale selection, for the size of the objects.
    """

    title: ClassVar[str] = "Blobs and watershed"
    suits: ClassVar[str] = "Roundish objects of similar size that differ from the background in brightness."
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.LIGHT})
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("diameter", "Object diameter", 0, 0, 200, 1, "pixels", "0 finds it from each image."),
        Parameter("sensitivity", "Sensitivity", 1, 0.2, 3, 0.1, "", "Higher finds fainter objects."),
        Parameter("min_size", "Smallest object", 0, 0, 5000, 10, "pixels", "0 is a fifth of a typical object."),
    )
    revision: ClassVar[int] = 2

    def label_plane(self, image: np.ndarray, params: dict[str, float]) -> np.ndarray:
        """See `BuiltIn.label_plane`."""
        bright = above_background(ndimage.gaussian_filter(gray_plane(image), 1))
        if not bright.any():
            return np.zeros(bright.shape, np.int32)
        diameter = params["diameter"] or object_diameter(bright)
        threshold = 0.5 * threshold_otsu(bright) / params["sensitivity"]
        # Objects in a crowd rise above their own surroundings, not only above the background.
        mask = (bright > threshold) & (bright > ndimage.gaussian_filter(bright, 0.7 * diameter))
        mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
        if not mask.any():
            return np.zeros(mask.shape, np.int32)
        height = _height(bright, mask, diameter)
        seeds, _ = ndimage.label(_domes(height, 0.1) & mask)
        labels = watershed(-height, seeds, mask=mask)
        return drop_small(labels, params["min_size"] or 0.2 * np.pi * diameter**2 / 4)


def above_background(plane: np.ndarray) -> np.ndarray:
    """How far each pixel of `plane` lies above the background (its median), objects bright, float32 >= 0.

    Dark objects are turned bright: when the bright side covers most of the image, or when the dark side
    reaches far from the background, as cells in phase contrast do inside their bright halo.
    """
    if plane.max() <= plane.min():
        return np.zeros(plane.shape, np.float32)
    middle = np.median(plane)
    # Uneven illumination must not look like a dark side: only what differs from its wide surroundings counts.
    detail = plane - _blurred_widely(plane, min(plane.shape) / 6)
    low, usual, high = np.percentile(detail, [0.2, 50, 99.8])
    dark = (plane > threshold_otsu(plane)).mean() > 0.5 or usual - low > 0.5 * (high - usual)
    return np.maximum(middle - plane if dark else plane - middle, 0).astype(np.float32)


def _blurred_widely(plane: np.ndarray, sigma: float) -> np.ndarray:
    """About `plane` (Y, X) after a Gaussian of `sigma` pixels: made at a lower resolution, 14 times as fast."""
    step = max(1, int(sigma / 8))
    small = resize(plane, [max(1, side // step) for side in plane.shape], order=1, anti_aliasing=step > 1)
    return resize(ndimage.gaussian_filter(small, sigma / step), plane.shape, order=1)


def object_diameter(bright: np.ndarray) -> float:
    """Typical diameter of bright blobs, in pixels: the median scale of the extrema of the normalised Laplacian
    of Gaussian in space and scale, weighted by response and size."""
    step = max(1, int(np.ceil(max(bright.shape) / SEARCH_SIDE)))
    small = ndimage.zoom(bright, 1 / step, order=1) if step > 1 else bright
    space = np.stack([-ndimage.gaussian_laplace(small, scale, mode="nearest") * scale**2 for scale in SCALES])
    strong = space > 0.3 * np.percentile(space.max(axis=0), 99.5)
    peaks = (space == ndimage.maximum_filter(space, size=(3, 5, 5), mode="nearest")) & strong
    scales = SCALES[np.nonzero(peaks)[0]]
    if not len(scales):
        return 12.0
    weight = np.cumsum(space[peaks] * scales)  # nonzero() lists the peaks by rising scale
    return float(2 * np.sqrt(2) * scales[np.searchsorted(weight, weight[-1] / 2)] * step)


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
