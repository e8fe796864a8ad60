"""Shared fixtures: an empty state folder and store, and headless Chromium."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from alapp.storage.db import Store

if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of several processes that share the cores would wait for each other. Read when torch is first imported.
    cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


PATIENCE = 40_000
"""Milliseconds in which something has to appear on a page."""


@pytest.fixture(autouse=True)
def _user_folders(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the weights, licences and tokens of whoever runs it; processes it starts neither."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("ALAPP_MODELS_DIR", "ALAPP_CONFIG_DIR", "MICROSAM_CACHEDIR", "ALAPP_DEEPCELL_DIR"):
        monkeypatch.setenv(name, str(folder / name.lower()))
    for name in ("DEEPCELL_ACCESS_TOKEN", "ALAPP_CELLSAM_LICENCE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables and nothing in it."""
    return Store(tmp_path_factory.mktemp("migrated")).database


@pytest.fixture(autouse=True)
def _copied_databases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _migrated: Path) -> None:
    """A new database is a copy of a migrated one, as to migrate takes longer than most tests; but for the tests of
    migrating."""
    if "storage" in request.path.parts:
        return
    migrate = Store._migrate

    def copy(self: Store) -> None:
        if not self.database.exists():
            shutil.copyfile(_migrated, self.database)
        migrate(self)

    monkeypatch.setattr(Store, "_migrate", copy)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh state folder."""
    return Store(tmp_path / "state")


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
        # A machine that does other things too must not make a test fail that only has to wait a little longer.
        sync_api.expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()
