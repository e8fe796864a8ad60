"""Which weights `auto` takes."""

from __future__ import annotations

import pytest

from alapp.domain import Machine, Modality
from alapp.stages.foundation import choice, own, states
from alapp.stages.foundation.catalogue import MODELS
from tests.stages.foundation.checkpoints import saved, use_small_models, weights


@pytest.fixture(autouse=True)
def _cpu(monkeypatch) -> None:
    use_small_models(monkeypatch)
    monkeypatch.setattr(choice, "machine", lambda: Machine(2, 8.0))
    monkeypatch.setattr(states, "_installed", lambda module: True)


def put(*names: str) -> None:
    folder = MODELS["vit_b_lm"].folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"weights")


def test_nothing_is_here() -> None:
    assert choice.for_clicks(Modality.EM) is None
    assert choice.named("vit_b_lm") is None
    assert choice.named("cellsam_v1.2") is None


def test_the_fastest_fit_for_the_modality(monkeypatch) -> None:
    put("vit_l_lm", "vit_t_lm", "vit_b_lm", "vit_b_em_organelles", "vit_b", "vit_b_histopathology")
    assert [one.name for one in choice.options(Modality.LIGHT)] == ["vit_t_lm", "vit_b_lm", "vit_l_lm"]
    assert choice.for_clicks(Modality.EM).name == "vit_b_em_organelles"
    assert (
        "electron microscopy, and it is the fastest of those here without a GPU"
        in choice.for_clicks(Modality.EM).reason
    )
    monkeypatch.setattr(choice, "machine", lambda: Machine(8, 64.0, 24.0, "GPU"))
    assert [one.name for one in choice.options(Modality.LIGHT)] == ["vit_b_lm", "vit_l_lm", "vit_t_lm"]
    assert "GPU" not in choice.for_clicks(Modality.LIGHT).reason


def test_general_and_tissue_models_are_used_by_name_only() -> None:
    put("vit_b", "vit_b_histopathology", "vit_b_histopathology_decoder")
    assert choice.for_clicks() is None
    assert choice.named("vit_b").decoder is None
    assert choice.named("vit_b_histopathology").decoder == MODELS["vit_b_histopathology"].paths[1]


def test_automatic_labels_need_the_decoder() -> None:
    put("vit_t_lm", "vit_b_lm", "vit_b_lm_decoder")
    assert choice.for_clicks(Modality.LIGHT).name == "vit_t_lm"
    chosen = choice.with_decoder(Modality.LIGHT)
    assert (chosen.name, chosen.architecture, chosen.decoder.name) == ("vit_b_lm", "vit_b", "vit_b_lm_decoder")


def test_the_users_own_goes_first_where_it_fits(tmp_path) -> None:
    put("vit_t_lm", "vit_t_lm_decoder")
    made = own.import_file(saved(tmp_path / "mitos.pt", weights()), modality=Modality.EM)
    assert choice.for_clicks(Modality.LIGHT).name == "vit_t_lm"
    chosen = choice.for_clicks(Modality.EM)
    assert (chosen.name, chosen.path, chosen.own) == ("mitos", made.weights, True)
    assert chosen.reason == "It is the newest model of your own for electron microscopy."
    assert choice.with_decoder(Modality.EM) is None
    assert choice.named("mitos") == chosen


def test_what_cannot_run_is_left_out(monkeypatch, tmp_path) -> None:
    put("vit_t_lm", "vit_b_lm")
    monkeypatch.setattr(states, "_installed", lambda module: module != "mobile_sam")
    assert choice.for_clicks(Modality.LIGHT).name == "vit_b_lm"
    own.import_file(saved(tmp_path / "own.pt", weights()))
    monkeypatch.setattr(states, "_installed", lambda module: False)
    assert choice.options() == []
