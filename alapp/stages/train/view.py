"""An image of any size as the network sees it: cropped, normalised, at the plan's resolution, region by region.

The steps and the results are those of nnU-Net's `DefaultPreprocessor` on the whole image. None of them depends on
where a region ends: intensities are normalised with statistics of the whole image, taken in one pass, and samples
are taken at positions in the whole image. So memory is bounded by a region, and regions fit together without a seam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, determine_do_sep_z_and_axis
from scipy import ndimage

from alapp.domain import Box, Report
from alapp.stages.train.base import ImageSource

_BLOCK = 2048
_SPLINE_MARGIN = 24
"""Voxels around a region that its cubic spline is fitted to; the influence of what is farther is below 1e-13."""

Axis = tuple[int, int]
"""First voxel and the one after the last."""


@dataclass(frozen=True)
class Statistics:
    """Intensities of an image inside `crop`, the box of what is not 0 in every channel.

    `mean`, `std` float64 (C,) of the voxels that count; `low`, `high` float64 (Z, C) of every slice of the crop.
    """

    crop: Box
    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class _Scheme:
    """Normalisation of a channel: clip to `limits`, subtract, divide; outside the mask nothing if `masked`."""

    subtract: float
    divide: float
    limits: tuple[float, float] | None
    masked: bool

    def run(self, values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """float32 like nnU-Net's; `mask` is bool of the same shape."""
        values = values.astype(np.float32)
        normal = values if self.limits is None else np.clip(values, *self.limits)
        normal = (normal - np.float32(self.subtract)) / np.float32(self.divide)
        return np.where(mask, normal, values) if self.masked and mask is not None else normal


