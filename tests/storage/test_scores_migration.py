"""Scores from before their label maps were kept are told by their times, as they were."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from alapp.storage import db as db_module
from alapp.storage import models
from alapp.storage.db import Store
from alapp.storage.schema import migrations

_SCORES = "f1_50, ap_50, ap_75, pq, dice, n_true, n_pred, tp_50, fp_50, fn_50"
_NUMBERS = "1, 1, 1, 1, 1, 1, 1, 1, 0, 0"


def old(root: Path) -> None:
    """A model with the scores of three patches: one scored after its labels were made, one before they were corrected,
    and one whose labels are not known."""
    root.mkdir()
    with closing(sqlite3.connect(root / db_module.DATABASE)) as connection:
        migrations.apply(Database(connection), stop_before="m016_scored_against")
        connection.executescript(f"""
        INSERT INTO project (name, created, modality, target, patch_size, patch_depth, patch_overlap, validation_share,
            seed, preset, strategy, click_method, pseudo_params)
            VALUES ('p', '', 'light', '', 64, 16, 0, 0.2, 0, 'quick', 'coreset', 'auto', '{{}}');
        INSERT INTO image (project_id, name, role, source, source_sha256, path, sha256, shape, is_3d, dtype, axes,
            axes_source, voxel_size, warnings, created)
            VALUES (1, 'i', 'train', '', '', '', '', '[1, 64, 192, 1]', 0, 'uint8', 'YX', '', '{{}}', '[]', '');
        INSERT INTO patch (image_id, z, y, x, depth, height, width)
            VALUES (1, 0, 0, 0, 1, 64, 64), (1, 0, 0, 64, 1, 64, 64), (1, 0, 0, 128, 1, 64, 64);
        INSERT INTO plan (project_id, preset, input_hash, workspace, summary, created)
            VALUES (1, 'quick', '', '', '{{}}', '');
        INSERT INTO checkpoint (project_id, plan_id, preset, iterations, n_cases, seed, seconds, input_hash, path,
            sha256, created) VALUES (1, 1, 'quick', 1, 1, 0, 1.0, 'a', 'a', '', '');
        INSERT INTO label_map (project_id, image_id, patch_id, kind, backend, params, input_hash, path, sha256,
            n_objects, created)
            VALUES (1, 1, 1, 'human', '', '{{}}', '', 'a', '', 1, '2026-01-01'),
                   (1, 1, 2, 'human', '', '{{}}', '', 'b', '', 1, '2026-01-01'),
                   (1, 1, 2, 'human', '', '{{}}', '', 'c', '', 1, '2026-01-03');
        INSERT INTO score (checkpoint_id, image_id, patch_id, split, {_SCORES}, created)
            VALUES (1, 1, 1, 'validation', {_NUMBERS}, '2026-01-02'),
                   (1, 1, 2, 'validation', {_NUMBERS}, '2026-01-02'),
                   (1, 1, 3, 'validation', {_NUMBERS}, '2026-01-02');
        """)


def test_an_old_score_counts_unless_the_labels_are_newer(tmp_path: Path) -> None:
    old(tmp_path / "s")
    store = Store(tmp_path / "s")
    assert [row.patch_id for row in models.scores(store, 1, "validation")] == [1, 3]
    assert models.scored(store, 1, "validation") == {(1, 1): True, (1, 2): False, (1, 3): True}


def test_of_how_many_patches_an_old_model_saw_labels_is_not_known(tmp_path: Path) -> None:
    old(tmp_path / "s")
    found = models.checkpoint(Store(tmp_path / "s"), 1)
    assert (found.n_labelled, found.n_patches) == (None, None)


def test_a_new_score_counts_for_the_label_map_that_it_is_against(tmp_path: Path) -> None:
    old(tmp_path / "s")
    store = Store(tmp_path / "s")
    scores = models.scores(store, 1, "validation")[0].scores
    models.add_score(store, 1, 1, 2, "validation", scores, label_map_id=2)
    assert models.scored(store, 1, "validation")[1, 2] is False
    models.add_score(store, 1, 1, 2, "validation", scores, label_map_id=3)
    assert models.scored(store, 1, "validation")[1, 2] is True
