"""The migration that builds the table of patches anew loses nothing that refers to a patch."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from alapp.storage import db as db_module
from alapp.storage.db import Store
from alapp.storage.schema import migrations

NAME = "m007_measuring"


def old(root: Path) -> None:
    """A database from before, with two patches that a round selected and somebody annotated; a third is gone."""
    root.mkdir()
    with closing(sqlite3.connect(root / db_module.DATABASE)) as connection:
        db = Database(connection)
        migrations.apply(db, stop_before=NAME)
        connection.executescript("""
        INSERT INTO project (name, created, modality, target, patch_size, patch_depth, patch_overlap, validation_share,
            seed, preset, strategy, click_method, pseudo_params)
            VALUES ('p', '', 'light', '', 64, 16, 0, 0.2, 0, 'quick', 'coreset', 'auto', '{}');
        INSERT INTO image (project_id, name, role, source, source_sha256, path, sha256, shape, is_3d, dtype, axes,
            axes_source, voxel_size, warnings, created)
            VALUES (1, 'i', 'train', '', '', '', '', '[1,64,128,1]', 0, 'uint8', 'YX', '', '{}', '[]', '');
        INSERT INTO patch (image_id, z, y, x, depth, height, width)
            VALUES (1, 0, 0, 0, 1, 64, 64), (1, 0, 0, 64, 1, 64, 64), (1, 0, 0, 128, 1, 64, 64);
        DELETE FROM patch WHERE id = 3;
        INSERT INTO round (project_id, number, strategy, budget, seed, created) VALUES (1, 1, 'coreset', 2, 0, '');
        INSERT INTO selection (round_id, patch_id, role, rank, reason) VALUES (1, 1, 'train', 0, '{}');
        INSERT INTO selection (round_id, patch_id, role, rank, reason) VALUES (1, 2, 'validation', 1, '{}');
        INSERT INTO annotation_event (patch_id, revision, kind, payload, session, created, at)
            VALUES (1, 1, 'open', '{}', 's', '', 1.0);
        INSERT INTO note (patch_id, text) VALUES (2, 'blurred');
        """)


def test_nothing_that_refers_to_a_patch_is_lost(tmp_path: Path) -> None:
    old(tmp_path / "s")
    store = Store(tmp_path / "s")
    patches = store.rows("SELECT id, image_id, x, width, repeats FROM patch ORDER BY id")
    assert [tuple(row.values()) for row in patches] == [(1, 1, 0, 64, None), (2, 1, 64, 64, None)]
    picks = store.rows("SELECT patch_id, role, control FROM selection ORDER BY rank")
    assert [tuple(row.values()) for row in picks] == [(1, "train", 0), (2, "validation", 0)]
    assert store.row("SELECT kind FROM annotation_event")["kind"] == "open"
    assert store.row("SELECT text FROM note")["text"] == "blurred"
    assert store.rows("PRAGMA foreign_key_check") == []


def test_ids_of_patches_are_still_never_used_twice_and_boxes_stay_unique(tmp_path: Path) -> None:
    old(tmp_path / "s")
    store = Store(tmp_path / "s")
    box = {"image_id": 1, "z": 0, "y": 0, "x": 0, "depth": 1, "height": 64, "width": 64}
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        store.insert("patch", box)
    assert store.insert("patch", {**box, "repeats": 1}) == 4
    assert store.insert("patch", {**box, "repeats": 1}) == 5


def test_references_to_patches_are_still_enforced(tmp_path: Path) -> None:
    old(tmp_path / "s")
    store = Store(tmp_path / "s")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        store.insert("note", {"patch_id": 99, "text": ""})
    store.execute("DELETE FROM patch WHERE id = 1")
    assert store.rows("SELECT * FROM annotation_event") == []
    assert store.row("SELECT text FROM note")["text"] == "blurred"


def test_with_foreign_keys_on_it_refuses_to_run(tmp_path: Path) -> None:
    old(tmp_path / "s")
    with closing(sqlite3.connect(tmp_path / "s" / db_module.DATABASE)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(RuntimeError, match="foreign keys off"):
            migrations.apply(Database(connection))
        assert connection.execute("SELECT count(*) FROM annotation_event").fetchone() == (1,)
