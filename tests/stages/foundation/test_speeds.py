"""Measured speeds: kept for each computer, never in the way."""

from __future__ import annotations

import json
import threading

import pytest

from alapp.domain import Machine
from alapp.stages.foundation import folders, speeds
from alapp.stages.foundation.speeds import Speed


@pytest.fixture(autouse=True)
def _machine(monkeypatch) -> None:
    monkeypatch.setattr(speeds, "machine", lambda: Machine(2, 8.0))


def test_the_last_measurement_is_kept(monkeypatch) -> None:
    assert speeds.measured("vit_b") is None
    speeds.record("vit_b", Speed((64, 64), embed=9.0))
    speeds.record("vit_b", Speed((128, 64), embed=8.5, click=0.045))
    speeds.record("vit_t", Speed((64, 64), embed=1.0))
    found = speeds.measured("vit_b")
    assert (found.size, found.embed, found.click) == ((128, 64), 8.5, 0.045)
    assert found.when.startswith("20")
    assert [path.name for path in folders.config().iterdir() if not path.name.startswith(".")] == ["speeds.json"]


def test_another_computer_with_the_same_home_has_its_own(monkeypatch) -> None:
    speeds.record("vit_b", Speed((64, 64), embed=9.0))
    monkeypatch.setattr(speeds, "machine", lambda: Machine(8, 64.0, 24.0, "A GPU"))
    assert speeds.measured("vit_b") is None
    speeds.record("vit_b", Speed((64, 64), embed=0.2))
    monkeypatch.setattr(speeds, "machine", lambda: Machine(2, 8.0))
    assert speeds.measured("vit_b").embed == 9.0


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"HERE": 3}', '{"HERE": {"vit_b": 3}}', '{"HERE": {"vit_b": {"odd": 1}}}']
)
def test_a_damaged_file_counts_as_nothing_measured(content) -> None:
    folders.config().mkdir(parents=True)
    path = folders.config() / "speeds.json"
    path.write_text(content.replace("HERE", speeds.here()))
    assert speeds.measured("vit_b") is None
    speeds.record("vit_b", Speed((64, 64), embed=9.0))
    assert speeds.measured("vit_b").embed == 9.0
    assert isinstance(json.loads(path.read_text()), dict)


def test_two_at_once_lose_nothing() -> None:
    threads = [threading.Thread(target=speeds.record, args=(str(n), Speed((1, 1), embed=n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [speeds.measured(str(n)).embed for n in range(8)] == list(range(8))


def test_a_folder_that_cannot_be_written_loses_it_quietly(monkeypatch, tmp_path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(folders.CONFIG_VARIABLE, str(tmp_path / "file"))
    speeds.record("vit_b", Speed((64, 64), embed=9.0))
    assert speeds.measured("vit_b") is None


def test_it_is_told_in_words() -> None:
    assert Speed((1, 1), embed=9.06, click=0.0451).text() == "9.1 s to prepare an image, 45 ms a click"
    assert Speed((1, 1), label=22.4).text() == "22 s to label an image"
