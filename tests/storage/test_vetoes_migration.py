"""Vetoes of which only the picks that took the place tell are kept with the patches."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from alapp.storage import db as db_module
from alapp.storage import rounds
from alapp.storage.db import Store
from tests.storage import test_measuring_migration


@pytest.mark.parametrize("picked_since", [False, True])
def test_earlier_vetoes_still_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picked_since: bool) -> None:
    monkeypatch.setattr(test_measuring_migration, "NAME", "m018_vetoed")
    test_measuring_migration.old(tmp_path / "s")
    with closing(sqlite3.connect(tmp_path / "s" / db_module.DATABASE)) as connection:
        connection.execute("""UPDATE selection SET reason = '{"vetoed": [1, 99]}' WHERE patch_id = 2""")
        if not picked_since:
            connection.execute("DELETE FROM selection WHERE patch_id = 1")
        connection.commit()
    assert rounds.vetoed(Store(tmp_path / "s"), 1) == (set() if picked_since else {1})
