"""Which port the app is served on."""

from __future__ import annotations

import socket

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
