"""A model replaces the one in use only if it is not clearly worse; a person decides otherwise, and goes back."""

from __future__ import annotations

import json

import pytest

from alapp.domain import InstanceScores, LabelKind, silent
from alapp.errors import Cancelled, NotReadyError
from alapp.rounds import importing, progress
from alapp.rounds.export import export_source
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import results
from alapp.rounds.train import lineage, promotion, training
from alapp.stages.train.base import TRAINERS
from alapp.storage import catalogue, labels, models, verdicts
from alapp.storage.verdicts import DecidedBy, VerdictKind
from tests.rounds.conftest import discs
from tests.rounds.spoilt import SpoiltTrainer, annotate, dense_project, run_round


def scores(tp, fp, fn):
    """Scores with these counts; what is not compared is 0."""
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0
    return InstanceScores(f1, 0, 0, 0, 0, tp + fn, tp + fp, tp, fp, fn)


@pytest.fixture
def trainer(fast, monkeypatch):
    monkeypatch.setattr(SpoiltTrainer, "spoilt", False)
    monkeypatch.setattr(SpoiltTrainer, "harmed", False)
    monkeypatch.setattr(SpoiltTrainer, "seen", [])
    monkeypatch.setitem(TRAINERS._targets, "nnunet", "tests.rounds.spoilt:SpoiltTrainer")
    return SpoiltTrainer


@pytest.fixture
def dense(store, trainer):
    """A project without pseudo-labels, one round of which is trained well."""
    project = dense_project(store)
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project)
    return project


@pytest.fixture
def spoilt(store, dense, trainer, monkeypatch):
    """Then a second round that finds nothing. Gives the project."""
    monkeypatch.setattr(trainer, "spoilt", True)
    run_round(store, dense)
    monkeypatch.setattr(trainer, "spoilt", False)
    return dense


def current(store, project):
    return verdicts.current_checkpoint(store, project.id)


def test_a_model_that_is_worse_on_every_patch_is_clearly_worse():
    found = promotion.compare([scores(18, 2, 2)] * 6, [scores(12, 6, 8)] * 6)
    assert found.checked
    assert found.p_worse == 1.0
    assert found.clearly_worse


def test_a_better_or_equal_model_is_not_worse():
    assert not promotion.compare([scores(12, 6, 8)] * 6, [scores(18, 2, 2)] * 6).clearly_worse
    equal = promotion.compare([scores(12, 6, 8)] * 6, [scores(12, 6, 8)] * 6)
    assert equal.p_worse == 0.5
    assert not equal.clearly_worse


def test_a_fall_within_the_margin_is_tolerated_though_it_is_certain():
    found = promotion.compare([scores(100, 10, 10)] * 6, [scores(97, 12, 13)] * 6)
    assert found.p_worse == 1.0
    assert 0 < found.f1_current - found.f1_new < promotion.margin(6)
    assert not found.clearly_worse


def test_a_large_fall_on_one_of_many_patches_is_not_certain():
    before, after = [scores(10, 1, 1)] * 6, [scores(12, 0, 0)] * 3 + [scores(9, 1, 2)] * 2 + [scores(0, 12, 11)]
    found = promotion.compare(before, after)
    assert found.f1_current - found.f1_new > promotion.margin(6)
    assert found.p_worse < promotion.MIN_PROBABILITY
    assert not found.clearly_worse


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], []),
        ([scores(60, 0, 0)], [scores(1, 59, 59)]),  # one patch
        ([scores(3, 0, 0)] * 6, [scores(0, 3, 3)] * 5 + [scores(1, 2, 2)]),  # 18 objects
    ],
)
def test_with_too_few_patches_or_objects_nothing_is_said(before, after):
    found = promotion.compare(before, after)
    assert not found.checked
    assert not found.clearly_worse


@pytest.mark.parametrize("patches", [1, 2])
def test_a_model_that_finds_nothing_any_more_is_refused_however_little_there_is(patches):
    empty = [scores(0, 0, 0)] * (patches - 1)
    found = promotion.compare([scores(5, 1, 10), *empty], [scores(0, 3, 15), *empty])
    assert found.checked
    assert found.clearly_worse
    few = promotion.compare([scores(4, 1, 11), *empty], [scores(0, 3, 15), *empty])
    one = promotion.compare([scores(5, 1, 10), *empty], [scores(1, 3, 14), *empty])
    assert not few.checked
    assert not one.checked


