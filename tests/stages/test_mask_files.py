"""Masks that were drawn elsewhere, read for an image of a known size."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from alapp.errors import InputError
from alapp.stages import mask_files

FLAT, DEEP = (1, 40, 50), (6, 40, 50)


def two(dtype=np.uint8, ids=(3, 7)):
    labels = np.zeros((40, 50), dtype)
    labels[5:10, 5:10], labels[20:30, 20:30] = ids
    return labels


def written(path, array, **more):
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack", **more)
    else:
        Picture.fromarray(array).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "dtype"), [("a.tif", np.uint8), ("a.png", np.uint8), ("a.tif", np.int64), ("a.tif", np.float32)]
)
def test_objects_keep_their_numbers(tmp_path, name, dtype):
    found = mask_files.read(written(tmp_path / name, two(dtype)), FLAT, False, "YX")
    assert found.labels.dtype == np.int32
    assert (found.labels == two()).all()
    assert found.remark == ""


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_a_mask_without_numbers_is_taken_apart_and_that_is_said(tmp_path, dtype):
    mask = two(ids=(255, 255)).astype(dtype)
    mask[10, 10] = mask[5, 5]  # meets the first piece at a corner
    found = mask_files.read(written(tmp_path / "a.tif", mask), FLAT, False)
    assert sorted(np.unique(found.labels)) == [0, 1, 2]
    assert found.labels[10, 10] == found.labels[5, 5] != found.labels[25, 25]
    assert "a.tif only tells objects from background, so each of its 2 separate pieces" in found.remark


def test_a_mask_of_one_object_needs_no_remark(tmp_path):
    found = mask_files.read(written(tmp_path / "a.tif", two(ids=(0, 5))), FLAT, False)
    assert (found.labels == two(ids=(0, 5))).all()
    assert found.remark == ""


def test_an_empty_mask_counts_but_is_told(tmp_path):
    found = mask_files.read(written(tmp_path / "a.tif", two(ids=(0, 0))), FLAT, False)
    assert not found.labels.any()
    assert "a.tif has no objects" in found.remark


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX"])
def test_slices_are_slices_whatever_the_file_calls_them(tmp_path, axes):
    stack = np.stack([two()] * 3 + [two(ids=(7, 3))] * 3)
    path = written(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": axes})
    assert (mask_files.read(path, DEEP, True, "ZCYX").labels == stack).all()


def test_axes_that_a_person_confirmed_for_the_image_hold_for_its_masks(tmp_path):
    path = written(tmp_path / "a.tif", np.ascontiguousarray(two().T))
    assert (mask_files.read(path, FLAT, False, "XY").labels == two()).all()


def colour(labels):
    return np.stack([labels] * 3, -1)


@pytest.mark.parametrize(
    ("name", "array", "size", "words"),
    [
        ("a.tif", two()[:30], FLAT, "a.tif is 30 × 50 pixels, but its image is 40 × 50"),
        ("a.tif", two(), DEEP, "a.tif is 40 × 50 pixels, but its image is 6 × 40 × 50"),
        ("a.tif", two(np.float32, (0.5, 1)), FLAT, "a.tif holds fractions, such as 0.5"),
        ("a.tif", two(np.float32, (1, 2**25)), FLAT, "as real numbers, which are not exact"),
        ("a.tif", two(np.int16, (-1, 1)), FLAT, "a.tif holds negative numbers"),
        ("a.tif", two(np.float32, (-1, 1)), FLAT, "a.tif holds negative numbers"),
        ("a.png", colour(two()), FLAT, "a.png has 3 channels, as a colour picture"),
        ("a.jpg", two(), FLAT, "a.jpg is a JPEG"),
    ],
)
def test_what_is_no_mask_of_the_image_is_refused(tmp_path, name, array, size, words):
    path = written(tmp_path / name, array)
    with pytest.raises(InputError, match=words):
        mask_files.read(path, size, size[0] > 1)
