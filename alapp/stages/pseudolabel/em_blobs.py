"""Built-in pseudo-labels for electron microscopy: dark, rounded organelles such as mitochondria."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops
from skimage.transform import resize

from alapp.domain import Modality, Parameter
from alapp.stages.pseudolabel.grayscale import BuiltIn, drop_small, gray_plane, stretch

TYPICAL = 60.0
WORKING = 30.0
"""Objects are looked at in a size where a typical one is this many pixels wide."""
LEVELS = np.linspace(0.03, 0.45, 16)
SMOOTHING = (2.0, 3.5)
ROUGHEST = 0.18
"""Largest local standard deviation of gray inside an object; bundles of membranes are rougher."""


class EmDarkBlobs(BuiltIn):
    """Dark regions that stay compact over threshold levels and have a brighter rim.

    Candidates are connected components at many thresholds of the background-corrected image, as in maximally
    stable extremal regions (Matas et al. 2002); the best of nested or overlapping ones is kept, by contrast
    with the rim and solidity. Membranes are too thin, dark cytoplasm is too large or has no bright rim.
    """

    title: ClassVar[str] = "Dark blobs"
    suits: ClassVar[str] = "Mitochondria and other dark, rounded organelles in electron microscopy."
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.EM})
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("diameter", "Object diameter", 0, 0, 400, 1, "pixels", "0 looks for objects 32 to 110 pixels wide."),
        Parameter("darkness", "Contrast with the rim", 0.2, 0.05, 0.6, 0.01, "", "Higher keeps only clear objects."),
        Parameter("min_size", "Smallest object", 0, 0, 50000, 50, "pixels", "0 follows from the diameter."),
    )

    def label_plane(self, image: np.ndarray, params: dict[str, float]) -> np.ndarray:
        """See `BuiltIn.label_plane`."""
        diameter = params["diameter"] or TYPICAL
        plane = stretch(gray_plane(image), 1, 99)
        if plane.max() <= plane.min():
            return np.zeros(plane.shape, np.int32)
        factor = max(diameter / WORKING, 1.0)
        shape = tuple(max(round(side / factor), 1) for side in plane.shape)
        small = resize(plane, shape, order=1, anti_aliasing=True, preserve_range=True).astype(np.float32)
        scale = diameter / factor / WORKING
        found = sorted(_candidates(small, scale, params["darkness"]), key=lambda item: -item.score)
        labels = np.zeros(shape, np.int32)
        for number, item in enumerate(found, start=1):
            window = labels[item.window]
            if (window[item.mask] > 0).mean() <= 0.1:
                window[item.mask & (window == 0)] = number
        full = resize(labels, plane.shape, order=0, anti_aliasing=False, preserve_range=True).astype(np.int32)
        return drop_small(full, params["min_size"])


@dataclass(frozen=True)
class _Candidate:
    score: float
    window: tuple[slice, ...]
    mask: np.ndarray


def _candidates(plane: np.ndarray, scale: float, darkness: float) -> Iterator[_Candidate]:
    """Compact dark components; `scale` is the object size relative to `WORKING`."""
    background = ndimage.gaussian_filter(plane, 40 * scale)
    spread = ndimage.gaussian_filter(plane * plane, 3) - ndimage.gaussian_filter(plane, 3) ** 2
    roughness = np.sqrt(np.maximum(spread, 0))
    smallest = np.pi * (8 * scale) ** 2
    largest = np.pi * (27.5 * scale) ** 2
    for sigma in SMOOTHING:
        dark = ndimage.gaussian_filter(plane, sigma * scale) - background
        for level in np.unique(np.quantile(dark, LEVELS)):
            components, _ = ndimage.label(dark < level)
            sizes = np.bincount(components.ravel())
            windows = ndimage.find_objects(components)
            for number in np.flatnonzero((sizes >= smallest) & (sizes <= largest)):
                if number:
                    window = tuple(slice(max(0, side.start - 8), side.stop + 8) for side in windows[number - 1])
                    mask = _rounded(components[window] == number)
                    score = _score(mask, plane[window], roughness[window], scale, darkness)
                    if score > 0:
                        yield _Candidate(score, window, mask)


def _rounded(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a component without its holes and thin arms (membranes that it touches)."""
    opened = ndimage.binary_opening(ndimage.binary_fill_holes(mask), iterations=3)
    pieces, count = ndimage.label(opened)
    return opened if count < 2 else pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])


def _score(mask: np.ndarray, plane: np.ndarray, roughness: np.ndarray, scale: float, darkness: float) -> float:
    """Contrast with the rim times solidity; 0 for what cannot be an organelle."""
    if mask.sum() < np.pi * (8 * scale) ** 2:
        return 0.0
    shape = regionprops(mask.astype(np.uint8))[0]
    if shape.solidity < 0.88 or shape.axis_minor_length < 16 * scale:
        return 0.0
    if shape.axis_major_length > 4 * shape.axis_minor_length or roughness[mask].mean() > ROUGHEST:
        return 0.0
    rim = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
    inside = plane[mask].mean()
    contrast = plane[rim].mean() - inside if rim.any() else 0.0
    return float(contrast * shape.solidity**6) if contrast > darkness and inside < 0.5 else 0.0
