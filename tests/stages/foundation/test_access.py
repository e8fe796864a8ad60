"""Licences and the token: remembered, private, never shown."""

from __future__ import annotations

import json
import os
import stat
import sys

import pytest

from alapp.errors import InputError, StorageError
from alapp.stages.foundation import access, folders

SECRET = "s3cret-Token.of_a-user"


def test_a_licence_is_remembered_and_withdrawn() -> None:
    assert not access.accepted("cellsam_v1.2")
    access.accept("cellsam_v1.2")
    access.accept("other")
    assert access.accepted("cellsam_v1.2")
    access.withdraw("cellsam_v1.2")
    assert not access.accepted("cellsam_v1.2")
    assert access.accepted("other")


@pytest.mark.parametrize(("value", "known"), [("accepted", True), (" Accepted ", True), ("yes", False), ("", False)])
def test_the_environment_accepts_for_cellsam_alone(monkeypatch, value, known) -> None:
    monkeypatch.setenv(access.LICENCE_VARIABLE, value)
    assert access.accepted("cellsam_v1.2") is known
    assert not access.accepted("other")


@pytest.mark.parametrize("content", ["", "{", "[1]", "\0"])
def test_a_damaged_file_counts_as_nothing_accepted(content) -> None:
    folders.config().mkdir(parents=True)
    (folders.config() / "licences.json").write_text(content)
    assert not access.accepted("cellsam_v1.2")
    access.accept("cellsam_v1.2")
    assert list(json.loads((folders.config() / "licences.json").read_text())) == ["cellsam_v1.2"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_only_the_owner_can_read(monkeypatch) -> None:
    before = os.umask(0)
    try:
        access.store_token(SECRET)
        access.accept("cellsam_v1.2")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folders.config().iterdir()}
    assert modes == {"deepcell-token": 0o600, "licences.json": 0o600}


def test_the_token_of_the_environment_goes_first(monkeypatch) -> None:
    assert not access.has_token()
    access.store_token(f"  {SECRET}\n")
    assert access.token() == SECRET
    monkeypatch.setenv(access.TOKEN_VARIABLE, "from-environment")
    assert access.token() == "from-environment"
    monkeypatch.delenv(access.TOKEN_VARIABLE)
    access.store_token("")
    assert not access.has_token()
    access.store_token("")  # nothing to forget


def test_every_known_token_is_taken_out_of_texts(monkeypatch) -> None:
    assert access.without_token("no token") == "no token"
    access.store_token(SECRET)
    monkeypatch.setenv(access.TOKEN_VARIABLE, "from-environment\n")
    text = access.without_token(f"API token {SECRET} is not valid, nor is from-environment")
    assert text == "API token [token] is not valid, nor is [token]"


@pytest.mark.parametrize("text", ["short", "two words of a user", "line\nbreak-line", "ünïcode-token", "x" * 600])
def test_what_cannot_be_a_token_is_refused_without_repeating_it(text) -> None:
    with pytest.raises(InputError, match="not an access token") as caught:
        access.store_token(text)
    assert text not in str(caught.value)
    assert not access.has_token()


def test_a_folder_that_cannot_be_written_is_a_sentence(monkeypatch, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(folders.CONFIG_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot be written") as caught:
        access.store_token(SECRET)
    assert SECRET not in str(caught.value)
    assert folders.CONFIG_VARIABLE in str(caught.value)
