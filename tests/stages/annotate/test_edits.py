from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from alapp.errors import InputError
from alapp.stages.annotate import edits, masks

SHAPE = (1, 24, 24)


def disc(y=12, x=12, radius=7, shape=SHAPE):
    yy, xx = np.mgrid[: shape[1], : shape[2]]
    return np.repeat(((yy - y) ** 2 + (xx - x) ** 2 <= radius**2)[None], shape[0], axis=0)


def whole(mask, shape=SHAPE):
    pixels = np.zeros(shape, bool)
    if mask is not None:
        mask.paint(pixels, True)
    return pixels


def of(pixels):
    return masks.from_array(pixels)


def test_paint_adds_and_takes_away():
    a, b = disc(12, 8, 5), disc(12, 14, 5)
    assert np.array_equal(whole(edits.paint(of(a), of(b), erase=False)), a | b)
    assert np.array_equal(whole(edits.paint(of(a), of(b), erase=True)), a & ~b)
    assert edits.paint(None, of(b), erase=False) == of(b)
    assert edits.paint(of(a), of(a), erase=True) is None
    assert edits.paint(None, of(a), erase=True) is None


def test_merge_joins_objects_that_are_apart():
    a, b = disc(5, 5, 3), disc(18, 18, 3)
    assert np.array_equal(whole(edits.merge([of(a), of(b)])), a | b)


@pytest.mark.parametrize("line", [((0, 12), (23, 12)), ((12, 0), (12, 23)), ((1, 3), (20, 22)), ((11, 11), (14, 13))])
def test_a_line_makes_two_parts_that_lose_no_pixel(line):
    target = disc()
    parts = [whole(part) for part in edits.split(of(target), line, 0)]
    assert np.array_equal(parts[0] | parts[1], target)
    assert not (parts[0] & parts[1]).any()
    assert parts[0].sum() >= parts[1].sum() > 0.3 * target.sum()


def test_a_line_beside_the_object_cuts_nothing():
    with pytest.raises(InputError, match="right across"):
        edits.split(of(disc()), ((0, 0), (0, 23)), 0)
    with pytest.raises(InputError, match="too short"):
        edits.split(of(disc()), ((3, 3), (3, 3.5)), 0)
    with pytest.raises(InputError, match="not on this slice"):
        edits.split(of(disc()), ((0, 12), (23, 12)), 1)


def test_a_plane_cuts_the_whole_stack():
    shape = (3, 24, 24)
    target = disc(shape=shape)
    target[0] = disc(radius=9)[0]
    parts = [whole(part, shape) for part in edits.split(of(target), ((9, 12), (14, 12)), 1)]
    assert np.array_equal(parts[0] | parts[1], target)
    assert all(part.any(axis=(1, 2)).all() for part in parts)
    sides = sorted(np.nonzero(part)[2].mean() for part in parts)
    assert sides[0] < 11 < 13 < sides[1]


def test_a_part_that_the_line_misses_stays_with_the_larger():
    target = disc(8, 8, 5) | disc(20, 20, 2)
    large, small = edits.split(of(target), ((8, 0), (8, 12)), 0)
    assert whole(large)[0, 20, 20]
    assert not whole(small)[0, 20, 20]


def bent(height=60, width=30, thick=6):
    """A U whose arms point upwards."""
    pixels = np.zeros((1, height, width), bool)
    pixels[0, :, :thick] = pixels[0, :, -thick:] = pixels[0, -thick:, :] = True
    return pixels


@pytest.mark.parametrize("y", [5, 20, 40, 50])
def test_a_line_across_one_arm_cuts_only_there(y):
    """Wherever most of the other piece lies, which comes back to the far side of the line."""
    target = bent()
    for thick in (slice(0, 6), slice(24, 30)):
        line = ((y, thick.start - 3), (y, thick.stop + 3))
        large, small = (whole(part, target.shape) for part in edits.split(of(target), line, 0))
        expected = np.zeros_like(target)
        expected[0, :y, thick] = True
        found, rest = (small, large) if (small & expected).sum() > expected.sum() / 2 else (large, small)
        assert np.array_equal(found | rest, target)
        assert (found ^ expected).sum() <= 6  # the pixels of the line itself