def test_few_patches_need_a_larger_fall():
    assert [round(promotion.margin(n), 3) for n in (2, 4, 10, 100)] == [0.13, 0.08, 0.05, 0.032]
    fall = ([scores(45, 5, 5)], [scores(40, 10, 10)])  # from 0.90 to 0.80
    assert not promotion.compare(*(part * 2 for part in fall)).clearly_worse
    assert promotion.compare(*(part * 4 for part in fall)).clearly_worse


def test_a_worse_model_is_kept_but_everything_goes_on_from_the_one_before(store, spoilt):
    first, second = models.checkpoints(store, spoilt.id)
    assert current(store, spoilt).id == first.id
    assert promotion.refused(store, spoilt.id).id == second.id
    said = promotion.news(store, spoilt.id)
    assert said.startswith("Model 2 (round 2) was kept but is not used, because it is clearly worse than Model 1")
    assert "F1 0.00 against " in said
    assert "on the same 4 validation patches" in said
    assert {item.checkpoint_id for _, item in export_source.predictions(store, spoilt)} == {first.id}
    image = catalogue.images(store, spoilt.id)[0]
    assert labels.latest_of_image(store, image.id, LabelKind.PREDICTED).checkpoint_id == second.id
    assert verdicts.prediction(store, spoilt.id, image.id).checkpoint_id == first.id
    assert progress.progress(store, spoilt.id).next.text == "Select the batch of round 3"
    assert [point.round_number for point in results.learning_curve(store, spoilt.id)] == [1, 2]
    assert results.shown_round(store, spoilt.id) == 1
    run_round(store, spoilt)
    third = models.checkpoints(store, spoilt.id)[-1]
    assert third.parent_id == first.id
    assert current(store, spoilt).id == third.id
    assert "is in use: it is at least as good as Model 1 (round 1)" in promotion.news(store, spoilt.id)


def test_a_person_uses_it_anyway_and_undoes_that(store, spoilt):
    first, second = models.checkpoints(store, spoilt.id)
    assert promotion.undoable(store, spoilt.id) is None
    with pytest.raises(NotReadyError, match="nothing to undo"):
        promotion.undo(store, spoilt.id)
    assert promotion.use(store, spoilt.id, second.id).decided_by is DecidedBy.PERSON
    assert current(store, spoilt).id == second.id
    assert promotion.refused(store, spoilt.id) is None
    assert "because you chose it instead of Model 1" in promotion.news(store, spoilt.id)
    assert promotion.undoable(store, spoilt.id).id == first.id
    promotion.undo(store, spoilt.id)
    assert current(store, spoilt).id == first.id
    with pytest.raises(NotReadyError, match=r"Model 1 \(round 1\) is in use already"):
        promotion.use(store, spoilt.id, first.id)


def test_switching_to_a_refused_model_needs_no_new_prediction(store, spoilt):
    first, second = models.checkpoints(store, spoilt.id)
    for item in (first, second):
        assert labels.without_probability(store, item.id) == set()
    promotion.use(store, spoilt.id, second.id)
    assert not promotion.needs_predicting(store, spoilt.id)


def test_an_earlier_model_gets_its_probabilities_and_new_images_back(store, dense):
    run_round(store, dense)
    first = models.checkpoints(store, dense.id)[0]
    maps = labels.of_checkpoint(store, first.id)
    assert labels.without_probability(store, first.id) == set(maps)
    promotion.use(store, dense.id, first.id)
    assert promotion.needs_predicting(store, dense.id)
    evaluation.run_predict(store, dense.id, silent)
    assert not promotion.needs_predicting(store, dense.id)
    assert labels.of_checkpoint(store, first.id) == maps
    for item in maps.values():
        found = labels.read(store, item) > 0
        assert found.any()
        assert (labels.probability(store, item)[found] == 255).all()


def test_the_next_round_branches_off_the_chosen_model(store, dense):
    run_round(store, dense)
    first, second = models.checkpoints(store, dense.id)
    assert second.parent_id == first.id
    promotion.use(store, dense.id, first.id)
    run_round(store, dense)
    found = lineage.models_of(store, dense.id)
    assert [(item.name, item.parent, item.current) for item in found] == [
        ("Model 1 (round 1)", None, False),
        ("Model 2 (round 2)", "Model 1 (round 1)", False),
        ("Model 3 (round 3)", "Model 1 (round 1)", True),
    ]


def test_training_a_round_again_does_not_start_from_its_own_model(store, dense):
    run_round(store, dense)
    first, second = models.checkpoints(store, dense.id)
    training.run_round(store, dense.id, silent, iterations=9)
    again = models.checkpoints(store, dense.id)[-1]
    assert (again.round_id, again.parent_id) == (second.round_id, first.id)


