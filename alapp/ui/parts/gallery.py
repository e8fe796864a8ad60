"""Pictures of patches with their objects, small for lists and large for comparison."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape

import numpy as np
from PIL import Image as PictureFile

from alapp.domain import LabelKind
from alapp.rounds.annotate.annotation_pictures import image_channels
from alapp.stages.display import Channel, to_display
from alapp.storage import catalogue, labels, verdicts
from alapp.storage.catalogue import Image, Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.ui.parts.overlay import fit, overlay, side_by_side, square, step_for
from alapp.ui.parts.sampled import Instances, backdrop, drawn
from alapp.ui.parts.tables import STYLE

THUMBNAIL = 160
MEDIUM = 320
LARGE = 640
SLICES_TRIED = 12
"""Of a whole stack, how many slices are looked at for one with objects."""

WORDS = {
    LabelKind.HUMAN: "your labels",
    LabelKind.PREDICTED: "the prediction of the model in use",
    LabelKind.PSEUDO: "pseudo-labels",
}


def best_labels(store: Store, patch: Patch) -> LabelMap | None:
    """The labels worth showing for a patch: human, else predicted, else pseudo."""
    human = labels.latest_of_patch(store, patch.id, LabelKind.HUMAN)
    return (
        human
        or verdicts.prediction(store, patch.project_id, patch.image_id)
        or labels.latest_of_image(store, patch.image_id, LabelKind.PSEUDO)
    )


def thumbnail(store: Store, patch: Patch, side: int = THUMBNAIL) -> np.ndarray:
    """A patch with the outlines of its best labels, uint8 (side, side, 3); of a stack, the slice of `slice_of`."""
    shown = best_labels(store, patch)
    return _thumbnail(store, patch, shown.id if shown else None, side)


@lru_cache(maxsize=512)
def _thumbnail(store: Store, patch: Patch, label_id: int | None, side: int) -> np.ndarray:
    shown = best_labels(store, patch) if label_id is not None else None
    return framed(patch_picture(store, patch, shown, filled=False), side)


def patch_picture(store: Store, patch: Patch, item: LabelMap | None, filled: bool = True) -> np.ndarray:
    """A patch with its objects on a map of it or of its image, uint8 (Y, X, 3), in the contrast of its image; of a
    stack, the slice of `slice_of`."""
    instances = labels.read_patch(store, item, patch) if item else None
    pixels, z = catalogue.read_patch(store, patch), slice_of(patch, instances)
    return picture(pixels, instances, z, filled, channels(store, patch.image_path))


def slice_of(patch: Patch, instances: np.ndarray | None) -> int | None:
    """The slice of a 3D patch that a picture shows: the one with the largest area of the `instances` (Z, Y, X), for the
    middle one may have none; the middle one without any. None in 2D."""
    z = middle(patch)
    return z if z is None or instances is None else fullest([np.count_nonzero(each) for each in instances], z)


def fullest(areas: Sequence[int], middle: int) -> int:
    """The place of the largest of `areas`; of several, the nearest to `middle`."""
    largest = max(areas)
    return min((z for z, area in enumerate(areas) if area == largest), key=lambda z: abs(z - middle))


def channels(store: Store, path: str) -> tuple[Channel, ...]:
    """How the image at this path is shown. A patch is shown in the same way: by its own darkest and brightest pixels,
    one without objects would be all noise, and patches would not compare."""
    return image_channels(store.files, path)


def picture(
    pixels: np.ndarray,
    instances: np.ndarray | None,
    z: int | None,
    filled: bool = True,
    shown: Sequence[Channel] | None = None,
) -> np.ndarray:
    """One slice as uint8 (Y, X, 3), with its objects. `pixels` (Y, X, C) or (Z, Y, X, C); `instances` int32 of the
    same size or None; `z` the slice, None in 2D; `shown`: its channels, by default as the pixels ask for."""
    rgb = to_display(pixels, z, shown)
    if instances is None:
        return rgb
    return overlay(rgb, instances if z is None else instances[z], filled)


def data_url(image: np.ndarray) -> str:
    """A picture uint8 (Y, X, 3) as the address that an <img> shows: for places that Gradio's images do not reach."""
    buffer = io.BytesIO()
    PictureFile.fromarray(image).save(buffer, "png", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def middle(patch: Patch) -> int | None:
    """The middle slice of a 3D patch, None in 2D."""
    return patch.box.depth // 2 if patch.is_3d else None


def large(image: np.ndarray) -> np.ndarray:
    """A picture of a size that the page shows; small ones are enlarged in whole steps, so that pixels stay sharp."""
    factor = max(1, LARGE // max(image.shape[:2]))
    return fit(image.repeat(factor, axis=0).repeat(factor, axis=1), LARGE)


def framed(image: np.ndarray, side: int) -> np.ndarray:
    """The image in a square of `side` pixels on neutral gray, enlarged if it is smaller; uint8 (side, side, 3)."""
    longest = max(image.shape[:2])
    if longest < side:
        rows, columns = (np.arange(n * side // longest) * longest // side for n in image.shape[:2])
        image = image[rows][:, columns]
    return square(image, side)


@dataclass(frozen=True)
class Comparison:
    """Pixels, predicted and human objects of the same place. `pixels` (Y, X, C) or (Z, Y, X, C); `predicted` objects of
    the same size; `human` likewise, or None; `other`: what another model predicted, or None. `models` names that one
    and the one of `predicted`; `truth` names `human`; `channels`: how they are shown, by default as the pixels ask for.
    """

    name: str
    pixels: np.ndarray
    predicted: Instances
    human: Instances | None
    words: str
    other: Instances | None = None
    models: tuple[str, str] = ("", "Prediction")
    truth: str = "Your labels"
    channels: tuple[Channel, ...] | None = None

    @property
    def caption(self) -> str:
        """Name and scores, as HTML."""
        return f'{STYLE}<div class="al-note"><b>{escape(self.name)}</b> &nbsp; {escape(self.words)}</div>'

    @property
    def titles(self) -> str:
        """What the panels are, under them."""
        cells = "".join(f"<span>{escape(name)}</span>" for name, _ in self._panels())
        return f'{STYLE}<div class="al-panels">{cells}</div>'

    def draw(self, z: int | None, filled: bool = True) -> np.ndarray:
        """The panels side by side, uint8 (Y, X, 3); `z` is the slice, None in 2D."""
        rgb = backdrop(self.pixels, z, self.channels, LARGE)
        maps = [None if each is None else drawn(each, z, LARGE) for _, each in self._panels()]
        return side_by_side(*(large(rgb if each is None else overlay(rgb, each, filled)) for each in maps))

    def _panels(self) -> list[tuple[str, Instances | None]]:
        """What is shown from left to right, each with its name."""
        predicted = [(self.models[0], self.other), (self.models[1], self.predicted), (self.truth, self.human)]
        return [("Image", None)] + [(name, instances) for name, instances in predicted if instances is not None]


def predicted_thumbnail(store: Store, checkpoint_id: int, patch: Patch, side: int = THUMBNAIL) -> np.ndarray:
    """A patch with the objects that a checkpoint predicted, uint8 (side, side, 3)."""
    predicted = labels.of_checkpoint(store, checkpoint_id)[patch.image_id]
    return _predicted(store, patch, predicted.id, checkpoint_id, side)


@lru_cache(maxsize=512)
def _predicted(store: Store, patch: Patch, _label_id: int, checkpoint_id: int, side: int) -> np.ndarray:
    predicted = labels.of_checkpoint(store, checkpoint_id)[patch.image_id]
    return framed(patch_picture(store, patch, predicted), side)


def image_thumbnail(store: Store, checkpoint_id: int, image: Image, side: int = THUMBNAIL) -> np.ndarray:
    """A whole image with the objects that a checkpoint predicted, uint8 (side, side, 3)."""
    return _whole(store, image, checkpoint_id, side)


@lru_cache(maxsize=256)
def _whole(store: Store, image: Image, checkpoint_id: int, side: int) -> np.ndarray:
    predicted, pixels = labels.of_checkpoint(store, checkpoint_id)[image.id], catalogue.read_image(store, image)
    z = _slice_of_image(store, image, predicted) if image.is_3d else None
    plane, step = pixels if z is None else pixels[z], step_for(image.shape[1:3], side)
    rows, columns = (np.arange(0, length, step) for length in image.shape[1:3])
    instances = labels.read_at(store, predicted, rows, columns, z)
    return framed(picture(plane[::step, ::step], instances, None, shown=channels(store, image.path)), side)


def _slice_of_image(store: Store, image: Image, item: LabelMap) -> int:
    """The slice of a whole stack that its thumbnail shows: as `slice_of`, of a few of them, as all would take long."""
    depth = image.shape[0]
    middle, step = depth // 2, -(-depth // SLICES_TRIED)
    tried = range(middle % step, depth, step)
    if not item.n_objects:
        return middle
    areas = [np.count_nonzero(labels.read_slice(store, item, z)) for z in tried]
    return tried[fullest(areas, tried.index(middle))]