class NetworkView:
    """`source` through the eyes of a network. `shape` is (Z, Y, X) of the whole at the network's resolution.

    `plan` is the content of plan.json, `configuration` nnU-Net's dictionary of the configuration in use.
    Reads the whole source once, block by block; a stack whose plan normalises within a mask also keeps one byte a
    voxel, because holes in the mask are found in the whole.
    """

    def __init__(
        self, source: ImageSource, plan: Mapping[str, Any], configuration: Mapping[str, Any], report: Report
    ) -> None:
        self.source = source
        masked = any(configuration["use_mask_for_norm"])
        self._filled = _filled_mask(source) if masked and source.shape[0] > 1 else None
        statistics = self._statistics = self._measure(masked, report)
        self.crop = statistics.crop
        size = (self.crop.depth, self.crop.height, self.crop.width)
        spacing = list(plan["spacing"])
        target = list(configuration["spacing"])
        target = target if len(target) == 3 else [spacing[0], *target]
        self.shape: tuple[int, int, int] = tuple(int(n) for n in compute_new_shape(size, spacing, target))
        self._scale = tuple(old / new for old, new in zip(size, self.shape, strict=True))
        self._kind = {}
        for name in ("data", "probabilities"):
            options = configuration[f"resampling_fn_{name}_kwargs"]
            both = (spacing, target) if name == "data" else (target, spacing)
            by_slices, axis = determine_do_sep_z_and_axis(options["force_separate_z"], *both)
            self._kind[name] = (options["order"], options["order_z"], bool(by_slices) and axis == 0)
        fingerprint = plan["nnunet"]["foreground_intensity_properties_per_channel"]
        self._schemes = [
            _scheme(name, bool(mask), fingerprint[str(c)], statistics, c)
            for c, (name, mask) in enumerate(
                zip(configuration["normalization_schemes"], configuration["use_mask_for_norm"], strict=True)
            )
        ]

    def needed(self, box: Box) -> Box:
        """The network's voxels that decide about `box`, voxels of the image inside `crop`."""
        ranges = []
        for part, start, scale, n in zip(box.slices, _starts(self.crop), self._scale, self.shape, strict=True):
            first = (part.start - start + 0.5) / scale - 0.5
            last = (part.stop - 1 - start + 0.5) / scale - 0.5
            ranges.append((int(np.clip(math.floor(first), 0, n - 1)), int(np.clip(math.floor(last) + 2, 1, n))))
        return _box(ranges)

    def read(self, box: Box) -> np.ndarray:
        """Normalised samples float32 (C, Z, Y, X) of a box of the network's voxels inside `shape`."""
        order, order_z, by_slices = self._kind["data"]
        wanted = [(part.start, part.stop) for part in box.slices]
        sizes = (self.crop.depth, self.crop.height, self.crop.width)
        ranges = [
            part if new == old else _source_range(part, scale, old, _SPLINE_MARGIN if order > 1 else 1)
            for part, scale, old, new in zip(wanted, self._scale, sizes, self.shape, strict=True)
        ]
        raw, mask = self._read_crop(ranges)
        samples = np.empty((raw.shape[-1], box.depth, box.height, box.width), np.float32)
        same = [old == new for old, new in zip(sizes, self.shape, strict=True)]
        for channel, scheme in enumerate(self._schemes):
            normal = scheme.run(raw[..., channel], mask)
            if all(same):
                samples[channel] = normal
                continue
            low, high = self._limits(channel, scheme, ranges[0], by_slices)
            at = _Sampling(wanted, [a for a, _ in ranges], self._scale, order)
            if by_slices or same[0]:
                planes = np.stack([np.clip(at.plane(p), low[i], high[i]) for i, p in enumerate(normal)])
                samples[channel] = planes if same[0] else at.slices(planes, order_z)
            else:
                samples[channel] = np.clip(at.volume(normal), low.min(), high.max())
        return samples

    def to_image(self, values: Any, seen: Box, box: Box) -> Any:
        """`values`, torch (K, *seen) at the network's voxels `seen`, at the image's voxels `box` inside `crop`."""
        order, order_z, by_slices = self._kind["probabilities"]
        sizes = (self.crop.depth, self.crop.height, self.crop.width)
        if order > 1:
            raise ValueError(f"probabilities can be resampled linearly or to the nearest, not with order {order}")
        for axis, (part, have) in enumerate(zip(box.slices, seen.slices, strict=True)):
            start = _starts(self.crop)[axis]
            places = (np.arange(part.start, part.stop) - start + 0.5) / self._scale[axis] - 0.5
            if sizes[axis] == self.shape[axis]:
                values = values.narrow(axis + 1, part.start - start - have.start, part.stop - part.start)
            else:
                nearest = (order_z if axis == 0 and by_slices else order) == 0
                values = _take(values, axis + 1, places, have, self.shape[axis], nearest)
        return values

    def _read_crop(self, ranges: Sequence[Axis]) -> tuple[np.ndarray, np.ndarray | None]:
        """Raw voxels (Z, Y, X, C) of ranges within the crop, and where they count, if the plan has a mask."""
        where = tuple(slice(start + a, start + b) for start, (a, b) in zip(_starts(self.crop), ranges, strict=True))
        raw = np.asarray(self.source[where])
        if not any(scheme.masked for scheme in self._schemes):
            return raw, None
        return raw, (raw != 0).any(-1) if self._filled is None else self._filled[where]

    def _limits(self, channel: int, scheme: _Scheme, slices: Axis, by_slices: bool) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest normalised intensity of each slice (of the whole image where it is resampled in 3D)."""
        low = scheme.run(self._statistics.low[:, channel], None)
        high = scheme.run(self._statistics.high[:, channel], None)
        if scheme.masked:  # what lies outside stays 0
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        if not by_slices:
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        return low[slice(*slices)], high[slice(*slices)]

    def _measure(self, masked: bool, report: Report) -> Statistics:
        """Statistics of the source; where it has empty margins, in a second pass without them."""
        whole = Box(0, 0, 0, *self.source.shape[:3])
        crop, found = _pass(self.source, whole, self._filled, masked, report)
        return found if crop in (None, whole) else _pass(self.source, crop, self._filled, masked, report)[1]


def _pass(
    source: ImageSource, crop: Box, filled: np.ndarray | None, masked: bool, report: Report
) -> tuple[Box | None, Statistics]:
    """One reading of `crop`: the box of what is not 0 (None where all is), and statistics."""
    channels = source.shape[3]
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    low = np.full((crop.depth, channels), np.inf)
    high = np.full((crop.depth, channels), -np.inf)
    least, most = np.full(3, np.iinfo(np.int64).max), np.full(3, -1)
    blocks = list(_blocks(crop))
    for index, where in enumerate(blocks):
        report(index, len(blocks), "Measuring the brightness of the image")
        block = np.asarray(source[where])
        nonzero = (block != 0).any(-1)
        for axis in range(3):
            hit = np.flatnonzero(nonzero.any(tuple(a for a in range(3) if a != axis)))
            if hit.size:
                least[axis] = min(least[axis], where[axis].start + hit[0])
                most[axis] = max(most[axis], where[axis].start + hit[-1] + 1)
        inside = (nonzero if filled is None else filled[where]) if masked else None
        values = (block.reshape(-1, channels) if inside is None else block[inside]).astype(np.float64)
        if not len(values):
            continue
        z = where[0].start - crop.z
        low[z] = np.minimum(low[z], values.min(0))
        high[z] = np.maximum(high[z], values.max(0))
        # Chan, Golub and LeVeque (1983): means and sums of squares of parts, put together.
        here = values.mean(0)
        values -= here
        total = count + len(values)
        squares += np.einsum("ij,ij->j", values, values) + (here - mean) ** 2 * count * len(values) / total
        mean += (here - mean) * len(values) / total
        count = total
    empty = ~np.isfinite(low)
    low[empty], high[empty] = 0.0, 0.0
    found = None if most[0] < 0 else _box(list(zip(least.tolist(), most.tolist(), strict=True)))
    return found, Statistics(crop, mean, np.sqrt(squares / max(count, 1)), low, high)


def _scheme(name: str, masked: bool, fingerprint: Mapping[str, float], found: Statistics, channel: int) -> _Scheme:
    """nnU-Net's normalisation called `name`, for a channel of the image that `found` describes."""
    tiny = 1e-8
    if name == "ZScoreNormalization":
        return _Scheme(found.mean[channel], max(found.std[channel], tiny), None, masked)
    if name == "CTNormalization":
        limits = (fingerprint["percentile_00_5"], fingerprint["percentile_99_5"])
        return _Scheme(fingerprint["mean"], max(fingerprint["std"], tiny), limits, False)
    if name == "RescaleTo01Normalization":
        low, high = found.low[:, channel].min(), found.high[:, channel].max()
        return _Scheme(low, max(high - low, tiny), None, False)
    if name == "RGBTo01Normalization":
        return _Scheme(0.0, 255.0, None, False)
    if name == "NoNormalization":
        return _Scheme(0.0, 1.0, None, False)
    raise ValueError(f"there is no normalisation called {name!r}")


