"""The command line as a process: exit codes and sentences."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alapp.rounds.export.export import FORMATS
from alapp.storage import catalogue
from alapp.storage.db import Store

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_help_of_both_entries_lists_what_they_do():
    assert "simulate" in run("-m", "alapp", "--help").stdout
    assert "--state" in run("app.py", "--help").stdout


def test_help_of_export_names_every_format():
    text = run("-m", "alapp", "export", "--help").stdout
    assert [name for name in FORMATS if name not in text] == []


def test_starting_imports_nothing_heavy():
    code = "import sys, alapp.cli, alapp.jobs; print([m for m in ('torch', 'gradio', 'nnunetv2') if m in sys.modules])"
    assert run("-c", code).stdout.strip() == "[]"


def test_sample_fills_a_project(tmp_path):
    done = run("-m", "alapp", "sample", "cho", "--state", str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    (project,) = catalogue.projects(Store(tmp_path / "state"))
    images = catalogue.images(Store(tmp_path / "state"), project.id)
    assert len(images) == 6
    assert all(image.is_3d for image in images)


def test_errors_are_one_sentence_and_exit_code_2(tmp_path):
    state = str(Store(tmp_path / "state").root)
    for arguments, words in [
        (["sample", "unicorn", "--state", state], "no sample called 'unicorn'"),
        (["export", "nothing", "--state", state], "no project called 'nothing'"),
        (["predict", "nothing", state, "--state", state], "no project called 'nothing'"),
        (
            ["simulate", "--images", state, "--labels", state, "--state", state, "--json", state + ".json"],
            "no image",
        ),
        (["simulate", "--images", state, "--labels", state, "--state", state, "--json", state], "is a folder"),
        (
            ["simulate", "--images", state, "--labels", state, "--state", state, "--json", f"{__file__}/out.json"],
            "cannot be written",
        ),
    ]:
        done = run("-m", "alapp", *arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_commands_that_work_on_what_is_there_create_no_state_folder(tmp_path):
    typo = tmp_path / "typo"
    for arguments in (
        ["experiment", "list"], ["experiment", "report", "x"], ["export", "x"], ["predict", "x", str(tmp_path)],
    ):  # fmt: skip
        done = run("-m", "alapp", *arguments, "--state", str(typo))
        assert done.returncode == 2
        assert done.stderr.startswith(f"There is no state folder {typo}.")
    assert not typo.exists()


def test_odd_values_end_in_a_sentence(tmp_path):
    common = ["--images", str(tmp_path), "--labels", str(tmp_path), "--json", str(tmp_path / "out.json")]
    for arguments, words in [
        (["-m", "alapp", "simulate", *common, "--seed", "-1"], "Invalid value for '--seed'"),
        (["-m", "alapp", "doctor", "--state", "~nobody-of-this-name/x"], "no home folder"),
        (["app.py", "--no-browser", "--state", "~nobody-of-this-name/x"], "no home folder"),
        (["app.py", "--no-browser", "--host", "192.0.2.1"], "is not an address of this computer"),
        (["-m", "alapp", "serve", "--no-browser", "--host", "192.0.2.1"], "is not an address of this computer"),
    ]:
        done = run(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_an_odd_port_of_the_environment_ends_in_a_sentence(monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_PORT", "abc")
    assert "--port" in run("app.py", "--help").stdout
    for command in (["app.py"], ["-m", "alapp", "serve"]):
        done = run(*command, "--no-browser")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("GRADIO_SERVER_PORT is 'abc', which is no port.")


def test_a_package_that_is_not_installed_is_named_with_what_to_do(tmp_path):
    """`-S`: without the packages of the environment, as with the Python of the system."""
    for command in (["app.py"], ["-m", "alapp", "doctor"]):
        done = run("-S", *command)
        assert done.returncode == 2
        assert re.match(r"The package \w+ is not installed in .*python.* app\.py, or install requirements", done.stderr)
        assert sys.executable in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("entry", ["app.py", "alapp/__main__.py"])
def test_the_entries_can_be_read_by_every_python(entry):
    """So that an old one can say what is wrong. What 3.6 and earlier lack, beside what the parser knows."""
    text = (ROOT / entry).read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 4))
    kinds = {type(node) for node in ast.walk(tree)}
    assert not kinds & {ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Match}
    assert "__future__" not in text


def test_an_old_python_is_told(tmp_path):
    for module in ("app", "alapp"):
        code = f"import sys; sys.version_info = (3, 10, 4); sys.version = '3.10.4 (main)'; import {module}"
        done = run("-c", code)
        assert done.returncode == 2
        assert done.stderr.startswith("This app needs Python 3.11 or newer; this is 3.10.4.")
        assert "Traceback" not in done.stderr


def test_a_state_folder_of_a_newer_version_is_refused(tmp_path):
    store = Store(tmp_path / "state")
    row = {"migration_set": "alapp", "name": "m999_future", "applied_at": "2030-01-01"}
    store.insert("_sqlite_migrations", row)
    done = run("app.py", "--state", str(store.root), "--no-browser")
    assert done.returncode == 2
    assert "newer version" in done.stderr


def test_doctor_reports_as_json(tmp_path):
    done = run("-m", "alapp", "doctor", "--json", "--state", str(tmp_path / "state"))
    findings = json.loads(done.stdout)
    assert {"level", "title", "detail", "remedy"} <= set(findings[0])
