"""Made ready before it is asked for, and views across a stack. Nothing here is written to the journal."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from alapp.errors import InputError
from alapp.rounds import annotation_journal, annotation_view, clicks
from alapp.stages.display import to_display
from alapp.storage import catalogue
from alapp.storage.db import Store


def look_ahead(store: Store, patch_id: int) -> dict[str, Any]:
    """Fold the journal of a patch that is likely to be opened next, or read what its suggestions will be, so that
    `open_patch` finds it in memory. Returns the slice `z` that it will open on."""
    depth, _, _ = clicks.shape(catalogue.patch(store, patch_id))
    now = annotation_journal.warm(store, patch_id)
    for item in (*now.objects.values(), *now.suggestions.values()):
        annotation_view.mask_json(item.mask)
    return {"z": now.draft.z if now.draft else depth // 2}


def cuts(store: Store, patch_id: int, y: int, x: int) -> dict[str, str]:
    """The stack cut along its row `y` and its column `x`, as base64 PNG in the window of the whole image: `xz`
    (Z, X), the first slice on top, and `yz` (Y, Z), the first slice on the left. Only these pixels are read.

    Raises `InputError` for a patch without depth or a place outside of it.
    """
    patch = catalogue.patch(store, patch_id)
    depth, height, width = clicks.shape(patch)
    if depth < 2:
        raise InputError("This patch has one slice only, so there is no view from the side.")
    if not (0 <= y < height and 0 <= x < width):
        raise InputError(f"The place y {y}, x {x} lies outside of the patch ({height} x {width} pixels).")
    whole = store.files.read_array(patch.image_path)
    stack = whole[patch.box.slices]
    return {
        "xz": _png(to_display(np.array(stack[:, y]), whole=whole)),
        "yz": _png(to_display(np.array(stack[:, :, x]).swapaxes(0, 1), whole=whole)),
    }


def _png(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
