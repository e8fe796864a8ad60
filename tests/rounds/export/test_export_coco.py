"""Regions that nobody annotated, as COCO's own evaluation takes them."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest

from alapp.domain import VoxelSize
from alapp.rounds.export.export_coco import Coco
from alapp.storage import catalogue

SIZE = 64
KINDS = {1: "healthy", 3: "damaged"}


@pytest.fixture
def made(store):
    """Two objects of each kind in the left half; nobody annotated the right one."""
    project = catalogue.create_project(store, "kinds")
    masks = np.zeros((SIZE, SIZE), np.int32)
    for number in range(4):
        masks[4 + 14 * number : 14 + 14 * number, 4:14] = number + 1
    region = np.zeros((SIZE, SIZE), bool)
    region[:, SIZE // 2 :] = True
    coco = Coco(project, KINDS)
    pixels = np.zeros((SIZE, SIZE, 1), np.uint8)
    assert len(list(coco.add("a", pixels, masks, VoxelSize(), {1: 1, 2: 3, 3: 1, 4: 3}, region))) == 1
    return coco.content


def test_a_region_that_nobody_annotated_is_a_crowd_of_every_category(made):
    crowds = [item for item in made["annotations"] if item["iscrowd"]]
    assert [item["category_id"] for item in crowds] == [1, 3]
    assert [item["area"] for item in crowds] == [SIZE * SIZE // 2] * 2
    assert all(item["attributes"] == {"not_annotated": True} for item in crowds)
    assert len({item["id"] for item in made["annotations"]}) == len(made["annotations"]) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_there_is_no_error_for_any_kind(made, tmp_path, kind):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    encode = pytest.importorskip("pycocotools.mask").encode
    (tmp_path / "truth.json").write_text(json.dumps(made))
    there = np.zeros((SIZE, SIZE), np.uint8, order="F")
    there[20:32, 40:52] = 1
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(tmp_path / "truth.json"))
        right = [
            {key: item[key] for key in ("image_id", "category_id")}
            | {"segmentation": truth.annToRLE(item), "score": 0.5}
            for item in truth.loadAnns(truth.getAnnIds(iscrowd=False))
        ]
        extra = {"image_id": 1, "category_id": kind, "segmentation": encode(there), "score": 0.9}
        run = evaluation.COCOeval(truth, truth.loadRes([*right, extra]), "segm")
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][0, :, :, 0, -1]  # at IoU 0.5: (recall, category)
    assert precision.min() == pytest.approx(1.0)
