"""Label maps with any integers become int32 without losing an object."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.errors import InputError
from alapp.stages.label_ids import KEPT_TO, instance_map


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("shape", [(2, 3), (2, 1, 3)])
def test_small_ids_are_kept(dtype, shape):
    labels = np.array([[0, 7, 9], [120, 0, 9]], dtype).reshape(shape)
    found = instance_map(labels, "map")
    assert found.dtype == np.int32
    assert np.array_equal(found, labels)


def test_true_and_false_are_one_object():
    assert instance_map(np.array([[True, False]]), "map").tolist() == [[1, 0]]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("shape", [(3, 3), (3, 1, 3)])
def test_large_ids_are_numbered_in_their_order(dtype, shape):
    # Within int32 two of them would be lost and two be one, and one would be another one's.
    labels = np.array([[0, 2**32, 2**32 + 7], [7, 3_000_000_000, 2**63 - 1], [2**63 - 2, 0, 7]], dtype)
    found = instance_map(labels.reshape(shape), "map")
    assert found.dtype == np.int32
    assert found.shape == shape
    assert found.reshape(3, 3).tolist() == [[0, 3, 4], [1, 2, 6], [5, 0, 1]]


def test_ids_that_fit_but_would_make_long_tables_are_numbered_too():
    labels = np.array([[0, KEPT_TO], [3, KEPT_TO + 1]], np.int32)
    assert instance_map(labels, "map").tolist() == [[0, 2], [1, 3]]
    assert instance_map(labels[:1], "map").tolist() == [[0, KEPT_TO]]
    assert instance_map(np.array([[0, 2**64 - 1]], np.uint64), "map").tolist() == [[0, 1]]
    assert instance_map(np.zeros((0, 4), np.uint64), "map").shape == (0, 4)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (np.array([[0.0, 1.0]], np.float32), "a.tif holds float32 values; a label map has one integer per pixel"),
        (np.array([[0j]]), "complex128"),
        (np.array([[0, -1]]), "a.tif holds negative numbers"),
        (np.array([[2**40, -(2**40)]]), "negative"),
    ],
)
def test_what_is_no_label_map_is_refused(labels, why):
    with pytest.raises(InputError, match=why):
        instance_map(labels, "a.tif")
