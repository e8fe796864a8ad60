"""Voxel sizes that a person types, also after the import."""

from __future__ import annotations

import numpy as np
import pytest

from alapp import jobs
from alapp.domain import VoxelSize
from alapp.errors import InputError, NotReadyError
from alapp.rounds import importing, voxel_sizes
from alapp.storage import catalogue, models
from alapp.storage import jobs as rows


@pytest.mark.parametrize(
    ("texts", "size", "said"),
    [
        ({"x": "0,1"}, VoxelSize(None, 0.1, 0.1), "a.tif: y was left empty and is taken to be 0.1 µm, like x."),
        ({"z": "1", "y": "0.2"}, VoxelSize(1.0, 0.2, 0.2), "a.tif: x was left empty"),
        ({"z": "1", "y": "0.2", "x": "0.3"}, VoxelSize(1.0, 0.2, 0.3), ""),
        ({"z": "", "y": " ", "x": "nan"}, VoxelSize(), ""),
    ],
)
def test_what_is_typed_halfway_is_filled_in_and_told(texts, size, said):
    found, filled = voxel_sizes.typed("a.tif", texts)
    assert found == size
    assert filled.startswith(said)
    assert bool(filled) == bool(said)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"y": "inf", "x": "1"}, "a.tif: the voxel size in y must be a number of micrometres; it is inf"),
        ({"y": "1", "x": "1e999"}, "in x must be a number"),
        ({"y": "0", "x": "1"}, "in y must be above 0; it is 0"),
        ({"z": "a lot"}, "'a lot' is not a number"),
        ({"z": "1"}, "has z but neither y nor x"),
    ],
)
def test_what_is_no_size_is_refused(texts, words):
    with pytest.raises(InputError, match=words):
        voxel_sizes.typed("a.tif", texts)


@pytest.fixture
def stack(store):
    made = catalogue.create_project(store, "stack", patch_size=32)
    for name in ("one", "two"):
        importing.add_array(store, made.id, name, np.zeros((4, 64, 64, 1), np.uint8))
    return made


def planned(store, project):
    values = {"project_id": project.id, "preset": project.preset, "input_hash": "h", "workspace": "w"}
    models.add_plan(store, values | {"summary": {}})


def test_a_size_is_changed_for_the_images_that_are_named(store, stack):
    one, two = catalogue.images(store, stack.id)
    voxel_sizes.change(store, stack.id, [one], VoxelSize(1.0, 0.5, 0.5))
    assert catalogue.image(store, one.id).voxel_size == VoxelSize(1.0, 0.5, 0.5)
    assert catalogue.patches(store, stack.id, image_id=one.id)[0].voxel_size.z == 1.0
    assert not catalogue.image(store, two.id).voxel_size.known


def test_it_is_told_what_takes_effect_when(store, stack):
    images = catalogue.images(store, stack.id)
    told = voxel_sizes.change(store, stack.id, images, VoxelSize(1.0, 0.5, 0.5))
    assert "exports in micrometres use it from now on" in told
    assert "predictions" in told
    assert "plan" not in told  # there is none yet
    planned(store, stack)
    images = catalogue.images(store, stack.id)
    assert "plan" not in voxel_sizes.change(store, stack.id, images, VoxelSize(2.0, 1.0, 1.0))  # as thick as before
    images = catalogue.images(store, stack.id)
    told = voxel_sizes.change(store, stack.id, images, VoxelSize(3.0, 0.5, 0.5))
    assert "The plan of the network was made with the old size" in told


def test_the_plan_of_flat_images_does_not_depend_on_their_size(store, project):
    planned(store, project)
    told = voxel_sizes.change(store, project.id, catalogue.images(store, project.id), VoxelSize(None, 0.5, 0.5))
    assert "plan" not in told


def test_no_size_changes_while_a_job_reads_it(store, stack):
    image = catalogue.images(store, stack.id)[0]
    rows.claim(store, "elsewhere:1:t", jobs.enqueue(store, "export", stack.id).id)
    with pytest.raises(NotReadyError, match="“Exporting” uses it"):
        voxel_sizes.change(store, stack.id, [image], VoxelSize(1.0, 0.5, 0.5))
    assert not catalogue.image(store, image.id).voxel_size.known
