"""Models are compared on what all of them were scored on, wherever their scores stand side by side."""

from __future__ import annotations

import pytest

from alapp.domain import ImageRole
from alapp.rounds import importing
from alapp.rounds.export import export_tables
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import diagnosing, diagnostics, results
from alapp.rounds.train import lineage, retention
from alapp.storage import catalogue, models
from alapp.ui.rounds import rounds as rounds_tab
from alapp.ui.train import models as model_list
from tests.rounds.conftest import discs
from tests.rounds.made_scores import scored
from tests.rounds.test_loop import run_round

FOUND = (12, 14, 11)
"""Objects of 20 that the model of each round finds on the first images; on those that came later, all."""


@pytest.fixture
def grown(store, project, fast):
    """Three rounds; the last one is the worst, but it was scored on easy patches of images that came later, too."""
    pseudo.decide(store, project.id, pseudo.NONE)
    catalogue.update_project(store, project.id, validation_share=0.5, keep_checkpoints=1)
    first = {image.id for image in catalogue.images(store, project.id)}
    run_round(store, project, 4)
    run_round(store, project, 4)
    for seed in (7, 8, 9, 10):
        pixels, truth = discs(seed)
        importing.add_reference(store, importing.add_array(store, project.id, f"later_{seed}", pixels), truth)
    run_round(store, project, 12)
    for checkpoint, found in zip(models.checkpoints(store, project.id), FOUND, strict=True):
        for row in models.scores(store, checkpoint.id, "validation"):
            made = scored(found if row.image_id in first else 20, 20)
            models.add_score(store, checkpoint.id, row.image_id, row.patch_id, "validation", made)
    return project


def _all_rounds(f1s):
    assert [round(f1, 2) for f1 in f1s] == [round(found / 20, 2) for found in FOUND]


def test_the_timeline_shows_what_the_curve_shows(store, grown):
    history = results.history(store, grown.id)
    _all_rounds([row.f1_50 for row in history])
    assert [row.f1_50 for row in history] == [
        point.validation.scores.f1_50 for point in results.learning_curve(store, grown.id)
    ]
    assert [row.left_out > 0 for row in history] == [False, False, True]
    assert f"{history[-1].left_out} more, on images that came later" in rounds_tab.timeline_table(history)
    _all_rounds([row["f1_50"] for row in export_tables._round_rows(store, grown)])


def test_the_list_of_models_compares_like_with_like(store, grown):
    found = lineage.models_of(store, grown.id)
    _all_rounds([model.score.scores.f1_50 for model in found])
    assert len({model.score.n for model in found}) == 1
    assert f"on the same {found[0].score.n} validation patches" in model_list.table(found)
    assert "on the same" not in model_list.table(found[:2])


def test_the_file_that_is_kept_as_the_best_is_not_the_one_with_the_easiest_patches(store, grown):
    second = models.checkpoints(store, grown.id)[1]
    store.execute("UPDATE checkpoint SET removed_at = NULL")
    assert retention._best(store, models.checkpoints(store, grown.id)).id == second.id
    assert retention._best(store, []) is None


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_gap_to_all_labels_is_told_from_the_same_patches(store, grown, monkeypatch, split):
    asked = []
    monkeypatch.setattr(diagnostics, "gap_to_full", lambda curve, *_: asked.append(curve))
    if split == "test":
        image = importing.add_array(store, grown.id, "held out", discs(20)[0], role=ImageRole.TEST)
        easy = importing.add_array(store, grown.id, "held out, easy", discs(21)[0], role=ImageRole.TEST)
        for checkpoint, found in zip(models.checkpoints(store, grown.id), FOUND, strict=True):
            models.add_score(store, checkpoint.id, image.id, None, "test", scored(found, 20))
        models.add_score(store, checkpoint.id, easy.id, None, "test", scored(20, 20))
    diagnosing._Project(store, grown.id).gap_to_full()
    _all_rounds([f1 for _, f1 in asked[0]])
