"""Scores follow the labels: those against labels that were corrected since do not count, and are made again."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from alapp import jobs
from alapp.domain import LabelKind, PatchRole, VoxelSize, silent
from alapp.errors import Cancelled
from alapp.jobs import JobState
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import results
from alapp.rounds.select import selection
from alapp.rounds.train import training
from alapp.running import run_inline
from alapp.stages.metrics import score_instances
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.ui.annotate.annotate_server import server_functions
from alapp.ui.results import results as results_tab
from tests.rounds.conftest import discs
from tests.rounds.test_loop import answer, run_round

ME = "page-1"


@pytest.fixture
def scored(store, project, fast):
    """A validation patch that the only model was scored on, among others."""
    pseudo.decide(store, project.id, pseudo.NONE)
    catalogue.update_project(store, project.id, validation_share=0.5)
    run_round(store, project, 6)
    return _rows(store, project)[0].patch_id


def _rows(store, project):
    return models.scores(store, models.latest_checkpoint(store, project.id).id, "validation")


def _empty(store, patch_id):
    annotation.submit_labels(store, patch_id, np.zeros((64, 64), np.int32), "human")


def _finish(store, patch_id, how="done"):
    (finish,) = [each for each in server_functions(store) if each.__name__ == "finish"]
    patch, revision = catalogue.patch(store, patch_id), annotation.state(store, patch_id).revision
    asked = {"project": patch.project_id, "patch": patch_id, "session": ME, "token": f"{how} {revision}"}
    assert "error" not in finish({**asked, "revision": revision, "how": how})


def _waiting(store, project):
    return [job for job in jobs.active(store, project.id) if job.kind == evaluation.RESCORE]


def test_a_score_against_labels_that_were_corrected_does_not_count(store, project, scored):
    before = {row.patch_id for row in _rows(store, project)}
    assert next(row.scores.n_true for row in _rows(store, project) if row.patch_id == scored) > 0
    _empty(store, scored)
    assert {row.patch_id for row in _rows(store, project)} == before - {scored}
    assert results.learning_curve(store, project.id)[-1].validation.n == len(before) - 1


def test_finishing_a_validation_patch_anew_scores_it_again(store, project, scored):
    n = len(_rows(store, project))
    annotation.reopen(store, scored, ME)
    annotation.delete_object(store, scored, ME, list(annotation.state(store, scored).objects))
    assert _waiting(store, project) == []
    _finish(store, scored)
    (job,) = _waiting(store, project)
    done = run_inline(store, job)
    assert (done.state, done.result) == (JobState.DONE, {"scores": 1})
    assert {row.patch_id: row.scores.n_true for row in _rows(store, project)}[scored] == 0
    assert len(_rows(store, project)) == n


def test_only_a_patch_that_was_scored_before_is_scored_before_the_next_training(store, project, scored):
    made = selection.run_select(store, project.id, silent, 6)
    chosen = round_rows.selected_in_project(store, project.id)
    new = next(key for key in made["patches"] if chosen[key].role is PatchRole.VALIDATION)
    answer(store, [new])
    annotation.reopen(store, new, ME)
    _finish(store, new)
    assert _waiting(store, project) == []
    learned = next(key for key, item in chosen.items() if item.role is PatchRole.TRAIN and key not in made["patches"])
    annotation.reopen(store, learned, ME)
    _finish(store, learned)
    assert _waiting(store, project) == []


def test_labels_that_change_while_they_are_scored_are_scored_again(store, project, fast, monkeypatch):
    pseudo.decide(store, project.id, pseudo.NONE)
    catalogue.update_project(store, project.id, validation_share=0.5)
    made = selection.run_select(store, project.id, silent, 8)
    answer(store, made["patches"])
    chosen = round_rows.selected_in_project(store, project.id)
    patch_id = [key for key in made["patches"] if chosen[key].role is PatchRole.VALIDATION][-1]
    score, corrected = evaluation.score_instances, []

    def scoring(truth, guess):
        # By now the worker has looked up which labels there are.
        if not corrected:
            corrected.append(patch_id)
            _empty(store, patch_id)
        return score(truth, guess)

    monkeypatch.setattr(evaluation, "score_instances", scoring)
    training.run_round(store, project.id, silent)
    assert corrected == [patch_id]
    assert {row.patch_id: row.scores.n_true for row in _rows(store, project)}[patch_id] == 0


def test_the_job_also_scores_what_changed_while_it_ran(store, project, scored, monkeypatch):
    _empty(store, scored)
    score, answered = evaluation.score_instances, []

    def scoring(truth, guess):
        if not answered:
            answered.append(scored)
            answer(store, [scored])
        return score(truth, guess)

    monkeypatch.setattr(evaluation, "score_instances", scoring)
    assert evaluation.run_rescore(store, project.id, silent) == {"scores": 2}
    assert {row.patch_id: row.scores.n_true for row in _rows(store, project)}[scored] > 0


def test_a_clock_that_was_set_back_hides_no_correction(store, project, scored):
    store.execute("UPDATE score SET created = '2999-01-01'")
    _empty(store, scored)
    assert evaluation.rescore(store, project.id) == 1
    assert {row.patch_id: row.scores.n_true for row in _rows(store, project)}[scored] == 0
    store.execute("UPDATE label_map SET created = '2999-01-02'")
    assert evaluation.rescore(store, project.id) == 0


def test_results_say_what_is_scored_again(store, project, scored):
    assert "left out, because" not in results_tab.refresh(store, project.id)[4]
    _empty(store, scored)
    assert "1 patch is left out, because you corrected" in results_tab.refresh(store, project.id)[4]
    run_inline(store, _waiting(store, project)[0])
    assert "left out, because" not in results_tab.refresh(store, project.id)[4]


def test_a_job_that_was_given_up_waits_for_the_next_correction(store, project, scored):
    _empty(store, scored)
    assert evaluation.queue_rescore(store, project.id) == 1
    jobs.cancel(store, _waiting(store, project)[0].id)
    assert evaluation.queue_rescore(store, project.id) == 1
    assert _waiting(store, project) == []
    answer(store, [scored])
    assert evaluation.queue_rescore(store, project.id) == 1
    assert len(_waiting(store, project)) == 1


def test_the_job_can_be_cancelled(store, project, scored):
    _empty(store, scored)

    def cancel(done, total, message=""):
        raise Cancelled

    with pytest.raises(Cancelled):
        evaluation.run_rescore(store, project.id, cancel)
    assert evaluation.rescore(store, project.id) == 1


def test_masks_of_a_test_image_that_changed_are_scored_again(store, project, scored):
    image = catalogue.images(store, project.id)[0]
    store.execute("UPDATE image SET role = 'test' WHERE id = ?", (image.id,))
    evaluation.rescore(store, project.id)
    checkpoint = models.latest_checkpoint(store, project.id)
    (before,) = models.scores(store, checkpoint.id, "test")
    labels.add(
        store,
        LabelKind.REFERENCE,
        np.zeros((128, 128), np.int32),
        project_id=project.id,
        image_id=image.id,
        backend="file",
        input_hash="",
    )
    assert models.scores(store, checkpoint.id, "test") == []
    evaluation.rescore(store, project.id)
    (after,) = models.scores(store, checkpoint.id, "test")
    assert (before.scores.n_true > 0, after.scores.n_true) == (True, 0)


def test_one_map_of_an_image_is_in_memory_at_a_time(store, project, fast, monkeypatch):
    read_around, alive, most, reads = labels.read_around, [], [], []

    def counted(at, item, patch):
        reads.append((item.id, patch.box.z, patch.box.depth))
        most.append(sum(each() is not None for each in alive))
        found = read_around(at, item, patch)
        alive.append(weakref.ref(found))
        return found

    monkeypatch.setattr(labels, "read_around", counted)
    pseudo.decide(store, project.id, pseudo.NONE)
    catalogue.update_project(store, project.id, validation_share=0.5)
    run_round(store, project, 12)
    assert len(_rows(store, project)) == 6
    assert len(reads) == len(set(reads)) == 3
    assert max(most) == 0


def test_a_patch_of_a_stack_is_scored_on_its_own_slices(store, fast):
    stack = catalogue.create_project(store, "stack", patch_size=64, patch_depth=4, validation_share=0.5)
    flat = [discs(seed) for seed in (1, 2)]
    pixels, truth = (np.concatenate([np.stack([made[part]] * 4) for made in flat]) for part in (0, 1))
    image = importing.add_array(store, stack.id, "stack", pixels, voxel_size=VoxelSize(1.0, 1.0, 1.0))
    importing.add_reference(store, image, truth)
    pseudo.decide(store, stack.id, pseudo.NONE)
    run_round(store, stack, 8)
    checkpoint = models.latest_checkpoint(store, stack.id)
    whole = labels.read(store, labels.of_checkpoint(store, checkpoint.id)[image.id])
    rows = _rows(store, stack)
    assert {catalogue.patch(store, row.patch_id).box.z for row in rows} == {0, 4}
    for row in rows:
        patch = catalogue.patch(store, row.patch_id)
        human = labels.read(store, labels.latest_of_patch(store, patch.id, LabelKind.HUMAN))
        assert row.scores == score_instances(human, catalogue.crop(whole, patch))
        assert row.scores.tp_50 > 0
