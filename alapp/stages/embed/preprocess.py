"""From raw patches to the square, normalised float images that an encoder reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from alapp.errors import InputError

if TYPE_CHECKING:
    import torch

MAX_SLICES = 8
"""Slices of a 3D patch that are embedded, evenly spaced."""

_PERCENTILES = (1.0, 99.0)


def slices_of(patch: np.ndarray) -> np.ndarray:
    """(Y, X, C) or (Z, Y, X, C), any dtype, as (S, Y, X, C): at most `MAX_SLICES` evenly spaced slices.

    Raises `InputError` for an empty patch, another number of axes or values that are not finite.
    """
    patch = np.asarray(patch)
    if patch.ndim == 3:
        patch = patch[None]
    if patch.ndim != 4 or patch.size == 0:
        raise InputError(f"A patch must be (Y, X, C) or (Z, Y, X, C) and not empty, but its shape is {patch.shape}.")
    if len(patch) > MAX_SLICES:
        patch = patch[evenly(len(patch))]
    if not np.isfinite(patch).all():
        raise InputError("A patch holds NaN or infinity. Import the image again without such values.")
    return patch


def evenly(depth: int) -> np.ndarray:
    """At most `MAX_SLICES` evenly spaced slices of `depth`, int64, first and last among them."""
    return np.arange(depth) if depth <= MAX_SLICES else np.round(np.linspace(0, depth - 1, MAX_SLICES)).astype(int)


def normalise(slices: np.ndarray) -> np.ndarray:
    """(S, Y, X, C) as float32 (S, C, Y, X): each channel's 1st to 99th percentile over the patch to [0, 1], clipped.

    A channel that is constant between the percentiles keeps its extremes; one that is constant becomes 0.
    """
    values = np.moveaxis(slices, -1, 1).astype(np.float32)
    low, high = _limits(slices).astype(np.float32)[:, None, :, None, None]
    flat = high <= low
    low = np.where(flat, values.min(axis=(0, 2, 3), keepdims=True), low)
    high = np.where(flat, values.max(axis=(0, 2, 3), keepdims=True), high)
    span = np.where(high > low, high - low, 1)
    return np.clip((values - low) / span, 0, 1)


def _limits(slices: np.ndarray) -> np.ndarray:
    """`_PERCENTILES` of each channel of (S, Y, X, C), float64 (2, C), as `np.percentile` interpolates them.

    Whole numbers of 8 and 16 bits are counted, ten times faster than they are sorted.
    """
    if slices.dtype not in (np.uint8, np.uint16):
        return np.percentile(slices, _PERCENTILES, axis=(0, 1, 2))
    places = np.array(_PERCENTILES) / 100 * (slices[..., 0].size - 1)
    below = np.floor(places).astype(np.int64)
    found = []
    for channel in np.moveaxis(slices, -1, 0):
        up_to = np.cumsum(np.bincount(channel.ravel()))
        first, second = (np.searchsorted(up_to, rank, side="right") for rank in (below, np.ceil(places)))
        found.append(first + (second - first) * (places - below))
    return np.array(found).T


def to_square(images: np.ndarray, side: int) -> torch.Tensor:
    """float32 (S, C, Y, X) resampled to (S, C, side, side), bilinear with antialiasing.

    A patch that is not square is squeezed, in the same way for all patches of a grid.
    """
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(images))
    if tensor.shape[-2:] == (side, side):
        return tensor
    return torch.nn.functional.interpolate(
        tensor, size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )


def read(patch: np.ndarray, side: int, channels: int | None = None) -> torch.Tensor:
    """A raw patch as float32 (S, C, side, side) in [0, 1]. Raises `InputError` unless it has `channels` channels."""
    slices = slices_of(patch)
    if channels is not None and slices.shape[-1] != channels:
        raise InputError(
            f"A patch has {slices.shape[-1]} channels, but the embedding model was trained on {channels}. "
            "Use images with the same channels, or train the embeddings again."
        )
    return to_square(normalise(slices), side)


def unit_rows(features: Iterable[np.ndarray]) -> np.ndarray:
    """Rows of equal length, each divided by its Euclidean norm, as float32 (N, D). A row of zeros stays zero."""
    rows = np.asarray(features, dtype=np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