class _Sampling:
    """Positions of wanted samples in a part of the source, and splines through it. See `skimage.transform.resize`,
    which nnU-Net calls: sample i of the whole lies at (i + 0.5) * scale - 0.5, edges are repeated."""

    def __init__(self, wanted: Sequence[Axis], offsets: Sequence[float], scale: Sequence[float], order: int):
        self._shape = [b - a for a, b in wanted]
        self._scale = list(scale)
        self._first = [(a + 0.5) * s - 0.5 - o for (a, _), s, o in zip(wanted, scale, offsets, strict=True)]
        self._order = order

    def plane(self, plane: np.ndarray) -> np.ndarray:
        """(Y, X) at the wanted positions, float64."""
        return self._sample(plane, slice(1, 3), self._order)

    def volume(self, volume: np.ndarray) -> np.ndarray:
        """(Z, Y, X) at the wanted positions, float64."""
        return self._sample(volume, slice(0, 3), self._order)

    def slices(self, volume: np.ndarray, order: int) -> np.ndarray:
        """(Z, Y, X) with only z at the wanted positions, float64."""
        columns = volume.reshape(len(volume), -1)
        shape = [self._shape[0], columns.shape[1]]
        moved = ndimage.affine_transform(
            columns.astype(np.float64), [self._scale[0], 1.0], [self._first[0], 0.0], shape, order=order, mode="nearest"
        )
        return moved.reshape(self._shape[0], *volume.shape[1:])

    def _sample(self, values: np.ndarray, axes: slice, order: int) -> np.ndarray:
        return ndimage.affine_transform(
            values.astype(np.float64), self._scale[axes], self._first[axes], self._shape[axes], order=order,
            mode="nearest",
        )  # fmt: skip


def _take(values: Any, axis: int, places: np.ndarray, have: slice, n: int, nearest: bool) -> Any:
    """`values` (torch) at fractional `places` of the whole along `axis`; it holds the voxels `have` of `n`."""
    import torch

    places = np.clip(places, 0, n - 1)
    if nearest:
        chosen = torch.from_numpy(np.floor(places + 0.5).astype(np.int64) - have.start).to(values.device)
        return values.index_select(axis, chosen)
    below = np.floor(places).astype(np.int64)
    share = torch.from_numpy((places - below).astype(np.float32)).to(values.device)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    low = torch.from_numpy(below - have.start).to(values.device)
    high = torch.from_numpy(np.minimum(below + 1, n - 1) - have.start).to(values.device)
    return torch.lerp(values.index_select(axis, low), values.index_select(axis, high), share)


def _source_range(part: Axis, scale: float, n: int, margin: int) -> Axis:
    first, last = (part[0] + 0.5) * scale - 0.5, (part[1] - 0.5) * scale - 0.5
    return max(0, math.floor(first) - margin), min(n, math.ceil(last) + 1 + margin)


def _filled_mask(source: ImageSource) -> np.ndarray:
    """bool (Z, Y, X): not 0 in some channel, or enclosed by such voxels (nnU-Net's `create_nonzero_mask`)."""
    mask = np.zeros(source.shape[:3], bool)
    for where in _blocks(Box(0, 0, 0, *source.shape[:3])):
        mask[where] = (np.asarray(source[where]) != 0).any(-1)
    return ndimage.binary_fill_holes(mask)


def _blocks(box: Box) -> Iterator[tuple[slice, slice, slice]]:
    """Parts of single slices that cover a box."""
    for z in range(box.z, box.z + box.depth):
        for y in range(box.y, box.y + box.height, _BLOCK):
            for x in range(box.x, box.x + box.width, _BLOCK):
                yield (
                    slice(z, z + 1),
                    slice(y, min(y + _BLOCK, box.y + box.height)),
                    slice(x, min(x + _BLOCK, box.x + box.width)),
                )


def _starts(box: Box) -> tuple[int, int, int]:
    return box.z, box.y, box.x


def _box(ranges: Sequence[Axis]) -> Box:
    return Box(*(a for a, _ in ranges), *(b - a for a, b in ranges))
