"""A state folder, and projects in several stages."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole
from alapp.rounds import importing
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from tests.rounds.conftest import discs, fast  # noqa: F401 (a fixture for all here)
from tests.ui import annotating, pages


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


@pytest.fixture
def url(store):
    """The app, with a process that does what is queued."""
    with pages.app(store, worker=True) as address:
        yield address


@pytest.fixture
def page(chromium, url):
    """The app in a tab of the browser."""
    with pages.tab(chromium, url) as tab:
        yield tab


@pytest.fixture
def world(store):
    """A project with two patches of 96 x 128 and their truth; the first one opens."""
    pixels, truth = discs(3, size=192, n=16, radius=9)
    pixels, truth = pixels[:96], truth[:96]
    pixels, truth = np.tile(pixels, (1, 2, 1))[:, :256], np.tile(truth, (1, 2))[:, :256]
    made = catalogue.create_project(store, "clicks", patch_size=96)
    importing.add_array(store, made.id, "<b>cells</b> ${1+1} {{value}}", pixels)
    patches = catalogue.patches(store, made.id)[:2]
    round_rows.add(store, made.id, "random", 2, 0, [(item.id, PatchRole.TRAIN, {}) for item in patches])
    return store, made, patches, truth


@pytest.fixture
def server(world):
    """The Annotate page of `world`."""
    store, made, _, _ = world
    with annotating.served(store, made.id) as url:
        yield url


@pytest.fixture
def visitor(chromium, server):
    """A visitor on the Annotate page of `world`."""
    with annotating.visiting(chromium, server) as made:
        yield made
