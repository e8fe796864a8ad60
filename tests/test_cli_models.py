"""`python -m alapp models`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from alapp.cli import app
from alapp.domain import Modality
from alapp.errors import DownloadError, InputError
from alapp.stages.foundation import access, own, states
from alapp.stages.foundation import download as fetching
from alapp.stages.foundation.catalogue import MODELS
from tests.stages.foundation.checkpoints import saved, use_small_models, weights
from tests.stages.foundation.server import Behaviour, serving
from tests.stages.foundation.test_download import CONTENT, model_of

SECRET = "s3cret-Token.of_a-user"


def run(*arguments: str, given: str = "") -> str:
    done = CliRunner().invoke(app, ["models", *arguments], input=given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_every_model_is_listed_with_state_and_licence() -> None:
    output = run("list")
    for model in MODELS.values():
        assert model.name in output
        assert model.licence in output


def test_a_licence_is_accepted_only_on_a_yes() -> None:
    with pytest.raises(InputError, match="nothing was changed"):
        run("accept", "cellsam_v1.2", given="n\n")
    assert not access.accepted("cellsam_v1.2")
    assert "academic" in run("accept", "cellsam_v1.2", given="y\n")
    assert access.accepted("cellsam_v1.2")
    assert "needs no consent" in run("accept", "vit_b_lm")


def test_the_token_is_stored_and_forgotten_without_being_shown() -> None:
    output = run("token", given=f"{SECRET}\n")
    assert access.token() == SECRET
    assert SECRET not in output
    run("token", "--forget")
    assert not access.has_token()
    with pytest.raises(InputError, match=r"users\.deepcell\.org"):
        run("token", given="\n")


def test_a_model_is_downloaded_checked_and_listed(monkeypatch) -> None:
    monkeypatch.setattr(states, "_installed", lambda module: True)
    monkeypatch.setattr(fetching, "MARGIN", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(Behaviour(CONTENT)) as server:
        monkeypatch.setitem(MODELS, "vit_b_lm", model_of(server.url))
        assert "vit_b_lm is in" in run("download", "vit_b_lm")
        server.code = 404
        other = tuple(replace(file, name="vit_b") for file in model_of(server.url).files)
        monkeypatch.setitem(MODELS, "vit_b", replace(model_of(server.url), name="vit_b", files=other))
        with pytest.raises(DownloadError, match="vit_b could not be downloaded"):
            run("download", "vit_b")
    assert "vit_b_lm               ready" in run("list", "--check")
    with pytest.raises(InputError, match="no published model"):
        run("download", "vit_x")


def test_files_are_imported_added_removed_and_brought_back(tmp_path, monkeypatch) -> None:
    use_small_models(monkeypatch)
    file = saved(tmp_path / "mitos.pt", weights())
    output = run("import", str(file), "--name", "my mitos", "--modality", "em")
    assert "it is here now as 'my mitos'" in output
    assert own.checkpoint("my mitos").modality is Modality.EM
    assert "my mitos               your own" in run("list")
    assert "was removed" in run("remove", "my mitos")
    assert own.checkpoints() == []
    assert "is back" in run("remove", "my mitos", "--undo")
    with pytest.raises(InputError, match="none of the published files"):
        run("add", str(file))
    monkeypatch.setattr(fetching, "MARGIN", 0)
    monkeypatch.setitem(MODELS, "vit_b_lm", model_of("https://x"))
    (tmp_path / "copy").write_bytes(CONTENT)
    assert "copy belongs to micro_sam for light microscopy, base (vit_b_lm)" in run("add", str(tmp_path / "copy"))
