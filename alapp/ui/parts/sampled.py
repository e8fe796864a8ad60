"""Label maps at the pixels that a picture shows, so that of a large map no more is read and drawn than that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from alapp.stages.display import Channel, to_display
from alapp.storage import labels
from alapp.storage.catalogue import Image
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.ui.parts.overlay import places, shrink_for, shrunk, step_for

Reader = Callable[[int | None, int], np.ndarray]
"""Of the map of a whole image: int32 (Y, X), the objects of a slice (None in 2D) where `backdrop` of this side is."""

Instances = np.ndarray | Reader
"""int32 (Y, X) or (Z, Y, X), or how to read what is drawn of it."""


def reader(store: Store, item: LabelMap, image: Image) -> Reader:
    """Reads the map of a whole image; what was read last is kept, as a slice is drawn again and again."""
    return lambda z, side: _read(store, item.id, image.shape[1:3], z, side)


def backdrop(pixels: np.ndarray, z: int | None, shown: Sequence[Channel] | None, side: int) -> np.ndarray:
    """One slice as uint8 (Y, X, 3), to draw objects on; `pixels`, `z` and `shown` as in `gallery.picture`. A large one
    is shrunk to less than twice `side` pixels, to which the picture is fitted later."""
    step = step_for(pixels.shape[-3:], side)
    rgb = to_display(pixels[..., ::step, ::step, :], z, shown)
    return shrunk(rgb, shrink_for(rgb.shape, side))


def drawn(instances: Instances, z: int | None, side: int) -> np.ndarray:
    """int32 (Y, X): the objects on the pixels of `backdrop`, whose size it has."""
    if callable(instances):
        return instances(z, side)
    plane = instances if z is None else instances[z]
    return plane[np.ix_(*_shown_at(plane.shape, side))]


@lru_cache(maxsize=8)
def _read(store: Store, label_id: int, shape: tuple[int, int], z: int | None, side: int) -> np.ndarray:
    (item,) = labels.of_ids(store, [label_id])
    return labels.read_at(store, item, *_shown_at(shape, side), z)


def _shown_at(shape: Sequence[int], side: int) -> tuple[np.ndarray, np.ndarray]:
    """int64: the rows and columns of an image (Y, X) in the middle of what the pixels of `backdrop` show."""
    step = step_for(shape, side)
    factor = shrink_for([-(-n // step) for n in shape], side)
    return places(shape[0], step, factor), places(shape[1], step, factor)
