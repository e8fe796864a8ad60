"""The decoding is fitted on a batch as the model before it sees it, and used for what is predicted afterwards."""

from __future__ import annotations

import json

import pytest

from alapp.domain import PatchRole, silent
from alapp.errors import Cancelled
from alapp.rounds.predict import decoding
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.rounds.train import training
from alapp.stages import decoding as fitting
from alapp.stages import segment
from alapp.stages.instances import Decoding
from alapp.storage import models
from alapp.storage import rounds as round_rows
from tests.rounds.test_loop import answer, run_round


@pytest.fixture
def second(store, project, fast):
    """A project after its second round; its checkpoints, pre-training first."""
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    run_round(store, project, 6)
    return project


def test_a_round_fits_on_its_own_batch_with_the_model_before_it(store, second, monkeypatch):
    seen = []
    found = fitting.Fit(Decoding(foreground=0.35), 0.9, 0.8, 5)
    monkeypatch.setattr(
        decoding, "fit", lambda examples, progress, defaults: seen.append((examples, defaults)) or found
    )
    run_round(store, second, 5)
    first, *_, last = models.checkpoints(store, second.id)
    ((examples, defaults),) = seen
    assert 0 < len(examples) <= 5
    assert all(example.probabilities.shape[1:] == example.labels.shape for example in examples)
    assert defaults == fitting.for_shapes(example.labels for example in examples)
    assert decoding.used(store, last).decoding == Decoding(foreground=0.35)
    assert decoding.used(store, last).fit == found
    assert decoding.used(store, first) == decoding.Used(None, None)


def test_validation_patches_have_no_say(store, second, monkeypatch):
    seen = []
    monkeypatch.setattr(decoding, "for_shapes", lambda maps: seen.append(list(maps)) or Decoding())
    run_round(store, second, 5)
    roles = [item.role for item in round_rows.selected_in_project(store, second.id).values()]
    assert PatchRole.VALIDATION in roles
    assert len(seen[-1]) == roles.count(PatchRole.TRAIN)


def test_what_was_fitted_decodes_the_predictions(store, second, monkeypatch):
    seen = []
    separated = segment.instances.separated
    monkeypatch.setattr(
        segment.instances,
        "separated",
        lambda prob, in_plane, given: seen.append(given) or separated(prob, in_plane, given),
    )
    wanted = Decoding(fragment_share=0.3)
    monkeypatch.setattr(decoding, "fit", lambda examples, progress, defaults: fitting.Fit(wanted, 0.9, 0.8, 5))
    run_round(store, second, 5)
    assert set(seen) == {wanted}


def test_too_little_to_fit_on_leaves_what_the_shapes_tell(store, second, monkeypatch):
    shapes = Decoding(solidity=0.7)
    monkeypatch.setattr(decoding, "fit", lambda examples, progress, defaults: None)
    monkeypatch.setattr(decoding, "for_shapes", lambda maps: shapes if list(maps) else None)
    run_round(store, second, 5)
    assert decoding.used(store, models.checkpoints(store, second.id)[-1]) == decoding.Used(shapes, None)


def test_what_was_fitted_before_a_parameter_was_there_goes_on_without(store, second):
    last = models.checkpoints(store, second.id)[-1]
    before = {"decoding": {"foreground": 0.35}, "quality": 0.9, "quality_default": 0.8, "patches": 5}
    store.files.resolve(last.path).with_name(decoding.FILE).write_text(json.dumps(before))
    assert decoding.used(store, last).decoding == Decoding(foreground=0.35, outline=0.35, solidity=0)


def test_it_can_be_cancelled_and_is_done_at_the_next_try(store, second, monkeypatch):
    made = selection.run_select(store, second.id, silent, 5)
    answer(store, made["patches"])

    def stop(done, total, message=""):
        if "objects" in message and "Learning" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        training.run_round(store, second.id, stop)
    monkeypatch.setattr(
        decoding, "fit", lambda examples, progress, defaults: fitting.Fit(Decoding(), 0.9, 0.9, len(examples))
    )
    training.run_round(store, second.id, silent)
    assert decoding.used(store, models.checkpoints(store, second.id)[-1]).fit is not None
