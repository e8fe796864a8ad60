"""The advice on one more batch: what it says, when it cannot know, and what the worker computes for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.errors import Cancelled, NotReadyError
from alapp.rounds import importing
from alapp.rounds.annotate import ledger
from alapp.rounds.annotate.ledger import PatchWork
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import adviser
from alapp.rounds.results.adviser import Advice, Facts, Verdict
from alapp.rounds.select import embedding, selection
from alapp.rounds.train import training
from alapp.stages.metrics import score_instances
from alapp.stages.stopping import Change, Gain, Reach
from alapp.storage import catalogue, models
from alapp.storage import rounds as round_rows
from alapp.ui.results import adviser as panel
from tests.rounds.conftest import discs
from tests.rounds.test_loop import answer, run_round

SETTLED, MOVING = Change(60, 0.001, 0.995, 0.01), Change(60, 0.04, 0.9, 0.12)


@pytest.fixture
def project(store, project):
    catalogue.update_project(store, project.id, validation_share=0.5)
    pseudo.decide(store, project.id, pseudo.NONE)
    return project


def advice(low, high, change=None, minutes=25.0, expected=None):
    gain = Gain((low + high) / 2 if expected is None else expected, (low, high), 12)
    return Advice(8, gain, "", minutes, Facts({1: Reach(0.45, 0.2), 2: Reach(0.31, 0.15)}, (1, 2), change))


def test_the_sentence_says_gain_range_and_time():
    assert (
        advice(0.0, 0.04).sentence
        == "One more batch of 8: about +0.02 F1 (+0.00 to +0.04), about 25 minutes of your time."
    )
    assert advice(0.0, 0.04, minutes=None).sentence.endswith("(+0.00 to +0.04).")
    assert "about 2.0 hours" in advice(0.0, 0.04, minutes=120.0).sentence
    few = Advice(8, Gain(0.03, None, 3), "", None, None)
    assert "3 validation patches; it takes 5" in few.sentence
    assert few.verdict is Verdict.UNKNOWN


def test_nobody_is_told_to_stop_while_predictions_change():
    assert advice(-0.01, 0.005, SETTLED).verdict is Verdict.STOP
    assert advice(-0.01, 0.005).verdict is Verdict.STOP
    assert advice(-0.01, 0.005, MOVING).verdict is Verdict.OPEN
    assert panel.verdict_words(advice(-0.01, 0.005, MOVING)) == panel.CHANGING
    early = replace(advice(-0.01, 0.005), facts=None)
    assert early.verdict is Verdict.OPEN
    assert panel.verdict_words(early) == panel.UNSETTLED
    assert advice(0.005, 0.05, MOVING).verdict is Verdict.GO_ON
    assert advice(0.001, 0.012, SETTLED).verdict is Verdict.OPEN
    assert advice(-0.02, 0.05, SETTLED).verdict is Verdict.OPEN


def test_patches_that_were_never_compared_have_not_settled():
    def left(change):
        found = advice(-0.01, 0.005, change)
        return replace(found, facts=replace(found.facts, uncompared=16))

    for change in (None, SETTLED):
        assert left(change).settled is None
        assert left(change).verdict is Verdict.OPEN
        assert panel.verdict_words(left(change)) == panel.UNSETTLED
        assert "two models in a row: 16 patches that nobody labelled" in panel.panel(left(change))
    assert panel.verdict_words(left(MOVING)) == panel.CHANGING
    assert "two models in a row" not in panel.panel(advice(-0.01, 0.005, SETTLED))


def test_two_models_that_find_nothing_do_not_speak_for_stopping():
    found = advice(-0.01, 0.005, Change(60, 0.0, 1.0, 0.0, empty=True))
    assert found.verdict is Verdict.OPEN
    assert panel.verdict_words(found) == panel.UNSETTLED
    assert "60 patches that nobody labelled, round 1 → round 2: neither model finds an object" in panel.panel(found)
    assert "settled from" not in panel.panel(found)


def test_where_no_patch_is_left_it_says_what_to_do():
    rising = replace(advice(0.03, 0.05), exhausted=adviser.NONE_LEFT)
    assert rising.sentence == (
        "No patch is left for another batch: stop after the last one, or import more images. 8 patches more, of images "
        "like these: about +0.04 F1 (+0.03 to +0.05), about 25 minutes of your time."
    )
    assert panel.verdict_words(rising) == panel.IMPORT
    flat = replace(advice(-0.01, 0.005), exhausted=adviser.NONE_LEFT)
    assert flat.verdict is Verdict.STOP
    unknown = Advice(8, None, "Unknown.", None, None, adviser.NONE_LEFT)
    assert unknown.sentence == f"{adviser.NONE_LEFT} Unknown."


def test_the_panel_gives_the_reasons_and_escapes():
    html = panel.panel(advice(-0.01, 0.005, SETTLED))
    assert "Stopping now is reasonable" in html
    assert "distance of 0.31 (after round 1: 0.45)" in html
    assert "round 1 → round 2: 0.1% of the pixels and 1% of the objects changed; they have settled" in html
    assert "<script>" not in panel.panel(Advice(8, None, "<script>", None, None))


def test_with_fewer_than_two_scored_rounds_it_says_so(store, project, fast):
    assert "now no round has one" in adviser.advise(store, project.id).sentence
    assert adviser.missing(store, project.id) == ""
    run_round(store, project, 4)
    found = adviser.advise(store, project.id)
    assert found.gain is None
    assert found.verdict is Verdict.UNKNOWN
    assert "now one round has one" in found.sentence
    assert panel.sentence(store, project.id) == ""


def test_two_rounds_give_a_gain_and_the_worker_the_rest(store, project, fast):
    for _ in range(2):
        run_round(store, project, 4)
    before = adviser.advise(store, project.id)
    assert before.gain.n == 4
    assert before.gain.interval is None
    assert before.facts is None
    assert "is being computed" in panel.text(store, project.id)
    (job,) = [job for job in jobs.active(store, project.id) if job.kind == "advise"]
    adviser.run_advise(store, project.id, silent, **job.params)
    facts = adviser.advise(store, project.id).facts
    assert facts.compared == (1, 2)
    assert facts.change.n == 4  # 12 patches, 8 of them picked
    assert facts.change.pixels < 0.05
    assert list(facts.reach) == [1, 2]
    assert facts.reach[2].radius <= facts.reach[1].radius
    assert adviser.missing(store, project.id) == ""
    assert "is being computed" not in panel.text(store, project.id)


def test_a_model_that_finds_nothing_is_no_reason_to_stop(store, project, fast, monkeypatch):
    def nothing(self, workspace, checkpoint, image, report):
        objects = np.zeros(image.shape[:-1], bool)
        return np.stack([~objects, objects, objects]).astype(np.float32)

    monkeypatch.setattr(fast[0], "predict", nothing)
    for _ in range(2):
        run_round(store, project, 5)
    adviser.run_advise(store, project.id, silent)
    found = adviser.advise(store, project.id)
    assert found.facts.change.kappa == 1
    assert (found.gain, found.settled, found.verdict) == (None, None, Verdict.UNKNOWN)
    assert "newest model finds none of the objects" in found.sentence


def test_validation_patches_without_objects_are_no_reason_to_stop(store, project, fast):
    for _ in range(2):
        run_round(store, project, 5)
    empty = np.zeros((64, 64), np.int32)
    for model in models.checkpoints(store, project.id):
        for row in models.scores(store, model.id, "validation"):
            models.add_score(store, model.id, row.image_id, row.patch_id, "validation", score_instances(empty, empty))
    found = adviser.advise(store, project.id)
    assert (found.gain, found.verdict) == (None, Verdict.UNKNOWN)
    assert "show no objects" in found.sentence


def test_the_batch_is_no_larger_than_what_is_left(store, project, fast):
    run_round(store, project, 4)
    adviser.run_advise(store, project.id, silent)
    made = selection.run_select(store, project.id, silent, 5)
    assert adviser.missing(store, project.id)  # what was picked is no longer of the stop set
    assert adviser.advise(store, project.id).batch == 3
    # The vetoed patch is not offered again.
    selection.swap_pick(store, round_rows.latest(store, project.id).id, made["patches"][0])
    assert adviser.advise(store, project.id).batch == 2
    answer(store, [pick.patch_id for pick in selection.open_patches(store, project.id)])
    training.run_round(store, project.id, silent)
    assert not adviser.advise(store, project.id).exhausted
    run_round(store, project, 8)
    found = adviser.advise(store, project.id)
    assert (found.batch, found.exhausted) == (8, adviser.ONLY_VETOED)
    assert "Only vetoed patches are left" in panel.sentence(store, project.id)
    with pytest.raises(NotReadyError):
        selection.run_select(store, project.id, silent, 1)
    round_rows.lift_vetoes(store, project.id)
    assert (adviser.advise(store, project.id).batch, adviser.advise(store, project.id).exhausted) == (1, "")


def test_images_that_came_later_are_not_taken_for_settled(store, project, fast):
    for _ in range(2):
        run_round(store, project, 6)
    adviser.run_advise(store, project.id, silent)
    found = adviser.advise(store, project.id)
    assert (found.exhausted, found.facts.change, found.verdict) == (adviser.NONE_LEFT, None, Verdict.STOP)
    importing.add_array(store, project.id, "later", 255 - discs(9)[0])
    assert adviser.advise(store, project.id).facts is None
    for predict in (False, True):
        if predict:
            evaluation.run_predict(store, project.id, silent)
            embedding.update(store, project.id, silent)
        assert adviser.missing(store, project.id)
        adviser.run_advise(store, project.id, silent)
        found = adviser.advise(store, project.id)
        assert (found.exhausted, found.facts.change, found.facts.uncompared) == ("", None, 4)
        assert (found.settled, found.verdict) == (None, Verdict.OPEN)
    # Once the other model has predicted them as well, they are compared.
    evaluation.predict(store, project.id, models.checkpoints(store, project.id)[0], silent)
    adviser.run_advise(store, project.id, silent)
    facts = adviser.advise(store, project.id).facts
    assert (facts.compared, facts.change.n, facts.uncompared) == ((1, 2), 4, 0)


def test_what_was_computed_is_stale_after_another_round(store, project, fast):
    for _ in range(2):
        run_round(store, project, 3)
        adviser.run_advise(store, project.id, silent)
    assert [path.suffix for path in (store.files.project(project.id) / "advice").iterdir()] == [".json"]
    run_round(store, project, 3)
    assert adviser.missing(store, project.id)
    assert adviser.advise(store, project.id).facts is None


def test_a_cancelled_computation_leaves_nothing(store, project, fast):
    for _ in range(2):
        run_round(store, project, 3)

    def stop(done, total, message=""):
        if "predictions" in message:
            raise Cancelled("The work was cancelled.")

    with pytest.raises(Cancelled):
        adviser.run_advise(store, project.id, stop)
    assert not (store.files.project(project.id) / "advice").exists()


def test_minutes_are_those_of_the_last_two_rounds(store, project, fast, monkeypatch):
    for _ in range(3):
        run_round(store, project, 3)
    assert adviser.advise(store, project.id).minutes is None  # an oracle answered
    work = {}
    for item, seconds in zip(round_rows.rounds(store, project.id), (999.0, 60.0, 120.0), strict=True):
        for pick in round_rows.picked(store, item.id):
            work[pick.patch_id] = PatchWork(pick.patch_id, seconds)
    monkeypatch.setattr(ledger, "patches", lambda store, project_id: work)
    assert adviser.advise(store, project.id).minutes == pytest.approx(3 * 90 / 60)
