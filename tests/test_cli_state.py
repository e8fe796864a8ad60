"""Which state folder is used where none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from alapp import cli_state
from alapp.errors import InputError
from alapp.storage import catalogue
from alapp.storage.db import DATABASE, Store


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `state` beside app.py, which is not there yet; the current folder is another one."""
    folder = tmp_path / "app" / "state"
    monkeypatch.setattr(cli_state, "BESIDE_APP", folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def with_project(folder: Path | str) -> Path:
    store = Store(folder)
    catalogue.create_project(store, "cells")
    return store.root


def test_the_folder_beside_the_app() -> None:
    assert (Path(__file__).parent.parent / "state").resolve() == cli_state.BESIDE_APP


def test_it_is_used_wherever_the_app_is_started(beside: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli_state.wanted(None) == beside
    with_project(beside)
    assert cli_state.wanted(None) == beside
    assert cli_state.existing(None) == beside
    Store("state")  # without work in it, as a start from here made it before
    assert cli_state.wanted(None) == beside
    Path("state", DATABASE).unlink()
    assert cli_state.wanted(None) == beside
    assert capsys.readouterr().err == ""


def test_work_in_the_current_folder_is_not_lost_sight_of(beside: Path, capsys: pytest.CaptureFixture) -> None:
    here = with_project("state")
    assert cli_state.wanted(None) == here
    assert capsys.readouterr().err == (
        f"The projects of the current folder are used ({here}). Choose others with --state.\n"
    )
    with_project(beside)
    assert cli_state.wanted(None) == here
    assert f"({here}), not those in {beside}. Choose others" in capsys.readouterr().err
    Path("state", DATABASE).write_bytes(b"damaged, so nobody knows what was in it" * 20)
    assert cli_state.wanted(None) == here


def test_nothing_is_said_where_the_two_are_one(beside: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    with_project(beside)
    monkeypatch.chdir(beside.parent)
    assert cli_state.wanted(None) == beside
    assert capsys.readouterr().err == ""


def test_a_named_one_is_used(beside: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_project("state")
    assert cli_state.wanted(Path("other")) == tmp_path / "elsewhere" / "other"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cli_state.wanted(Path("~/mine")) == tmp_path / "mine"
    with pytest.raises(InputError, match="There is no home folder for ~nobody-of-this-name"):
        cli_state.wanted(Path("~nobody-of-this-name/mine"))


def test_one_that_must_be_there(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"There is no state folder .*typo\. Give the one of your projects"):
        cli_state.existing(Path("typo"))
    with pytest.raises(InputError, match="There is no state folder"):
        cli_state.existing(None)
    assert not Path("typo").exists()
    assert not beside.exists()

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(InputError, match=r"cannot be looked into \(Permission denied\)"):
        cli_state.existing(Path("secret"))
