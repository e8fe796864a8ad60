"""A state folder, projects in several stages, and headless Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from alapp.rounds import importing
from alapp.storage import catalogue
from alapp.storage.db import Store
from tests.rounds.conftest import discs

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


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


@pytest.fixture(scope="session")
def chromium():
    """Headless Chromium; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=str(CHROMIUM) if CHROMIUM.exists() else None, args=FLAGS
            )
        except sync_api.Error as error:
            pytest.skip(f"no Chromium here: {error}")
        yield browser
        browser.close()


@pytest.fixture
def opened(project):
    """The same project, for tests that import the module `project`."""
    return project
