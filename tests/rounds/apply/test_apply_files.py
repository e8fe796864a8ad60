"""Label maps that are written strip by strip: what tifffile and this app read in them."""

from __future__ import annotations

import csv
import warnings

import numpy as np
import pytest
import tifffile

from alapp.domain import Box, VoxelSize, silent
from alapp.rounds.apply import apply_files
from alapp.stages import images as image_files
from alapp.stages import segment


@pytest.mark.parametrize(("bits", "dtype"), [(16, np.uint16), (32, np.uint32)])
@pytest.mark.parametrize("size", [VoxelSize(), VoxelSize(None, 0.2, 0.3), VoxelSize(1.0, 0.2, 0.3)])
@pytest.mark.parametrize("depth", [1, 4])
def test_masks_keep_numbers_axes_and_sizes(tmp_path, monkeypatch, depth, size, bits, dtype):
    monkeypatch.setattr(apply_files, "_STRIP_BYTES", 3000)
    labels = np.random.default_rng(0).integers(0, 300, (depth, 70, 90)).astype(np.int32)
    boxes, path = [Box(0, 0, 0, 1, 1, 1)] * 300, tmp_path / "masks.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_files.write_masks(path, segment.Found(labels, boxes, np.ones(300)), depth > 1, bits, size, silent)
    read, info = tifffile.imread(path), image_files.inspect(path)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, labels if depth > 1 else labels[0])
    assert info.axes == ("ZYX" if depth > 1 else "YX")
    assert info.axes_source != "assumed"
    found = (info.voxel_size.z, info.voxel_size.y, info.voxel_size.x)
    z = size.z if depth > 1 else None
    assert found == tuple(side if side is None else pytest.approx(side) for side in (z, size.y, size.x))


@pytest.mark.parametrize("depth", [1, 3])
def test_a_table_without_objects_has_the_columns_of_the_others(tmp_path, depth):
    pixels = np.random.default_rng(0).integers(0, 255, (depth, 20, 20, 2)).astype(np.uint8)
    labels = np.zeros((depth, 20, 20), np.int32)
    heads = []
    for name in ("empty", "one"):
        found = segment.found_in(labels if depth > 1 else labels[0])
        path = tmp_path / f"{name}.csv"
        apply_files.write_table(path, name, found, depth > 1, pixels, VoxelSize(1.0, 0.5, 0.5), silent)
        heads.append(path.read_text("utf-8-sig").splitlines()[0])
        labels[0, 3:9, 3:9] = 1
    assert heads[0] == heads[1]
    assert "mean_intensity_channel_1" in heads[0]
    assert len((tmp_path / "empty.csv").read_text().splitlines()) == 1


def test_a_table_tells_what_the_image_cuts_and_not_the_part_that_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr(apply_files, "WHOLE_VOXELS", 100)  # every object is read alone
    labels = np.zeros((6, 20, 20), np.int32)
    labels[0:2, 3:9, 3:9], labels[2:4, 12:18, 3:9], labels[4:6, 3:9, 0:9], labels[2:4, 12:18, 12:20] = 1, 2, 3, 4
    path = tmp_path / "objects.csv"
    pixels = np.zeros((6, 20, 20, 1), np.uint8)
    for depth, told in ((6, [("0", "1"), ("0", "0"), ("1", "1"), ("1", "0")]), (1, [("0",), ("1",)])):
        found = segment.found_in(labels if depth > 1 else labels[3] // 2)
        part = pixels[:depth]
        apply_files.write_table(path, "a", found, depth > 1, part, VoxelSize(), silent)
        with open(path, newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
        columns = [name for name in rows[0] if name.startswith("touches")]
        assert columns == ["touches_edge", "touches_first_or_last_slice"][: len(told[0])]
        assert [tuple(row[name] for name in columns) for row in rows] == told
