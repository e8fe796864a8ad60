"""Pictures of images: no more pixels are drawn than the page shows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from alapp.domain import LabelKind
from alapp.rounds import importing
from alapp.stages.display import Channel
from alapp.storage import catalogue, labels
from alapp.ui.parts import gallery, overlay, sampled

WHITE = Channel(True, 0.0, 255.0, (255, 255, 255), 0.0, 255.0)


@pytest.fixture
def sizes(monkeypatch):
    """Sizes of what is drawn and resized."""
    found = []

    def watch(module, name):
        real = getattr(module, name)

        def watched(image, *rest, **more):
            found.append(image.shape)
            return real(image, *rest, **more)

        monkeypatch.setattr(module, name, watched)

    watch(gallery, "to_display")
    watch(sampled, "to_display")
    watch(gallery, "overlay")
    watch(overlay, "resize")
    return found


def added(store, kind, found, image_id, patch_id=None):
    """The row of a map of the only project."""
    return labels.add(
        store, kind, found, project_id=1, image_id=image_id, patch_id=patch_id, backend="b", input_hash="h"
    )  # fmt: skip


@pytest.fixture
def stack(store):
    """A stack of 9 slices in one patch, and its labels: objects on slice 1 only, none on the middle one."""
    made = catalogue.create_project(store, "stack", patch_size=64)
    image = importing.add_array(store, made.id, "stack", np.full((9, 64, 64, 1), 20, np.uint8))
    found = np.zeros((9, 64, 64), np.int32)
    found[1, 10:20, 10:20], found[1, 40:50, 40:50], found[2, 10:12, 10:12] = 1, 2, 1
    return catalogue.image(store, image.id), catalogue.patches(store, made.id)[0], found


def test_of_a_stack_the_slice_with_objects_is_shown(store, stack):
    _, patch, found = stack
    item = added(store, LabelKind.HUMAN, found, patch.image_id, patch.id)
    drawn = gallery.patch_picture(store, patch, item)
    assert (drawn[15, 15] != drawn[0, 0]).any()  # inside an object of slice 1
    assert (gallery.thumbnail(store, patch, 64) != gallery.patch_picture(store, patch, None)).any()
    assert gallery.slice_of(patch, None) == gallery.slice_of(patch, np.zeros_like(found)) == 4


def test_of_a_whole_stack_a_slice_with_objects_is_shown(store, stack, monkeypatch):
    image, _, found = stack
    item = added(store, LabelKind.PREDICTED, found, image.id)
    monkeypatch.setattr(gallery.labels, "of_checkpoint", lambda store, checkpoint_id: {image.id: item})
    drawn = gallery.image_thumbnail(store, 1, image, 64)
    assert (drawn[15, 15] != drawn[0, 0]).any()


def test_of_a_deep_stack_few_slices_are_read(store, stack, monkeypatch):
    read = []

    def one(store, item, z):
        read.append(z)
        return np.full((2, 2), z > 150, np.int32)

    monkeypatch.setattr(gallery.labels, "read_slice", one)
    image = SimpleNamespace(shape=(200, 2, 2, 1))
    assert gallery._slice_of_image(store, image, SimpleNamespace(n_objects=1)) > 150
    assert 100 in read
    assert len(read) <= gallery.SLICES_TRIED


def test_fitting_looks_at_few_pixels_of_a_large_image(sizes):
    image = np.zeros((1000, 4000, 3), np.uint8)
    image[:, 2000:] = 200
    small = overlay.fit(image, 100)
    assert sizes == [(100, 400, 3)]
    assert small.shape == (25, 100, 3)
    assert (small[:, :49] == 0).all()
    assert (small[:, 51:] == 200).all()


def test_fitting_averages_all_pixels_of_an_ordinary_image(sizes):
    assert overlay.fit(np.zeros((300, 400, 3), np.uint8), 100).shape == (75, 100, 3)
    assert sizes == [(300, 400, 3)]
    small = np.zeros((30, 40, 3), np.uint8)
    assert overlay.fit(small, 100) is small


@pytest.mark.parametrize("depth", [None, 3])
def test_a_comparison_of_whole_large_images_is_drawn_small(sizes, depth):
    shape = (3000, 6000) if depth is None else (depth, 3000, 6000)
    labels = np.zeros(shape, np.int32)
    labels[..., 1000:2000, 1000:2000] = 3
    pixels = np.zeros((*shape, 1), np.uint8)
    drawn = gallery.Comparison("a", pixels, labels, labels, "").draw(None if depth is None else 1)
    assert drawn.shape == (320, 3 * 640 + 2 * overlay.GAP, 3)
    assert all(size[-1 if size[-1] > 3 else -2] <= 4 * 640 for size in sizes)
    assert drawn[160, 640 + overlay.GAP + 160].any()  # inside the object
    assert not drawn[160, 640 + overlay.GAP + 400].any()


def test_the_thumbnail_of_a_whole_large_image_is_drawn_small(sizes, monkeypatch):
    image = SimpleNamespace(id=1, shape=(1, 1000, 2000, 1), is_3d=False, path="image.npy")
    monkeypatch.setattr(gallery, "channels", lambda store, path: (WHITE,))
    monkeypatch.setattr(gallery.labels, "of_checkpoint", lambda store, checkpoint_id: {1: None})
    monkeypatch.setattr(gallery.labels, "read_at", lambda store, item, y, x, z: np.ones((len(y), len(x)), np.int32))
    monkeypatch.setattr(gallery.catalogue, "read_image", lambda store, item: np.zeros((1000, 2000, 1), np.uint8))
    assert gallery._whole.__wrapped__(None, image, 1, 100).shape == (100, 100, 3)
    assert {size[:2] for size in sizes} == {(200, 400)}
