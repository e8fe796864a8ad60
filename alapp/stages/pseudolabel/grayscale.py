"""From any image to one gray plane in [0, 1], for the built-in methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from alapp.domain import BackendState, Modality, Parameter, Report, Status, silent
from alapp.stages import noise
from alapp.stages.instances import link_slices
from alapp.stages.pseudolabel.base import Keep, keep_nothing

LEAST_CONTRAST = 1.3
"""What holds something differs from the background by more than so many standard deviations of the noise, after a blur
that leaves 0.7 to 1.1 of pure noise (images of 64 to 2048 pixels, one to 100 photons a pixel). Real images have 50 to
700, real slices 9 and more."""

LEAST_OF_STACK, USUAL_SLICE = 0.04, 0.9
"""And by more than this share of the contrast that a tenth of the stack's slices exceed: that tells noise which
neighbouring pixels share. The dimmest real slice with objects has 0.09."""


def stretch(plane: np.ndarray, low: float = 1.0, high: float = 99.8) -> np.ndarray:
    """Percentiles `low`..`high` of `plane` to 0..1, float32; zeros for a constant plane."""
    bottom, top = map(float, np.percentile(plane, [low, high]))
    if top <= bottom:
        bottom, top = float(plane.min()), float(plane.max())
    if top <= bottom:
        return np.zeros(plane.shape, np.float32)
    return ((plane.astype(np.float32) - bottom) / (top - bottom)).clip(0, 1)


def gray_plane(image: np.ndarray) -> np.ndarray:
    """The channel of `image` (Y, X, C) that separates best into two classes, stretched to float32 [0, 1].

    For 8-bit RGB the haematoxylin stain (Ruifrok & Johnston 2001) competes too.
    """
    planes = [image[..., channel] for channel in range(image.shape[-1])]
    if len(planes) == 3 and image.dtype == np.uint8:
        planes.append(rgb2hed(image)[..., 0])
    stretched = [stretch(plane) for plane in planes]
    return max(stretched, key=_separability) if len(stretched) > 1 else stretched[0]


def holds_something(stack: np.ndarray) -> np.ndarray:
    """Which slices of `stack` (Z, Y, X, C) hold more than noise, bool (Z,).

    Slices above and below all objects do not, nor do images of empty places. Stretched, their noise looks like objects
    to a method that expects some in every plane.
    """
    contrast, deviation = (
        np.array([[measure(plane[..., channel].astype(np.float32)) for channel in range(plane.shape[-1])]
                  for plane in stack])
        for measure in (_contrast, noise.deviation)
    )  # fmt: skip
    usual = np.quantile(contrast, USUAL_SLICE, axis=0)
    return ((contrast > LEAST_CONTRAST * deviation) & (contrast > LEAST_OF_STACK * usual)).any(axis=1)


def _contrast(plane: np.ndarray) -> float:
    """How far anything larger than a pixel lies from the background (the median), at most, when blurred."""
    beside = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    low, high = (find(plane, footprint=beside) for find in (ndimage.minimum_filter, ndimage.maximum_filter))
    smooth = ndimage.gaussian_filter(plane.clip(low, high), 2)  # without hot and dead pixels
    return float(np.abs(smooth - np.median(smooth)).max())


class BuiltIn:
    """What the built-in methods share: they need no weights, and look at one plane at a time."""

    parameters: ClassVar[tuple[Parameter, ...]] = ()
    modalities: ClassVar[frozenset[Modality]] = frozenset()
    revision: ClassVar[int] = 1
    keep: Keep = staticmethod(keep_nothing)

    def __init__(self, modality: Modality | None = None) -> None:
        """`modality` makes no difference: each method suits one only."""

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Always ready: it has no weights."""
        return Status(BackendState.READY)

    def label(self, image: np.ndarray, params: Mapping[str, float], report: Report = silent) -> np.ndarray:
        """See `PseudoLabeller.label`. In light microscopy nothing is looked for in planes that hold noise only."""
        stack = image if image.ndim == 4 else image[None]
        wanted = holds_something(stack) if Modality.LIGHT in self.modalities else np.ones(len(stack), bool)
        return by_slice(self.label_plane, image, params, self.parameters, report, wanted, self.keep)

    def label_plane(self, image: np.ndarray, params: dict[str, float]) -> np.ndarray:
        """Instances int32 (Y, X) of an image (Y, X, C); `params` holds a value for each parameter."""
        raise NotImplementedError


def by_slice(
    label_plane: Callable[[np.ndarray, dict[str, float]], np.ndarray],
    image: np.ndarray,
    params: Mapping[str, float],
    parameters: tuple[Parameter, ...],
    report: Report = silent,
    wanted: np.ndarray | None = None,
    keep: Keep = keep_nothing,
) -> np.ndarray:
    """Apply a 2D method, with defaults filled in; the slices of a stack (Z, Y, X, C) are linked by overlap, and kept by
    `keep` until all are labelled. Only the planes that are `wanted`, bool (Z,), are looked at; by default all."""
    values = {item.name: float(params.get(item.name, item.default)) for item in parameters}
    stack = image if image.ndim == 4 else image[None]
    labels = np.zeros(stack.shape[:3], np.int32)
    for z, plane in enumerate(stack):
        if image.ndim == 4:
            report(z, len(stack), f"slice {z + 1} of {len(stack)}")
        if wanted is None or wanted[z]:
            make = partial(label_plane, plane, values)
            labels[z] = keep(str(z), make) if image.ndim == 4 else make()
    return link_slices(labels).astype(np.int32) if image.ndim == 4 else labels[0]


def drop_small(labels: np.ndarray, min_size: float) -> np.ndarray:
    """Labels without objects of fewer than `min_size` pixels, numbered from 1."""
    sizes = np.bincount(labels.ravel())
    keep = sizes >= max(min_size, 1)
    keep[0] = False
    return (np.cumsum(keep) * keep)[labels].astype(np.int32)


def _separability(plane: np.ndarray) -> float:
    """Otsu's criterion: variance between two classes over all variance, 0..1."""
    smooth = ndimage.gaussian_filter(plane, 1)
    if smooth.max() <= smooth.min():
        return 0.0
    bright = smooth > threshold_otsu(smooth)
    share = bright.mean()
    if share in (0, 1):
        return 0.0
    between = share * (1 - share) * (smooth[bright].mean() - smooth[~bright].mean()) ** 2
    return float(between / smooth.var())
