"""Where a patch lies: its image with the grid of patches, small."""

from __future__ import annotations

import numpy as np

from alapp.domain import Box
from alapp.stages.display import to_display
from alapp.storage import catalogue
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.ui.parts.overlay import PALETTE, fit

SIDE = 320
GRID = np.array((138, 143, 152), np.uint8)
MARK = PALETTE[0]


def picture(store: Store, patch: Patch, side: int = SIDE) -> np.ndarray:
    """The slice of the patch's image through its middle, uint8 (Y, X, 3) with the longer side at most `side` pixels:
    the outlines of all patches in gray and that of the patch in orange.

    Only every so-manyth pixel is read, so that a large image takes no longer.
    """
    whole = store.files.read_array(patch.image_path)
    plane = whole[patch.box.z + patch.box.depth // 2]
    step = max(1, max(plane.shape[:2]) // (2 * side))
    shown = fit(to_display(np.array(plane[::step, ::step])), side)
    scale = shown.shape[0] / plane.shape[0], shown.shape[1] / plane.shape[1]
    for other in catalogue.patches(store, patch.project_id, patch.image_id):
        if other.box.z == patch.box.z:
            _outline(shown, other.box, scale, GRID, 1)
    _outline(shown, patch.box, scale, MARK, max(2, side // 100))
    return shown


def _outline(image: np.ndarray, box: Box, scale: tuple[float, float], colour: np.ndarray, width: int) -> None:
    """Draw a box, given in pixels of the whole image, into its small picture."""
    top, bottom = (min(round(y * scale[0]), image.shape[0] - 1) for y in (box.y, box.y + box.height))
    left, right = (min(round(x * scale[1]), image.shape[1] - 1) for x in (box.x, box.x + box.width))
    for start in (top, max(bottom - width + 1, top)):
        image[start : start + width, left : right + 1] = colour
    for start in (left, max(right - width + 1, left)):
        image[top : bottom + 1, start : start + width] = colour
