"""From any image to one gray plane in [0, 1], for the built-in methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from alapp.domain import BackendState, Modality, Parameter, Report, Status, silent
from alapp.errors import BackendError
from alapp.stages import noise
from alapp.stages.instances import link_slices
from alapp.stages.pseudolabel import padding
from alapp.stages.pseudolabel.base import Keep, keep_nothing

LEAST_CONTRAST = 1.3
"""What holds something differs from the background by more than so many standard deviations of the noise, after a blur
that leaves 0.7 to 1.1 of pure noise (images of 64 to 2048 pixels, one to 100 photons a pixel). Real images have 50 to
700, real slices 9 and more."""

LEAST_OF_STACK, USUAL_SLICE = 0.04, 0.9
"""And by more than this share of the contrast that a tenth of the stack's slices exceed: that tells noise which
neighbouring pixels share. The dimmest real slice with objects has 0.09."""


SAMPLED = 7
"""What holds for all slices of a stack is found from so many of them, evenly spread."""

CHANNEL = Parameter(
    "channel", "Channel", 0, 0, 16, 1, "", "0 takes the clearest one. Of an RGB image 4 is the haematoxylin stain."
)


def stretch(plane: np.ndarray, low: float = 1.0, high: float = 99.8, shown: np.ndarray | None = None) -> np.ndarray:
    """Percentiles `low`..`high` of `plane` to 0..1, float32; zeros for a constant plane. With `shown`, bool of the same
    shape, the percentiles are those of what is shown."""
    counted = plane if shown is None else plane[shown]
    bottom, top = map(float, np.percentile(counted, [low, high]))
    if top <= bottom:
        bottom, top = float(counted.min()), float(counted.max())
    if top <= bottom:
        return np.zeros(plane.shape, np.float32)
    return ((plane.astype(np.float32) - bottom) / (top - bottom)).clip(0, 1)


def gray_plane(image: np.ndarray, channel: int = 0) -> np.ndarray:
    """The plane of `gray_and_shown`."""
    return gray_and_shown(image, channel)[0]


def gray_and_shown(image: np.ndarray, channel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One channel of `image` (Y, X, C), stretched to float32 [0, 1], and where it is no empty margin (see `padding`),
    bool (Y, X). Margins are filled with the median of the rest.

    Channels count from 1; 0 takes `best_channel`. Raises `BackendError` where there is no such channel.
    """
    number = channel or best_channel([image])
    if number > _count(image):
        are = "is 1 channel" if image.shape[-1] == 1 else f"are {image.shape[-1]} channels"
        raise BackendError(f"There {are} in this image, so channel {number} cannot be used. Choose another channel.")
    if number <= image.shape[-1]:
        plane = image[..., number - 1]
        shown = padding.inside(plane)
    else:  # a margin is one in all colours
        plane = rgb2hed(image)[..., 0]
        shown = np.any([padding.inside(image[..., each]) for each in range(3)], axis=0)
    return padding.filled(stretch(plane, shown=shown), shown), shown


def best_channel(slices: Sequence[np.ndarray]) -> int:
    """The channel, from 1, of images (Y, X, C) that separates best into two classes, on average.

    For 8-bit RGB the haematoxylin stain (Ruifrok & Johnston 2001) competes too, as channel 4.
    """
    numbers = range(1, _count(slices[0]) + 1) if len(slices) else range(1, 2)
    if len(numbers) == 1:
        return 1
    return max(numbers, key=lambda number: np.mean([_separability(*gray_and_shown(each, number)) for each in slices]))


def _count(image: np.ndarray) -> int:
    """Channels to choose from, the stain of RGB among them."""
    return image.shape[-1] + (image.shape[-1] == 3 and image.dtype == np.uint8)


def holds_something(stack: np.ndarray) -> np.ndarray:
    """Which slices of `stack` (Z, Y, X, C) hold more than noise, bool (Z,).

    Slices above and below all objects do not, nor do images of empty places. Stretched, their noise looks like objects
    to a method that expects some in every plane.
    """
    return _holding(stack).any(axis=1)


def _holding(stack: np.ndarray) -> np.ndarray:
    """As `holds_something`, for each channel: bool (Z, C)."""
    measured = np.array([[_contrast_and_noise(plane[..., channel]) for channel in range(plane.shape[-1])]
                         for plane in stack])  # fmt: skip
    contrast, deviation = measured[..., 0], measured[..., 1]
    usual = np.quantile(contrast, USUAL_SLICE, axis=0)
    return (contrast > LEAST_CONTRAST * deviation) & (contrast > LEAST_OF_STACK * usual)


def _contrast_and_noise(plane: np.ndarray) -> tuple[float, float]:
    """`_contrast` of what is shown, and the standard deviation of its noise."""
    shown = padding.inside(plane)
    plane = padding.filled(plane.astype(np.float32), shown)
    # A margin, as it is filled, adds nothing to the mean that tells the noise.
    return _contrast(plane, shown), noise.deviation(plane) / max(shown.mean(), 1 / shown.size)


def _contrast(plane: np.ndarray, shown: np.ndarray) -> float:
    """How far anything larger than a pixel lies from the background (the median), at most, when blurred."""
    beside = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    low, high = (find(plane, footprint=beside) for find in (ndimage.minimum_filter, ndimage.maximum_filter))
    smooth = ndimage.gaussian_filter(plane.clip(low, high), 2)  # without hot and dead pixels
    smooth = smooth[shown]
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
        """See `PseudoLabeller.label`. In light microscopy nothing is looked for in planes that hold noise only. What a
        user leaves to the method and what is the same in all slices is found once for an image."""
        stack = image if image.ndim == 4 else image[None]
        only_light = Modality.LIGHT in self.modalities
        holding = _holding(stack) if only_light else np.ones((len(stack), image.shape[-1]), bool)
        at = np.flatnonzero(holding.any(axis=1))
        at = at[np.unique(np.linspace(0, len(at) - 1, SAMPLED).round().astype(int))] if len(at) else at
        sample = [stack[z] for z in at]
        channel = int(params.get(CHANNEL.name, 0)) or best_channel(sample)
        wanted = holding[:, channel - 1] if channel <= image.shape[-1] else holding.any(axis=1)
        found = self.same_in_all(sample, {**params, CHANNEL.name: channel})
        return by_slice(self.label_plane, image, found, self.parameters, report, wanted, self.keep)

    def same_in_all(self, sample: Sequence[np.ndarray], params: Mapping[str, float]) -> Mapping[str, float]:
        """`params`, with what the method finds for itself from a `sample` of an image's slices (Y, X, C)."""
        return params

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


def _separability(plane: np.ndarray, shown: np.ndarray) -> float:
    """Otsu's criterion, of what is shown: variance between two classes over all variance, 0..1."""
    smooth = ndimage.gaussian_filter(plane, 1)[shown]
    if smooth.max() <= smooth.min():
        return 0.0
    bright = smooth > threshold_otsu(smooth)
    share = bright.mean()
    if share in (0, 1):
        return 0.0
    between = share * (1 - share) * (smooth[bright].mean() - smooth[~bright].mean()) ** 2
    return float(between / smooth.var())
