"""What the built-in click method floods, and how it tells a good mask from a poor one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from alapp.stages.annotate.base import Point

SMOOTHING = (0.5, 2.5)  # limits of the finer sigma, pixels
SMOOTHING_PER_NOISE = 15.0  # fitted: HeLa nuclei (noise 0.03) want 0.5, EM mitochondria (0.17) want 2.5
COARSER = 2.0  # times the finer sigma: texture in an object vanishes, its own border stays
PRIOR_SMOOTHING = 1.0  # sigma, pixels
PRIOR_BORDER = 1.0  # the prior's gradient, as a multiple of the image's
RING = 3  # pixels around a mask that its contrast is measured against
# Fitted, see `score`: weights of the terms.
CONTRAST, SIZE, ROUNDNESS, LIMIT = 1.2, 1.0, 3.5, 1.75
PRIOR_INSIDE, PRIOR_AROUND = 4.0, 1.0  # foreground around a mask may be a neighbour that touches it
LEAST_CONTRAST = 0.01
LEVEL = 0.4  # fitted: from the surroundings (0) to the inside (1), where the border of an object lies
WIDENED = 4.0  # times sigma; the radius of objects that smoothing widens
LOOSENESS = 0.25
ROUNDEST = 0.8  # the border pixels of a disc, squared, over 4 pi its area


@dataclass(frozen=True)
class Landscape:
    """A smoothed image (Y, X) in [0, 1] and the gradient that is flooded, both float32; `sigma`: of the smoothing,
    pixels."""

    smooth: np.ndarray
    gradient: np.ndarray
    sigma: float


@dataclass(frozen=True)
class Features:
    """All that is kept of a slice: `image` has a finer and a coarser landscape, `guided` a finer one whose gradient
    has the prior's added; `prior` is the smoothed foreground probability. `seed`: squared radius of a click, pixels."""

    image: tuple[Landscape, ...]
    guided: Landscape | None
    prior: np.ndarray | None
    seed: float

    @property
    def shape(self) -> tuple[int, int]:
        """(Y, X) of the slice."""
        return self.image[0].gradient.shape


def features(image: np.ndarray, prior: np.ndarray | None, seed_radius: tuple[float, float]) -> Features:
    """Of an image (Y, X, C) of any numeric type and a foreground probability (Y, X) in [0, 1]."""
    gray = image.astype(np.float32).mean(axis=-1)
    low, high = np.percentile(gray, (0.5, 99.5))
    gray = np.clip((gray - low) / max(high - low, 1e-6), 0, 1)
    sigma = float(np.clip(SMOOTHING_PER_NOISE * _noise(gray), *SMOOTHING))
    seed = float(np.clip(sigma, *seed_radius)) ** 2
    landscapes = tuple(_landscape(gray, scale) for scale in (sigma, COARSER * sigma))
    if prior is None:
        return Features(landscapes, None, None, seed)
    smooth = ndimage.gaussian_filter(prior.astype(np.float32), PRIOR_SMOOTHING)
    gradient = landscapes[0].gradient + PRIOR_BORDER * _sobel(smooth)
    return Features(landscapes, Landscape(landscapes[0].smooth, gradient, sigma), smooth, seed)


def score(smooth: np.ndarray, mask: np.ndarray, limited: np.ndarray, prior: np.ndarray | None = None) -> float:
    """How likely a mask is a whole object; higher is better, -inf for a mask without inside or outside.

    Log-linear in the contrast to a ring around it, its area, how round it is, and the part of its border that
    stopped only at the limit of the search (`limited`: pixels beyond it). A `prior` (foreground probability) counts
    against background inside, and a little against foreground in the ring. All arrays are (Y, X) of one window. The
    first four weights were fitted as a softmax over the candidates of a click, to the highest expected IoU, on EM
    mitochondria and fluorescent nuclei alike; `benchmarks.clicks_to_mask` says on which.
    """
    grown = dilated(mask)
    ring = dilated(grown, RING - 1) & ~mask
    outer = grown & ~mask
    border = np.count_nonzero(mask & dilated(~mask))
    beyond = np.count_nonzero(outer)
    if not border or not beyond:
        return -np.inf
    area = np.count_nonzero(mask)
    contrast = abs(float(smooth[mask].mean()) - float(smooth[ring].mean()))
    found = (
        CONTRAST * np.log(contrast + LEAST_CONTRAST)
        + SIZE * np.log(area)
        - ROUNDNESS * np.log(max(border**2 / (4 * np.pi * area), ROUNDEST))
        - LIMIT * np.count_nonzero(limited & outer) / beyond
    )
    if prior is not None:
        found += PRIOR_INSIDE * (float(prior[mask].mean()) - 1) - PRIOR_AROUND * float(prior[ring].mean())
    return float(found)


def moved_border(
    mask: np.ndarray, looseness: float, positive: Sequence[Point], negative: Sequence[Point]
) -> np.ndarray:
    """`mask` bool (Y, X) with its border moved in or out along its distance transform, at a `looseness` of -1 or 1 by
    `LOOSENESS` of its radius; clicked pixels (y, x) decide for themselves."""
    area = np.count_nonzero(mask)
    if not area:
        return mask
    by = abs(looseness) * LOOSENESS * np.sqrt(area / np.pi)
    # The surroundings of the patch do not count as background.
    extent = ndimage.find_objects(mask.astype(np.uint8))[0]
    window = tuple(slice(max(0, part.start - int(by) - 2), part.stop + int(by) + 2) for part in extent)
    if looseness > 0:
        moved = ndimage.distance_transform_edt(~mask[window]) <= by
    else:
        depth = ndimage.distance_transform_edt(mask[window])
        # Something is left of the thinnest object.
        moved = depth > min(by, depth.max() - 1)
    found = np.zeros_like(mask)
    found[window] = moved
    for points, value in ((positive, mask), (negative, None)):
        for y, x in points:
            at = round(y), round(x)
            found[at] = False if value is None else value[at]
    return found


def dilated(mask: np.ndarray, times: int = 1) -> np.ndarray:
    """A bool array (Y, X), grown by `times` pixels over edges, as `ndimage.binary_dilation`; on small windows, of
    which a click has dozens, many times faster."""
    for _ in range(times):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def with_border(smooth: np.ndarray, sigma: float, mask: np.ndarray) -> np.ndarray:
    """The mask and those pixels around it that look more like its inside than like the surroundings.

    Where a border is blurred, its steepest place lies further inside than the place where people draw it. A small
    object stays as it is: smoothing by `sigma` pixels has widened it already. All arrays are (Y, X) of one window.
    """
    if np.count_nonzero(mask) < np.pi * (WIDENED * sigma) ** 2:
        return mask
    first = dilated(mask)
    beyond = dilated(first, 2)
    surroundings = dilated(beyond, 2) & ~beyond
    if not mask.any() or not surroundings.any():
        return mask
    inside, outside = float(smooth[mask].mean()), float(np.median(smooth[surroundings]))
    level = outside + LEVEL * (inside - outside)
    return mask | (first & ((smooth > level) if inside > outside else (smooth < level)))


def _landscape(gray: np.ndarray, sigma: float) -> Landscape:
    smooth = ndimage.gaussian_filter(gray, sigma)
    return Landscape(smooth, _sobel(smooth), sigma)


def _noise(gray: np.ndarray) -> float:
    """What a 3 x 3 median takes away, in standard deviations of the image."""
    return float(np.abs(gray - ndimage.median_filter(gray, 3)).mean() / (gray.std() + 1e-6))


def _sobel(smooth: np.ndarray) -> np.ndarray:
    return np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)) / 8
