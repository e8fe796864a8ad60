"""What the sheet "Models on this computer" shows and does, without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from alapp.domain import Modality
from alapp.stages.foundation import access
from alapp.stages.foundation.catalogue import MODELS
from alapp.storage import catalogue
from alapp.ui import foundation, model_panel, model_rows

TOKEN = "secret-token-1234"


@pytest.fixture
def ask(store):
    """Call a server function as the page does."""
    functions = {
        act.__name__.lstrip("_"): foundation._answering(store, act) for act in (foundation._look, foundation._act)
    }
    return lambda name, **message: functions[name](message)


def rows(answer):
    return {model["name"]: model for group in answer["groups"] for model in group["models"]}


def test_the_script_is_valid(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    script = tmp_path / "panel.js"
    source = (model_panel._FOLDER / "panel.js").read_text(encoding="utf-8")
    script.write_text(f"(function (element, trigger, props, server, upload, watch) {{{source}}})", encoding="utf-8")
    done = subprocess.run([node, "--check", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_published_model_is_shown_with_its_state_size_and_licence(ask):
    shown = rows(ask("look", project=None))
    assert shown.keys() >= MODELS.keys()
    assert shown["vit_b_lm"]["size"] == "413 MB"
    assert "Creative Commons" in shown["vit_b_lm"]["licence"]
    for row in shown.values():
        assert row["state"] == "ready" or row["why"]


def test_what_fits_the_images_comes_first(ask, store):
    project = catalogue.create_project(store, "em", modality=Modality.EM)
    shown = rows(ask("look", project=project.id))
    assert shown["vit_t_em_organelles"]["first"]
    assert not shown["vit_t_lm"]["first"]
    assert not shown["vit_h"]["first"]


def test_the_licence_is_accepted_once_and_can_be_withdrawn(ask):
    assert "You accepted the licence of CellSAM" in ask("act", act="accept", model="cellsam_v1.2")["said"]
    assert access.accepted("cellsam_v1.2")
    (group,) = [group for group in ask("look")["groups"] if group["id"] == "cellsam"]
    assert group["terms"]["accepted"]
    ask("act", act="withdraw", model="cellsam_v1.2")
    assert not access.accepted("cellsam_v1.2")


def test_the_token_comes_in_and_never_goes_out(ask, monkeypatch):
    said = [ask("act", act="token", token=TOKEN), ask("look")]
    assert "stored, for you only" in said[0]["said"]
    assert model_rows.token_words()["stored"]
    assert access.token() == TOKEN
    said += [ask("act", act="token", token=""), ask("look")]
    assert not model_rows.token_words()["stored"]
    monkeypatch.setenv(access.TOKEN_VARIABLE, TOKEN)
    said += [ask("look")]
    assert "taken from the environment" in json.dumps(said[-1])
    assert TOKEN not in json.dumps(said)


@pytest.mark.parametrize(
    "message",
    [
        {"act": "nonsense"},
        {"act": "token"},
        {"act": "token", "token": 5},
        {"act": "token", "token": "   "},
        {"act": "token", "token": "short"},
        {"act": "accept"},
        {"act": "accept", "model": "../nonsense"},
        {"act": ["accept"]},
    ],
)
def test_nonsense_from_the_browser_is_one_sentence(ask, message):
    answer = ask("act", **message)
    assert answer["error"]
    assert "Traceback" not in answer["error"]
    assert "went wrong inside" not in answer["error"]


def test_visitors_of_the_public_demo_change_nothing(ask, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/demo")
    assert "all visitors share one computer" in ask("look")["closed"]
    assert "all visitors share one computer" in ask("act", act="token", token=TOKEN)["error"]
    assert access.token() == ""
