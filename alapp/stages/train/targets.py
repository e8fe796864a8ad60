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

BORDER_SHARE, CROWDED_SHARE = 0.07, 0.15
"""Width of the border as a share of the objects' width: a border is learned at the cost of the rest, so it is wide only
where objects touch and the network must keep them apart."""
CROWDED = 0.05
"""From this share of objects that touch another one, borders are wide."""

_ENOUGH_OBJECTS = 5
_BOTTOMLESS = 1e6


@dataclass(frozen=True)
class ObjectSize:
    """Sizes of objects within a slice, in pixels: median diameter of the circle of the same area, median
    diameter of the largest circle inside, the number of objects measured, and the share of all that touch another."""

    diameter: float
    width: float
    count: int
    touching: float = 0.0

    @property
    def border_share(self) -> float:
        """Width of the border that fits these objects, as a share of their width."""
        return CROWDED_SHARE if self.touching >= CROWDED else BORDER_SHARE


def object_sizes(labels: np.ndarray) -> list[tuple[float, float, bool, bool]]:
    """(diameter, width, touches the edge, touches another object) of every object of every slice.

    `labels` is an int32 instance map (Y, X) or (Z, Y, X), 0 background. Diameter is that of the circle of the
    same area, width that of the largest inscribed circle; both in pixels.
    """
    sizes = []
    for plane in labels if labels.ndim == 3 else labels[None]:
        height, width = plane.shape
        touching = touching_labels(plane)
        for region in regionprops(plane):
            top, left, bottom, right = region.bbox
            cut = top == 0 or left == 0 or bottom == height or right == width
            depth = ndimage.distance_transform_edt(np.pad(region.image, 1)).max()
            sizes.append((float(region.equivalent_diameter_area), float(2 * depth - 1), cut, region.label in touching))
    return sizes


def typical_size(sizes: list[tuple[float, float, bool, bool]]) -> ObjectSize:
    """Medians over whole objects; objects cut by the edge count only where whole ones are few.

    `sizes` comes from `object_sizes` and must not be empty.
    """
    whole = [size for size in sizes if not size[2]]
    used = whole if len(whole) >= _ENOUGH_OBJECTS else sizes
    diameters, widths, _, _ = zip(*used, strict=True)
    touching = float(np.mean([size[3] for size in sizes]))
    return ObjectSize(float(np.median(diameters)), float(np.median(widths)), len(used), touching)


def touching_labels(plane: np.ndarray) -> set[int]:
    """Labels of a slice (Y, X) of which a pixel lies beside one of another object."""
    found: set[int] = set()
    for one, other in ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])):
        between = (one != other) & (one > 0) & (other > 0)
        found.update(one[between].tolist(), other[between].tolist())
    return found


def border_width(size: ObjectSize, downsampling: float = 1.0) -> int:
    """Width of the border in image pixels: 7% of the objects' width, 15% where they touch each other, and at least one
    pixel of the network."""
    return max(round(size.border_share * size.width), int(np.ceil(downsampling)), 1)


def encode(labels: np.ndarray, scheme: str, border_px: int, in_plane: bool = True) -> np.ndarray:
    """Classes uint8 of the shape of `labels`, an instance map (Y, X) or (Z, Y, X), by a scheme of `SCHEMES`.

    `border_px` is the width of the border or rim in pixels; stacks are encoded slice by slice with `in_plane`.
    """
    return {BORDER_CORE: border_core, LEVELS: levels}[scheme](labels, border_px, in_plane)


def encode_known(
    labels: np.ndarray, unknown: np.ndarray, scheme: str, border_px: int, in_plane: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """`encode` of an instance map of which a part is `unknown` (bool, same shape): the classes, and where they are not
    known (bool).

    An object that meets the unknown part may end there or go on in it. Both are encoded, and what they do not agree
    on, which is the border along the part, is not known either.
    """
    goes_on = encode(continued(labels, unknown), scheme, border_px, in_plane)
    ends = encode(np.where(unknown, 0, labels), scheme, border_px, in_plane)
    return goes_on, unknown | (goes_on != ends)


def continued(labels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """`labels`, an instance map, with its nearest label wherever `unknown` (bool, same shape) is True: what is cut off
    at the edge of what was annotated has no outline there, as it has none at the edge of the image."""
    if not unknown.any() or unknown.all():
        return labels
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return labels[tuple(nearest)]


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
    dense = labels if labels.max() <= labels.size else np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    deepest = np.zeros(int(dense.max()) + 1)
    np.maximum.at(deepest, dense.ravel(), depth.ravel())
    limit = np.minimum(border_px + 1.0, np.ceil((deepest + 1.0) / 2.0))
    return depth, deepest[dense], limit[dense]
