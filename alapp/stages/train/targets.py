"""Instance maps as border-core classes, which a semantic network can learn.

Each object becomes a core surrounded by a border inside its outline, so that objects that touch have two
borders between their cores and come apart again (`alapp.stages.instances`). The representation is that of
border-core training with nnU-Net (Isensee et al., "nnU-Net: a self-configuring method", and the cell tracking
work that builds on it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops
from skimage.segmentation import find_boundaries

BACKGROUND, CORE, BORDER = 0, 1, 2
CLASSES = {"background": BACKGROUND, "core": CORE, "border": BORDER}
IGNORE = 3
"""nnU-Net's ignore label: it must be the highest and be named `ignore`; the network has no output for it."""

_BORDER_SHARE = 0.07
_ENOUGH_OBJECTS = 5


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
    """Width of the border in image pixels: 7% of the objects' width, at least one pixel of the network."""
    return max(round(_BORDER_SHARE * size.width), int(np.ceil(downsampling)), 1)


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
    outline = find_boundaries(labels, connectivity=1, mode="inner")
    depth = ndimage.distance_transform_edt(~outline) + 1.0 if outline.any() else np.full(labels.shape, np.inf)
    dense = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    deepest = ndimage.maximum(depth, dense, np.arange(dense.max() + 1))
    limit = np.minimum(border_px + 1.0, np.ceil((np.asarray(deepest) + 1.0) / 2.0))
    core = foreground & (depth >= limit[dense])
    classes[foreground] = BORDER
    classes[core] = CORE
    return classes
