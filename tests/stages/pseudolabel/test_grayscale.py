"""From any image to one gray plane."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from alapp.domain import Parameter
from alapp.stages.pseudolabel.em_blobs import EmDarkBlobs
from alapp.stages.pseudolabel.grayscale import by_slice, gray_plane, holds_something, stretch
from alapp.stages.pseudolabel.log_watershed import LogWatershed
from alapp.stages.pseudolabel.nested_regions import NestedRegions


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_stretching_reaches_from_0_to_1_in_any_type(dtype):
    plane = np.arange(200).reshape(10, 20).astype(dtype)
    stretched = stretch(plane)
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert (np.diff(stretched.ravel()) >= 0).all()


def test_a_few_hot_pixels_do_not_hide_the_rest():
    plane = np.tile(np.linspace(0, 100, 100, dtype=np.float32), (100, 1))
    plane[0, :3] = 60_000
    assert stretch(plane)[50, 50] == pytest.approx(0.5, abs=0.03)


def test_one_bright_spot_on_black_is_still_seen():
    plane = np.zeros((100, 100), np.uint16)
    plane[40, 40] = 900
    assert stretch(plane)[40, 40] == 1
    assert stretch(plane).sum() == 1


def test_a_constant_plane_is_black():
    assert not stretch(np.full((5, 6), 77, np.uint16)).any()


def test_one_channel_is_itself():
    image = np.random.default_rng(0).integers(0, 4000, (30, 40, 1), dtype=np.uint16)
    assert (gray_plane(image) == stretch(image[..., 0])).all()


def test_stained_nuclei_stand_out_whatever_the_other_stain():
    rng = np.random.default_rng(1)
    image = np.full((60, 60, 3), 240.0)
    image[:, 30:] = [235, 150, 190]  # eosin
    nuclei = np.zeros((60, 60), bool)
    nuclei[10:20, 10:20] = nuclei[10:20, 40:50] = True
    image[nuclei] = [80, 60, 150]  # haematoxylin
    plane = gray_plane((image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8))
    inside, outside = plane[nuclei], plane[~nuclei]
    assert min(inside.max(), outside.max()) < max(inside.min(), outside.min())


def test_defaults_are_filled_in_and_slices_linked():
    parameters = (Parameter("low", "Low", 1, 0, 9, 1), Parameter("high", "High", 5, 0, 9, 1))
    seen = []

    def label_plane(plane, values):
        seen.append(values)
        return (plane[..., 0] > values["low"]).astype(np.int32)

    stack = np.zeros((3, 6, 6, 1), np.uint8)
    stack[:, 1:4, 1:4] = 3
    stack[2] = 0
    labels = by_slice(label_plane, stack, {"low": 2}, parameters)
    assert seen == [{"low": 2, "high": 5}] * 3
    assert labels.dtype == np.int32
    assert (labels == (stack[..., 0] > 2)).all()


def stack_of_discs(rng, noise, blur=0.0, slices=(3, 4, 5), amplitude=60.0):
    """(Z, Y, X, 1) of noise, with four discs in some slices."""
    yy, xx = np.mgrid[:96, :96]
    discs = sum(((yy - y) ** 2 + (xx - x) ** 2 < 81).astype(float) for y in (24, 72) for x in (24, 72))
    stack = ndimage.gaussian_filter(rng.normal(0, noise, (9, 96, 96)), (0, blur, blur)) + 100
    stack[list(slices)] += amplitude * discs
    return stack.clip(0).astype(np.uint16)[..., None]


@pytest.mark.parametrize("blur", [0.0, 1.0])
@pytest.mark.parametrize("method", [NestedRegions, LogWatershed])
def test_slices_above_and_below_the_objects_stay_empty(method, blur):
    rng = np.random.default_rng(0)
    labels = method().label(stack_of_discs(rng, 10, blur, amplitude=600 if blur else 60), {})
    assert [len(np.unique(plane)) - 1 for plane in labels] == [0, 0, 0, 4, 4, 4, 0, 0, 0]
    assert labels.max() == 4


@pytest.mark.parametrize("method", [NestedRegions, LogWatershed])
def test_an_image_of_nothing_has_no_objects(method):
    noise = np.random.default_rng(0).poisson(100, (128, 128, 1)).astype(np.uint16)
    assert not method().label(noise, {}).any()


def test_dim_slices_faint_objects_and_other_channels_count():
    rng = np.random.default_rng(0)
    stack = stack_of_discs(rng, 3, slices=range(9), amplitude=100)
    stack[6] = stack_of_discs(rng, 3, slices=range(9), amplitude=10)[6]
    assert holds_something(stack).all()
    assert holds_something(stack_of_discs(rng, 10, slices=range(9), amplitude=12)).all()  # no brighter than the noise
    empty = stack_of_discs(rng, 10, slices=())
    assert not holds_something(empty).any()
    assert holds_something(np.concatenate([empty, stack], axis=-1)).all()
    spots = empty.copy()
    spots[4, 40:43, 40:43] += 200  # three pixels wide
    assert np.flatnonzero(holds_something(spots)).tolist() == [4]
    assert holds_something(np.full((2, 1, 1, 1), 7.0)).tolist() == [False, False]


def test_hot_pixels_do_not_make_other_slices_look_empty():
    stack = stack_of_discs(np.random.default_rng(0), 3, slices=range(9), amplitude=100)
    stack[::2, 10, 10] = 65_535
    assert holds_something(stack).all()


def test_in_electron_microscopy_every_plane_is_looked_at(monkeypatch):
    seen = []
    monkeypatch.setattr(
        EmDarkBlobs,
        "label_plane",
        lambda self, plane, params: seen.append(plane) or np.zeros(plane.shape[:2], np.int32),
    )
    EmDarkBlobs().label(stack_of_discs(np.random.default_rng(0), 10, slices=()), {})
    assert len(seen) == 9
