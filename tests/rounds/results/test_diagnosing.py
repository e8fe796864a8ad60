"""The diagnostics of a project that went through the loop."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import ImageRole, LabelKind, PatchRole, silent
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_region
from alapp.rounds.predict import evaluation, evidence
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import diagnosing, forgetting
from alapp.rounds.results.diagnostics import State
from alapp.rounds.select import embedding, selection
from alapp.rounds.train import training, training_cases
from alapp.stages.annotate import masks
from alapp.storage import catalogue, labels, models
from tests.rounds.conftest import discs
from tests.rounds.test_loop import answer, run_round


def states(store, project):
    return {item.name: item.state for item in diagnosing.diagnose(store, project.id)}


@pytest.fixture
def two_rounds(store, project, fast):
    catalogue.update_project(store, project.id, validation_share=0.5)
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    run_round(store, project, 6)
    run_round(store, project, 6)
    return project


def test_nothing_is_diagnosed_before_the_first_training(store, project):
    assert diagnosing.diagnose(store, project.id) == []


def test_a_project_that_went_well_has_no_warning(store, two_rounds):
    found = states(store, two_rounds)
    assert State.WARNING not in found.values()
    assert found["Wrong structures pre-trained"] is State.OK
    assert found["Merged or split objects"] is State.OK
    assert found["Object size of the plan"] is State.OK
    assert found["New images look different"] is State.OK


def test_what_was_annotated_since_the_last_training_is_not_taken_for_learned(store, two_rounds, monkeypatch):
    asked = []
    real = evidence.scores
    monkeypatch.setattr(
        evidence, "scores", lambda store, items, maps: asked.append(list(items)) or real(store, items, maps)
    )
    catalogue.update_project(store, two_rounds.id, validation_share=0)
    importing.add_reference(store, importing.add_array(store, two_rounds.id, "later", discs(9)[0]), discs(9)[1])
    learned = {item.patch_id for item in evidence.labelled(store, two_rounds.id, PatchRole.TRAIN)}
    answer(store, selection.run_select(store, two_rounds.id, silent, 4)["patches"])
    diagnosing.diagnose(store, two_rounds.id)
    training_patches = next(items for items in asked if items and items[0].role is PatchRole.TRAIN)
    assert {item.patch_id for item in training_patches} == learned


def test_warnings_come_first(store, two_rounds):
    store.execute("UPDATE plan SET summary = json_set(summary, '$.object_diameter_px', 40.0)")
    first = diagnosing.diagnose(store, two_rounds.id)[0]
    assert (first.name, first.state) == ("Object size of the plan", State.WARNING)
    assert "planned for objects of 40 pixels, but yours are 14 pixels" in first.sentence


def test_pseudo_labels_are_compared_with_what_was_annotated(store, two_rounds):
    shifted = {}
    for image in catalogue.images(store, two_rounds.id):
        truth = labels.read(store, labels.latest_of_image(store, image.id, LabelKind.REFERENCE))
        shifted[image.id] = labels.add(
            store, LabelKind.PSEUDO, np.roll(truth, 15, axis=0), project_id=two_rounds.id, image_id=image.id,
            backend="test", input_hash=f"shifted {image.id}",
        )  # fmt: skip
    items = evidence.labelled(store, two_rounds.id)
    found = evidence.compare(store, items, shifted)
    assert len(found) == len(items) == 12
    assert max(part.scores.f1_50 for part in found.values()) < 0.5
    # The newest model is good all the same, so this is not what is wrong any more.
    assert states(store, two_rounds)["Wrong structures pre-trained"] is State.OK


def test_a_region_that_nobody_annotated_is_not_compared(store, two_rounds):
    predicted = labels.of_checkpoint(store, models.latest_checkpoint(store, two_rounds.id).id)
    patch_id = next(item.patch_id for item in evidence.labelled(store, two_rounds.id) if item.human.n_objects > 1)

    def invented():
        items = [item for item in evidence.labelled(store, two_rounds.id) if item.patch_id == patch_id]
        return evidence.compare(store, items, predicted)[patch_id].scores.n_pred

    annotation.submit_labels(store, patch_id, np.zeros((64, 64), np.int32), "oracle")
    everywhere = invented()
    annotation.reopen(store, patch_id, "me")
    left = np.zeros((64, 64), bool)
    left[:, :62] = True
    annotation_region.mark(store, patch_id, "me", masks.from_array(left))
    annotation.mark_done(store, patch_id, "me")
    assert invented() < everywhere


def test_a_model_trained_on_everything_is_recognised(store, two_rounds):
    project = catalogue.project(store, two_rounds.id)
    plan = models.find_plan(store, project.id, "quick")
    first = models.checkpoints(store, project.id)[0]
    assert diagnosing._trained_on_everything(store, project.id) is None
    run = training.Run(None, training_cases.reference_cases(store, project), first, 7, 1000)
    full = training.train(store, project, plan, run, silent)
    evaluation.predict_and_score(store, project.id, full, silent)
    assert diagnosing._trained_on_everything(store, project.id).id == full.id

    def gap():
        return next(item for item in diagnosing.diagnose(store, project.id) if item.name == "Large gap to full labels")

    # It has seen the validation patches, so without test images nothing is measured.
    assert "F1 with all labels, measured" not in gap().numbers
    pixels, truth = discs(20)
    image = importing.add_array(store, project.id, "held out", pixels, role=ImageRole.TEST)
    importing.add_reference(store, image, truth)
    for checkpoint in models.checkpoints(store, project.id):
        evaluation.predict_and_score(store, project.id, checkpoint, silent)
    assert gap().numbers["F1 with all labels, measured"] > 0.9


def worsen(store, checkpoint_id):
    """Scores of a model that finds half as much."""
    for row in models.scores(store, checkpoint_id, "validation"):
        store.execute(
            "UPDATE score SET tp_50 = tp_50 / 2, fn_50 = n_true - tp_50 / 2, fp_50 = n_pred - tp_50 / 2 "
            "WHERE checkpoint_id = ? AND patch_id = ?",
            (checkpoint_id, row.patch_id),
        )


def test_forgetting_is_told_by_patches_of_earlier_rounds(store, project, fast):
    for seed in range(3, 7):
        image = importing.add_array(store, project.id, f"image_{seed}", discs(seed)[0])
        importing.add_reference(store, image, discs(seed)[1])
    catalogue.update_project(store, project.id, validation_share=0.6)
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project, 10)
    run_round(store, project, 5)
    held = evidence.labelled(store, project.id, PatchRole.VALIDATION)
    memory = {item.number: item for item in forgetting.memories(store, project.id)}[2]
    assert memory.old.n == sum(item.round_number == 1 for item in held) == 6
    assert memory.new.n == 3
    assert sum(part.n for part in memory.by_image.values()) == memory.old.n
    assert not memory.forgets
    worsen(store, models.latest_checkpoint(store, project.id).id)
    assert forgetting.memories(store, project.id)[-1].forgets
    assert states(store, project)["Forgetting"] is State.WARNING


def test_images_that_came_later_and_look_different(store, two_rounds):
    importing.add_array(store, two_rounds.id, "same", discs(8)[0])
    assert states(store, two_rounds)["New images look different"] is State.OK
    importing.add_array(store, two_rounds.id, "inverted", 255 - discs(9)[0])
    found = {item.name: item for item in diagnosing.diagnose(store, two_rounds.id)}["New images look different"]
    assert found.state is State.WARNING
    assert "1 new image looks different from those the model learned from: inverted." in found.sentence
    embedding.update(store, two_rounds.id, silent)
    again = {item.name: item for item in diagnosing.diagnose(store, two_rounds.id)}["New images look different"]
    assert again.numbers["largest distance to known patches (1: as among known images)"] > 1.5
