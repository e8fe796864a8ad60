"""Who signs on this computer, whatever its network calls it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from alapp.storage import processes


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """The computer's identity is found anew, before and after the test."""
    processes.hostname.cache_clear()
    yield
    processes.hostname.cache_clear()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> None:
    """A computer that knows its identity."""
    monkeypatch.setattr(processes, "_identity", lambda: "8d5c microscope")


def in_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    processes.hostname.cache_clear()
    monkeypatch.setattr(processes.socket, "gethostname", lambda: "dhcp-17.uni.example")


def test_a_signature_lasts_when_the_network_renames_the_computer(known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    here, beaten = processes.hostname(), time.time()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as other:
        signed = f"{here}:{other.pid}:t"
        in_another_network(monkeypatch)
        assert processes.is_here(here)
        assert processes.worker_name("t").startswith(f"{here}:{os.getpid()}:")
        assert processes.gone(signed, beaten + 60) is False
        other.kill()
    assert processes.gone(signed, beaten + 60) is True


def test_a_signature_of_an_earlier_version_counts(known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.socket, "gethostname", lambda: "lab:7")
    assert processes.is_here("lab-7")
    assert processes.gone("lab-7:999999999:t", time.time()) is True


def test_another_computer_is_another_one(known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    here = processes.hostname()
    processes.hostname.cache_clear()
    monkeypatch.setattr(processes, "_identity", lambda: "8d5c its copy")
    assert not processes.is_here(here)
    assert processes.gone(f"{here}:{os.getpid()}:t", time.time()) is None


def test_nothing_of_the_identity_is_in_a_signature(known: None) -> None:
    assert "8d5c" not in processes.hostname()
    assert ":" not in processes.hostname()


def test_a_computer_without_an_identity_goes_by_its_name(monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> None:
    monkeypatch.setattr(processes, "_identity", lambda: "")
    monkeypatch.setattr(processes.socket, "gethostname", lambda: "lab:7")
    assert processes.hostname() == "lab-7"


def test_half_of_an_identity_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/etc/machine-id": "8d5c\n", "/etc/hostname": "microscope\n"}

    def read(self: object, encoding: str) -> str:
        try:
            return texts[self.as_posix()]
        except KeyError as error:
            raise FileNotFoundError from error

    monkeypatch.setattr(processes.Path, "read_text", read)
    assert processes._by_linux() == "8d5c microscope"
    del texts["/etc/hostname"]
    assert processes._by_linux() == ""


@pytest.mark.parametrize(
    ("told", "identity"),
    [
        ('    "IOPlatformSerialNumber" = "C02"\n    "IOPlatformUUID" = "1A2B-3C"\n', "1A2B-3C"),
        ("", ""),
        (OSError("no such file"), ""),
        (subprocess.TimeoutExpired("ioreg", 10), ""),
    ],
)
def test_the_identity_of_a_mac(monkeypatch: pytest.MonkeyPatch, told: str | Exception, identity: str) -> None:
    def run(command: list[str], **_: object) -> SimpleNamespace:
        if isinstance(told, Exception):
            raise told
        return SimpleNamespace(stdout=told)

    monkeypatch.setattr(processes.subprocess, "run", run)
    assert processes._by_macos() == identity
