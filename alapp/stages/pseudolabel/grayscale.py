"""From any image to one gray plane in [0, 1], for the built-in methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from alapp.domain import BackendState, Modality, Parameter, Report, Status, silent
from alapp.stages.instances import link_slices


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


class BuiltIn:
    """What the built-in methods share: they need no weights, and look at one plane at a time."""

    parameters: ClassVar[tuple[Parameter, ...]] = ()
    revision: ClassVar[int] = 1

    def __init__(self, modality: Modality | None = None) -> None:
        """`modality` makes no difference: each method suits one only."""

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Always ready: it has no weights."""
        return Status(BackendState.READY)

    def label(self, image: np.ndarray, params: Mapping[str, float], report: Report = silent) -> np.ndarray:
        """See `PseudoLabeller.label`."""
        return by_slice(self.label_plane, image, params, self.parameters, report)

    def label_plane(self, image: np.ndarray, params: dict[str, float]) -> np.ndarray:
        """Instances int32 (Y, X) of an image (Y, X, C); `params` holds a value for each parameter."""
        raise NotImplementedError


def by_slice(
    label_plane: Callable[[np.ndarray, dict[str, float]], np.ndarray],
    image: np.ndarray,
    params: Mapping[str, float],
    parameters: tuple[Parameter, ...],
    report: Report = silent,
) -> np.ndarray:
    """Apply a 2D method, with defaults filled in; the slices of a stack (Z, Y, X, C) are linked by overlap."""
    values = {item.name: float(params.get(item.name, item.default)) for item in parameters}
    if image.ndim == 3:
        return label_plane(image, values)
    planes = []
    for z, plane in enumerate(image):
        report(z, len(image), f"slice {z + 1} of {len(image)}")
        planes.append(label_plane(plane, values))
    return link_slices(np.stack(planes)).astype(np.int32)


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
