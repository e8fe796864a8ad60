"""In a database from before models were compared, the newest model stays the one in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from alapp.storage import catalogue, verdicts
from alapp.storage import db as db_module
from alapp.storage.db import Store
from alapp.storage.schema import migrations
from alapp.storage.verdicts import DecidedBy, VerdictKind


def old(root: Path) -> None:
    """Two projects from before: one with a pre-trained and a round's model, one without any."""
    root.mkdir()
    with closing(sqlite3.connect(root / db_module.DATABASE)) as connection:
        migrations.apply(Database(connection), stop_before="m008_verdicts")
        connection.executescript("""
        INSERT INTO project (name, created, modality, target, patch_size, patch_depth, patch_overlap, validation_share,
            seed, preset, strategy, click_method, pseudo_params)
            VALUES ('p', '', 'light', '', 64, 16, 0, 0.2, 0, 'quick', 'coreset', 'auto', '{}'),
                   ('q', '', 'light', '', 64, 16, 0, 0.2, 0, 'quick', 'coreset', 'auto', '{}');
        INSERT INTO round (project_id, number, strategy, budget, seed, created) VALUES (1, 1, 'coreset', 2, 0, '');
        INSERT INTO plan (project_id, preset, input_hash, workspace, summary, created)
            VALUES (1, 'quick', '', '', '{}', '');
        INSERT INTO checkpoint (project_id, plan_id, round_id, parent_id, preset, iterations, n_cases, seed, seconds,
            input_hash, path, sha256, created)
            VALUES (1, 1, NULL, NULL, 'quick', 1, 1, 0, 1.0, 'a', 'a', '', '2026-01-01'),
                   (1, 1, 1, 1, 'quick', 1, 1, 0, 1.0, 'b', 'b', '', '2026-01-02');
        """)


def test_the_newest_model_of_an_old_project_is_in_use(tmp_path: Path) -> None:
    old(tmp_path / "s")
    store = Store(tmp_path / "s")
    assert verdicts.current_checkpoint(store, 1).id == 2
    assert verdicts.current_checkpoint(store, 2) is None
    assert verdicts.judged(store, 1) == {1, 2}
    found = verdicts.of_project(store, 1, VerdictKind.PROMOTION)
    assert [(item.checkpoint_id, item.accepted, item.decided_by, item.facts) for item in found] == [
        (1, True, DecidedBy.CHECK, {}),
        (2, True, DecidedBy.CHECK, {}),
    ]
    assert catalogue.project(store, 1).check_pretraining


def test_a_round_of_an_old_project_goes_on_from_the_model_before_it(tmp_path: Path) -> None:
    old(tmp_path / "s")
    store = Store(tmp_path / "s")
    assert verdicts.current_checkpoint(store, 1, "quick", before_round=1).id == 1
    assert verdicts.current_checkpoint(store, 1, "full") is None
