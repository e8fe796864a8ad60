"""What the sheet "Models on this computer" shows and does, without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from alapp import jobs
from alapp.domain import LabelKind, Modality
from alapp.jobs import JobState
from alapp.rounds.pseudolabel import foundation as models
from alapp.stages.foundation import access, own
from alapp.stages.foundation.catalogue import MODELS
from alapp.storage import catalogue, labels
from alapp.storage import jobs as job_rows
from alapp.ui.foundation import foundation, model_panel, model_rows
from tests.rounds.annotate.test_click_methods import _installed, put  # noqa: F401  (fixture)
from tests.stages.foundation.checkpoints import saved, use_small_models, weights

TOKEN = "secret-token-1234"


@pytest.fixture
def ask(store):
    """Call a server function as the page does."""
    acts = (foundation._look, foundation._act, foundation._picture)
    functions = {act.__name__.lstrip("_"): foundation._answering(store, act) for act in acts}
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


def test_a_download_is_queued_shown_and_cancelled(ask, store):
    assert rows(ask("look"))["vit_b_lm"]["acts"] == [["download", "Download (413 MB)"]]
    assert ask("act", act="download", model="vit_b_lm") == {"said": ""}
    row = rows(ask("look"))["vit_b_lm"]
    assert (row["state"], row["acts"]) == ("downloading", [["cancel", "Cancel"]])
    assert row["progress"] == {"share": 0.0, "text": "Starting."}
    assert "one at a time" in rows(ask("look"))["vit_t_lm"]["why"]
    (job,) = jobs.active(store)
    job_rows.claim(store, "host:1:t", job.id)
    job_rows.beat(store, job.id, "host:1:t", 1.0, 4.0, "Downloading vit_b_lm: 100 MB of 413 MB", 200.0)
    shown = rows(ask("look"))["vit_b_lm"]["progress"]
    assert shown["share"] == 0.25
    assert shown["text"].startswith("Downloading vit_b_lm: 100 MB of 413 MB · ")
    assert "vit_b_lm is being downloaded" in ask("act", act="download", model="vit_t_lm")["error"]
    assert "cancelled" in ask("act", act="cancel", model="vit_b_lm")["said"]
    job_rows.finish(store, job.id, "host:1:t", JobState.FAILED, "This computer cannot reach it.")
    assert rows(ask("look"))["vit_b_lm"]["failed"] == "This computer cannot reach it."


def test_a_removal_can_be_undone(ask):
    put("vit_b")
    assert [act for act, _ in rows(ask("look"))["vit_b"]["acts"]] == ["remove"]  # no project to test it on
    assert "can be undone" in ask("act", act="remove", model="vit_b")["said"]
    row = rows(ask("look"))["vit_b"]
    assert [act for act, _ in row["acts"]] == ["download", "undo"]
    assert row["first"]
    assert "is back" in ask("act", act="undo", model="vit_b")["said"]
    assert rows(ask("look"))["vit_b"]["state"] == "ready"
    assert "cannot be brought back" in ask("act", act="undo", model="vit_b")["error"]


def test_files_are_taken_or_refused_with_a_sentence(ask, tmp_path, monkeypatch):
    use_small_models(monkeypatch)
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"no model" * 100)
    assert "garbage.pt cannot be read" in ask("act", act="bring", path=str(garbage))["error"]
    assert "There is no file" in ask("act", act="bring", path=str(tmp_path / "none.pt"))["error"]
    assert "Type the path" in ask("act", act="bring", path=" ")["error"]
    mine = saved(tmp_path / "mine.pt", weights())
    assert "it is here now as 'mine'" in ask("act", act="bring", path=f'"{mine}"')["said"]
    assert mine.is_file()
    row = rows(ask("look"))["mine"]
    assert (row["state"], row["code"]) == ("ready", "")
    (group,) = [group for group in ask("look")["groups"] if group["id"] == "own"]
    assert [model["name"] for model in group["models"]] == ["mine"]
    assert [one.name for one in own.checkpoints()] == ["mine"]


def test_an_upload_is_not_kept_twice(ask, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    use_small_models(monkeypatch)
    (tmp_path / "uploads" / "abc").mkdir(parents=True)
    uploaded = saved(tmp_path / "uploads" / "abc" / "mine.pt", weights())
    other = saved(tmp_path / "other.pt", weights(seed=1))
    assert "said" in ask("act", act="bring", path=str(uploaded), uploaded=True)
    assert "said" in ask("act", act="bring", path=str(other), uploaded=True)
    assert not uploaded.exists()
    assert other.exists()


def test_a_test_on_one_patch(ask, store, project):
    put("vit_b")
    assert [act for act, _ in rows(ask("look", project=project.id))["vit_b"]["acts"]] == ["try", "remove"]
    assert ask("act", act="try", model="vit_b", project=project.id) == {"said": ""}
    (job,) = jobs.active(store, project.id)
    assert job.params == {"name": "vit_b", "draw": 0}
    row = rows(ask("look", project=project.id))["vit_b"]
    assert row["acts"] == [["cancel_try", "Cancel the test"]]
    assert row["progress"]["text"] == "The test waits for the work before it."
    put("vit_l")
    assert "vit_b is being tested" in ask("act", act="try", model="vit_l", project=project.id)["error"]

    patch = catalogue.patches(store, project.id)[1]
    found = np.zeros((64, 64), np.int32)
    found[8:20, 8:20] = 1
    kept = labels.add(
        store, LabelKind.PSEUDO, found, project_id=project.id, image_id=patch.image_id, patch_id=patch.id,
        backend="vit_b", input_hash="x",
    )  # fmt: skip
    result = {"name": "vit_b", "patch": patch.id, "z": 0, "seconds": 1.34, "objects": 1, "click": [31.5, 31.5]}
    job_rows.claim(store, "host:1:t", job.id)
    job_rows.finish(store, job.id, "host:1:t", JobState.DONE, None, {**result, "label_map": kept.id})
    row = rows(ask("look", project=project.id))["vit_b"]
    assert row["result"]["picture"] == kept.id
    assert row["result"]["text"].endswith("was answered in 1.3 s: its outline is drawn.")
    assert row["acts"][0] == ["try", "Test on another patch"]
    assert ask("picture", project=project.id, map=kept.id)["picture"].startswith("data:image/png;base64,")
    other = catalogue.create_project(store, "other")
    assert "gone" in ask("picture", project=other.id, map=kept.id)["error"]
    assert "gone" in ask("picture", project=project.id, map="1")["error"]
    assert ask("act", act="try", model="vit_b", project=project.id) == {"said": ""}
    assert models.last_try(store, project.id, "vit_b").params["draw"] == 1
    ask("act", act="cancel_try", model="vit_b", project=project.id)
    assert jobs.active(store) == []


def test_a_test_needs_images(ask, store):
    put("vit_b")
    empty = catalogue.create_project(store, "empty")
    assert "Import images first" in ask("act", act="try", model="vit_b", project=empty.id)["error"]
    assert "Open a project first" in ask("act", act="try", model="vit_b", project=999)["error"]


def test_results_are_told_in_words():
    result = {"seconds": 0.42, "objects": 14, "click": None}
    assert model_rows.result_text(result, "a y0 x0") == "14 objects in 420 ms, in a y0 x0."
    assert model_rows.result_text({**result, "objects": 1, "seconds": 12.3}, "a") == "1 object in 12 s, in a."
    assert "in 3 min" in model_rows.result_text({**result, "seconds": 190.0}, "a")
    clicked = model_rows.result_text({"seconds": 2.04, "objects": 0, "click": [1, 2]}, "a")
    assert clicked == "A click in the middle of a was answered in 2.0 s: it found no object there."


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
        {"act": "remove", "model": "../nonsense"},
        {"act": "remove", "model": ".."},
        {"act": "undo", "model": "../.."},
        {"act": "download", "model": 7},
        {"act": "cancel", "model": None},
        {"act": "try", "model": "vit_b", "project": "1"},
        {"act": "bring", "path": 7},
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
    monkeypatch.setenv(access.TOKEN_VARIABLE, TOKEN)
    shown = ask("look")
    assert "all visitors share one computer" in shown["closed"]
    assert "environment" not in json.dumps(shown)
    monkeypatch.delenv(access.TOKEN_VARIABLE)
    assert "all visitors share one computer" in ask("act", act="token", token=TOKEN)["error"]
    assert access.token() == ""
