"""The built-in click method: seeded watershed on the Sobel gradient, at the scale that fits the object best."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from alapp.domain import BackendState, Modality, Parameter, Status
from alapp.stages.annotate.base import PLAIN, Point, Tuning
from alapp.stages.annotate.candidates import (
    RING,
    Features,
    Landscape,
    features,
    moved_border,
    score,
    with_border,
)
from alapp.stages.annotate.flooding import Window, around, flooded, flooding, tight, window_of

RADII = (7, 12, 20, 34, 56)  # pixels; how far an object may reach from its clicks, each one is tried
SMALLEST_COARSE = 7  # pixels; coarser smoothing leaves nothing of what lies within so little
SEED_RADIUS = (1.0, 2.0)  # limits, pixels; as large as the smoothing, which moves borders by as much
CACHED_SLICES = 16
TRUSTED_PRIOR = 0.5  # at every click; a network that sees no object there is not asked about its border
GRANULARITY = 3.0  # at full granularity the weight of the logarithm of the area changes by so much
SPOT_PIXELS = 150  # a smaller mask may be a spot in an object (a nucleolus, a crista) and not the object
SPOT_REACH = 3  # pixels; the border of a spot is stepped over by as much
SPOT_GROWTH = 1.5  # what is found around a spot has at least as many times the pixels that the search began with
SPOT_GAIN = 0.3  # and its score is better by as much


@dataclass(frozen=True)
class _Search:
    """What the candidates of a click are flooded on and scored with; see `Features`."""

    landscapes: tuple[Landscape, ...]
    prior: np.ndarray | None
    seed: float


@dataclass(frozen=True)
class _Tried:
    """What a candidate is flooded on: up to `radius` (pixels) from the clicks, from `seeds` (bool, of the window) or
    without them from the clicks."""

    landscape: Landscape
    window: Window
    radius: float
    seeds: np.ndarray | None = None


@dataclass(frozen=True)
class _Candidate:
    """A mask in a part of the slice, and how likely it is the whole object (higher is better)."""

    slices: tuple[slice, slice]
    mask: np.ndarray
    score: float


class SeededWatershed:
    """Meyer's flooding from markers: the positive points against the negative ones and the far surroundings.

    How far the surroundings are is not known, nor how coarse the texture inside is, so several radii are tried at
    two smoothings, and the mask that looks most like a whole object is taken (`candidates.score`). If that is only
    a spot, the search goes on from beyond its border, and the object around it is taken if it scores better. The
    smoothing follows the noise of the image. Where the network sees an object at the clicks, its foreground
    probability adds a landscape of its own and a term of the score; elsewhere it is not asked.
    Sources: Meyer 1994, "Topographic distance and watershed lines"; the marker scheme and
    its comparison with grabCut, random walker and geodesic distance are this project's.
    """

    title = "Built-in (seeded watershed)"
    suits = "Objects with a visible border, in any image; needs no download and answers in a few milliseconds."
    modalities = frozenset(Modality)
    parameters: tuple[Parameter, ...] = ()
    uses_prior = True

    def __init__(self, modality: Modality | None = None) -> None:
        """One method for every `modality`: the image itself decides the scale."""
        self._slices: OrderedDict[str, Features] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Always ready."""
        return Status(BackendState.READY, "Part of the app.")

    def prepare(self, key: str, image: np.ndarray, prior: np.ndarray | None = None) -> None:
        """Compute and keep the gradient of `image` (Y, X, C); `prior` (Y, X) adds the network's own borders."""
        with self._lock:
            if key in self._slices:
                self._slices.move_to_end(key)
                return
        made = features(image, prior, SEED_RADIUS)
        with self._lock:
            self._slices[key] = made
            self._slices.move_to_end(key)
            while len(self._slices) > CACHED_SLICES:
                self._slices.popitem(last=False)

    def segment(
        self,
        key: str,
        positive: Sequence[Point],
        negative: Sequence[Point],
        box: tuple[float, float, float, float] | None = None,
        previous: np.ndarray | None = None,
        tuning: Tuning = PLAIN,
    ) -> np.ndarray:
        """See `base.ClickSegmenter`. With `previous` or `box` the scale is known and only one is tried, whatever
        the granularity."""
        with self._lock:
            known = self._slices[key]
        mask = self._find(known, positive, negative, box, previous, tuning.granularity)
        return moved_border(mask, tuning.looseness, positive, negative) if tuning.looseness else mask

    def _find(
        self,
        known: Features,
        positive: Sequence[Point],
        negative: Sequence[Point],
        box: tuple[float, float, float, float] | None,
        previous: np.ndarray | None,
        granularity: float,
    ) -> np.ndarray:
        mask = np.zeros(known.shape, bool)
        if previous is not None and previous.any():
            return _corrected(known, previous, positive, negative)
        if box is not None:
            return _in_box(known, box, positive, negative)
        if not positive:
            return mask
        windows = [window_of(mask.shape, positive, negative, radius) for radius in RADII]
        search = _search(known, _sees(known, positive))
        tried = [
            _Tried(landscape, window, radius)
            for landscape in search.landscapes
            for window, radius in zip(windows, RADII, strict=True)
            if radius > SMALLEST_COARSE or landscape is not known.image[1]
        ]
        best = max(_candidates(search, tried), key=lambda candidate: _preferred(candidate, granularity))
        if np.count_nonzero(best.mask) < SPOT_PIXELS and granularity >= 0:
            best = _around_spot(search, windows, best)
        window = around(best.slices, positive, negative)
        found = with_border(known.image[0].smooth[best.slices], known.image[0].sigma, best.mask)
        mask[best.slices] = found & ((window.negative > known.seed) | best.mask)
        return mask


