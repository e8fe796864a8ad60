"""Where the app is served, where it keeps what the browser sends, and how a start ends."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from alapp.errors import InputError
from alapp.ui import launch

HOST = "127.0.0.1"
EXCLUSIVE = -5
"""`socket.SO_EXCLUSIVEADDRUSE`, which only Windows has."""


@pytest.fixture
def taken():
    """A port of this computer on which somebody serves."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port_is_passed_over(taken):
    found = launch.free_port(HOST, taken)
    assert taken < found < taken + launch.TRIES


@pytest.mark.parametrize("number", [-1, 0, 65536])
def test_what_is_no_port_is_a_sentence(number):
    with pytest.raises(InputError, match=f"no port {number}\\. Choose one from 1 to 65535"):
        launch.free_port(HOST, number)


def test_no_free_port_is_a_sentence(taken, monkeypatch):
    monkeypatch.setattr(launch, "TRIES", 1)
    with pytest.raises(InputError, match=f"No port between {taken} and {taken} is free"):
        launch.free_port(HOST, taken)


class WindowsSocket:
    """A socket as Windows has it: a port that somebody serves on can be had again, unless exclusively."""

    taken = 7860

    def __init__(self, family):
        self.option = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def setsockopt(self, level, option, value):
        self.option = option

    def bind(self, address):
        if address[1] == self.taken and self.option != socket.SO_REUSEADDR:
            raise OSError(10048, "Only one usage of each socket address is normally permitted")


def test_on_windows_a_taken_port_is_told_from_a_free_one(monkeypatch):
    monkeypatch.setattr(launch.socket, "SO_EXCLUSIVEADDRUSE", EXCLUSIVE, raising=False)
    monkeypatch.setattr(launch.socket, "socket", WindowsSocket)
    assert launch.free_port(HOST, WindowsSocket.taken) == WindowsSocket.taken + 1


class RefusingSocket(WindowsSocket):
    """A socket that cannot be bound."""

    error: Exception

    def bind(self, address):
        raise self.error


def test_an_address_of_another_computer_is_no_taken_port():
    with pytest.raises(InputError, match=r"192\.0\.2\.1 is not an address of this computer"):
        launch.free_port("192.0.2.1", 7860)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "is not an address of this computer"),
        (UnicodeError("label empty or too long"), "is not an address of this computer"),
        (OSError(10049, "The requested address is not valid in its context"), "is not an address of this computer"),
        (OSError(errno.EAFNOSUPPORT, "Address family not supported"), "is not an address of this computer"),
        (PermissionError(errno.EACCES, "Permission denied"), "Port 80 is kept for the administrator"),
        (OSError(errno.EIO, "Input/output error"), "cannot be served at a.b, port 80: Input/output error"),
    ],
)
def test_why_an_address_cannot_be_served_is_a_sentence(monkeypatch, error, words):
    monkeypatch.setattr(launch.sys, "platform", "linux")
    monkeypatch.setattr(RefusingSocket, "error", error, raising=False)
    monkeypatch.setattr(launch.socket, "socket", RefusingSocket)
    with pytest.raises(InputError, match=words):
        launch.free_port("a.b", 80)


@pytest.mark.parametrize(
    "error", [OSError(10013, "An attempt was made"), PermissionError(errno.EACCES, "An attempt was made")]
)
def test_a_port_that_somebody_on_windows_shares_with_nobody_is_taken(monkeypatch, error):
    monkeypatch.setattr(launch.sys, "platform", "win32")
    monkeypatch.setattr(RefusingSocket, "error", error, raising=False)
    monkeypatch.setattr(launch.socket, "socket", RefusingSocket)
    with pytest.raises(InputError, match="No port between 7860 and 7879 is free"):
        launch.free_port(HOST, 7860)


def test_a_port_that_is_taken_on_this_computer_alone_is_passed_over(taken, monkeypatch):
    real = launch._is_free
    monkeypatch.setattr(launch, "_is_free", lambda host, port: host == "::1" or real(host, port))
    assert launch.free_port("::1", taken) > taken


def test_what_is_wrong_with_the_address_is_said_before_anything_is_started(tmp_path):
    with pytest.raises(InputError, match="is not an address"):
        launch.run(tmp_path / "state", "192.0.2.1", 7860, browser=False)
    with pytest.raises(InputError, match="no port"):
        launch.run(tmp_path / "state", HOST, 0, browser=False)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("text", "port"), [("", 7860), (" ", 7860), ("7999", 7999)])
def test_the_port_of_the_environment(monkeypatch, text, port):
    monkeypatch.setenv("GRADIO_SERVER_PORT", text)
    assert launch.asked_port() == port


@pytest.mark.parametrize("text", ["abc", "-1", "7860.5", "²"])
def test_what_is_no_port_in_the_environment_is_a_sentence(monkeypatch, text):
    monkeypatch.setenv("GRADIO_SERVER_PORT", text)
    with pytest.raises(InputError, match=r"GRADIO_SERVER_PORT is .* which is no port"):
        launch.asked_port()


