"""What was fetched stays, and is gone on from: past login pages, old addresses, full disks, and servers that tell no
length."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from alapp.errors import Cancelled, DiskFullError, DownloadError, Paused, StorageError
from alapp.stages.foundation import access, deepcell, download, landing
from alapp.stages.foundation.catalogue import Model
from tests.stages.foundation.test_download import (
    CONTENT,
    SECRET,
    _quick,
    archive,
    assert_hidden,
    cellsam_of,
    folder,
    model,
    server,
    silent,
)

__all__ = ["_quick", "model", "server"]
PAGE = b"<html>please log in</html>"
PART = ".part-vit_b_lm"


def left(model: Model, content: bytes) -> Path:
    """What an earlier download left of the first file of `model`."""
    model.folder.mkdir(parents=True, exist_ok=True)
    part = model.folder / f".part-{model.files[0].name}"
    part.write_bytes(content)
    return part


class TestAnAnswerFromTheStart:
    """Asked for the rest, a server sends all, or a login page."""

    @pytest.mark.parametrize("announced", [True, False])
    def test_a_login_page_takes_nothing_away(self, server, model, announced) -> None:
        part = left(model, CONTENT[:50_000])
        server.content, server.ranges, server.kind, server.announced = PAGE, False, "text/html; x=y", announced
        with pytest.raises(DownloadError, match=r"not the published file; .* login .* fetched before is kept"):
            download.fetch(model, silent)
        assert folder(model) == [PART]
        assert part.read_bytes() == CONTENT[:50_000]
        assert len(server.asked) == 1
        server.content, server.ranges, server.kind, server.announced = CONTENT, True, "", True
        download.fetch(model, silent)
        assert server.asked[-1]["Range"] == "bytes=50000-"
        assert model.paths[0].read_bytes() == CONTENT
        assert folder(model) == ["vit_b_lm"]

    @pytest.mark.parametrize("here", [20_000, 100_000])
    def test_of_what_broke_off_the_longer_one_stays(self, server, model, here) -> None:
        part = left(model, CONTENT[:here])
        server.cut, server.cuts, server.ranges = 50_000, 99, False
        with pytest.raises(DownloadError, match=r"broke off several times\..* What was fetched is kept"):
            download.fetch(model, silent)
        assert folder(model) == [PART]
        assert part.read_bytes() == CONTENT[: max(here, 50_000)]

    def test_the_file_takes_the_place_of_a_longer_other_one(self, server, model) -> None:
        left(model, b"x" * 300_000)
        server.ranges = False
        download.fetch(model, silent)
        assert model.paths[0].read_bytes() == CONTENT
        assert folder(model) == ["vit_b_lm"]
        assert len(server.asked) == 1

    @pytest.mark.parametrize(("interruption", "stays"), [(Cancelled, []), (Paused, [PART])])
    def test_interrupted(self, server, model, interruption, stays) -> None:
        def report(done: float, total: float, message: str = "") -> None:
            if done >= total / 2:
                raise interruption("The work ends here.")

        part = left(model, CONTENT[:50_000])
        server.ranges = False
        with pytest.raises(interruption):
            download.fetch(model, report)
        assert folder(model) == stays
        assert not stays or part.stat().st_size >= len(CONTENT) / 2

    def test_what_a_kill_left_of_it_goes(self, server, model) -> None:
        left(model, CONTENT[:50_000]).with_name(f"{PART}.again").touch()
        download.fetch(model, silent)
        assert folder(model) == ["vit_b_lm"]


class TestNoAnnouncedLength:
    """Only the published size tells that more was to come."""

    @pytest.fixture(autouse=True)
    def _unannounced(self, server) -> None:
        server.announced = False

    @pytest.fixture(params=[True, False], ids=["exact size", "estimated size"])
    def sized(self, model, request) -> Model:
        return replace(model, files=(replace(model.files[0], exact=request.param),))

    def test_a_whole_file_is_taken(self, server, sized) -> None:
        download.fetch(sized, silent)
        assert sized.paths[0].read_bytes() == CONTENT
        assert len(server.asked) == 1

    def test_one_that_breaks_off_is_taken_up_there(self, server, sized) -> None:
        server.cut = 50_000
        download.fetch(sized, silent)
        assert sized.paths[0].read_bytes() == CONTENT
        assert [asked.get("Range") for asked in server.asked] == [None, "bytes=50000-"]

    def test_one_that_breaks_off_for_ever_is_kept(self, server, sized) -> None:
        server.cut, server.cuts, server.ranges = 50_000, 99, False
        with pytest.raises(DownloadError, match=r"broke off several times\..* What was fetched is kept"):
            download.fetch(sized, silent)
        assert folder(sized) == [PART]
        assert (sized.folder / PART).read_bytes() == CONTENT[:50_000]

    def test_a_login_page_is_not_asked_for_again(self, server, sized) -> None:
        server.content, server.kind = PAGE, "text/html"
        with pytest.raises(DownloadError, match=r"may ask for a login first, .* another computer\.$"):
            download.fetch(sized, silent)
        assert folder(sized) == []
        assert len(server.asked) == 1


def test_a_whole_file_that_cannot_be_put_in_place_is_kept(server, model, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise StorageError("Somebody reads the old one.")

    with monkeypatch.context() as patch:
        patch.setattr(landing, "put", fail)
        with pytest.raises(StorageError, match="reads the old one"):
            download.fetch(model, silent)
    assert folder(model) == [PART]
    server.asked.clear()
    download.fetch(model, silent)
    assert server.asked == []
    assert folder(model) == ["vit_b_lm"]


class TestCellSam:
    """Its address is good for a short time, and its archive is unpacked."""

    @pytest.fixture
    def cellsam(self, monkeypatch, server) -> Model:
        access.accept("cellsam_v1.2")
        access.store_token(SECRET)
        monkeypatch.setattr(deepcell, "ENDPOINT", server.url)
        server.content = archive({"cellsam_v1.2/cellsam_general.pt": CONTENT})
        server.post = (200, json.dumps({"url": f"{server.url}?Signature=hidden"}).encode())
        return cellsam_of(server.content)

    @pytest.mark.parametrize("code", [400, 401, 403])
    def test_an_address_whose_time_is_over_is_asked_for_anew(self, server, cellsam, code) -> None:
        server.cut, server.cuts, server.codes = 50_000, 2, [200, code, 200, code]
        download.fetch(cellsam, silent)
        assert cellsam.paths[0].read_bytes() == CONTENT
        assert addresses(server) == 3
        assert server.asked[-1]["Range"] == "bytes=100000-"

    def test_so_it_is_when_an_earlier_download_goes_on(self, server, cellsam) -> None:
        left(cellsam, server.content[:50_000])
        server.codes = [403]
        download.fetch(cellsam, silent)
        assert cellsam.paths[0].read_bytes() == CONTENT
        assert addresses(server) == 2

    def test_a_new_address_that_is_refused_is_a_refusal(self, server, cellsam) -> None:
        server.cut, server.codes, server.code = 50_000, [200], 403
        with pytest.raises(
            DownloadError, match=r"refused to send it \(error 403\).* What was fetched is kept"
        ) as caught:
            download.fetch(cellsam, silent)
        assert_hidden(caught.value)
        assert addresses(server) == 2
        assert folder(cellsam) == [f".part-{cellsam.files[0].name}"]

    def test_without_a_byte_it_is_a_refusal_at_once(self, server, cellsam) -> None:
        server.code = 403
        with pytest.raises(DownloadError, match="refused"):
            download.fetch(cellsam, silent)
        assert addresses(server) == 1

    def test_no_new_address(self, server, cellsam) -> None:
        part = left(cellsam, server.content[:50_000])
        server.post = (500, SECRET.encode())
        with pytest.raises(DownloadError, match=r"has a problem .* What was fetched is kept") as caught:
            download.fetch(cellsam, silent)
        assert_hidden(caught.value)
        assert part.read_bytes() == server.content[:50_000]

    @pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EACCES, StorageError)])
    @pytest.mark.parametrize("renamed", [True, False])
    def test_an_archive_that_cannot_be_unpacked_now_is_kept(
        self, server, cellsam, monkeypatch, number, kind, renamed
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(tarfile.TarFile, "extract", fail)
            if not renamed:
                patch.setattr(download, "patiently", fail)
            with pytest.raises(kind, match=r"could not be unpacked.* The archive is kept: the next download only"):
                download.fetch(cellsam, silent)
        name = cellsam.files[0].name
        assert folder(cellsam) == [f".part-{name}" if renamed else name]
        server.asked.clear()
        access.store_token("")
        download.fetch(cellsam, silent)
        assert server.asked == []
        assert cellsam.paths[0].read_bytes() == CONTENT
        assert folder(cellsam) == ["cellsam_v1.2"]


def addresses(server) -> int:
    """How often the server was asked for one."""
    return sum("body" in asked for asked in server.asked)
