"""What rises from the background of a light-microscopy image: bright objects on dark or dark ones on bright."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.transform import resize

from alapp.domain import Modality, Parameter
from alapp.stages.component_tree import Region, best, regions, worth
from alapp.stages.pseudolabel.grayscale import CHANNEL, BuiltIn, gray_and_shown

SCALES = np.geomspace(1.5, 24, 11)
SEARCH_SIDE = 600
"""The size of the objects is looked for in an image of about this many pixels a side."""

LEVELS = 24
"""Thresholds, at even steps of the share of the foreground that lies above them."""

SMALLEST = 0.2
"""Regions below this part of a typical object's area are texture."""

DOUBT = 2
"""The gray values say first which side the objects are on. The other side is believed where what is clearly apart there
is worth so many times as much."""

CLEAR_LEVELS = 6
"""Thresholds at which regions may come apart clearly."""

POLARITY = Parameter(
    "polarity", "Bright or dark", 0, -1, 1, 1, "",
    "1: the objects are bright. -1: they are dark. 0 finds it from each image.",
)  # fmt: skip


@dataclass(frozen=True)
class Side:
    """On which side of the background the objects are: 1 bright, -1 dark. They are `crowded` where they cover most of
    the image, so that its median lies in them and not in the background."""

    sign: int
    crowded: bool = False


class OnBackground(BuiltIn):
    """What the built-in methods for light microscopy share."""

    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.LIGHT})
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("diameter", "Object diameter", 0, 0, 200, 1, "pixels", "0 finds it from each image."),
        Parameter("sensitivity", "Sensitivity", 1, 0.2, 3, 0.1, "", "Higher finds fainter objects."),
        Parameter("min_size", "Smallest object", 0, 0, 5000, 10, "pixels", "0 is a fifth of a typical object."),
        POLARITY,
        CHANNEL,
    )

    def same_in_all(self, sample: Sequence[np.ndarray], params: Mapping[str, float]) -> Mapping[str, float]:
        """See `BuiltIn.same_in_all`: objects are bright in all slices of a stack, or dark in all."""
        if len(sample) < 2 or params.get(POLARITY.name, 0):
            return params
        read = (gray_and_shown(each, int(params[CHANNEL.name])) for each in sample)
        planes = [(ndimage.gaussian_filter(plane, 1), shown) for plane, shown in read]
        return {**params, POLARITY.name: sign_of_all(planes, float(params.get("diameter", 0)))}


def above_background(plane: np.ndarray, side: Side | None = None, shown: np.ndarray | None = None) -> np.ndarray:
    """`plane` (Y, X) minus the background, objects bright, background about 0, float32. Only what is `shown`, bool
    (Y, X), counts; nothing rises from the rest. `side` says where the objects are, by default `side_of` does."""
    shown = np.ones(plane.shape, bool) if shown is None else shown
    if plane.max() <= plane.min():
        return np.zeros(plane.shape, np.float32)
    side = side or side_of(plane, shown)
    values = plane[shown]
    if side.crowded:
        values = values[side.sign * values <= threshold_otsu(side.sign * values)]
    middle = np.median(values)
    rising = np.maximum(middle - plane if side.sign < 0 else plane - middle, 0).astype(np.float32)
    rising[~shown] = 0
    return rising


def side_of(plane: np.ndarray, shown: np.ndarray, sign: int = 0, diameter: float = 0) -> Side:
    """Where the objects of a smoothed `plane` (Y, X) are; `sign` where that is known, and `diameter` in pixels.

    They are taken for bright, unless the bright side covers most of the image, or the dark side reaches far from the
    background, as cells in phase contrast do inside their bright halo. Where they are not taken for bright, what is
    clearly apart on the bright side may be worth more, see `DOUBT`.
    """
    if plane.max() <= plane.min():
        return Side(sign or 1)
    likely = sign or _first_sign(plane, shown)
    if likely > 0 and not sign:
        return Side(1)
    if not sign and worth(_clear(plane, shown, 1, diameter)) > DOUBT * _worth(plane, shown, likely, diameter):
        likely = 1
    return Side(likely, _crowded(plane, shown, likely, diameter))


