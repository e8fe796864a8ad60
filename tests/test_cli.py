"""The command line as a process: exit codes and sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    state = str(tmp_path / "state")
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
