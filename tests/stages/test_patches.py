"""The patch grid and stitching of tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alapp.domain import Box
from alapp.errors import InputError
from alapp.stages.patches import GRID_COLOUR, draw_grid, grid, most_shared, stitch


def test_1024_in_256_gives_exactly_16_patches() -> None:
    boxes = grid((1, 1024, 1024), 256, 1, 0, False)
    assert [(box.y, box.x) for box in boxes] == [(y, x) for y in range(0, 1024, 256) for x in range(0, 1024, 256)]
    assert {(box.z, box.depth, box.height, box.width) for box in boxes} == {(0, 1, 256, 256)}


def test_last_patch_moves_inwards_and_small_images_give_a_small_patch() -> None:
    assert [box.x for box in grid((1, 256, 600), 256, 1, 0, False)] == [0, 256, 344]
    assert grid((1, 40, 300), 256, 1, 0, False) == [Box(0, 0, 0, 1, 40, 256), Box(0, 0, 44, 1, 40, 256)]
    assert [box.z for box in grid((12, 256, 256), 256, 5, 0, True)] == [0, 5, 7]
    assert grid((3, 256, 256), 256, 5, 0, True)[0].depth == 3


@pytest.mark.parametrize(
    ("shape", "overlap", "shared"),
    [((1, 128, 192), 0, 0), ((1, 64, 100), 0, 28), ((1, 160, 64), 32, 32), ((1, 9, 9), 0, 0)],
)
def test_the_most_that_neighbours_share(shape: tuple[int, ...], overlap: int, shared: int) -> None:
    assert most_shared(grid(shape, 64, 1, overlap, False)) == shared


def test_overlap() -> None:
    assert [box.x for box in grid((1, 256, 640), 256, 1, 64, False)] == [0, 192, 384]


@pytest.mark.parametrize(("size", "depth", "overlap"), [(31, 1, 0), (64, 0, 0), (64, 1, -1), (64, 1, 33)])
def test_bad_sizes_are_refused(size: int, depth: int, overlap: int) -> None:
    with pytest.raises(InputError, match="choose"):
        grid((4, 256, 256), size, depth, overlap, True)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 150), st.integers(1, 150)),
    size=st.integers(32, 100),
    depth=st.integers(1, 10),
    overlap=st.integers(0, 16),
)
def test_grid_covers_every_voxel_with_full_patches_inside_the_image(
    shape: tuple[int, int, int], size: int, depth: int, overlap: int
) -> None:
    boxes = grid(shape, size, depth, overlap, True)
    covered = np.zeros(shape, bool)
    for box in boxes:
        assert min(box.z, box.y, box.x) >= 0
        assert (box.depth, box.height, box.width) == (min(depth, shape[0]), min(size, shape[1]), min(size, shape[2]))
        assert covered[box.slices].shape == (box.depth, box.height, box.width)
        covered[box.slices] = True
    assert covered.all()
    assert len(set(boxes)) == len(boxes)


def test_draw_grid_outlines_boxes_on_a_copy() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    drawn = draw_grid(picture, grid((1, 100, 100), 50, 1, 0, False))
    assert picture.max() == 0
    assert drawn[0, 30].tolist() == drawn[30, 50].tolist() == drawn[99, 99].tolist() == list(GRID_COLOUR)
    assert drawn[25, 25].max() == 0


def cut(labels: np.ndarray, boxes: list[Box], is_3d: bool) -> list[tuple[Box, np.ndarray]]:
    """Labels of tiles as a segmentation would give them: every tile with its own ids, in no order."""
    rng = np.random.default_rng(3)
    tiles = []
    for box in boxes:
        part = labels[box.slices] if is_3d else labels[box.slices[1:]]
        ids = np.unique(part[part > 0])
        table = np.zeros(labels.max() + 1, int)
        table[ids] = rng.permutation(500)[: len(ids)] + 1
        tiles.append((box, table[part]))
    return tiles


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(a)) == len(np.unique(b)) and bool(((a > 0) == (b > 0)).all())


@pytest.mark.parametrize("overlap", [0, 8, 16])
def test_stitch_joins_objects_across_borders_and_keeps_touching_ones_apart(overlap: int) -> None:
    labels = np.zeros((160, 160), np.int32)
    labels[20:40, 20:140] = 1  # crosses every vertical border
    labels[40:50, 30:70] = 2  # touches 1 all along
    labels[50:120, 60:70] = 3  # touches 2, crosses borders in y
    labels[50:120, 70:80] = 4  # touches 3 side by side, across the same borders
    labels[150:160, 150:160] = 5
    boxes = grid((1, 160, 160), 64, 1, overlap, False)
    stitched = stitch(cut(labels, boxes, False), (1, 160, 160))
    assert stitched.dtype == np.int32
    assert stitched.max() == 5
    assert same_partition(stitched, labels)


def test_stitch_in_3d() -> None:
    labels = np.zeros((6, 96, 96), np.int32)
    labels[1:6, 10:80, 20:30] = 1
    labels[0:3, 10:80, 30:40] = 2
    labels[4:6, 50:90, 60:90] = 3
    boxes = grid(labels.shape, 48, 2, 8, True)
    stitched = stitch(cut(labels, boxes, True), labels.shape)
    assert same_partition(stitched, labels)


def test_stitch_does_not_join_what_one_tile_keeps_apart() -> None:
    left, right = Box(0, 0, 0, 1, 40, 40), Box(0, 0, 30, 1, 40, 40)
    whole = np.zeros((40, 40), int)
    whole[10:30] = 9
    split = whole.copy()
    split[10:17] = 4
    stitched = stitch([(left, split), (right, whole)], (1, 40, 70))
    # the larger part goes on as the object of the other tile, the smaller one stays an object of its own
    assert stitched[25, 0] == stitched[25, 69] != stitched[12, 0]
    assert stitched[12, 0] > 0
    assert stitched.max() == 2


def test_stitch_takes_the_overlap_from_the_tile_whose_cut_is_farther_away() -> None:
    left, right = Box(0, 0, 0, 1, 32, 40), Box(0, 0, 30, 1, 32, 40)
    spurious = np.zeros((32, 40), int)
    spurious[5:8, 38:40] = 1  # at the cut of the left tile; the right one, which sees more, has nothing there
    assert stitch([(left, spurious), (right, np.zeros((32, 40), int))], (1, 32, 70)).max() == 0


def test_stitch_of_nothing_and_of_wrong_sizes() -> None:
    assert stitch([], (1, 40, 50)).shape == (40, 50)
    box = Box(0, 0, 0, 1, 40, 40)
    assert stitch([(box, np.zeros((40, 40), int))], (1, 40, 40), is_3d=True).shape == (1, 40, 40)
    with pytest.raises(ValueError, match="do not fit"):
        stitch([(box, np.zeros((39, 40), int))], (1, 40, 40))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), overlap=st.integers(6, 16))
def test_stitch_restores_convex_objects(seed: int, overlap: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((120, 150), np.int32)
    y, x = np.mgrid[:120, :150]
    for k in range(1, 9):
        cy, cx, r = rng.integers(0, 120), rng.integers(0, 150), rng.integers(4, 14)
        disc = (y - cy) ** 2 + (x - cx) ** 2 <= r * r
        if not labels[disc].any():
            labels[disc] = k
    boxes = grid((1, 120, 150), 48, 1, overlap, False)
    assert same_partition(stitch(cut(labels, boxes, False), (1, 120, 150)), labels)
