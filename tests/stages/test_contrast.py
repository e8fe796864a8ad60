"""Display windows and ranges of intensities: what a person sees of an image at first."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from alapp.stages import contrast, display, images


def noise(*shape: int, base: float = 100, sd: float = 3) -> np.ndarray:
    return base + sd * np.random.default_rng(7).standard_normal(shape)


def numbers(pixels: np.ndarray, dtype: str = "uint16") -> np.ndarray:
    return np.clip(pixels, 0, np.iinfo(dtype).max).astype(dtype)[..., None]


def window(image: np.ndarray) -> tuple[float, float]:
    (channel,) = display.default_channels(image)
    return channel.low, channel.high


# objects in a few slices


@pytest.mark.parametrize("background", [0, 3])
@pytest.mark.parametrize(("depth", "slices"), [(41, range(13, 18)), (60, range(25, 32)), (25, range(13, 16)), (9, [1])])
def test_objects_in_a_few_slices_are_neither_black_nor_burnt_out(depth, slices, background):
    pixels = noise(depth, 128, 128, base=100 if background else 0, sd=background)
    here = (slice(30, 100), slice(30, 100))
    for z in slices:
        pixels[z][here] += 500 + 1000 * np.random.default_rng(z).random((70, 70))
    stack = numbers(pixels)
    (channel,) = display.default_channels(stack)
    assert (channel.minimum, channel.maximum) == (stack.min(), stack.max())
    for channels in (None, [channel]):
        shown = display.to_display(stack, slices[0], channels)[..., 0]
        assert (shown[here] == 255).mean() < 0.05
        assert shown[here].min() > 40
        assert len(np.unique(shown[here])) > 100
        assert shown[:20].max() < 10


@pytest.mark.parametrize("shape", [(512, 512), (40, 256, 256)])
@pytest.mark.parametrize("share", [0.002, 0.004, 0.006, 0.01, 0.02])
@pytest.mark.parametrize(("darkest", "brightest"), [(500, 1500), (130, 200)])
def test_objects_that_are_about_a_percentile_are_not_burnt_out(shape, share, darkest, brightest):
    pixels = noise(*shape)
    side = int((share / 2 * shape[-1] ** 2) ** 0.5)
    inside = np.zeros(shape[-2:], bool)
    for corner in (20, 120):
        inside[corner : corner + side, corner : corner + side] = True
    planes = pixels[19:22] if len(shape) == 3 else pixels[None]
    planes[:, inside] = np.random.default_rng(2).uniform(darkest, brightest, (len(planes), inside.sum()))
    shown = display.to_display(numbers(pixels), 20 if len(shape) == 3 else None)[inside]
    assert (shown == 255).mean() < 0.25
    assert np.median(shown) > 100


@pytest.mark.parametrize("base", [0.0, 2.0])
def test_few_objects_on_few_photons_are_not_burnt_out(base):
    pixels = np.random.default_rng(0).poisson(base, (256, 256))
    pixels[100:112, 60:72] = 170
    assert window(numbers(pixels)) == (0, 170)


# what is no object


@pytest.mark.parametrize("shape", [(512, 512), (40, 256, 256)])
@pytest.mark.parametrize("share", [1e-4, 1e-3])
def test_hot_pixels_do_not_darken_the_rest(shape, share):
    pixels = noise(*shape)
    hot = np.random.default_rng(1).integers(0, pixels.size, int(share * pixels.size))
    pixels.flat[hot] = 60_000
    (channel,) = display.default_channels(numbers(pixels))
    assert channel.high < 115
    assert channel.maximum == 60_000
    pixels[..., 40:120, 40:120] = 700
    pixels.flat[hot] = 60_000
    assert window(numbers(pixels))[1] == 700


def test_objects_on_an_empty_background_do_not_go_dark_for_a_hot_pixel():
    pixels = np.zeros((300, 300))
    pixels[50:60, 70:80] = 1000
    pixels[200, 200] = 65_535
    assert window(numbers(pixels)) == (0, 1000)


def test_debris_does_not_darken_objects():
    pixels = noise(512, 512)
    pixels[100:300, 100:300] = 600
    pixels[400:410, 400:410] = 30_000
    assert window(numbers(pixels))[1] == 600


def test_flat_images_have_flat_windows():
    assert window(np.full((4, 20, 30, 1), 7, np.int16)) == (7, 7)
    dark = numbers(noise(128, 128, base=5000, sd=0))
    dark[30, 40] = 1000  # darker than all the rest
    assert window(dark) == (1000, 5000)


def test_the_largest_real_numbers_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = display.default_channels((np.random.default_rng(0).random((64, 64, 1)) * 3e38).astype(np.float32))
    assert found[0].high <= found[0].maximum < 3e38


# what is looked at


def test_the_range_is_that_of_every_pixel():
    pixels = numbers(noise(50, 200, 200))
    pixels[33, 17, 151], pixels[7, 3, 2] = 4321, 12
    assert contrast.bounds(contrast.sample(pixels))[0][1] < 200
    (channel,) = display.default_channels(pixels)
    assert (channel.minimum, channel.maximum) == (12, 4321)


@pytest.mark.parametrize("shape", [(200, 1024, 1024, 1), (3000, 100, 80, 1), (1, 5000, 7000, 2), (9, 20, 30, 3)])
def test_a_sample_has_every_slice_and_the_same_pixels_each_time(shape):
    stack = np.broadcast_to(np.uint16(7), shape)
    found = contrast.sample(stack)
    assert found.values.shape == (len(found.places), shape[-1])
    total = np.prod(shape[:3])
    assert min(total, 100_000) <= len(found.places) <= min(total, 300_000)
    assert np.array_equal(np.unique(found.places[:, 0]), np.arange(shape[0]))
    assert (found.places < shape[:3]).all()
    assert np.array_equal(found.places, contrast.sample(stack).places)


def test_a_sample_tells_where_its_values_are():
    stack = np.random.default_rng(0).integers(0, 9999, (7, 300, 400, 2)).astype(np.uint16)
    found = contrast.sample(stack)
    z, y, x = found.places.T
    assert np.array_equal(found.values, stack[z, y, x])


class Counted:
    """An array that counts the pixels that are read of it."""

    def __init__(self, pixels: np.ndarray):
        self.pixels, self.shape, self.read = pixels, pixels.shape, 0

    def __getitem__(self, key):
        found = self.pixels[key]
        self.read += found.size
        return found


@pytest.mark.parametrize("shape", [(12, 64, 40, 1), (2, 500, 40, 1), (200, 8, 20, 1)])
def test_of_a_huge_image_a_part_of_every_slice_is_read(shape, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 9999, shape).astype(np.uint16)
    monkeypatch.setattr(contrast, "_READ_PIXELS", pixels.size // 4)
    monkeypatch.setattr(contrast, "_BLOCK_PIXELS", 80)
    counted = Counted(pixels)
    sample = contrast.sample(counted)
    (low, high) = contrast.bounds(sample)[0]
    assert np.array_equal(np.unique(sample.places[:, 0]), np.arange(shape[0]))
    counted.read = 0
    ((smallest, largest),) = contrast.extremes(counted)
    assert counted.read <= pixels.size // 4 * 1.1
    assert smallest <= low
    assert largest >= high
    # slices take turns, so that no row is never read
    assert np.array_equal(np.unique(sample.places[:, 1]), np.arange(shape[1])) or shape[0] < 4


# 8 bits and three channels


def photograph(top: int = 255) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top + 1, (700, 900, 3)).astype(np.uint8)


def test_colour_pictures_are_shown_as_they_are():
    bright = photograph()
    faint = (bright // 16 + 235).astype(np.uint8)  # an almost white field of a section
    for picture in (bright, faint, bright // 2):
        np.testing.assert_array_equal(display.to_display(picture), picture)
        found = display.default_channels(picture)
        assert {(each.low, each.high, each.minimum, each.maximum) for each in found} == {(0, 255, 0, 255)}
        np.testing.assert_array_equal(display.to_display(picture, None, found), picture)


def test_a_dark_picture_with_something_bright_is_shown_as_it_is():
    picture = photograph(20)
    picture[400, 301] = 200
    assert contrast.sample(picture[None]).values.max() <= 20  # which does not see it
    np.testing.assert_array_equal(display.to_display(picture), picture)


def test_three_faint_channels_of_8_bits_are_not_black():
    faint = np.zeros((60, 60, 3), np.uint8)
    faint[:20, :, 0], faint[20:40, :, 1], faint[40:, :, 2], faint[:, :20, 1] = 5, 4, 2, 5
    shown = display.to_display(faint)
    assert shown[0, 30].tolist() == [255, 0, 0]
    assert shown[30, 30].tolist() == [0, 204, 0]
    assert shown[50, 30].tolist() == [0, 0, 102]  # one window: faint blue stays faint
    assert shown[0, 0].tolist() == [255, 255, 0]
    assert images.thumbnail(faint, 44).max() == 255
    found = display.default_channels(faint)
    assert {(each.low, each.high, each.minimum, each.maximum) for each in found} == {(0, 5, 0, 255)}
    assert display.to_display(np.zeros((20, 20, 3), np.uint8)).max() == 0


def test_channels_that_are_given_count_for_colour_pictures_too():
    picture = photograph()
    red, green, blue = display.default_channels(picture)
    chosen = display.with_settings((red, green, blue), [display.ChannelSetting(0, shown=False)])
    shown = display.to_display(picture, None, chosen)
    assert shown[..., 0].max() == 0
    np.testing.assert_array_equal(shown[..., 1:], picture[..., 1:])
