"""Slices and surroundings as pictures, and intensities."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation_pictures as pictures
from alapp.stages.display import ChannelSetting
from alapp.storage import catalogue


def decoded(png):
    return np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


def patches_of(store, pixels, size=64, depth=4):
    made = catalogue.create_project(store, "pictures", patch_size=size, patch_depth=depth)
    importing.add_array(store, made.id, "image", pixels)
    return catalogue.patches(store, made.id)


def test_a_window_shows_what_the_default_clips(store):
    pixels = np.full((64, 64, 1), 1000, np.uint16)
    pixels[:, 32:] = 3000
    pixels[0, :3, 0] = [40_000, 41_000, 42_000]  # fewer than the percentile counts
    (patch,) = patches_of(store, pixels)
    assert decoded(pictures.slice_png(store, patch.id, 0))[0, :3, 0].tolist() == [255, 255, 255]
    setting = ChannelSetting(0, window=(40_000.0, 42_000.0))
    shown = decoded(pictures.slice_png(store, patch.id, 0, [setting]))
    assert shown[0, :3, 0].tolist() == [0, 128, 255]
    assert shown[1:].max() == 0
    (channel,) = pictures.channels_json(store, patch.id, [setting])
    assert channel["window"] == [40_000, 42_000]
    assert channel["auto"] == [1000, 3000]
    assert channel["range"] == [1000, 42_000]
    assert pictures.intensities(store, patch.id, 0, 0, 2) == [42_000]


def test_of_a_stack_with_objects_in_a_few_slices_all_intensities_are_offered(store):
    stack = np.full((41, 64, 64, 1), 100, np.uint16)
    stack[13:18, 20:40, 20:40] = np.arange(500, 900, dtype=np.uint16).reshape(20, 20, 1)
    stack[40, 63, 63] = 90
    first = patches_of(store, stack, depth=41)[0]
    (channel,) = pictures.channels_json(store, first.id)
    assert channel["range"] == [90, 899]
    assert channel["auto"] == [100, pytest.approx(880, abs=20)]
    shown = decoded(pictures.slice_png(store, first.id, 14))[20:40, 20:40, 0]
    assert shown.min() > 100
    assert (shown == 255).mean() < 0.1


def test_channels_are_hidden_and_coloured(store):
    pixels = np.zeros((64, 64, 2), np.float32)
    pixels[:32, :, 0] = 0.5
    pixels[32:, :, 1] = 0.25
    (patch,) = patches_of(store, pixels)
    before = decoded(pictures.slice_png(store, patch.id, 0))
    assert (before[0, 0].tolist(), before[63, 0].tolist()) == ([0, 255, 0], [255, 0, 255])
    settings = [ChannelSetting(0, shown=False), ChannelSetting(1, colour=(255, 128, 0)), ChannelSetting(7, shown=True)]
    after = decoded(pictures.slice_png(store, patch.id, 0, settings))
    assert (after[0, 0].tolist(), after[63, 0].tolist()) == ([0, 0, 0], [255, 128, 0])
    assert [each["shown"] for each in pictures.channels_json(store, patch.id, settings)] == [False, True]
    assert pictures.intensities(store, patch.id, 0, 40, 0) == [0.0, 0.25]


def test_the_surroundings_are_the_image_around_the_patch(store):
    pixels = np.random.default_rng(0).integers(0, 256, (160, 192, 3), np.uint8)
    for patch in patches_of(store, pixels):
        found = pictures.surroundings(store, patch.id, 0)
        y0, x0, y1, x1 = found["box"]
        box = patch.box
        assert y0 == -min(32, box.y)
        assert x1 == box.width + min(32, 192 - box.x - box.width)
        expected = pixels[box.y + y0 : box.y + y1, box.x + x0 : box.x + x1].copy()
        expected[-y0 : box.height - y0, -x0 : box.width - x0] = 0
        assert np.array_equal(decoded(found["png"]), expected)


def test_the_surroundings_lie_on_the_same_slice_in_the_same_window(store):
    stack = np.zeros((4, 64, 128, 1), np.uint16)
    stack[2] = 500
    stack[3] = 1000
    first, second = patches_of(store, stack)
    for z, gray in [(1, 0), (2, 128), (3, 255)]:
        assert decoded(pictures.slice_png(store, second.id, z)).max() == gray
        found = pictures.surroundings(store, first.id, z)
        assert found["box"] == [0, 0, 64, 96]
        assert decoded(found["png"])[:, 64:].max() == gray
    narrow = pictures.surroundings(store, first.id, 2, [ChannelSetting(0, window=(0.0, 500.0))])
    assert decoded(narrow["png"])[0, 70, 0] == 255


def test_a_patch_that_is_the_whole_image_has_no_surroundings(store):
    (patch,) = patches_of(store, np.zeros((64, 64, 1), np.uint8))
    assert pictures.surroundings(store, patch.id, 0) == {"png": None, "box": None}


@pytest.mark.parametrize(("z", "y", "x"), [(1, 0, 0), (0, 64, 0), (0, 0, 64)])
def test_there_is_no_intensity_outside_of_the_patch(store, z, y, x):
    patch = patches_of(store, np.zeros((64, 128, 1), np.uint8))[0]
    with pytest.raises(InputError):
        pictures.intensities(store, patch.id, z, y, x)
