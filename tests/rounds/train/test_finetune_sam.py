"""Fine-tuning micro_sam on a project's labels, as a job; the training itself is a stand-in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from alapp import jobs
from alapp.domain import PatchRole, silent
from alapp.errors import Cancelled, InputError, NotReadyError, WeightsMissingError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.rounds.train import finetune_sam
from alapp.running import run_inline
from alapp.stages.foundation import choice, own
from alapp.stages.foundation.finetune_sam import Tuned
from alapp.storage import catalogue, labels
from alapp.storage import rounds as round_rows
from alapp.ui.pseudolabel import finetune as page
from tests.rounds.conftest import discs


@pytest.fixture
def weights():
    """Published weights in the cache, as far as their names go."""
    folder = Path(os.environ["MICROSAM_CACHEDIR"]) / "models"
    folder.mkdir(parents=True)
    for name in ("vit_b_lm", "vit_b_lm_decoder"):
        (folder / name).write_bytes(b"weights")
    return folder


@pytest.fixture
def annotated(store, project, fast):
    """Ten patches of three images, finished with their references; half of them for validation."""
    pseudo.decide(store, project.id, pseudo.NONE)
    project = catalogue.update_project(store, project.id, validation_share=0.5)
    made = selection.run_select(store, project.id, silent, budget=10)
    answer(store, made["patches"])
    return project


def answer(store, patch_ids):
    references = labels.latest_by_image(store, catalogue.patch(store, patch_ids[0]).project_id, "reference")
    for patch_id in patch_ids:
        patch = catalogue.patch(store, patch_id)
        whole = labels.read(store, references[patch.image_id])
        annotation.submit_labels(store, patch_id, catalogue.crop(whole, patch), "oracle")


@pytest.fixture
def training(monkeypatch):
    """A training that ends with the IoU in `after`; gives its calls."""
    calls = []

    def finetune(start, learnt, judged, iterations, seed, report):
        calls.append((start, learnt, judged, iterations))
        report(1, 2, "Training: step 1 of 2")
        if calls_error:
            raise calls_error[0]
        return Tuned({"a": torch.full((2,), 3.0)}, {"b": torch.ones(1)}, 0.5, after[0], 30, iterations)

    after, calls_error = [0.6], []
    calls_of = type("Calls", (), {"calls": calls, "after": after, "error": calls_error})
    monkeypatch.setattr(finetune_sam, "finetune", finetune)
    return calls_of


def test_a_better_model_answers_clicks_from_then_on(store, annotated, weights, training):
    job = run_inline(store, jobs.enqueue(store, "finetune_sam", annotated.id, {"iterations": 7}))
    assert job.error is None
    (start, learnt, judged, steps) = training.calls[0]
    assert (start.weights, start.decoder) == (weights / "vit_b_lm", weights / "vit_b_lm_decoder")
    roles = [item.role for item in round_rows.selected_in_project(store, annotated.id).values()]
    assert (len(learnt), len(judged)) == (roles.count(PatchRole.TRAIN), roles.count(PatchRole.VALIDATION))
    assert steps == 7
    assert job.result["kept"] == "vit_b_lm discs"
    assert "of 0.60, against 0.50 with vit_b_lm. The fine-tuned model is kept" in job.result["message"]
    (kept,) = own.checkpoints(annotated.modality, decoder=True)
    assert choice.for_clicks(annotated.modality).path == kept.weights
    assert "fine-tuned on" in kept.source
    assert torch.load(kept.weights, weights_only=True)["a"].tolist() == [3, 3]


def test_a_model_that_is_not_better_is_not_kept(store, annotated, weights, training):
    training.after[0] = 0.5
    result = finetune_sam.run_finetune(store, annotated.id, silent)
    assert result["kept"] == ""
    assert "is not better and was not kept" in result["message"]
    assert own.checkpoints() == []
    assert choice.for_clicks(annotated.modality).name == "vit_b_lm"


def test_a_cancelled_training_leaves_nothing(store, annotated, weights, training):
    training.error.append(Cancelled())
    with pytest.raises(Cancelled):
        finetune_sam.run_finetune(store, annotated.id, silent)
    assert not own.folder().exists()


def test_validation_patches_are_never_trained_on(store, annotated, weights, training):
    finetune_sam.run_finetune(store, annotated.id, silent)
    _, learnt, judged, _ = training.calls[0]
    seen = {sample.image.tobytes() for sample in learnt}
    assert judged
    assert not [sample for sample in judged if sample.image.tobytes() in seen]


def test_what_is_missing_is_a_sentence(store, annotated, training):
    with pytest.raises(WeightsMissingError, match=r"nothing to fine-tune\. Download a model first"):
        finetune_sam.run_finetune(store, annotated.id, silent)
    with pytest.raises(WeightsMissingError, match="The model vit_l_lm is not on this computer"):
        finetune_sam.run_finetune(store, annotated.id, silent, model="vit_l_lm")


def test_it_says_what_it_needs(store, project, weights, fast):
    assert "Fine-tuning needs at least 3 annotated training patches" in finetune_sam.why_not(store, project.id)


def test_whether_it_can_start_is_known_without_reading_pixels(store, annotated, weights, monkeypatch):
    monkeypatch.setattr(catalogue, "read_patch", lambda *_: pytest.fail("pixels were read"))
    assert finetune_sam.why_not(store, annotated.id) == ""


def test_a_stack_gives_some_of_its_slices(store, fast):
    made = catalogue.create_project(store, "stack", patch_size=64, patch_depth=8)
    pixels, answers = discs(0, size=64, n=4)
    deep = np.repeat(answers[None], 8, axis=0)
    deep[:2] = 0
    image = importing.add_array(store, made.id, "stack", np.repeat(pixels[None], 8, axis=0))
    importing.add_reference(store, image, deep)
    pseudo.decide(store, made.id, pseudo.NONE)
    patches = selection.run_select(store, made.id, silent, budget=1)["patches"]
    answer(store, patches)
    found = [one for role in PatchRole for one in finetune_sam.samples(store, made, role)]
    assert len(found) == finetune_sam.SLICES
    assert {one.image.shape for one in found} == {(64, 64, 1)}
    assert all((one.labels == answers).all() for one in found)


@pytest.mark.parametrize(
    ("ignored", "window"),
    [
        ([], (slice(0, 8), slice(0, 6))),
        ([(7, 5)], (slice(0, 8), slice(0, 3))),
        ([(0, 0), (7, 5)], (slice(0, 4), slice(3, 6))),
        ([(0, 0), (0, 5), (7, 0), (7, 5)], None),
    ],
)
def test_only_what_was_annotated_is_learnt(ignored, window):
    plane = np.zeros((8, 6), bool)
    for y, x in ignored:
        plane[y, x] = True
    assert finetune_sam.annotated_window(plane) == window


class TestPage:
    def test_it_is_hidden_without_weights(self, store, project):
        assert page.shown(store, None)[0].visible is False
        assert page.shown(store, project.id)[0].visible is False

    def test_it_says_why_it_cannot_start(self, store, project, weights):
        whole, model, start, text = page.shown(store, project.id)
        assert whole.visible
        assert [name for _, name in model.choices] == ["", "vit_b_lm"]
        assert not start.interactive
        assert "Annotate more first" in text
        with pytest.raises(NotReadyError, match="Annotate more first"):
            page.start_finetune(store, project.id, "vit_b_lm", 10, 0)

    def test_it_queues_one_job_and_tells_what_came_of_it(self, store, annotated, weights, training):
        assert page.shown(store, annotated.id)[2].interactive
        for name, steps, words in [("../x", 10, "not on this computer"), ("vit_b_lm", 3, "between 10 and")]:
            with pytest.raises(InputError, match=words):
                page.start_finetune(store, annotated.id, name, steps, 0)
        assert page.start_finetune(store, annotated.id, "vit_b_lm", 10, 4) == 5
        (job,) = jobs.active(store, annotated.id)
        assert "It is running" in page.shown(store, annotated.id)[3]
        run_inline(store, job)
        *_, start, text = page.shown(store, annotated.id)
        assert start.interactive
        assert "is kept as “vit_b_lm discs”" in text
