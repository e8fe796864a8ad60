"""Label maps of patches and of whole images, read by parts."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind
from alapp.rounds import importing
from alapp.storage import catalogue, labels
from alapp.storage.db import Store


@pytest.mark.parametrize("shape", [(100, 90), (7, 100, 90)])
@pytest.mark.parametrize("of", ["image", "patch"])
def test_a_patch_is_read_from_a_map_of_it_or_of_its_image(store: Store, shape: tuple[int, ...], of: str) -> None:
    project = catalogue.create_project(store, "mine", patch_size=40, patch_depth=3)
    image = importing.add_array(store, project.id, "stack", np.zeros((*shape, 1), np.uint8))
    whole = np.random.default_rng(0).integers(0, 900, shape).astype(np.int32)
    for patch in catalogue.patches(store, project.id):
        part = catalogue.crop(whole, patch)
        item = labels.add(
            store,
            LabelKind.PREDICTED,
            whole if of == "image" else part,
            project_id=project.id,
            image_id=image.id,
            patch_id=None if of == "image" else patch.id,
            backend="test",
            input_hash="",
        )
        np.testing.assert_array_equal(labels.read_patch(store, item, patch), part)
        if patch.is_3d:
            np.testing.assert_array_equal(labels.read_patch(store, item, patch, 1), part[1])
            np.testing.assert_array_equal(labels.read_slice(store, item, 1), labels.read(store, item)[1])


@pytest.mark.parametrize("shape", [(100, 90), (7, 100, 90)])
@pytest.mark.parametrize("at_once", [1, 500, 10**6])
def test_some_pixels_of_a_map_are_read(store: Store, shape: tuple[int, ...], at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(labels, "_AT_ONCE", at_once)
    project = catalogue.create_project(store, "mine")
    image = importing.add_array(store, project.id, "stack", np.zeros((*shape, 1), np.uint8))
    whole = np.random.default_rng(0).integers(0, 900, shape).astype(np.int32)
    item = labels.add(
        store, LabelKind.PREDICTED, whole, project_id=project.id, image_id=image.id, backend="test", input_hash=""
    )
    z, plane = (None, whole) if len(shape) == 2 else (4, whole[4])
    for rows, columns in ((np.arange(100), np.arange(90)), (np.arange(3, 99, 7), np.arange(0, 80, 13))):
        found = labels.read_at(store, item, rows, columns, z)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, plane[np.ix_(rows, columns)])