def test_curved_tubes_are_cut_into_the_two_pieces_that_the_line_makes():
    rng = np.random.default_rng(0)
    n = 0
    while n < 40:
        turns = np.cumsum(ndimage.gaussian_filter1d(np.cumsum(rng.normal(0, 0.012, 140)), 8))
        path = np.cumsum(np.stack([np.sin(turns), np.cos(turns)], axis=1), axis=0)
        path -= path.min(axis=0) - 8
        size = np.ceil(path.max(axis=0) + 9).astype(int)
        grid = np.mgrid[: size[0], : size[1]]
        target = np.min([np.hypot(grid[0] - y, grid[1] - x) for y, x in path], axis=0) <= 4
        at = int(rng.integers(25, 115))
        across = 6.5 * np.array([np.cos(turns[at]), -np.sin(turns[at])])
        line = (tuple(path[at] - across), tuple(path[at] + across))
        pieces, count = ndimage.label(target & ~edits._rasterised(np.array(line), target.shape))
        sizes = sorted(np.bincount(pieces.ravel())[1:].tolist())
        if count != 2 or sizes[0] < 100 or any(edits._inside(target, np.array(end)) for end in line):
            continue  # it comes too near to itself
        n += 1
        _, small = edits.split(of(target), line, 0)
        assert small.array().sum() == pytest.approx(sizes[0], abs=40)


def test_only_enclosed_holes_are_filled():
    ring = disc(radius=8) & ~disc(radius=3)
    assert np.array_equal(whole(edits.fill_holes(of(ring))), disc(radius=8))
    open_ring = ring.copy()
    open_ring[0, 12, 12:] = False
    assert np.array_equal(whole(edits.fill_holes(of(open_ring))), open_ring)


def test_smoothing_takes_spikes_and_fills_dents():
    target = disc()
    rough = target.copy()
    rough[0, 12, 19:24] = True
    rough[0, 5:8, 12] = False
    smooth = whole(edits.smooth(of(rough), SHAPE))
    assert not smooth[0, 12, 22]
    assert smooth[0, 7, 12]
    assert np.count_nonzero(smooth & target) / np.count_nonzero(smooth | target) > 0.95
    dot = np.zeros(SHAPE, bool)
    dot[0, 3, 3] = True
    assert edits.smooth(of(dot), SHAPE) == of(dot)


def test_an_object_at_the_border_of_the_patch_is_not_eaten_from_there():
    half = np.zeros(SHAPE, bool)
    half[0, :, :10] = True
    assert np.array_equal(whole(edits.smooth(of(half), SHAPE)), half)
    assert np.array_equal(np.flatnonzero(whole(edits.shrink(of(half), SHAPE)).any(axis=(0, 1))), np.arange(9))
    assert whole(edits.shrink(of(half), SHAPE)).any(axis=2).all()
    assert np.array_equal(np.flatnonzero(whole(edits.grow(of(half), SHAPE)).any(axis=(0, 1))), np.arange(11))


def test_a_dot_shrinks_to_nothing():
    dot = np.zeros(SHAPE, bool)
    dot[0, 3, 3] = True
    assert edits.shrink(of(dot), SHAPE) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2 * 6 * 7, max_size=2 * 6 * 7), st.integers(0, 1))
def test_growing_and_shrinking_against_plain_neighbourhoods(flat, shift):
    """The model pads the patch with its own border pixels and looks at the four neighbours of each."""
    shape = (2, 6 + shift, 7)
    pixels = np.zeros(shape, bool)
    pixels[:, shift:] = np.array(flat).reshape(2, 6, 7)
    if not pixels.any():
        return
    room = np.pad(pixels, [(0, 0), (1, 1), (1, 1)], mode="edge")
    around = [room[:, 1:-1, 1:-1], room[:, 2:, 1:-1], room[:, :-2, 1:-1], room[:, 1:-1, 2:], room[:, 1:-1, :-2]]
    assert np.array_equal(whole(edits.grow(of(pixels), shape), shape), np.any(around, axis=0))
    assert np.array_equal(whole(edits.shrink(of(pixels), shape), shape), np.all(around, axis=0))
