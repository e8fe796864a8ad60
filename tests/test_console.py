"""What commands and the worker print where the output has an encoding that lacks letters, as files on Windows do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """`python -m` with these arguments, whose output is encoded as a file on a Windows of Western Europe."""
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder in the home of somebody whose name is not Western European."""
    return tmp_path / "Łukasz 田" / "state"


def test_the_worker_starts_in_a_folder_with_letters_that_the_output_lacks(state: Path) -> None:
    ended = run("alapp.worker", "--state", str(state), "--idle-seconds", "0")
    assert ended.returncode == 0, ended.stderr.decode()
    assert str(state) in ended.stdout.decode("utf-8")


def test_a_command_prints_such_a_path_as_well_as_it_can(state: Path) -> None:
    ended = run("alapp", "sample", "--state", str(state))
    assert ended.returncode == 0, ended.stderr.decode()
    assert r"\u0141ukasz" in ended.stdout.decode("cp1252")
