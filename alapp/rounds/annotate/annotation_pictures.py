"""What a person sees of a patch: its slices and its surroundings as pictures, and its intensities."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from alapp.errors import InputError
from alapp.rounds.annotate import clicks
from alapp.stages.display import Channel, ChannelSetting, composite, default_channels, with_settings
from alapp.storage import catalogue
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.files import Files

MARGIN_PX = 256
"""At most so many pixels of the image are shown around a patch, on each side."""

Settings = Sequence[ChannelSetting]


def slice_png(store: Store, patch_id: int, z: int, settings: Settings = ()) -> str:
    """Slice `z` of a patch as a base64 PNG, windowed to 8 bits with the same window for the whole image."""
    patch = catalogue.patch(store, patch_id)
    clicks.check_points(patch, z, [])
    return _png(composite(clicks.slice_pixels(store, patch, z), channels(store, patch, settings)))


def channels(store: Store, patch: Patch, settings: Settings = ()) -> tuple[Channel, ...]:
    """How the channels of a patch's image are shown, as the user set them."""
    return with_settings(_defaults(store, patch), settings)


def channels_json(store: Store, patch_id: int, settings: Settings = ()) -> list[dict[str, Any]]:
    """The channels of a patch for the page, each with the window that it has by default (`auto`)."""
    patch = catalogue.patch(store, patch_id)
    defaults = _defaults(store, patch)
    return [
        {
            "shown": channel.shown,
            "window": [channel.low, channel.high],
            "colour": "#{:02x}{:02x}{:02x}".format(*channel.colour),
            "auto": [default.low, default.high],
            "range": [channel.minimum, channel.maximum],
        }
        for channel, default in zip(with_settings(defaults, settings), defaults, strict=True)
    ]


def surroundings(store: Store, patch_id: int, z: int, settings: Settings = ()) -> dict[str, Any]:
    """The image around a patch on slice `z`: a base64 PNG, black where the patch itself lies, and its `box`
    (y0, x0, y1, x1) in pixels of the patch. It reaches half a patch or `MARGIN_PX` out, and ends where the image
    ends. Both are None if there is nothing around the patch."""
    patch = catalogue.patch(store, patch_id)
    clicks.check_points(patch, z, [])
    box = patch.box
    plane = store.files.read_array(patch.image_path)[box.z + z]
    across, along = min(box.height // 2, MARGIN_PX), min(box.width // 2, MARGIN_PX)
    y0, y1 = max(0, box.y - across), min(plane.shape[0], box.y + box.height + across)
    x0, x1 = max(0, box.x - along), min(plane.shape[1], box.x + box.width + along)
    if (y1 - y0, x1 - x0) == (box.height, box.width):
        return {"png": None, "box": None}
    picture = composite(np.array(plane[y0:y1, x0:x1]), channels(store, patch, settings))
    top, left = box.y - y0, box.x - x0
    picture[top : top + box.height, left : left + box.width] = 0
    return {"png": _png(picture), "box": [-top, -left, y1 - box.y, x1 - box.x]}


def cuts(store: Store, patch_id: int, y: int, x: int, settings: Settings = ()) -> dict[str, str]:
    """The stack cut along its row `y` and its column `x`, as base64 PNG in the windows of the slices: `xz` (Z, X),
    the first slice on top, and `yz` (Y, Z), the first slice on the left. Only these pixels are read.

    Raises `InputError` for a patch without depth or a place outside of it.
    """
    patch = catalogue.patch(store, patch_id)
    depth, height, width = clicks.shape(patch)
    if depth < 2:
        raise InputError("This patch has one slice only, so there is no view from the side.")
    if not (0 <= y < height and 0 <= x < width):
        raise InputError(f"The place y {y}, x {x} lies outside of the patch ({height} x {width} pixels).")
    stack, shown = store.files.read_array(patch.image_path)[patch.box.slices], channels(store, patch, settings)
    return {
        "xz": _png(composite(np.array(stack[:, y]), shown)),
        "yz": _png(composite(np.array(stack[:, :, x]).swapaxes(0, 1), shown)),
    }


def intensities(store: Store, patch_id: int, z: int, y: int, x: int) -> list[float]:
    """The stored intensities of the pixel (y, x) on slice `z` of a patch, one a channel. Raises `InputError`
    outside of the patch."""
    patch = catalogue.patch(store, patch_id)
    clicks.check_points(patch, z, [(y, x)])
    pixel = store.files.read_array(patch.image_path)[patch.box.z + z, patch.box.y + y, patch.box.x + x]
    return pixel.tolist()


def _defaults(store: Store, patch: Patch) -> tuple[Channel, ...]:
    return image_channels(store.files, patch.image_path)


@lru_cache(maxsize=256)
def image_channels(files: Files, path: str) -> tuple[Channel, ...]:
    """How the image at this path is shown at first. To look at all of it takes longer than to show a slice; the file
    of an image never changes."""
    return default_channels(files.read_array(path))


def _png(picture: np.ndarray) -> str:
    gray = np.array_equal(picture[..., 0], picture[..., 1]) and np.array_equal(picture[..., 1], picture[..., 2])
    buffer = io.BytesIO()
    # a gray picture is a third of the work
    Image.fromarray(picture[..., 0] if gray else picture).save(buffer, "png", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
