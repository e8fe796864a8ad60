"""What the doctor says about foundation models: each known failure once, with its remedy."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import xxhash

from alapp import doctor_models
from alapp.finding import Finding, Level
from alapp.stages.foundation import access, catalogue, folders, own, states
from alapp.stages.foundation.catalogue import MODELS
from tests.stages.foundation.checkpoints import saved, use_small_models, weights

CONTENT = b"weights" * 10


def found(**options: bool) -> dict[str, Finding]:
    return {finding.title: finding for finding in doctor_models.diagnose(**options)}


@pytest.fixture(autouse=True)
def _installed(monkeypatch) -> None:
    monkeypatch.setattr(states, "_installed", lambda module: module != "cellSAM")


@pytest.fixture
def small(monkeypatch):
    """vit_b, of seventy bytes."""
    digest = xxhash.xxh128(CONTENT).hexdigest()
    file = replace(MODELS["vit_b"].files[0], checksum=f"xxh128:{digest}", size=70)
    model = replace(MODELS["vit_b"], files=(file,))
    monkeypatch.setitem(catalogue.MODELS, "vit_b", model)
    return model


def put(path: Path, content: bytes = CONTENT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_nothing_is_said_about_what_is_not_here() -> None:
    assert found() == {}


def test_a_broken_cache(small) -> None:
    put(small.paths[0])
    assert found()["model vit_b"] == Finding(Level.OK, "model vit_b", "here, with its published content")
    put(small.paths[0], b"x" * 70)
    assert found(hashes=False)["model vit_b"].level is Level.OK
    broken = found()["model vit_b"]
    assert broken.level is Level.WARNING
    assert broken.remedy == "Run: python -m alapp models download vit_b"
    put(small.paths[0], b"x")
    assert found(hashes=False)["model vit_b"].level is Level.WARNING


def test_half_a_model(monkeypatch) -> None:
    put(MODELS["vit_b_lm"].paths[1], b"x" * 30_000_000)
    half = found(hashes=False)["model vit_b_lm"]
    assert half.level is Level.NOTE
    assert "the weights (vit_b_lm) is not in" in half.detail


def test_mobile_sam_is_missing(monkeypatch) -> None:
    monkeypatch.setattr(states, "_installed", lambda module: module not in ("mobile_sam", "cellSAM"))
    assert found()["mobile_sam"].remedy == "Run: pip install mobilesam-mirror"
    monkeypatch.setattr(states, "_installed", lambda module: False)
    assert found() == {}


def test_cellsam_without_licence_token_and_weights(monkeypatch) -> None:
    monkeypatch.setattr(states, "_installed", lambda module: True)
    assert set(found()) == {"CellSAM's licence", "DeepCell's token"}
    assert "models accept cellsam_v1.2" in found()["CellSAM's licence"].remedy
    assert "users.deepcell.org" in found()["DeepCell's token"].remedy
    access.accept("cellsam_v1.2")
    access.store_token("s3cret-Token.of_a-user")
    assert found() == {}
    MODELS["cellsam_v1.2"].paths[0].parent.mkdir(parents=True)
    broken = found()["model cellsam_v1.2"]
    assert broken.level is Level.WARNING
    assert "broke off" in broken.detail
    put(MODELS["cellsam_v1.2"].paths[0])
    assert found()["model cellsam_v1.2"].detail == "here"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_token_that_others_can_read() -> None:
    access.store_token("s3cret-Token.of_a-user")
    path = folders.config() / "deepcell-token"
    path.chmod(0o644)
    told = found()["DeepCell's token"]
    assert told.level is Level.WARNING
    assert "can be read by others" in told.detail
    assert "s3cret" not in str(told)


def test_models_of_the_users_own(tmp_path, monkeypatch) -> None:
    use_small_models(monkeypatch)
    made = own.import_file(saved(tmp_path / "mine.pt", weights()))
    assert found()["your model mine"].level is Level.OK
    made.weights.unlink()
    assert found()["your model mine"].level is Level.WARNING
    (made.folder / own.ABOUT).write_text("{")
    (own.folder() / ".tmp-1").mkdir()
    told = found()
    assert [finding.title for finding in told.values()] == ["your model mine"]
    assert "not complete" in told["your model mine"].detail


def test_unfinished_downloads() -> None:
    put(folders.microsam() / ".part-vit_b")
    assert ".part-vit_b (1 MB together)" in found()["Unfinished downloads"].detail


class TestOnline:
    @pytest.fixture
    def asked(self, monkeypatch) -> list[str]:
        asked: list[str] = []

        def head(url: str, **_: object) -> None:
            asked.append(url)
            if self.silent(url):
                raise requests.ConnectionError("no route")

        monkeypatch.setattr(requests, "head", head)
        return asked

    silent = staticmethod(lambda url: False)

    def test_it_is_asked_for(self, asked) -> None:
        found()
        assert asked == []

    def test_every_server_once(self, asked) -> None:
        assert found(online=True)["Internet"].level is Level.OK
        assert len(asked) == len(set(asked)) == 4
        assert "https://users.deepcell.org/" in asked

    def test_one_is_silent(self, asked, monkeypatch) -> None:
        monkeypatch.setattr(TestOnline, "silent", staticmethod(lambda url: "gwdg" in url))
        told = found(online=True)["Internet"]
        assert told.detail == "These do not answer: owncloud.gwdg.de."

    def test_offline(self, asked, monkeypatch) -> None:
        monkeypatch.setattr(TestOnline, "silent", staticmethod(lambda url: True))
        told = found(online=True)["Internet"]
        assert told.level is Level.WARNING
        assert told.detail == "No server of models answers."
        assert "HTTPS_PROXY" in told.remedy