def sign_of_all(planes: Sequence[tuple[np.ndarray, np.ndarray]], diameter: float = 0) -> int:
    """Whether objects are bright, 1, or dark, -1, in all of some smoothed slices (Y, X), each with where it is shown;
    as `side_of`."""
    uneven = [(plane, shown) for plane, shown in planes if plane.max() > plane.min()]
    first = [_first_sign(*each) for each in uneven]
    if -1 not in first:
        return 1
    total = {1: 0.0, -1: 0.0}
    for (plane, shown), likely in zip(uneven, first, strict=True):
        total[likely] += DOUBT * _worth(plane, shown, likely, diameter)
        total[-likely] += worth(_clear(plane, shown, -likely, diameter))
    return 1 if total[1] > total[-1] else -1


def _first_sign(plane: np.ndarray, shown: np.ndarray) -> int:
    """What the gray values say; see `side_of`."""
    # Uneven illumination must not look like a dark side: only what differs from its wide surroundings counts.
    detail = plane - _blurred_widely(plane, min(plane.shape) / 6)
    low, usual, high = np.percentile(detail[shown], [0.2, 50, 99.8])
    values = plane[shown]
    dark = (values > threshold_otsu(values)).mean() > 0.5 or usual - low > 0.5 * (high - usual)
    return -1 if dark else 1


def _worth(plane: np.ndarray, shown: np.ndarray, sign: int, diameter: float) -> float:
    """What the regions on a side are worth together, as `component_tree` counts."""
    rising = above_background(plane, Side(sign), shown)
    if not rising.any():
        return 0.0
    lowest = 0.5 * threshold_otsu(rising[shown])
    return worth(candidates(rising, lowest, diameter or object_diameter(rising)))


def _crowded(plane: np.ndarray, shown: np.ndarray, sign: int, diameter: float) -> bool:
    """Whether what is clearly apart on a side covers most of it, and it most of the image."""
    values = sign * plane[shown]
    covered = np.count_nonzero(values > threshold_otsu(values))
    if covered <= 0.5 * len(values):
        return False
    return sum(region.area for region in _clear(plane, shown, sign, diameter)) > 0.5 * covered


def _clear(plane: np.ndarray, shown: np.ndarray, sign: int, diameter: float) -> list[Region]:
    """As `candidates`, but only those that come apart before the texture of what is on a side does: above Otsu's
    threshold, and not more than half-way from there to what is usual on that side."""
    values = sign * plane[shown]
    threshold = threshold_otsu(values)
    on = values > threshold
    rising = above_background(plane, Side(sign, bool(on.mean() > 0.5)), shown)
    size = diameter or object_diameter(rising)
    levels = np.linspace(threshold, (threshold + np.median(values[on])) / 2, CLEAR_LEVELS)
    return _best(np.where(shown, sign * plane, values.min()), levels, size)


def candidates(rising: np.ndarray, lowest: float, diameter: float) -> list[Region]:
    """The regions of `rising` (Y, X) above `lowest` that look most like objects; `diameter` is their typical one in
    pixels. None of them reaches all edges of the image: that is what surrounds objects."""
    return _best(rising, _levels(rising, lowest), diameter)


def _best(values: np.ndarray, levels: np.ndarray, diameter: float) -> list[Region]:
    tree = regions(values, levels, max(20, SMALLEST * np.pi * diameter**2 / 4))
    return best(_within(tree, values.shape))


def _within(tree: Sequence[Region], shape: tuple[int, ...]) -> list[Region]:
    """The outermost regions of a tree that do not reach all edges of an image of this `shape`."""
    found = []
    for region in tree:
        reaches = all(
            place.start == 0 and place.stop == length for place, length in zip(region.place, shape, strict=True)
        )
        found += _within(region.inner, shape) if reaches else [region]
    return found


def _levels(rising: np.ndarray, lowest: float) -> np.ndarray:
    above = rising[rising > lowest]
    if not len(above):
        return np.array([lowest])
    return np.unique([lowest, *np.quantile(above, np.linspace(0, 0.98, LEVELS)[1:])])


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
