"""What may answer clicks: methods and models with their states, the choice that is kept, and the backend behind it."""

from __future__ import annotations

import shutil

import pytest

from alapp.domain import BackendState, Modality
from alapp.errors import InputError, NotReadyError, WeightsMissingError
from alapp.rounds.annotate import click_methods, clicks
from alapp.stages.annotate.base import CLICK_SEGMENTERS
from alapp.stages.annotate.watershed import SeededWatershed
from alapp.stages.foundation import own
from alapp.stages.foundation.catalogue import MODELS
from alapp.storage import catalogue


class Choosy(SeededWatershed):
    """Tells which weights it was given."""

    def __init__(self, modality=None, checkpoint=None, model_type=None):
        super().__init__(modality)
        self.given = modality, checkpoint, model_type


@pytest.fixture
def project(store):
    return catalogue.create_project(store, "cells")


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    """The packages count as installed, whatever is on this computer."""
    monkeypatch.setattr("alapp.stages.foundation.states.absent", lambda modules: [])


def put(name, whole=True):
    model = MODELS[name]
    path = model.paths[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(model.files[0].size if whole else 10)


def state_of(value, modality=Modality.LIGHT):
    return click_methods.choice(value, modality).status.state


def test_every_method_and_every_fitting_model_is_listed():
    light = [each.value for each in click_methods.choices(Modality.LIGHT)]
    assert light[: len(list(CLICK_SEGMENTERS))] == list(CLICK_SEGMENTERS)
    assert {"micro_sam:vit_t_lm", "micro_sam:vit_b_lm", "micro_sam:vit_t"} <= set(light)
    assert "micro_sam:vit_t_em_organelles" not in light
    assert "micro_sam:vit_t_em_organelles" in [each.value for each in click_methods.choices(Modality.EM)]
    assert not any("cellsam" in value for value in light)


def test_states_are_true_and_clicks_need_no_decoder():
    assert state_of("micro_sam:vit_b_lm") is BackendState.WEIGHTS_MISSING
    put("vit_b_lm")
    assert state_of("micro_sam:vit_b_lm") is BackendState.READY
    put("vit_b_lm", whole=False)
    assert state_of("micro_sam:vit_b_lm") is BackendState.BROKEN


def test_a_model_that_is_here_is_listed_for_any_image():
    put("vit_t_em_organelles")
    assert "micro_sam:vit_t_em_organelles" in [each.value for each in click_methods.choices(Modality.LIGHT)]


def test_what_is_not_ready_is_refused_with_a_remedy(store, project):
    with pytest.raises(NotReadyError, match=r"cannot answer clicks yet\. No weights .* Download them \(413 MB\)"):
        click_methods.choose(store, project.id, "micro_sam:vit_b_lm")
    assert catalogue.project(store, project.id).click_method == "auto"
    for wrong in ("nonsense", "micro_sam:nonsense", "watershed:vit_b_lm", ""):
        with pytest.raises(InputError, match="no click method"):
            click_methods.choose(store, project.id, wrong)


def test_the_choice_is_kept_and_reaches_the_backend(store, project, monkeypatch):
    monkeypatch.setitem(CLICK_SEGMENTERS._targets, "micro_sam", "tests.rounds.annotate.test_click_methods:Choosy")
    monkeypatch.setattr(clicks, "_segmenters", {})
    put("vit_b_lm")
    click_methods.choose(store, project.id, "micro_sam:vit_b_lm")
    assert clicks.click_method(store, project.id) == "micro_sam:vit_b_lm"
    given = clicks.segmenter(store, project.id).given
    assert given == (Modality.LIGHT, MODELS["vit_b_lm"].paths[0], "vit_b")
    click_methods.choose(store, project.id, "watershed")
    assert type(clicks.segmenter(store, project.id)) is SeededWatershed
    click_methods.choose(store, project.id, "auto")
    assert catalogue.project(store, project.id).click_method == "auto"


def test_ones_own_model_can_be_chosen_and_says_when_it_is_gone(store, project, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(CLICK_SEGMENTERS._targets, "micro_sam", "tests.rounds.annotate.test_click_methods:Choosy")
    monkeypatch.setattr(clicks, "_segmenters", {})
    made = own.add("my cells", "vit_b", {"weight": torch.zeros(2)}, source="cells.pt")
    found = {each.value: each for each in click_methods.choices(Modality.EM)}["micro_sam:my cells"]
    assert found.status.ready
    assert found.suits == "Your own model, made from cells.pt."
    click_methods.choose(store, project.id, "micro_sam:my cells")
    assert clicks.segmenter(store, project.id).given == (Modality.LIGHT, made.weights, "vit_b")
    shutil.rmtree(made.folder)
    monkeypatch.setattr(clicks, "_segmenters", {})
    with pytest.raises(WeightsMissingError, match="my cells that answers your clicks is not on this computer any more"):
        clicks.segmenter(store, project.id)


def test_a_model_of_the_other_modality_stays_chosen(store, project):
    put("vit_t_em_organelles")
    click_methods.choose(store, project.id, "micro_sam:vit_t_em_organelles")
    MODELS["vit_t_em_organelles"].paths[0].unlink()
    found = click_methods.choice("micro_sam:vit_t_em_organelles", Modality.LIGHT)
    assert found.status.state is BackendState.WEIGHTS_MISSING


def test_auto_says_why():
    now, reason = click_methods.automatic(Modality.LIGHT)
    assert now.value == "watershed"
    assert reason == "micro_sam has no weights on this computer, so the built-in seeded watershed is used."