def test_the_same_training_after_going_back_is_used_again(store, dense):
    run_round(store, dense)
    first, second = models.checkpoints(store, dense.id)
    promotion.use(store, dense.id, first.id)
    training.run_round(store, dense.id, silent)
    assert len(models.checkpoints(store, dense.id)) == 2
    assert current(store, dense).id == second.id


def test_a_refusal_is_recorded_once(store, spoilt):
    training.run_round(store, spoilt.id, silent)
    training.run_round(store, spoilt.id, silent)
    assert [item.accepted for item in verdicts.of_project(store, spoilt.id, VerdictKind.PROMOTION)] == [True, False]


def test_without_validation_patches_it_is_used_and_the_page_says_so(store, trainer):
    project = dense_project(store, validation_share=0.0)
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project)
    trainer.spoilt = True
    run_round(store, project)
    assert current(store, project).id == models.checkpoints(store, project.id)[-1].id
    said = promotion.news(store, project.id)
    assert "Model 2 (round 2) is in use, but could not be checked against Model 1 (round 1)" in said
    assert "only 0 validation patches with 0 objects" in said


def test_a_model_whose_file_is_gone_cannot_be_chosen(store, dense):
    run_round(store, dense)
    first, second = models.checkpoints(store, dense.id)
    store.files.resolve(first.path).unlink()
    with pytest.raises(NotReadyError, match=r"Model 1 \(round 1\) cannot be used any more: its file was deleted"):
        promotion.use(store, dense.id, first.id)
    assert current(store, dense).id == second.id
    assert [item.size is None for item in lineage.models_of(store, dense.id)] == [True, False]


def test_training_from_a_model_whose_file_is_gone_says_what_to_do(store, dense):
    store.files.resolve(current(store, dense).path).unlink()
    annotate(store, dense, 4)
    with pytest.raises(NotReadyError, match=r"go on from Model 1 \(round 1\), but its file is gone. Choose another"):
        training.run_round(store, dense.id, silent)


def test_a_model_of_another_project_cannot_be_chosen(store, dense):
    other = catalogue.create_project(store, "other")
    with pytest.raises(NotReadyError, match="another project"):
        promotion.use(store, other.id, current(store, dense).id)


def test_a_training_that_stopped_before_the_comparison_is_not_finished(store, dense):
    first = current(store, dense)

    def cancel(done, total, message):
        if message.startswith("Predicting"):
            raise Cancelled("stop")

    annotate(store, dense, 4)
    with pytest.raises(Cancelled):
        training.run_round(store, dense.id, cancel)
    assert len(models.checkpoints(store, dense.id)) == 2
    assert current(store, dense).id == first.id
    assert lineage.models_of(store, dense.id)[-1].verdict is None
    assert progress.progress(store, dense.id).next.text == "Train round 2"
    training.run_round(store, dense.id, silent)
    assert current(store, dense).id == models.checkpoints(store, dense.id)[-1].id
    assert len(models.checkpoints(store, dense.id)) == 2


def test_pseudo_labels_alone_replace_no_human_labels_unchecked(store, trainer):
    project = dense_project(store, validation_share=0.0)
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project)
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    assert current(store, project).round_id is not None
    assert "learned from pseudo-labels only" in promotion.news(store, project.id)


def test_a_preset_goes_on_from_its_own_model_even_if_another_is_in_use(store, dense, trainer):
    catalogue.update_project(store, dense.id, preset="standard")
    trainer.spoilt = True
    run_round(store, dense)
    trainer.spoilt = False
    quick, standard = models.checkpoints(store, dense.id)
    assert standard.parent_id is None
    assert current(store, dense).id == quick.id
    run_round(store, dense)
    assert models.checkpoints(store, dense.id)[-1].parent_id == standard.id


def test_facts_are_json_and_complete(store, spoilt):
    facts = verdicts.of_project(store, spoilt.id, VerdictKind.PROMOTION)[-1].facts
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {"replaces", "patches", "objects", "f1_current", "f1_new", "p_worse", "checked"}
    assert facts["objects"] >= promotion.MIN_OBJECTS


def test_images_of_later_are_predicted_by_the_model_in_use(store, spoilt):
    late = importing.add_array(store, spoilt.id, "late", discs(9)[0])
    assert [item.name for item in evaluation.unpredicted(store, spoilt.id)] == ["late"]
    evaluation.run_predict(store, spoilt.id, silent)
    assert verdicts.prediction(store, spoilt.id, late.id).checkpoint_id == current(store, spoilt).id
