"""Pictures of images: no more pixels are drawn than the page shows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from alapp.stages.display import Channel
from alapp.ui.parts import gallery, overlay

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
    watch(gallery, "overlay")
    watch(overlay, "resize")
    return found


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
    monkeypatch.setattr(gallery.labels, "read", lambda store, item: np.ones((1000, 2000), np.int32))
    monkeypatch.setattr(gallery.catalogue, "read_image", lambda store, item: np.zeros((1000, 2000, 1), np.uint8))
    assert gallery._whole.__wrapped__(None, image, 1, 100).shape == (100, 100, 3)
    assert {size[:2] for size in sizes} == {(200, 400)}
