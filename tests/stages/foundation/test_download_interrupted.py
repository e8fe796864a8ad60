"""Downloads that the network or the user interrupts: what is kept, and how they go on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from alapp.errors import Cancelled, DownloadError, Paused
from alapp.running import Stopped
from alapp.stages.foundation import download
from tests.stages.foundation.test_download import (
    CONTENT,
    _quick,
    folder,
    model,
    server,
    silent,
)

__all__ = ["_quick", "model", "server"]
PAUSES = download.PAUSES


def quick_time(clock: list[float]) -> SimpleNamespace:
    """In the place of the module `time`: to sleep takes no time, but the only number in `clock`, seconds, grows."""

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    return SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep)


def download_error() -> Exception:
    """What `requests` raises without a network."""
    import requests

    return requests.ConnectionError("no route to host")


def test_the_next_download_goes_on_where_an_outage_ended_one(server, model, monkeypatch) -> None:
    server.cut, server.cuts, server.block = 50_000, 1, 50_000
    monkeypatch.setattr(download, "PAUSES", ())
    with pytest.raises(DownloadError, match="What was fetched is kept"):
        download.fetch(model, silent)
    assert folder(model) == [".part-vit_b_lm"]
    download.fetch(model, silent)
    assert int(server.asked[-1]["Range"][6:-1]) > 0
    assert model.paths[0].read_bytes() == CONTENT
    assert folder(model) == ["vit_b_lm"]


def test_an_outage_of_two_minutes_is_waited_for_and_told_about(server, model, monkeypatch) -> None:
    assert 110 <= sum(PAUSES) <= 130
    clock, told = [0.0], []
    monkeypatch.setattr(download, "PAUSES", PAUSES)
    monkeypatch.setattr(download, "time", quick_time(clock))
    stream, outages = download._answer, iter(range(len(PAUSES) - 1))

    def answer(url: str, start: int, headers: object) -> object:
        if start and next(outages, None) is not None:
            raise download_error()
        return stream(url, start, headers)

    monkeypatch.setattr(download, "_answer", answer)
    server.cut, server.cuts = 50_000, 1
    download.fetch(model, lambda done, total, message="": told.append(message))
    assert model.paths[0].read_bytes() == CONTENT
    assert clock[0] == pytest.approx(sum(PAUSES))
    for seconds in (1, 45, 44):
        assert f"The connection to 127.0.0.1 broke; going on with vit_b_lm in {seconds} s" in told


def test_a_cancel_is_heard_while_the_line_is_waited_for(server, model, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(download, "PAUSES", (1000.0,))
    monkeypatch.setattr(download, "time", quick_time(clock))

    def report(done: float, total: float, message: str = "") -> None:
        if "going on with" in message and clock[0] >= 3:
            raise Cancelled("The work was cancelled.")

    server.cut = 50_000
    with pytest.raises(Cancelled):
        download.fetch(model, report)
    assert clock == [3.0]
    assert folder(model) == []


def test_a_refusal_is_not_asked_again_and_keeps_what_was_fetched(server, model) -> None:
    model.folder.mkdir(parents=True)
    (model.folder / ".part-vit_b_lm").write_bytes(CONTENT[:5000])
    server.code = 403
    with pytest.raises(DownloadError, match=r"refused to send it .* What was fetched is kept"):
        download.fetch(model, silent)
    assert len(server.asked) == 1
    assert (model.folder / ".part-vit_b_lm").read_bytes() == CONTENT[:5000]


@pytest.mark.parametrize("interruption", [Stopped, Paused])
def test_interrupted_for_a_while_it_goes_on_where_it_was(server, model, interruption) -> None:
    def report(done: float, total: float, message: str = "") -> None:
        if done >= total / 2:
            raise interruption("The work goes on later.")

    server.pause = 0.001
    with pytest.raises(interruption):
        download.fetch(model, report)
    assert folder(model) == [".part-vit_b_lm"]
    download.fetch(model, silent)
    assert int(server.asked[-1]["Range"][6:-1]) >= len(CONTENT) / 2
    assert model.paths[0].read_bytes() == CONTENT
    assert folder(model) == ["vit_b_lm"]
