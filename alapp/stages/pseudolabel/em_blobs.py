"""Built-in pseudo-labels for electron microscopy: dark, rounded organelles such as mitochondria."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.draw import ellipse
from skimage.measure import regionprops
from skimage.transform import resize

from alapp.domain import Modality, Parameter
from alapp.stages.pseudolabel.grayscale import CHANNEL, BuiltIn, drop_small, gray_and_shown, stretch

TYPICAL = 60.0
WORKING = 30.0
"""Objects are looked at in a size where a typical one is this many pixels wide."""
LEVELS = np.linspace(0.03, 0.6, 24)
"""Thresholds, as quantiles of the image without its background."""
SMOOTHING = (1.0, 2.0)
"""Blurs before the thresholds. With more, synapses and crossing membranes become round."""
NARROWEST = 0.4
LARGEST = 7 / 3
"""Least minor axis and largest width of an object, in diameters of a typical one."""


class EmDarkBlobs(BuiltIn):
    """Dark, elliptic regions with a brighter rim.

    Candidates are connected components at many thresholds of the background-corrected image, as in maximally
    stable extremal regions (Matas et al. 2002). Of those that overlap, the one that looks most like an organelle is
    kept: by its contrast with the rim, how elliptic and convex it is, and its size. Pieces of dark cytoplasm and
    synapses are as dark as mitochondria, but small and angular.
    """

    title: ClassVar[str] = "Dark blobs"
    suits: ClassVar[str] = "Mitochondria and other dark, rounded organelles in electron microscopy."
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.EM})
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("diameter", "Object diameter", 0, 0, 400, 1, "pixels", "0 looks for objects 24 to 140 pixels wide."),
        Parameter(
            "clearness", "Clearness", 0.085, 0.02, 0.6, 0.005, "",
            "Contrast with the rim, less for small and for angular objects. Higher keeps only clear objects.",
        ),
        Parameter("min_size", "Smallest object", 0, 0, 50000, 50, "pixels", "0 follows from the diameter."),
        CHANNEL,
    )  # fmt: skip
    revision: ClassVar[int] = 3

    def label_plane(self, image: np.ndarray, params: dict[str, float]) -> np.ndarray:
        """See `BuiltIn.label_plane`."""
        diameter = params["diameter"] or TYPICAL
        gray, shown = gray_and_shown(image, int(params["channel"]))
        plane = stretch(gray, 1, 99, shown)
        if plane.max() <= plane.min():
            return np.zeros(plane.shape, np.int32)
        factor = max(diameter / WORKING, 1.0)
        shape = tuple(max(round(side / factor), 1) for side in plane.shape)
        small = resize(plane, shape, order=1, anti_aliasing=True, preserve_range=True).astype(np.float32)
        seen = resize(shown, shape, order=0, anti_aliasing=False)
        candidates = _candidates(small, seen, diameter / factor)
        clear = (item for item in candidates if item.clearness > params["clearness"])
        labels = np.zeros(shape, np.int32)
        for number, item in enumerate(sorted(clear, key=lambda item: -item.clearness), start=1):
            window = labels[item.window]
            if (window[item.mask] > 0).mean() <= 0.1:
                window[item.mask & (window == 0)] = number
        full = resize(labels, plane.shape, order=0, anti_aliasing=False, preserve_range=True).astype(np.int32)
        full[~shown] = 0
        return drop_small(full, params["min_size"])


@dataclass(frozen=True)
class _Candidate:
    clearness: float
    window: tuple[slice, ...]
    mask: np.ndarray


def _candidates(plane: np.ndarray, shown: np.ndarray, diameter: float) -> Iterator[_Candidate]:
    """Compact dark components, half of which or more is `shown`; a typical object is `diameter` pixels wide."""
    scale = diameter / WORKING
    background = ndimage.gaussian_filter(plane, 40 * scale)
    smallest, largest = (np.pi * (share * diameter / 2) ** 2 for share in (NARROWEST, LARGEST))
    for sigma in SMOOTHING:
        dark = ndimage.gaussian_filter(plane, sigma * scale) - background
        for level in np.unique(np.quantile(dark[shown], LEVELS)):
            components, _ = ndimage.label(dark < level)
            sizes = np.bincount(components.ravel())
            windows = ndimage.find_objects(components)
            for number in np.flatnonzero((sizes >= smallest) & (sizes <= largest)):
                if number:
                    window = tuple(slice(max(0, side.start - 8), side.stop + 8) for side in windows[number - 1])
                    mask = _rounded(components[window] == number)
                    if mask.any() and shown[window][mask].mean() >= 0.5:
                        yield _Candidate(_clearness(mask, plane[window], diameter), window, mask)


def _rounded(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a component without its holes and thin arms (membranes that it touches)."""
    opened = ndimage.binary_opening(ndimage.binary_fill_holes(mask), iterations=3)
    pieces, count = ndimage.label(opened)
    return opened if count < 2 else pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])


def _clearness(mask: np.ndarray, plane: np.ndarray, diameter: float) -> float:
    """Contrast with the rim times how elliptic and convex a region is, less where it is small; 0 if narrow.

    The exponents lie within a range of about equal results (docs/training.md).
    """
    if not mask.any():
        return 0.0
    shape = regionprops(mask.astype(np.uint8))[0]
    rim = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
    if shape.axis_minor_length < NARROWEST * diameter or not rim.any():
        return 0.0
    contrast = plane[rim].mean() - plane[mask].mean()
    size = shape.area / (np.pi * (diameter / 2) ** 2)
    alike = np.zeros(mask.shape, bool)  # the ellipse of the same second moments
    radii = shape.axis_major_length / 2, shape.axis_minor_length / 2
    alike[ellipse(*shape.centroid, *radii, shape=mask.shape, rotation=shape.orientation)] = True
    ellipticity = np.count_nonzero(alike & mask) / np.count_nonzero(alike | mask)
    return float(contrast * ellipticity**4 * shape.solidity**8 * min(size, 1) ** 0.75)
