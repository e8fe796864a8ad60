"""The learning curve: how sure a score is, and of how many patches the labelled ones are a share."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from alapp.domain import silent
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.export import export_tables
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import results
from alapp.rounds.select import selection
from alapp.storage import catalogue, models
from alapp.ui.results import results as results_tab
from tests.rounds.conftest import discs
from tests.rounds.made_scores import scored
from tests.rounds.test_loop import run_round


@pytest.fixture
def two_rounds(store, project, fast):
    """Two rounds of four of the twelve patches, half of them for validation."""
    pseudo.decide(store, project.id, pseudo.NONE)
    catalogue.update_project(store, project.id, validation_share=0.5)
    run_round(store, project, 4)
    run_round(store, project, 4)
    return project


def fractions(store, project):
    return [point.fraction for point in results.learning_curve(store, project.id)]


def an_image_of(store, project, patches):
    """An image with so many finished patches."""
    counts = {image.id: 0 for image in catalogue.images(store, project.id)}
    for patch_id in evaluation.finished.maps(store, project.id):
        counts[catalogue.patch(store, patch_id).image_id] += 1
    return next(image_id for image_id, n in counts.items() if n >= patches)


def cards(store, project):
    return results_tab.refresh(store, project.id)[4]


def test_a_model_stays_where_it_was_on_the_curve_when_images_come_and_go(store, two_rounds):
    assert fractions(store, two_rounds) == [pytest.approx(4 / 12), pytest.approx(8 / 12)]
    assert "of 12 patches labelled (66%)" in cards(store, two_rounds)
    catalogue.set_image_deleted(store, an_image_of(store, two_rounds, 2), True)
    assert fractions(store, two_rounds) == [pytest.approx(4 / 12), pytest.approx(8 / 12)]
    for seed in (8, 9):
        importing.add_array(store, two_rounds.id, f"later_{seed}", discs(seed)[0])
    assert fractions(store, two_rounds) == [pytest.approx(4 / 12), pytest.approx(8 / 12)]


def test_the_card_tells_what_is_labelled_today(store, two_rounds):
    before = results.labelled_now(store, two_rounds.id)
    image_id = an_image_of(store, two_rounds, 2)
    catalogue.set_image_deleted(store, image_id, True)
    labelled, total = results.labelled_now(store, two_rounds.id)
    assert (before, total) == ((8, 12), 8)
    assert labelled <= 6
    text = cards(store, two_rounds)
    assert f">{labelled}<" in text
    assert f"of 8 patches labelled ({100 * labelled // 8}%)" in text
    importing.restore_image(store, image_id)
    picked = selection.run_select(store, two_rounds.id, silent, 4)["patches"]
    for patch_id in picked[:3]:
        annotation.submit_labels(store, patch_id, np.eye(64, dtype=np.int32), "oracle")
    assert "of 12 patches labelled (91%)" in cards(store, two_rounds)  # more than the newest model has seen


def test_nearly_all_is_not_all():
    point = results.CurvePoint(1, 1, 10, 0.5, None, None)
    assert "of 1,000 patches labelled (99%)" in results_tab.summary_cards([point], 1, (999, 1000))
    assert "of 1,000 patches labelled (100%)" in results_tab.summary_cards([point], 1, (1000, 1000))
    assert "of 0 patches labelled<" in results_tab.summary_cards([point], 1, (0, 0))


@pytest.mark.parametrize("what", ["removed", "added"])
def test_a_share_is_left_out_where_an_earlier_version_did_not_keep_it_and_images_changed(store, two_rounds, what):
    store.execute("UPDATE checkpoint SET n_patches = NULL, created = '2026-01-02'")
    store.execute("UPDATE image SET created = '2026-01-01'")
    assert fractions(store, two_rounds) == [pytest.approx(4 / 12), pytest.approx(8 / 12)]
    if what == "removed":
        catalogue.set_image_deleted(store, catalogue.images(store, two_rounds.id)[0].id, True)
    else:
        importing.add_array(store, two_rounds.id, "later", discs(9)[0])
    assert all(math.isnan(fraction) for fraction in fractions(store, two_rounds))
    rows = [export_tables._curve_row(point) for point in results.learning_curve(store, two_rounds.id)]
    assert [row["labelled_patches"] for row in rows] == [4, 8]
    assert {row["fraction_labelled"] for row in rows} == {""}


def test_an_image_that_was_removed_before_the_model_does_not_count(store, two_rounds):
    store.execute("UPDATE checkpoint SET n_patches = NULL, created = '2026-01-02'")
    store.execute("UPDATE image SET created = '2026-01-01'")
    early = importing.add_array(store, two_rounds.id, "early", discs(9)[0])
    store.execute("UPDATE image SET created = '2026-01-01', deleted = '2026-01-01' WHERE id = ?", (early.id,))
    assert fractions(store, two_rounds) == [pytest.approx(4 / 12), pytest.approx(8 / 12)]


def test_a_score_on_few_patches_has_no_interval(store, two_rounds):
    few, _ = results.learning_curve(store, two_rounds.id)
    assert (few.validation.n, few.validation.interval) == (4, None)
    assert "F1 on 4 validation patches (too few for an interval)" in cards(store, two_rounds)
    assert [row.interval for row in results.history(store, two_rounds.id)] == [None, None]
    rows = [export_tables._curve_row(point) for point in results.learning_curve(store, two_rounds.id)]
    read = csv.DictReader(io.StringIO(export_tables.to_csv(rows).decode("utf-8-sig")))
    assert {(row["validation_n"], row["validation_f1_50_low"], row["validation_f1_50_high"]) for row in read} == {
        ("4", "", "")
    }


def test_a_score_on_enough_patches_has_an_interval_also_where_all_agree(store, two_rounds):
    run_round(store, two_rounds, 4)
    checkpoint = models.latest_checkpoint(store, two_rounds.id)
    for row in models.scores(store, checkpoint.id, "validation"):
        models.add_score(store, checkpoint.id, row.image_id, row.patch_id, "validation", scored(20, 20))
    found = evaluation.summary(store, checkpoint.id, "validation")
    assert (found.n, found.scores.f1_50) == (6, 1)
    low, high = found.interval
    assert 0.8 < low < 0.99
    assert high == 1
    assert f"F1 on 6 validation patches (95% interval {low:.2f} to 1.00)" in cards(store, two_rounds)
