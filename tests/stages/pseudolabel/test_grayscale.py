"""From any image to one gray plane."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import Parameter
from alapp.stages.pseudolabel.grayscale import by_slice, gray_plane, stretch


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
