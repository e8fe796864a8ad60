"""Objects drawn on images, and images made smaller."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from alapp.ui.parts import gallery, overlay, sampled


def made(shape, seed=0):
    """A colour image and objects of a few pixels on it, some beside each other."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 30, shape), np.ones((5, 4), np.int32)).astype(np.int32)
    return rng.integers(0, 256, (*labels.shape, 3)).astype(np.uint8), labels


@pytest.mark.parametrize("filled", [True, False])
def test_objects_are_drawn_as_ever(filled):
    rgb, labels = made((12, 17))
    colours = overlay.PALETTE[labels % len(overlay.PALETTE)]
    expected = rgb.copy()
    if filled:
        mixed = (1 - overlay.FILL) * rgb.astype(np.float32) + overlay.FILL * colours
        expected[labels > 0] = mixed.round()[labels > 0]
    edge = find_boundaries(labels, mode="inner")
    expected[edge] = colours[edge]
    before = rgb.copy()
    assert np.array_equal(overlay.overlay(rgb, labels, filled), expected)
    assert np.array_equal(rgb, before)


def test_an_image_without_objects_stays_as_it_is():
    rgb, labels = made((12, 17))
    assert np.array_equal(overlay.overlay(rgb, np.zeros_like(labels)), rgb)


def test_a_picture_that_was_fitted_can_be_drawn_on():
    small = overlay.fit(made((40, 50))[0], 50)
    small[0, 0] = 1
    assert small.shape == (50, 50, 3)


@pytest.mark.parametrize("shape", [(90, 40), (64, 65), (129, 127), (130, 7), (255, 256), (257, 300), (1000, 90)])
def test_objects_lie_where_the_picture_shows_them(shape):
    """64 pixels are shown. The picture is as bright as the object is high, so that a shift would be seen."""
    labels = np.repeat(np.arange(shape[0], dtype=np.int32)[:, None], shape[1], axis=1) * 200 // shape[0]
    pixels = np.repeat(labels[..., None], 3, axis=2).astype(np.uint8)
    picture = sampled.backdrop(pixels, None, None, 64)
    found = sampled.drawn(labels, None, 64)
    assert found.shape == picture.shape[:2]
    assert max(found.shape) < 2 * 64
    assert (np.abs(picture[..., 0].astype(int) - found) <= 200 * -(-shape[0] // 64) // shape[0] + 1).all()


@pytest.mark.parametrize("side", [1000, 1900, 2048, 2600, 7000])
def test_a_comparison_draws_objects_at_nearly_the_size_that_is_shown(side, monkeypatch):
    drawn, shown = [], []
    real, display = gallery.overlay, sampled.to_display
    monkeypatch.setattr(gallery, "overlay", lambda rgb, *rest: drawn.append(rgb.shape[:2]) or real(rgb, *rest))
    monkeypatch.setattr(sampled, "to_display", lambda *rest: shown.append(1) or display(*rest))
    labels = np.zeros((side, 50), np.int32)
    labels[side // 3 : side // 2, 10:40] = 1
    picture = gallery.Comparison("a", np.zeros((side, 50, 1), np.uint8), labels, labels, "").draw(None, filled=False)
    assert len(drawn) == 2
    assert all(max(size) < 2 * gallery.LARGE for size in drawn)
    assert len(shown) == 1  # the image below all panels is the same
    # Half a pixel of the outline's colour at least, on the rows where the object begins.
    begin, width = picture.shape[0] // 3, picture.shape[1] // 3
    outline = picture[begin - 2 : begin + 3, width : 2 * width].reshape(-1, 3).max(axis=0)
    assert (outline >= overlay.PALETTE[1] // 2 - 2).all()
