"""The copied facts against the installed packages, and the places of the files."""

from __future__ import annotations

import pytest

from alapp.domain import Modality
from alapp.errors import InputError
from alapp.stages.foundation import catalogue, folders
from alapp.stages.foundation.catalogue import CELLSAM, MICRO_SAM, MODELS


@pytest.mark.slow
def test_hashes_addresses_and_folder_are_those_of_the_installed_micro_sam() -> None:
    from alapp.environment import prepare

    prepare()
    from micro_sam import util

    registry = util.models()
    copied = {file.name: file for model in MODELS.values() if model.backend == MICRO_SAM for file in model.files}
    assert {name: file.checksum for name, file in copied.items()} == registry.registry
    assert {name: file.url for name, file in copied.items()} == registry.urls
    assert folders.microsam() == registry.abspath


def test_names_titles_and_places_are_unique_and_complete() -> None:
    paths = [path for model in MODELS.values() for path in model.paths]
    assert len(paths) == len(set(paths))
    assert len({model.title for model in MODELS.values()}) == len(MODELS)
    for name, model in MODELS.items():
        assert name == model.name
        assert model.licence.strip()
        assert model.suits.endswith(".")
        assert model.needs
        assert model.modalities
        assert model.size > 1e7
        for file in model.files:
            algorithm, _, digest = file.checksum.partition(":")
            assert len(digest) == {"xxh128": 32, "md5": 32, "sha256": 64}[algorithm]
            assert file.url.startswith("https://") or model.backend == CELLSAM


def test_the_fastest_fit_for_a_modality_comes_first() -> None:
    assert [model.name for model in catalogue.fit_for(Modality.EM)][:2] == [
        "vit_t_em_organelles",
        "vit_b_em_organelles",
    ]
    assert catalogue.fit_for(Modality.LIGHT)[0].name == "vit_t_lm"
    assert all(model.name != "vit_t_lm" for model in catalogue.fit_for(Modality.EM))


def test_folders_follow_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(folders.MODELS_VARIABLE, str(tmp_path / "kept"))
    assert catalogue.model("sam2.1_hiera_tiny").paths == (tmp_path / "kept" / "sam2" / "sam2.1_hiera_tiny.pt",)
    monkeypatch.delenv(folders.MODELS_VARIABLE)
    assert folders.models().name == "models"
    assert "alapp" in folders.models().parts


def test_an_unknown_name_is_a_sentence() -> None:
    with pytest.raises(InputError, match="no published model called 'vit_x'"):
        catalogue.model("vit_x")