def _search(known: Features, trusted: bool) -> _Search:
    """All landscapes and the prior; without the prior where it is missing or not `trusted`."""
    if known.guided is None or not trusted:
        return _Search(known.image, None, known.seed)
    return _Search((*known.image, known.guided), known.prior, known.seed)


def _sees(known: Features, points: Sequence[Point]) -> bool:
    """Whether the network takes every clicked pixel for a part of an object."""
    if known.prior is None:
        return False
    pixels = np.clip(np.round(points).astype(int), 0, np.array(known.shape) - 1)
    return bool((known.prior[tuple(pixels.T)] > TRUSTED_PRIOR).all())


def _candidates(search: _Search, tried: Sequence[_Tried]) -> list[_Candidate]:
    """The catchments of the seeds against what is farther than the radius from the clicks, all flooded at once."""
    floodings = []
    for each in tried:
        start = each.window.positive <= search.seed
        seeds = start if each.seeds is None else start | each.seeds
        limited = each.window.positive > each.radius**2
        floodings.append(flooding(each.landscape.gradient, search.seed, each.window, seeds, limited))
    return [
        _candidate(search, each, one.far, found)
        for each, one, found in zip(tried, floodings, flooded(floodings), strict=True)
    ]


def _candidate(search: _Search, tried: _Tried, limited: np.ndarray, found: np.ndarray) -> _Candidate:
    # Scoring looks no farther than the ring; most masks are much smaller than their window.
    part = tight(found, RING + 4)
    slices = tuple(
        slice(whole.start + inner.start, whole.start + inner.stop)
        for whole, inner in zip(tried.window.slices, part, strict=True)
    )
    prior = None if search.prior is None else search.prior[slices]
    return _Candidate(slices, found[part], score(tried.landscape.smooth[slices], found[part], limited[part], prior))


def _around_spot(search: _Search, windows: Sequence[Window], spot: _Candidate) -> _Candidate:
    """The object that `spot` is a part of; the spot itself where nothing around it is a better object."""
    whole = np.zeros(search.landscapes[0].gradient.shape, bool)
    whole[spot.slices] = spot.mask
    area, best = np.count_nonzero(spot.mask), spot
    tried = []
    for window, radius in zip(windows[1:], RADII[1:], strict=True):
        if np.pi * radius**2 >= 2 * area:
            grown = ndimage.binary_dilation(whole[window.slices], iterations=SPOT_REACH)
            tried.append(_Tried(search.landscapes[0], window, radius, grown & (window.positive <= radius**2)))
    for each, found in zip(tried, _candidates(search, tried), strict=True):
        larger = np.count_nonzero(found.mask) > SPOT_GROWTH * np.count_nonzero(each.seeds)
        if larger and found.score > max(best.score, spot.score + SPOT_GAIN):
            best = found
    return best


def _preferred(candidate: _Candidate, granularity: float) -> float:
    return candidate.score + GRANULARITY * granularity * np.log(max(np.count_nonzero(candidate.mask), 1))


def _corrected(
    known: Features, previous: np.ndarray, positive: Sequence[Point], negative: Sequence[Point]
) -> np.ndarray:
    """The object as it was, changed near the points: its core stays a seed, except around negative points."""
    depth = ndimage.distance_transform_edt(np.pad(previous, 1))[1:-1, 1:-1]
    reach = max(float(depth.max()), 4.0)
    rows, columns = np.flatnonzero(previous.any(axis=1)), np.flatnonzero(previous.any(axis=0))
    spots = [(rows[0], columns[0]), (rows[-1], columns[-1]), *positive]
    slices = window_of(previous.shape, spots, (), reach + 2).slices
    window = around(slices, positive, negative)
    core = depth[slices] > 0.5 * depth.max()  # a thin object has one too
    core &= window.negative > (0.5 * reach) ** 2
    outside = ndimage.distance_transform_edt(~previous[slices])
    far = (outside > 0.5 * reach) & (window.positive > reach**2)
    mask = np.zeros(previous.shape, bool)
    guided = known.guided is not None and known.prior[previous].mean() > TRUSTED_PRIOR
    gradient = (known.guided if guided else known.image[0]).gradient
    mask[slices] = flooded([flooding(gradient, known.seed, window, core | (window.positive <= known.seed), far)])[0]
    return mask


def _in_box(
    known: Features,
    box: tuple[float, float, float, float],
    positive: Sequence[Point],
    negative: Sequence[Point],
) -> np.ndarray:
    """The object that fills a box: its centre is a seed, what is outside of the box is background."""
    height, width = known.shape
    mask = np.zeros((height, width), bool)
    y0, y1 = sorted((max(0, round(box[0])), min(height, round(box[2]))))
    x0, x1 = sorted((max(0, round(box[1])), min(width, round(box[3]))))
    if y1 - y0 < 1 or x1 - x0 < 1:
        return mask
    slices = (slice(max(0, y0 - 1), min(height, y1 + 1)), slice(max(0, x0 - 1), min(width, x1 + 1)))
    window = around(slices, positive, negative)
    ys = np.arange(slices[0].start, slices[0].stop)[:, None]
    xs = np.arange(slices[1].start, slices[1].stop)
    far = (ys < y0) | (ys >= y1) | (xs < x0) | (xs >= x1)
    centred = np.hypot((ys - (y0 + y1 - 1) / 2) / (y1 - y0), (xs - (x0 + x1 - 1) / 2) / (x1 - x0))
    middle = centred <= max(1 / 6, float(centred.min()))
    guided = known.guided is not None and known.prior[slices][middle].mean() > TRUSTED_PRIOR
    gradient = (known.guided if guided else known.image[0]).gradient
    mask[slices] = flooded([flooding(gradient, known.seed, window, middle | (window.positive <= known.seed), far)])[0]
    return mask
