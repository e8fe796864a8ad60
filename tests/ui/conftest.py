"""A state folder, and projects in several stages."""

from __future__ import annotations

import pytest

from alapp.rounds import importing
from alapp.storage import catalogue
from alapp.storage.db import Store
from tests.rounds.conftest import discs


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "state")


@pytest.fixture
def project(store):
    """Two images of 128 x 128 in four patches each."""
    made = catalogue.create_project(store, "discs", patch_size=64)
    for seed in range(2):
        importing.add_array(store, made.id, f"image_{seed}", discs(seed)[0])
    return made


@pytest.fixture
def opened(project):
    """The same project, for tests that import the module `project`."""
    return project