@pytest.mark.parametrize(
    ("host", "page", "others"),
    [
        ("127.0.0.1", "http://127.0.0.1:7860", False),
        ("", "http://127.0.0.1:7860", False),
        ("localhost", "http://localhost:7860", False),
        ("::1", "http://[::1]:7860", False),
        ("[::1]", "http://[::1]:7860", False),
        ("0.0.0.0", "http://127.0.0.1:7860", True),
        ("192.0.2.1", "http://192.0.2.1:7860", True),
        ("2001:db8::1", "http://[2001:db8::1]:7860", True),
    ],
)
def test_the_address_of_the_page_and_who_reaches_it(host, page, others):
    found = launch.address_of(host)
    assert launch.page_address(found, 7860) == page
    assert launch.is_for_others(found) == others


@pytest.mark.parametrize("host", ["::", "[::]", "fe80::1%eth0"])
def test_addresses_that_no_page_can_have_are_refused(host):
    with pytest.raises(InputError, match=r"Give --host 0\.0\.0\.0"):
        launch.address_of(host)


def served(monkeypatch, store, host: str) -> tuple[dict, list[str]]:
    """What Gradio was told, and the pages that were opened, for a start with a browser."""
    from alapp.ui import shell

    told, opened = {}, []
    demo = SimpleNamespace(
        queue=lambda **_: None, launch=lambda **given: told.update(given), server_port=7870, block_thread=lambda: None
    )
    monkeypatch.setattr(shell, "build", lambda store: demo)
    monkeypatch.setattr(launch, "free_port", lambda host, port: port)
    monkeypatch.setattr(launch.webbrowser, "open", opened.append)
    launch._serve(store, host, 7870, browser=True, allow_hosts=())
    return told, opened


def test_a_page_for_this_computer(store, monkeypatch, capsys):
    told, opened = served(monkeypatch, store, "::1")
    assert told["server_name"] == "[::1]"  # as Gradio wants it
    assert told["quiet"]
    assert opened == ["http://[::1]:7870"]
    said = capsys.readouterr()
    assert said.out.endswith("at http://[::1]:7870\n")
    assert said.err == ""


def test_a_page_for_the_whole_network_says_so(store, monkeypatch, capsys):
    told, opened = served(monkeypatch, store, "0.0.0.0")
    assert told["server_name"] == "0.0.0.0"
    assert opened == ["http://127.0.0.1:7870"]
    assert "Everybody in this network can open, change and delete your projects." in capsys.readouterr().err


@pytest.fixture
def environment(monkeypatch):
    """`os.environ`, which is put back."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("GRADIO_TEMP_DIR", None)
    return os.environ


def test_files_of_the_browser_are_kept_in_the_state_folder(store, environment):
    launch.use_cache(store.root)
    assert environment["GRADIO_TEMP_DIR"] == str(store.root / "tmp")
    environment["GRADIO_TEMP_DIR"] = "elsewhere"
    launch.use_cache(store.root)
    assert environment["GRADIO_TEMP_DIR"] == "elsewhere"


def test_files_that_an_app_left_there_are_removed_when_they_are_old(store, environment, monkeypatch):
    left = store.root / "tmp" / "0123" / "cells.tif"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"large")
    launch.use_cache(store.root)
    assert left.exists()
    other = store.root / "alapp.sqlite"
    del environment["GRADIO_TEMP_DIR"]
    later = time.time() + launch.CACHE_SECONDS + 60
    monkeypatch.setattr(launch, "time", SimpleNamespace(time=lambda: later))
    launch.use_cache(store.root)
    assert not left.parent.exists()
    assert other.exists()


def test_an_interruption_of_the_start_leaves_no_app_behind(tmp_path, environment, monkeypatch):
    def interrupted(store):
        raise KeyboardInterrupt

    monkeypatch.setattr("alapp.supervisor.ensure_worker", interrupted)
    monkeypatch.setattr(launch, "_serve", lambda *given: pytest.fail("The page is built."))
    monkeypatch.setattr(launch, "log_errors", lambda root: None)
    with pytest.raises(KeyboardInterrupt):
        launch.run(tmp_path / "state", HOST, 7860, browser=False)
    assert (tmp_path / "state" / "alapp.sqlite").exists()
    assert not (tmp_path / "state" / "app.alive").exists()


def test_errors_of_the_page_are_in_a_log_of_the_state_folder(store, capfd, monkeypatch):
    log = logging.getLogger()
    # Without pytest's own, whose report of a name that is no UTF-8 could not be sent between its processes.
    monkeypatch.setattr(log, "handlers", [])
    launch.log_errors(store.root)
    logging.getLogger("alapp.ui.errors").error("Error in a page handler: caf\udce9.tif")
    for handler in log.handlers:
        handler.close()
    assert "Error in a page handler: caf" in capfd.readouterr().err
    assert "Error in a page handler: caf\\udce9.tif" in Path(store.root / "logs" / "app.log").read_text(
        encoding="utf-8"
    )
