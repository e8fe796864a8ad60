"""A project with a model, and images that are not part of it."""

from __future__ import annotations

import csv

import pytest
import tifffile

from alapp.domain import LabelKind, silent
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.rounds.train import training
from alapp.storage import catalogue, labels
from tests.rounds.conftest import discs


@pytest.fixture
def trained(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    references = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    for patch_id in selection.run_select(store, project.id, silent, budget=4)["patches"]:
        patch = catalogue.patch(store, patch_id)
        truth = catalogue.crop(labels.read(store, references[patch.image_id]), patch)
        annotation.submit_labels(store, patch_id, truth, "oracle")
    training.run_round(store, project.id, silent)
    return project


@pytest.fixture
def folder(tmp_path):
    """Two images of discs, one of them with a voxel size, and a text."""
    made = tmp_path / "new images"
    made.mkdir()
    tifffile.imwrite(made / "a.tif", discs(20)[0][..., 0])
    tifffile.imwrite(
        made / "b.tif", discs(21, size=200, n=20)[0][..., 0], resolution=(5e4, 5e4), resolutionunit="CENTIMETER",
        compression="zlib", tile=(64, 64),
    )  # fmt: skip
    (made / "notes.txt").write_text("hello")
    return made


def table(path):
    with open(path, encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))
