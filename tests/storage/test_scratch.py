"""Folders for unfinished work: gone in the end, and at the next start where their process was killed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alapp.storage import scratch

HOLD = """
import os, sys
from pathlib import Path
from alapp.storage import scratch
with scratch.work_folder(Path(sys.argv[1])) as folder:
    (folder / "half.npy").write_bytes(b"half")
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def fail_half_way(place):
    with scratch.work_folder(place) as folder:
        (folder / "a").touch()
        raise RuntimeError("half way")


def test_a_folder_is_gone_in_the_end(tmp_path):
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_is_at_work_stays(tmp_path):
    other = tmp_path / ".tmp-work-another-host-1-abc"
    other.mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        name = process.stdout.readline().strip()
        with scratch.work_folder(tmp_path) as own:
            scratch.remove_dead(tmp_path)
            assert {path.name for path in tmp_path.iterdir()} == {name, own.name, other.name}
        process.kill()
        process.wait()
        scratch.remove_dead(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [other.name]
