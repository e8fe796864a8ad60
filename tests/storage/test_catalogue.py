"""Which patches the catalogue tells."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import ImageRole, PatchRole
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows


@pytest.fixture
def project(store):
    """Two training images of four patches each, and a test image."""
    made = catalogue.create_project(store, "mine", patch_size=32)
    for name in ("a", "b", "test"):
        role = ImageRole.TEST if name == "test" else ImageRole.TRAIN
        importing.add_array(store, made.id, name, np.zeros((64, 64, 1), np.uint8), role=role)
    return made


def test_patches_of_a_project_an_image_and_by_their_ids(store, project):
    first, second, test = catalogue.images(store, project.id)
    everything = catalogue.patches(store, project.id)
    assert [patch.image_id for patch in everything] == [first.id] * 4 + [second.id] * 4
    assert catalogue.count_patches(store, project.id) == 8
    assert catalogue.patches(store, project.id, second.id) == everything[4:]
    assert catalogue.patches(store, project.id, test.id) == []
    chosen = [everything[6].id, everything[1].id, 10**6]
    assert catalogue.patches(store, project.id, ids=chosen) == [everything[1], everything[6]]
    assert catalogue.patches(store, project.id, first.id, chosen) == [everything[1]]
    assert catalogue.patches(store, project.id, ids=[]) == []
    other = catalogue.create_project(store, "other")
    assert catalogue.patches(store, other.id, ids=chosen) == []


def test_whether_there_is_a_patch_and_one_that_was_never_picked(store, project):
    empty = catalogue.create_project(store, "empty")
    assert not catalogue.any_patch(store, empty.id)
    everything = [patch.id for patch in catalogue.patches(store, project.id)]
    assert catalogue.any_patch(store, project.id)
    round_rows.add(store, project.id, "random", 7, 0, [(one, PatchRole.TRAIN, {}) for one in everything[:7]])
    assert catalogue.any_patch(store, project.id, unpicked=True)
    round_rows.add(store, project.id, "random", 1, 0, [(everything[7], PatchRole.VALIDATION, {})])
    assert catalogue.any_patch(store, project.id)
    assert not catalogue.any_patch(store, project.id, unpicked=True)
    catalogue.set_image_deleted(store, catalogue.images(store, project.id)[0].id, True)
    assert catalogue.count_patches(store, project.id) == 4


def test_a_project_is_found_by_its_name_before_its_number(store):
    two, one, plate = (catalogue.create_project(store, name) for name in ("2", "1", "plate"))
    assert (two.id, one.id) == (1, 2)
    assert [catalogue.project_called(store, name) for name in ("1", "2", "3", "plate")] == [one, two, plate, plate]
    with pytest.raises(InputError, match=r"no project called '4'.*'plate', '1', '2'"):
        catalogue.project_called(store, "4")
