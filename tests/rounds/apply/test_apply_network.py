"""A real network on a folder: by blocks as in the whole."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from alapp.domain import silent
from alapp.rounds.apply import apply
from alapp.stages import segment
from alapp.stages.metrics import score_instances
from tests.rounds.conftest import discs
from tests.rounds.trained import trained_project

pytestmark = pytest.mark.slow


def test_a_real_network_finds_the_same_by_blocks_and_in_the_whole(store, tmp_path, monkeypatch):
    project = trained_project(store)
    (tmp_path / "new").mkdir()
    image, truth = discs(50, size=256, n=45)
    tifffile.imwrite(tmp_path / "new" / "large.tif", image[..., 0], compression="zlib", tile=(64, 64))
    masks = {}
    for way, voxels in (("whole", segment.WHOLE_VOXELS), ("blocks", 150 * 150)):
        monkeypatch.setattr(segment, "WHOLE_VOXELS", voxels)
        made = apply.run_apply(store, project.id, silent, str(tmp_path / "new"), target=str(tmp_path / way))
        assert made["problems"] == []
        masks[way] = tifffile.imread(tmp_path / way / "large_masks.tif").astype(np.int32)
    assert score_instances(truth, masks["whole"]).f1_50 > 0.8
    same = sum(
        np.count_nonzero((masks["blocks"] == number) & (masks["whole"] == other))
        / np.count_nonzero((masks["blocks"] == number) | (masks["whole"] == other))
        > 0.9
        for number in range(1, masks["blocks"].max() + 1)
        if (other := np.bincount(masks["whole"][masks["blocks"] == number]).argmax())
    )
    assert 2 * same / (masks["blocks"].max() + masks["whole"].max()) > 0.98
    mirrored = apply.run_apply(
        store, project.id, silent, str(tmp_path / "new"), target=str(tmp_path / "m"), options={"mirroring": True}
    )
    found = tifffile.imread(tmp_path / "m" / "large_masks.tif").astype(np.int32)
    assert mirrored["rows"][0]["objects"] == found.max()
    assert score_instances(truth, found).f1_50 > 0.8
