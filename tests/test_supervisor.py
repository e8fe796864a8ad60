"""The app's watch over the worker: errors do not end it, and a worker is told to stop but once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from alapp import environment, jobs, supervisor
from alapp.storage import processes
from alapp.storage.db import Store
from tests.test_worker import kinds, until

__all__ = ["kinds"]


def test_a_worker_of_another_version_is_told_to_stop_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(psutil.Process, "terminate", lambda self: told.append(self.pid))
    monkeypatch.setattr(supervisor, "BORN", time.time() + 60)
    others = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) for _ in range(2)]
    try:
        for other in others:
            born = psutil.Process(other.pid).create_time()
            record = supervisor.WorkerRecord(processes.hostname(), other.pid, born, "token", "an older version")
            (store.root / "worker.json").write_text(json.dumps(asdict(record)))
            assert [supervisor.ensure_worker(store) for _ in range(3)] == [other.pid] * 3
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert told == [other.pid for other in others]


def test_a_worker_that_ends_just_before_it_is_told_to_is_no_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: psutil.Process) -> None:
        raise psutil.NoSuchProcess(self.pid)

    monkeypatch.setattr(psutil.Process, "terminate", gone)
    monkeypatch.setattr(supervisor, "BORN", time.time() + 60)
    monkeypatch.setattr(supervisor, "VERSION", "an older version")
    supervisor.record_worker(store.root, "token")
    monkeypatch.setattr(supervisor, "VERSION", "this one")
    assert supervisor.ensure_worker(store) == os.getpid()


def test_a_damaged_record_names_no_worker(store: Store) -> None:
    for text in ("", "{", '{"host": "here"}', "[]"):
        (store.root / "worker.json").write_text(text)
        assert supervisor.worker_record(store.root) is None


def test_a_copied_state_folder_does_not_take_the_worker_of_the_original(store: Store, tmp_path: Path) -> None:
    supervisor.record_worker(store.root, "token")
    copied, linked = tmp_path / "copy", tmp_path / "link"
    shutil.copytree(store.root, copied)
    linked.symlink_to(store.root)
    assert supervisor.worker_record(store.root).pid == supervisor.worker_record(linked).pid == os.getpid()
    assert supervisor.worker_record(copied) is None
    store.root.rename(tmp_path / "elsewhere")
    assert supervisor.worker_record(copied) is None


def test_a_record_of_an_earlier_version_counts(store: Store) -> None:
    supervisor.record_worker(store.root, "token")
    record = json.loads((store.root / "worker.json").read_text())
    del record["root"]
    (store.root / "worker.json").write_text(json.dumps(record))
    assert supervisor.worker_record(store.root).alive


def test_an_app_starts_although_its_worker_cannot_yet(store: Store, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    asked = []

    def fails_once(store: Store) -> int:
        asked.append(store)
        if len(asked) == 1:
            raise PermissionError(errno.EACCES, "worker.json is being replaced")
        return 1

    monkeypatch.setattr(supervisor, "ensure_worker", fails_once)
    watch = supervisor.Supervisor(store, poll_seconds=0.02).start()
    try:
        jobs.enqueue(store, "count")
        until(lambda: len(asked) > 1, "the supervisor to ask for a worker again")
    finally:
        watch.stop()
    assert "worker.json is being replaced" in capfd.readouterr().err


@pytest.mark.parametrize("broken", ["ensure_worker", "touch_app", "rows.active"])
def test_the_supervisor_outlives_an_error(store: Store, monkeypatch: pytest.MonkeyPatch, capfd, broken: str) -> None:
    asked, failed, started = [], [], threading.Event()

    def fails_twice(real: Callable[..., object], *given: object) -> object:
        if started.is_set() and len(failed) < 2:
            failed.append(1)
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(*given)

    monkeypatch.setattr(supervisor, "ensure_worker", lambda store: asked.append(store) or 1)
    owner = supervisor.rows if broken == "rows.active" else supervisor
    real = getattr(owner, broken.split(".")[-1])
    monkeypatch.setattr(owner, broken.split(".")[-1], lambda *given: fails_twice(real, *given))
    watch = supervisor.Supervisor(store, touch_seconds=0.01, poll_seconds=0.02).start()
    try:
        started.set()
        jobs.enqueue(store, "count")
        until(lambda: len(failed) == 2, "the errors")
        before = len(asked)
        until(lambda: len(asked) > before, "the supervisor to ask for a worker again")
    finally:
        watch.stop()
    assert capfd.readouterr().err.count("OSError:") == 2


def test_a_state_folder_that_was_away_for_a_moment_is_worked_on_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    asked = []
    monkeypatch.setattr(supervisor, "TOUCH_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "ensure_worker", lambda store: asked.append(store) or 1)
    watch = supervisor.Supervisor(store, touch_seconds=0.01, poll_seconds=0.02).start()
    try:
        for _ in range(2):
            store.root.rename(tmp_path / "away")
            until(lambda: watch._away, "the supervisor to miss the folder")
            time.sleep(0.3)
            assert not store.root.exists()  # it is not made anew
            (tmp_path / "away").rename(store.root)
            until(lambda: not watch._away, "the supervisor to see the folder again")
        jobs.enqueue(store, "count")
        before = len(asked)
        until(lambda: len(asked) > before, "the supervisor to ask for a worker again")
        store.root.rename(tmp_path / "away")
    finally:
        watch.stop()
    said = capfd.readouterr().err
    assert said.count("is not there. Jobs wait until it is back.") >= 2
    assert len(said.splitlines()) <= 3


def test_one_that_was_never_started_can_be_stopped(store: Store) -> None:
    supervisor.touch_app(store.root)
    supervisor.Supervisor(store).stop()
    assert not supervisor.app_alive(store.root)


def test_a_worker_lives_whatever_the_network_calls_its_computer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_identity", lambda: "8d5c microscope")
    processes.hostname.cache_clear()
    supervisor.record_worker(store.root, "token")
    monkeypatch.setattr(processes.socket, "gethostname", lambda: "dhcp-17.uni.example")
    processes.hostname.cache_clear()
    try:
        assert supervisor.worker_record(store.root).alive
        assert supervisor.ensure_worker(store) == os.getpid()
        record = json.loads((store.root / "worker.json").read_text())
        (store.root / "worker.json").write_text(json.dumps(record | {"host": "dhcp-17.uni.example"}))
        assert supervisor.worker_record(store.root).alive  # of an earlier version
        (store.root / "worker.json").write_text(json.dumps(record | {"host": "another computer"}))
        assert not supervisor.worker_record(store.root).alive
    finally:
        processes.hostname.cache_clear()


def test_a_worker_has_the_proxies_that_the_app_does_without(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    ended = types.SimpleNamespace(pid=1, args=["", str(store.root)], returncode=0, poll=lambda: 0)
    monkeypatch.setattr(subprocess, "Popen", lambda command, env, **_: given.append(env) or ended)
    monkeypatch.setattr(environment, "_set_aside", {"all_proxy": "socks5://proxy:1"})
    supervisor.ensure_worker(store)
    assert given[0]["all_proxy"] == "socks5://proxy:1"
