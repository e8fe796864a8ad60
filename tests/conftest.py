"""Shared fixtures: an empty state folder and store."""

from __future__ import annotations

from pathlib import Path

import pytest

from alapp.storage.db import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh state folder."""
    return Store(tmp_path / "state")
