from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alapp.errors import InputError
from alapp.stages.annotate import masks
from alapp.stages.annotate.masks import Mask

volumes = arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))


def full(mask: Mask | None, shape: tuple[int, int, int]) -> np.ndarray:
    target = np.zeros(shape, bool)
    if mask is not None:
        mask.paint(target, True)
    return target


@given(volumes)
def test_a_mask_comes_back_as_it_was(volume):
    mask = masks.from_array(volume)
    assert (mask is None) == (not volume.any())
    assert np.array_equal(full(mask, volume.shape), volume)


@given(volumes)
def test_run_lengths_begin_with_background_and_cover_the_box(volume):
    runs = masks.run_lengths(volume)
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(volume.shape), volume)


@given(arrays(bool, (2, 8, 8)), arrays(bool, (2, 8, 8)))
def test_set_operations(a, b):
    first, second = masks.from_array(a), masks.from_array(b)
    if first is None or second is None:
        return
    assert np.array_equal(full(masks.without(first, [second]), a.shape), a & ~b)
    assert masks.covered(first, second) == pytest.approx(np.count_nonzero(a & b) / np.count_nonzero(a))
    z0, z1 = second.box[0], second.box[3]
    expected = a.copy()
    expected[z0:z1] = b[z0:z1]
    assert np.array_equal(full(masks.replace_slices(first, second), a.shape), expected)
    spanned = [z for z in range(z0, z1) if a[z].any()]
    assert masks.differ(first, second) == any(not np.array_equal(a[z], b[z]) for z in spanned)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_mask_covers_of_a_label_map(seed):
    rng = np.random.default_rng(seed)
    tiles = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((8, 8), int))[None]
    labels = tiles * (rng.random(tiles.shape) < 0.7)
    pixels = rng.random(tiles.shape) < np.linspace(0.1, 0.9, 40)
    expected = {key for key in range(1, 26) if 2 * np.count_nonzero(pixels[labels == key]) >= (labels == key).sum()}
    covers = masks.covering(masks.of_labels(labels), 0.5)
    mask = masks.from_array(pixels)
    assert covers(mask) == covers(mask) == expected
    assert 0 < len(expected) < 25


@given(volumes, st.sets(st.integers(-1, 4)))
def test_slices_without_a_pixel(volume, slices):
    mask = masks.from_array(volume)
    if mask is not None:
        holding = np.flatnonzero(volume.any(axis=(1, 2)))
        assert masks.empty_on(mask, sorted(slices)) == [z for z in sorted(slices) if z not in holding]


def test_every_object_of_a_label_map_has_its_tight_box():
    labels = np.zeros((20, 30), np.int32)
    labels[2:5, 3:9] = 7
    labels[10:20, 25:30] = 70_000
    found = masks.of_labels(labels)
    assert {key: mask.box for key, mask in found.items()} == {7: (0, 2, 3, 1, 5, 9), 70_000: (0, 10, 25, 1, 20, 30)}
    assert masks.of_labels(np.zeros((4, 4), np.int32)) == {}


@pytest.mark.parametrize("top", [0, 1, 255, 256, 70_000])
def test_packed_labels_come_back(top):
    labels = np.zeros((2, 3, 4), np.int32)
    labels[1, 2, 3] = top
    assert np.array_equal(masks.unpack_labels(masks.pack_labels(labels), (2, 3, 4)), labels)


def test_damaged_blobs_are_named_in_a_sentence():
    with pytest.raises(InputError, match="damaged"):
        Mask((0, 0, 0, 1, 2, 2), b"nonsense").array()
    with pytest.raises(InputError, match="damaged"):
        masks.unpack_labels(b"nonsense", (1, 2, 2))
