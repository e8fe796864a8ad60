"""Instance maps as classes, which a semantic network can learn, and from which instances can be read again.

Two representations. `border_core`: each object is a core surrounded by a border inside its outline, so that objects
that touch have two borders between their cores (Isensee et al., "nnU-Net: a self-configuring method", and the cell
tracking work that builds on it). `levels`: a third class fills the middle of each object, relative to its own depth,
so that even where the thin border between two objects is missed their centres stay apart; the discretised energy of
the deep watershed transform (Bai & Urtasun 2017) with three levels. `alapp.stages.instances` decodes both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops
from skimage.segmentation import find_boundaries

BACKGROUND, CORE, BORDER = 0, 1, 2
RIM, INSIDE, CENTRE = 1, 2, 3
BORDER_CORE, LEVELS = "border_core", "levels"
SCHEMES = {
    BORDER_CORE: {"background": BACKGROUND, "core": CORE, "border": BORDER},
    LEVELS: {"background": BACKGROUND, "rim": RIM, "inside": INSIDE, "centre": CENTRE},
}
"""Classes by representation. nnU-Net's ignore label is the next number: it must be the highest and be named `ignore`;
the network has no output for it."""
DEFAULT = BORDER_CORE

CENTRE_DEPTH = 0.55
"""The centre of an object is what is deeper than this share of its deepest point."""

BORDER_SHARE = 0.15
"""Of the objects' width. Half of it merges 1.5 times as many touching nuclei."""

_ENOUGH_OBJECTS = 5
_BOTTOMLESS = 1e6


@dataclass(frozen=True)
class ObjectSize:
    """Sizes of objects within a slice, in pixels: median diameter of the circle of the same area, median
    diameter of the largest circle inside, and the number of objects measured."""

    diameter: float
    width: float
    count: int


def object_sizes(labels: np.ndarray) -> list[tuple[float, float, bool]]:
    """(diameter, width, touches the edge) of every object of every slice.

    `labels` is an int32 instance map (Y, X) or (Z, Y, X), 0 background. Diameter is that of the circle of the
    same area, width that of the largest inscribed circle; both in pixels.
    """
    sizes = []
    for plane in labels if labels.ndim == 3 else labels[None]:
        height, width = plane.shape
        for region in regionprops(plane):
            top, left, bottom, right = region.bbox
            cut = top == 0 or left == 0 or bottom == height or right == width
            depth = ndimage.distance_transform_edt(np.pad(region.image, 1)).max()
            sizes.append((float(region.equivalent_diameter_area), float(2 * depth - 1), cut))
    return sizes


def typical_size(sizes: list[tuple[float, float, bool]]) -> ObjectSize:
    """Medians over whole objects; objects cut by the edge count only where whole ones are few.

    `sizes` comes from `object_sizes` and must not be empty.
    """
    whole = [size for size in sizes if not size[2]]
    used = whole if len(whole) >= _ENOUGH_OBJECTS else sizes
    diameters, widths, _ = zip(*used, strict=True)
    return ObjectSize(float(np.median(diameters)), float(np.median(widths)), len(used))


def border_width(size: ObjectSize, downsampling: float = 1.0) -> int:
    """Width of the border in image pixels: 15% of the objects' width, at least one pixel of the network."""
    return max(round(BORDER_SHARE * size.width), int(np.ceil(downsampling)), 1)


def encode(labels: np.ndarray, scheme: str, border_px: int, in_plane: bool = True) -> np.ndarray:
    """Classes uint8 of the shape of `labels`, an instance map (Y, X) or (Z, Y, X), by a scheme of `SCHEMES`.

    `border_px` is the width of the border or rim in pixels; stacks are encoded slice by slice with `in_plane`.
    """
    return {BORDER_CORE: border_core, LEVELS: levels}[scheme](labels, border_px, in_plane)


def levels(labels: np.ndarray, border_px: int, in_plane: bool = True) -> np.ndarray:
    """Classes uint8 of the shape of `labels`: 0 background, 1 rim, 2 inside, 3 centre.

    `labels` is an instance map (Y, X) or (Z, Y, X), 0 background. The rim is the border of `border_core`; the centre
    is what lies deeper than `CENTRE_DEPTH` of the object's deepest point. Every object has a centre pixel.
    """
    if labels.ndim == 3 and in_plane:
        return np.stack([levels(plane, border_px) for plane in labels]) if len(labels) else labels.astype(np.uint8)
    foreground = labels > 0
    classes = np.zeros(labels.shape, np.uint8)
    if not foreground.any():
        return classes
    depth, deepest, rim = _depths(labels, border_px)
    classes[foreground] = RIM
    classes[foreground & (depth >= rim)] = INSIDE
    centre = np.minimum(np.maximum(rim + 1, np.ceil(CENTRE_DEPTH * deepest)), deepest)
    classes[foreground & (depth >= centre)] = CENTRE
    return classes


def border_core(labels: np.ndarray, border_px: int, in_plane: bool = True) -> np.ndarray:
    """Classes uint8 of the shape of `labels`: 0 background, 1 core, 2 border.

    `labels` is an instance map (Y, X) or (Z, Y, X), 0 background. The border is the part of an object nearer
    than `border_px` pixels to a pixel of another object or of the background; the image edge is no outline.
    Objects too small for that keep their deepest half as core, so every object has a core pixel. Stacks get
    their border slice by slice with `in_plane`, otherwise in all three directions.
    """
    if labels.ndim == 3 and in_plane:
        return np.stack([border_core(plane, border_px) for plane in labels]) if len(labels) else labels.astype(np.uint8)
    foreground = labels > 0
    classes = np.zeros(labels.shape, np.uint8)
    if not foreground.any():
        return classes
    depth, _, border = _depths(labels, border_px)
    classes[foreground] = BORDER
    classes[foreground & (depth >= border)] = CORE
    return classes


def _depths(labels: np.ndarray, border_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel, in pixels: its depth below the outline of its object (1 on the outline), the deepest point of
    its object, and the depth at which the border ends. The border leaves small objects their deepest half."""
    outline = find_boundaries(labels, connectivity=1, mode="inner")
    # An object that fills the image has no outline: it is deep everywhere.
    depth = ndimage.distance_transform_edt(~outline) + 1.0 if outline.any() else np.full(labels.shape, _BOTTOMLESS)
    dense = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    deepest = np.asarray(ndimage.maximum(depth, dense, np.arange(dense.max() + 1)))
    limit = np.minimum(border_px + 1.0, np.ceil((deepest + 1.0) / 2.0))
    return depth, deepest[dense], limit[dense]
