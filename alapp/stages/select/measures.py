"""What strategies may know of a patch, computed from pixels, label maps and predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from alapp.domain import Box
from alapp.stages.noise import deviation

SECONDS_PER_PATCH, SECONDS_PER_OBJECT = 10.0, 6.0
"""What annotation is taken to cost as long as nobody has annotated: to look at a patch, and for each of its objects."""

SPECK, MUCH = 0.05, 0.95
"""A patch with less than this share of the foreground of patches that have much, the 95th percentile of those that
have any, holds no object worth counting on: pseudo-labels find specks in empty patches, too."""

STANDS_OUT = 2.0
"""In a patch whose contrast is more than this many times the noise of its pixels there is something to see: 3.5 times
and more in EM and fluorescence, 0.6 and less in an empty fluorescence image. Phase contrast has a mottled background:
its patches reach 1.2 to 1.5 when they are empty, and mostly below 2 with bacteria, so that a dark image of these counts
as empty."""

_CELL = 4
_ROUNDING = 12**-0.5
"""Standard deviation of the error of rounding to whole numbers."""


def contrast(pixels: np.ndarray) -> float:
    """Standard deviation of the means of cells of 4 x 4 pixels, that of the channel where it is largest.

    The means leave out most of the noise of single pixels, which an empty patch has too. `pixels` (Y, X, C) or
    (Z, Y, X, C); the unit is that of the image.
    """
    stack = pixels if pixels.ndim == 4 else pixels[None]
    height, width = (min(_CELL, side) for side in stack.shape[1:3])
    rows, columns = stack.shape[1] // height, stack.shape[2] // width
    cells = stack[:, : rows * height, : columns * width].reshape(len(stack), rows, height, columns, width, -1)
    return float(cells.mean(axis=(2, 4), dtype=np.float64).std(axis=(0, 1, 2)).max())


def noise(pixels: np.ndarray) -> float:
    """Standard deviation of the noise of single pixels (`stages.noise`), that of the slice and channel where it is
    largest. Whole numbers have at least that of rounding. `pixels` as for `contrast`, and the same unit."""
    planes = (pixels if pixels.ndim == 4 else pixels[None]).astype(np.float32)
    found = max(deviation(plane[..., channel]) for plane in planes for channel in range(planes.shape[-1]))
    return max(found, _ROUNDING if pixels.dtype.kind in "iu" else 0.0)


def evened(contrast: np.ndarray, noise: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The contrast of patches as if all images were exposed alike, float64 (N,): that of an image with less than the
    others have (the 95th percentile of all patches) is scaled up to it.

    Not that of an image in which nothing stands out from the noise of its pixels: it is empty, not dark. `contrast`,
    `noise` float (N,), in the unit of their image, `noise` NaN where it is not known; `image` int (N,).
    """
    found = np.array(contrast, dtype=np.float64)
    much = np.quantile(found, MUCH) if len(found) else 0.0
    _, image = np.unique(image, return_inverse=True)
    most = np.zeros(image.max(initial=-1) + 1)
    np.maximum.at(most, image, found)
    stands_out = np.zeros(len(most), dtype=bool)
    np.logical_or.at(stands_out, image, found > STANDS_OUT * np.asarray(noise, dtype=np.float64))
    dark = stands_out & (most > 0) & (most < much)
    scale = np.where(dark, much / np.where(most > 0, most, 1), 1)
    return found * scale[image]


def holds_objects(foreground: np.ndarray) -> np.ndarray:
    """Which patches hold objects, bool (N,), by the share of their pixels that is foreground, `foreground` float (N,),
    0 to 1: those with more than a speck (`SPECK`)."""
    share = np.asarray(foreground, dtype=np.float64)
    some = share > 0
    return some & (share >= SPECK * np.quantile(share[some], MUCH)) if some.any() else some


def content(pixels: np.ndarray) -> int:
    """A number that fits into int64 and is the same for equal pixels only (a hash, BLAKE2)."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8)
    digest.update(repr((pixels.shape, pixels.dtype.str)).encode())
    return int.from_bytes(digest.digest(), "big", signed=True)


def place(image: int, box: Box) -> np.ndarray:
    """Where a patch lies, int64 (7,), as a row of `Context.place`."""
    return np.array([image, box.z, box.y, box.x, box.depth, box.height, box.width], dtype=np.int64)


@dataclass(frozen=True)
class Doubt:
    """Where a network is in doubt, for each pixel of an image (Y, X) or (Z, Y, X).

    `entropy` float32: of the prediction averaged over mirrored copies, as a share of the largest possible one, log K.
    `disagreement` float32: what of it comes from copies that disagree, the mutual information of prediction and copy
    (Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning", equation 2, with
    mirrored copies in place of draws of the weights). `classes` uint8: the most probable class, of `n_classes`.
    """

    entropy: np.ndarray
    disagreement: np.ndarray
    classes: np.ndarray
    n_classes: int

    def of(self, crop: Callable[[np.ndarray], np.ndarray]) -> PatchDoubt:
        """The doubt about a patch, which `crop` cuts out of an array of the image."""
        entropy, classes = crop(self.entropy).ravel(), crop(self.classes).ravel()
        counts = np.bincount(classes, minlength=self.n_classes)
        sums = np.bincount(classes, weights=entropy, minlength=self.n_classes)
        by_class = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return PatchDoubt(float(entropy.mean()), float(crop(self.disagreement).mean()), by_class)


@dataclass(frozen=True)
class PatchDoubt:
    """Means over a patch, in [0, 1]. `class_entropy` float64 (K,): over the pixels of each class, NaN without one."""

    uncertainty: float
    mutual_information: float
    class_entropy: np.ndarray


def doubt(members: Iterable[np.ndarray]) -> Doubt:
    """From the class probabilities float (K, ...) of several looks at one image, of which one at a time is held."""
    total = own = None
    count = 0
    for member in members:
        entropy = _entropy(member)
        total = np.array(member, dtype=np.float32) if total is None else np.add(total, member, out=total)
        own = entropy if own is None else np.add(own, entropy, out=own)
        count += 1
    if total is None or own is None:
        raise ValueError("doubt needs at least one prediction")
    total /= count
    largest = np.float32(np.log(len(total)))
    entropy = np.clip(_entropy(total) / largest, 0, 1)
    disagreement = np.clip(entropy - own / (count * largest), 0, 1)
    return Doubt(entropy, disagreement, total.argmax(axis=0).astype(np.uint8), len(total))


def cost(
    objects: np.ndarray, seconds_per_patch: float = SECONDS_PER_PATCH, seconds_per_object: float = SECONDS_PER_OBJECT
) -> np.ndarray:
    """Expected seconds of annotation of patches with so many objects, float64 of the shape of `objects`."""
    return seconds_per_patch + seconds_per_object * np.asarray(objects, dtype=np.float64)


def filled(values: np.ndarray) -> np.ndarray | None:
    """float (N,) with the mean of the known values where it is NaN: a patch that nothing is known of is taken for an
    average one. None where nothing is known at all."""
    known = ~np.isnan(values)
    return np.where(known, values, values[known].mean()) if known.any() else None


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy over the classes in nats, float32 (...); class by class, which takes less memory."""
    total = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for each in probabilities:
        total += entr(np.asarray(each, dtype=np.float32))
    return total
