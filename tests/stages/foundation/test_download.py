"""Downloads against a real server: whole, slow, cut, refused, wrong, cancelled, killed."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from alapp.errors import (
    AlappError,
    Cancelled,
    ConflictError,
    DiskFullError,
    DownloadError,
    InputError,
    LicenceError,
    StorageError,
)
from alapp.running import Stopped
from alapp.stages.foundation import access, deepcell, download, folders, states
from alapp.stages.foundation.catalogue import MODELS, Model, WeightsFile
from tests.stages.foundation.server import Behaviour, serving

CONTENT = random.Random(0).randbytes(200_000)
SECRET = "s3cret-Token.of_a-user"


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "CHUNK", 10_000)
    monkeypatch.setattr(download, "MARGIN", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Behaviour]:
    with serving(Behaviour(CONTENT)) as running:
        yield running


@pytest.fixture
def model(server) -> Model:
    return model_of(server.url)


def model_of(url: str) -> Model:
    digest = xxhash.xxh128(CONTENT).hexdigest()
    file = WeightsFile("vit_b_lm", url, f"xxh128:{digest}", len(CONTENT), exact=True)
    return replace(MODELS["vit_b_lm"], files=(file,), needs=("json",))


def silent(*_: object) -> None:
    pass


def folder(model: Model) -> list[str]:
    return sorted(path.name for path in model.folder.glob("*"))


def test_a_slow_download_reports_and_lands(server, model) -> None:
    server.pause = 0.001
    steps = []
    download.fetch(model, lambda *step: steps.append(step))
    assert model.paths[0].read_bytes() == CONTENT
    assert folder(model) == ["vit_b_lm"]
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert {step[1] for step in steps} == {len(CONTENT)}
    assert any(step[2] == "Downloading vit_b_lm: 1 MB of 1 MB" for step in steps)
    assert len(steps) > 15
    assert states.state(model, thorough=True) is states.ModelState.READY


def test_what_is_here_is_not_fetched_again(server, model) -> None:
    download.fetch(model, silent)
    download.fetch(model, silent)
    assert len(server.asked) == 1
    model.paths[0].write_bytes(b"x" * len(CONTENT))  # broken: the hash is wrong
    download.fetch(model, silent)
    assert model.paths[0].read_bytes() == CONTENT


def test_only_the_missing_file_of_two_is_fetched(server, model) -> None:
    second = replace(model.files[0], name="vit_b_lm_decoder")
    both = replace(model, files=(*model.files, second))
    download.fetch(model, silent)
    steps = []
    download.fetch(both, lambda *step: steps.append(step))
    assert folder(both) == ["vit_b_lm", "vit_b_lm_decoder"]
    assert len(server.asked) == 2
    assert any("the decoder of vit_b_lm" in step[2] for step in steps)


def test_a_cut_connection_is_taken_up_where_it_broke(server, model) -> None:
    server.cut, server.cuts = 50_000, 3
    download.fetch(model, silent)
    assert model.paths[0].read_bytes() == CONTENT
    starts = [int(asked["Range"][6:-1]) for asked in server.asked[1:]]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert starts[0] > 0


def test_a_server_that_sends_no_parts_starts_over(server, model) -> None:
    server.cut, server.cuts, server.ranges = 50_000, 1, False
    download.fetch(model, silent)
    assert model.paths[0].read_bytes() == CONTENT


def test_a_line_that_breaks_for_ever_is_a_sentence(server, model) -> None:
    server.cut, server.cuts, server.ranges = 50_000, 99, False
    with pytest.raises(DownloadError, match=r"broke off several times\..* What was fetched is kept"):
        download.fetch(model, silent)
    assert folder(model) == [".part-vit_b_lm"]
    assert len(server.asked) == 1 + len(download.PAUSES)


def test_a_server_that_falls_silent(server, model, monkeypatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", (1.0, 0.05))
    monkeypatch.setattr(download, "PAUSES", ())
    server.pause, server.block = 0.5, 50_000
    with pytest.raises(DownloadError, match=r"cannot reach|did not answer in time|broke off"):
        download.fetch(model, silent)
    assert folder(model) == [".part-vit_b_lm"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (401, "refused to send it"),
        (403, "refused to send it"),
        (404, "no longer has it"),
        (429, "a problem of its own"),
        (500, "a problem of its own"),
        (418, "answered with error 418"),
    ],
)
def test_each_refusal_has_its_sentence(server, model, code, words) -> None:
    server.code = code
    with pytest.raises(DownloadError, match=words) as caught:
        download.fetch(model, silent)
    assert f"error {code}" in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert "/weights" not in str(caught.value)  # addresses can hold keys
    assert folder(model) == []


def test_offline_is_a_sentence() -> None:
    with serving(Behaviour()) as gone:
        url = gone.url
    with pytest.raises(DownloadError, match=r"cannot reach 127\.0\.0\.1\. Check its internet connection"):
        download.fetch(model_of(url), silent)
    assert folder(model_of(url)) == []


def test_a_socks_proxy_is_named(server, model, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)  # as where the package that it needs is not installed
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"cannot be fetched through a SOCKS proxy\. Set HTTPS_PROXY"):
        download.fetch(model, silent)


@pytest.mark.parametrize("content", [b"<html>log in</html>", CONTENT[:-1] + b"?", b""])
def test_other_content_is_thrown_away(server, model, content) -> None:
    server.content = content
    with pytest.raises(DownloadError, match="not the published file"):
        download.fetch(model, silent)
    assert folder(model) == []


def test_a_broken_file_stays_until_the_new_one_is_whole(server, model) -> None:
    model.folder.mkdir(parents=True)
    model.paths[0].write_bytes(b"old")
    server.content = b"wrong"
    with pytest.raises(DownloadError):
        download.fetch(model, silent)
    assert model.paths[0].read_bytes() == b"old"
    assert folder(model) == ["vit_b_lm"]


def test_cancelled_half_way_nothing_is_left(server, model) -> None:
    def report(done: float, total: float, message: str = "") -> None:
        if done >= total / 2:
            raise Cancelled("The work was cancelled.")

    with pytest.raises(Cancelled):
        download.fetch(model, report)
    assert folder(model) == []
    download.fetch(model, silent)  # the lock is free again
    assert folder(model) == ["vit_b_lm"]


def test_the_rest_of_another_file_is_not_kept(server, model) -> None:
    model.folder.mkdir(parents=True)
    (model.folder / ".part-vit_b_lm").write_bytes(b"of another file" * 100)
    download.fetch(model, silent)
    assert model.paths[0].read_bytes() == CONTENT
    assert server.asked[0]["Range"] == "bytes=1500-"
    assert folder(model) == ["vit_b_lm"]


def test_a_whole_part_is_only_checked(server, model) -> None:
    model.folder.mkdir(parents=True)
    (model.folder / ".part-vit_b_lm").write_bytes(CONTENT)
    download.fetch(model, silent)
    assert model.paths[0].read_bytes() == CONTENT


KILLED = """
import sys
from tests.stages.foundation import test_download as t
from alapp.stages.foundation import download
download.CHUNK = 10_000
download.fetch(t.model_of(sys.argv[1]), t.silent)
"""


def test_killed_in_the_middle_nothing_is_taken_for_weights_and_it_goes_on(server, model) -> None:
    server.pause, server.block = 0.05, 20_000
    process = subprocess.Popen([sys.executable, "-c", KILLED, server.url])
    part = model.folder / ".part-vit_b_lm"
    end = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size) and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert folder(model) == [".part-vit_b_lm"]
    assert 0 < part.stat().st_size < len(CONTENT)
    assert states.state(model) is states.ModelState.WEIGHTS_MISSING
    assert download.parts(model.folder) == [part]
    server.pause = 0.0
    download.fetch(model, silent)
    assert model.paths[0].read_bytes() == CONTENT
    assert server.asked[-1]["Range"].startswith("bytes=")
    assert folder(model) == ["vit_b_lm"]


def test_two_at_once_is_a_sentence(model) -> None:
    with download._alone(model.name), pytest.raises(ConflictError, match="being downloaded already"):
        download.fetch(model, silent)


def test_a_full_disk_is_noticed_before(server, model, monkeypatch) -> None:
    usage = download.shutil.disk_usage(Path(__file__).parent)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(DiskFullError, match="has 1 MB free"):
        download.fetch(model, silent)
    assert server.asked == []


def test_a_disk_that_becomes_full_on_the_way(model, monkeypatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download.os, "fsync", fail)
    with pytest.raises(DiskFullError, match="became full while vit_b_lm"):
        download.fetch(model, silent)
    assert folder(model) == []


def test_a_folder_that_cannot_be_made(model, monkeypatch, tmp_path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(folders.MICROSAM_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot be written"):
        download.fetch(model, silent)


class TestCellSam:
    """Its archive comes from an address that DeepCell's server tells to those who have a token."""

    @pytest.fixture(autouse=True)
    def _access(self, monkeypatch, server) -> None:
        access.accept("cellsam_v1.2")
        access.store_token(SECRET)
        monkeypatch.setattr(deepcell, "ENDPOINT", server.url)
        server.content = archive({"cellsam_v1.2/cellsam_general.pt": b"weights", "cellsam_v1.2/cellsam_extra.pt": b"x"})
        server.post = (200, json.dumps({"url": f"{server.url}?Signature=hidden", "size": "1.2 GB"}).encode())

    @pytest.fixture
    def cellsam(self, server) -> Model:
        return cellsam_of(server.content)

    def test_it_is_fetched_unpacked_and_found(self, server, cellsam) -> None:
        steps = []
        download.fetch(cellsam, lambda *step: steps.append(step))
        assert cellsam.paths[0].read_bytes() == b"weights"
        assert folder(cellsam) == ["cellsam_v1.2"]
        assert server.asked[0]["body"] == b"s3_key=models%2Fcellsam-models_v1.2.tar.gz"
        assert server.asked[0]["X-Api-Key"] == SECRET
        assert SECRET not in str(server.asked[1:])  # the token goes to DeepCell's server only
        assert SECRET not in str(steps)

    def test_a_broken_version_folder_is_replaced(self, cellsam) -> None:
        cellsam.paths[0].parent.mkdir(parents=True)
        (cellsam.paths[0].parent / "half").touch()
        download.fetch(cellsam, silent)
        assert sorted(path.name for path in cellsam.paths[0].parent.iterdir()) == [
            "cellsam_extra.pt",
            "cellsam_general.pt",
        ]

    def test_an_empty_file_of_weights_is_replaced(self, cellsam) -> None:
        cellsam.paths[0].parent.mkdir(parents=True)
        cellsam.paths[0].touch()
        told = states.of_files(cellsam)
        assert told.remedy == "Download cellsam_v1.2 again; the broken file is replaced."
        download.fetch(cellsam, silent)
        assert cellsam.paths[0].read_bytes() == b"weights"

    def test_the_licence_and_the_token_come_first(self, server, cellsam) -> None:
        access.store_token("")
        with pytest.raises(DownloadError, match=r"free access token: get one at https://users\.deepcell\.org"):
            download.fetch(cellsam, silent)
        access.withdraw("cellsam_v1.2")
        with pytest.raises(LicenceError, match="Accept the licence of CellSAM"):
            download.fetch(cellsam, silent)
        assert server.asked == []

    @pytest.mark.parametrize(
        ("code", "body", "words"),
        [
            (401, b"API token SECRET is not valid", "did not accept the access token"),
            (403, b"API token SECRET is not valid", "did not accept the access token"),
            (404, b'{"error": "Key not found"}', "no longer has cellsam-models"),
            (500, b"SECRET", "has a problem"),
            (302, b"", "has a problem"),
            (200, b"<html>", "has a problem"),
            (200, b'{"url": "file:///etc/passwd"}', "has a problem"),
            (200, b"[1]", "has a problem"),
        ],
    )
    def test_its_answers_are_sentences_without_the_token(self, server, cellsam, code, body, words) -> None:
        server.post = (code, body.replace(b"SECRET", SECRET.encode()))
        with pytest.raises(DownloadError, match=words) as caught:
            download.fetch(cellsam, silent)
        assert_hidden(caught.value)
        assert folder(cellsam) == []

    def test_a_refused_archive_shows_neither_token_nor_address(self, server, cellsam) -> None:
        server.code = 403
        with pytest.raises(DownloadError, match="refused") as caught:
            download.fetch(cellsam, silent)
        assert_hidden(caught.value)

    def test_offline(self, cellsam, monkeypatch) -> None:
        with serving(Behaviour()) as gone:
            monkeypatch.setattr(deepcell, "ENDPOINT", gone.url)
        with pytest.raises(DownloadError, match=r"cannot be reached\. Check the internet connection") as caught:
            download.fetch(cellsam, silent)
        assert_hidden(caught.value)

    @pytest.mark.parametrize(
        ("members", "words"),
        [
            ({"cellsam_v1.2/other.pt": b"x"}, "does not hold"),
            ({"../outside": b"x", "cellsam_v1.2/cellsam_general.pt": b"x"}, "cannot be unpacked"),
        ],
    )
    def test_an_odd_archive_leaves_nothing(self, server, members, words) -> None:
        server.content = archive(members)
        cellsam = cellsam_of(server.content)
        with pytest.raises(InputError, match=words):
            download.fetch(cellsam, silent)
        assert folder(cellsam) == []
        assert not (folders.deepcell().parent / "outside").exists()

    def test_cancelled_while_unpacking(self, cellsam) -> None:
        def report(done: float, total: float, message: str = "") -> None:
            if message.startswith("Unpacking"):
                raise Cancelled("The work was cancelled.")

        with pytest.raises(Cancelled):
            download.fetch(cellsam, report)
        assert folder(cellsam) == []

    def test_interrupted_while_unpacking_it_is_not_fetched_again(self, server, cellsam) -> None:
        def report(done: float, total: float, message: str = "") -> None:
            if message.startswith("Unpacking"):
                raise Stopped("The work goes on later.")

        with pytest.raises(Stopped):
            download.fetch(cellsam, report)
        assert folder(cellsam) == [f".part-{cellsam.files[0].name}"]
        server.asked.clear()
        download.fetch(cellsam, silent)
        assert server.asked == []
        assert cellsam.paths[0].read_bytes() == b"weights"
        assert folder(cellsam) == ["cellsam_v1.2"]


def assert_hidden(error: AlappError) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    assert SECRET not in text
    assert "Signature" not in str(error)


def archive(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return made.getvalue()


def cellsam_of(content: bytes) -> Model:
    import hashlib

    digest = hashlib.md5(content).hexdigest()
    file = replace(MODELS["cellsam_v1.2"].files[0], checksum=f"md5:{digest}", size=len(content))
    return replace(MODELS["cellsam_v1.2"], files=(file,), needs=("json",))
