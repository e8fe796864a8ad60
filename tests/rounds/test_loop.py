"""The loop from import to scores, with fast stand-ins for torch."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from alapp.domain import ImageRole, LabelKind, PatchRole, silent
from alapp.errors import Cancelled, DiskFullError, InputError, NotReadyError, Paused
from alapp.rounds import importing, progress, timing
from alapp.rounds.annotate import annotation
from alapp.rounds.predict import evaluation
from alapp.rounds.progress import StepState
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import adviser, results
from alapp.rounds.select import embedding, selection
from alapp.rounds.train import training
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.ui.rounds import rounds as rounds_tab
from alapp.ui.train import train as train_tab
from tests.rounds.conftest import discs


def answer(store, patch_ids):
    """Annotate patches with the reference."""
    for patch_id in patch_ids:
        patch = catalogue.patch(store, patch_id)
        truth = labels.read(store, labels.latest_of_image(store, patch.image_id, LabelKind.REFERENCE))
        annotation.submit_labels(store, patch_id, catalogue.crop(truth, patch), "oracle")


def run_round(store, project, budget=5):
    made = selection.run_select(store, project.id, silent, budget)
    answer(store, made["patches"])
    training.run_round(store, project.id, silent)
    return made


def test_next_step_leads_through_the_whole_loop(store, fast):
    project = catalogue.create_project(store, "steps", patch_size=64)

    def following():
        return progress.progress(store, project.id).next

    assert following().tab == "project"
    for seed in range(2):
        importing.add_array(store, project.id, f"image_{seed}", discs(seed)[0])
    assert following().tab == "pseudo"
    pseudo.decide(store, project.id, "log_watershed")
    assert (following().tab, following().job) == ("train", "pretrain")
    training.run_pretrain(store, project.id, silent)
    assert following().tab == "rounds"
    made = selection.run_select(store, project.id, silent, 3)
    assert following().text == "Annotate the next patch (3 left)"
    for patch_id in made["patches"]:
        patch = catalogue.patch(store, patch_id)
        whole = labels.read(store, labels.latest_of_image(store, patch.image_id, LabelKind.PREDICTED))
        annotation.submit_labels(store, patch_id, catalogue.crop(whole, patch), "test")
    assert (following().tab, following().job) == ("train", "train")
    training.run_round(store, project.id, silent)
    assert following().text == "Select the batch of round 2"


def test_an_open_batch_comes_first(store, project, fast):
    """Also where pseudo-labels were not decided on, or not learned from, before it was selected."""
    made = selection.run_select(store, project.id, silent, 2)
    for decided in (None, "log_watershed"):
        if decided:
            pseudo.decide(store, project.id, decided)
        now = progress.progress(store, project.id)
        assert (now.next.text, now.next.tab) == ("Annotate the next patch (2 left)", "annotate")
        assert [step.title for step in now.steps if step.state is StepState.CURRENT] == ["Round 1"]
        assert rounds_tab.select_button_state(store, project.id).value == "Annotate the open patches first (2 left)"
        started = train_tab.what_to_start(store, project.id)
        wanted = train_tab.Start(None, "Nothing to train yet", "Next: Annotate the next patch (2 left).")
        assert (started == wanted) is (decided is None)  # else it offers to learn from the pseudo-labels meanwhile
    answer(store, made["patches"])
    assert progress.progress(store, project.id).next.job == "pretrain"


def test_pseudo_labels_are_ticked_off_when_every_image_has_them(store, fast):
    project = catalogue.create_project(store, "ticks", patch_size=64)

    def step():
        return next(each for each in progress.progress(store, project.id).steps if each.title == "Pseudo-labels")

    importing.add_array(store, project.id, "image_0", discs(0)[0])
    pseudo.decide(store, project.id, "log_watershed")
    assert (step().state, step().detail) == (StepState.CURRENT, "0/1")
    pseudo.run_all(store, project.id, silent)
    assert (step().state, step().detail) == (StepState.DONE, "")
    importing.add_array(store, project.id, "image_1", discs(1)[0])
    assert (step().state, step().detail) == (StepState.CURRENT, "1/2")
    training.run_pretrain(store, project.id, silent)
    importing.add_array(store, project.id, "image_2", discs(2)[0])
    assert (step().state, step().detail) == (StepState.DONE, "2/3")


def test_the_time_before_a_pause_counts(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    seconds = []

    def pause(done, total, message=""):
        if message == "loss 0.5":
            raise Paused

    for report in (pause, silent):
        with contextlib.suppress(Paused):
            training.run_pretrain(store, project.id, report)
        seconds.append(models.timings(store, project.id)[0]["train"])
    assert 0 < seconds[0] < seconds[1]


def test_an_error_is_not_hidden_by_recording_its_time(store, project, monkeypatch):
    def full(*_):
        raise OSError("the disk is full, also for the database")

    monkeypatch.setattr(models, "add_timing", full)
    with pytest.raises(DiskFullError), timing.timed(store, project.id, "train"):
        raise DiskFullError("The disk is full.")


def test_when_no_patch_is_left_the_results_come_next(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    assert rounds_tab.select_button_state(store, project.id).value == "Select the batch of round 1"
    run_round(store, project, budget=12)
    following = progress.progress(store, project.id).next
    assert (following.text, following.tab) == ("No patch is left: see the results", "results")
    button = rounds_tab.select_button_state(store, project.id)
    assert not button.interactive
    assert "No patch is left" in button.value
    importing.add_array(store, project.id, "more", discs(9)[0])
    assert progress.progress(store, project.id).next.text == "Select the batch of round 2"
    assert rounds_tab.select_button_state(store, project.id).interactive


def test_without_pseudo_labels_the_first_round_plans_on_human_labels(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    with pytest.raises(NotReadyError, match="Pseudo-labels tab"):
        training.run_pretrain(store, project.id, silent)
    run_round(store, project)
    trainer, _ = fast
    assert trainer.seen[0]["start_from"] is None
    assert models.find_plan(store, project.id, "quick") is not None
    states = {step.title: step.state for step in progress.progress(store, project.id).steps}
    assert states["Pre-trained"] is StepState.OFF
    assert states["Train"] is StepState.DONE


def test_validation_patches_are_never_trained_on(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    run_round(store, project)
    run_round(store, project)
    picks = round_rows.selected_in_project(store, project.id)
    validation = {patch_id for patch_id, pick in picks.items() if pick.role is PatchRole.VALIDATION}
    assert len(validation) == 2  # 20% of 5, twice
    trainer, _ = fast
    human = [run for run in trainer.seen if run["keys"][0].startswith("gt_")]
    assert [len(run["keys"]) for run in human if run["iterations"] == 6] == [4, 8]  # the others are short trials
    assert not any({int(key[3:]) for key in run["keys"]} & validation for run in human)


def test_each_round_starts_from_the_last_checkpoint(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    run_round(store, project)
    run_round(store, project)
    chain = models.checkpoints(store, project.id)
    assert [item.parent_id for item in chain] == [None, chain[0].id, chain[1].id]


def test_a_batch_never_repeats_a_patch(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    picked = [run_round(store, project, 5)["patches"] for _ in range(2)] + [run_round(store, project, 5)["patches"]]
    flat = [patch_id for batch in picked for patch_id in batch]
    assert len(flat) == len(set(flat)) == 12
    with pytest.raises(NotReadyError, match="Every patch is labelled"):
        selection.run_select(store, project.id, silent, 5)


def test_an_open_batch_must_be_finished_first(store, project, fast):
    selection.run_select(store, project.id, silent, 4)
    with pytest.raises(NotReadyError, match="still has 4 patches"):
        selection.run_select(store, project.id, silent, 4)


def test_discarding_a_batch_frees_its_patches(store, project, fast):
    first = selection.run_select(store, project.id, silent, 4)
    selection.discard_round(store, project.id)
    again = selection.run_select(store, project.id, silent, 4)
    assert again == first
    answer(store, again["patches"][:1])
    with pytest.raises(InputError, match="stays"):
        selection.discard_round(store, project.id)


def test_a_vetoed_pick_is_replaced_and_not_offered_again(store, project, fast):
    made = selection.run_select(store, project.id, silent, 4)
    this = round_rows.latest(store, project.id)
    vetoed = made["patches"][0]
    offered = {vetoed}
    for _ in range(8):
        new = selection.swap_pick(store, this.id, round_rows.selected(store, this.id)[0].patch_id)
        assert new not in offered | set(made["patches"][1:])
        offered.add(new)
    with pytest.raises(NotReadyError, match="No other patch"):
        selection.swap_pick(store, this.id, round_rows.selected(store, this.id)[0].patch_id)


def test_new_images_extend_the_embedding_without_training_again(store, project, fast):
    _, embedder = fast
    first = embedding.update(store, project.id, silent)
    assert embedding.update(store, project.id, silent).id == first.id
    importing.add_array(store, project.id, "late", discs(9)[0])
    second = embedding.update(store, project.id, silent)
    ids, vectors = embedding.read(store, second)
    assert len(ids) == 16
    assert (vectors[:12] == embedding.read(store, first)[1]).all()
    assert embedder.fitted == [12]


def test_the_same_run_is_not_trained_twice(store, project, fast):
    trainer, _ = fast
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    training.run_pretrain(store, project.id, silent)
    assert len(trainer.seen) == 1
    assert len(models.checkpoints(store, project.id)) == 1


def test_a_cancelled_training_leaves_no_checkpoint_row(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")

    def cancel(done, total, message):
        if message.startswith("loss"):
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        training.run_pretrain(store, project.id, cancel)
    assert models.checkpoints(store, project.id) == []
    training.run_pretrain(store, project.id, silent)
    assert len(models.checkpoints(store, project.id)) == 1


def test_the_curve_scores_every_checkpoint_on_the_same_patches(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    run_round(store, project)
    run_round(store, project)
    curve = results.learning_curve(store, project.id)
    assert [point.round_number for point in curve] == [0, 1, 2]
    assert [point.labelled for point in curve] == [0, 5, 10]
    assert [point.validation.n for point in curve] == [2, 2, 2]
    assert curve[-1].validation.scores.f1_50 > 0.9
    assert curve[-1].validation.interval is None


def test_patches_that_no_longer_count_are_in_no_score_until_they_come_back(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    catalogue.update_project(store, project.id, validation_share=0.5)
    run_round(store, project, 6)
    checkpoint = models.latest_checkpoint(store, project.id)
    scored = [row.patch_id for row in models.scores(store, checkpoint.id, "validation")]
    assert len(scored) == 3
    annotation.reopen(store, scored[0], "s")
    assert evaluation.summary(store, checkpoint.id, "validation").n == 2
    annotation.skip(store, scored[0], "s", "not sharp")
    assert [row.patch_id for row in models.scores(store, checkpoint.id, "validation")] == scored[1:]
    image_id = catalogue.patch(store, scored[1]).image_id
    left = [key for key in scored[1:] if catalogue.patch(store, key).image_id != image_id]
    catalogue.set_image_deleted(store, image_id, True)
    assert [row.patch_id for row in models.scores(store, checkpoint.id, "validation")] == left
    catalogue.set_image_deleted(store, image_id, False)
    assert [row.patch_id for row in models.scores(store, checkpoint.id, "validation")] == scored[1:]


def test_images_that_came_later_do_not_bend_the_curve(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    catalogue.update_project(store, project.id, validation_share=0.5)
    run_round(store, project, 4)
    for seed in (7, 8, 9):
        pixels, truth = discs(seed)
        importing.add_reference(store, importing.add_array(store, project.id, f"later_{seed}", pixels), truth)
    run_round(store, project, 12)
    newest = models.latest_checkpoint(store, project.id)
    first, last = results.learning_curve(store, project.id)
    assert evaluation.summary(store, newest.id, "validation").n == 8
    assert first.validation.n == last.validation.n == 8 - last.left_out
    assert (first.left_out, last.left_out > 0) == (0, True)


def test_models_stay_where_they_are_on_the_curve(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    first, _ = run_round(store, project), run_round(store, project)

    def positions():
        return [point.labelled for point in results.learning_curve(store, project.id)]

    assert positions() == [0, 5, 10]
    annotation.reopen(store, first["patches"][0], "s")
    assert positions() == [0, 5, 10]
    catalogue.set_image_deleted(store, catalogue.patch(store, first["patches"][1]).image_id, True)
    assert positions() == [0, 5, 10]
    assert results.learning_curve(store, project.id)[-1].fraction == pytest.approx(10 / 12)
    assert adviser._gain(store, project.id, 5)[0] is not None


def test_models_of_an_earlier_version_stand_by_what_they_learned_from(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    first = run_round(store, project)
    run_round(store, project)
    store.execute("UPDATE checkpoint SET n_labelled = NULL")
    assert [number for _, _, number in results.labelled_by_round(store, project.id)] == [5, 10]
    chosen = round_rows.selected_in_project(store, project.id)
    learned, held = (
        next(key for key in first["patches"] if chosen[key].role is role)
        for role in (PatchRole.TRAIN, PatchRole.VALIDATION)
    )
    annotation.reopen(store, learned, "s")
    assert [number for _, _, number in results.labelled_by_round(store, project.id)] == [5, 10]
    annotation.reopen(store, held, "s")
    assert [number for _, _, number in results.labelled_by_round(store, project.id)] == [4, 9]


def test_labels_that_change_are_scored_again(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    made = run_round(store, project)
    picks = {item.patch_id: item.role for item in round_rows.selected(store, round_rows.latest(store, project.id).id)}
    patch_id = next(p for p in made["patches"] if picks[p] is PatchRole.VALIDATION)
    checkpoint = models.latest_checkpoint(store, project.id)
    before = models.scores(store, checkpoint.id, "validation")[0].scores
    annotation.reopen(store, patch_id, "s")
    patch = catalogue.patch(store, patch_id)
    annotation.submit_labels(store, patch_id, np.zeros((patch.box.height, patch.box.width), np.int32), "oracle")
    evaluation.rescore(store, project.id)
    after = models.scores(store, checkpoint.id, "validation")[0].scores
    assert before.n_true > 0
    assert after.n_true == 0


def test_test_images_are_scored_but_never_selected(store, project, fast):
    pixels, truth = discs(20)
    image = importing.add_array(store, project.id, "held out", pixels, role=ImageRole.TEST)
    importing.add_reference(store, image, truth)
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    assert len(catalogue.patches(store, project.id)) == 12
    curve = results.learning_curve(store, project.id)
    assert curve[0].test.n == 1
    assert curve[0].test.scores.f1_50 > 0.9
    table = results.image_table(store, curve[0].checkpoint_id)
    assert [row["image"] for row in table] == ["image_0", "image_1", "image_2", "held out"]
    found = labels.read(store, labels.latest_of_image(store, image.id, LabelKind.PREDICTED))
    assert table[3]["objects"] == found.max()
    assert table[3]["mean_area"] == pytest.approx((found > 0).sum() / found.max())
    assert table[3]["foreground"] == pytest.approx((found > 0).mean())
    assert table[3]["f1_50"] > 0.9
    assert table[0]["f1_50"] is None


def test_history_tells_what_happened(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project)
    row = results.history(store, project.id)[0]
    assert (row.number, row.selected, row.done, row.skipped, row.trained) == (1, 5, 5, 0, True)


def test_the_model_is_applied_to_images_that_came_later(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    with pytest.raises(NotReadyError, match="Train a model first"):
        evaluation.run_predict(store, project.id, silent)
    training.run_pretrain(store, project.id, silent)
    assert evaluation.unpredicted(store, project.id) == []
    late = importing.add_array(store, project.id, "late", discs(9)[0])
    assert [image.name for image in evaluation.unpredicted(store, project.id)] == ["late"]
    assert evaluation.run_predict(store, project.id, silent) == {"images": 1}
    assert labels.latest_of_image(store, late.id, LabelKind.PREDICTED).n_objects > 0
    assert evaluation.unpredicted(store, project.id) == []


def test_predicting_reports_every_image_and_never_goes_back(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    importing.add_array(store, project.id, "late_1", discs(8)[0])
    importing.add_array(store, project.id, "late_2", discs(9)[0])
    told = []
    evaluation.run_predict(store, project.id, lambda done, total, message: told.append((done / total, message)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1][0] == 1
    assert {"Predicting late_1", "Predicting late_2"} <= {message for _, message in told}


def test_only_the_newest_predictions_keep_their_probabilities(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    first = labels.latest_by_image(store, project.id, LabelKind.PREDICTED)
    assert all(labels.probability(store, item) is not None for item in first.values())
    run_round(store, project)
    newest = labels.latest_by_image(store, project.id, LabelKind.PREDICTED)
    assert [labels.probability(store, item) for item in first.values()] == [None] * len(first)
    for item in newest.values():
        kept = labels.probability(store, item)
        assert kept.dtype == np.uint8
        # The stand-in is always certain, so what it took for foreground is 255.
        assert np.array_equal(
            kept[labels.read(store, item) > 0], np.full(np.count_nonzero(labels.read(store, item)), 255)
        )
    assert len(list((store.files.project(project.id) / "probabilities").iterdir())) == len(newest)


def test_an_earlier_model_that_is_predicted_again_does_not_take_the_newest_probabilities(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    run_round(store, project)
    newest = labels.of_checkpoint(store, models.latest_checkpoint(store, project.id).id)
    training.run_pretrain(store, project.id, silent)  # known already: nothing is trained
    assert all(labels.probability(store, item) is not None for item in newest.values())


def test_predictions_of_a_version_that_did_not_count_leave_their_cells_empty(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    checkpoint = models.latest_checkpoint(store, project.id)
    store.execute("UPDATE label_map SET params = '{}' WHERE kind = 'predicted'")
    for row in results.image_table(store, checkpoint.id):
        assert (row["mean_area"], row["foreground"]) == (None, None)
        assert row["objects"] > 0
