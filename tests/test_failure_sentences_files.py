"""What the user reads when weights cannot be fetched, are broken, or are none: the table of test_failure_sentences.py
for downloads, from a real server on this computer, and for files."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import xxhash

from alapp.domain import BackendState, silent
from alapp.errors import DownloadError, InputError
from alapp.stages.foundation import catalogue, deepcell, download, own, states
from tests.stages.foundation.server import Behaviour, serving

SECRET = "s3cret-Token.of_a-user"
CONTENT = b"weights" * 20_000
BRING = "or add the file from another computer."


@dataclass(frozen=True)
class Download:
    """What the network and the server do to a download, and what the user reads. `{host}` is the server's name."""

    what: str
    sentence: str
    server: dict[str, object] | None = None
    """How the server of the weights behaves; None: there is none."""
    cellsam: bool = False
    token: str = SECRET
    deepcell: tuple[int, bytes] | None = (200, b"{}")


DOWNLOADS = [
    Download(
        "offline",
        "vit_b_lm could not be downloaded: this computer cannot reach {host}. Check its internet connection, "
        f"{BRING}",
    ),
    Download(
        "refused",
        "vit_b_lm could not be downloaded: {host} refused to send it (error 403). It may be blocked here: ask your "
        f"network's administrator, {BRING}",
        {"code": 403},
    ),
    Download(
        "gone",
        f"vit_b_lm could not be downloaded: {{host}} no longer has it (error 404). Update the app, {BRING}",
        {"code": 404},
    ),
    Download(
        "interrupted for good",
        f"vit_b_lm could not be downloaded: the connection to {{host}} broke off several times. Try again, {BRING}",
        {"cut": 0, "cuts": 100, "content": CONTENT},
    ),
    Download("interrupted once", "", {"cut": 50_000, "content": CONTENT}),
    Download(
        "wrong hash",
        "What {host} sent for vit_b_lm is not the published file; it was thrown away. A network may ask for a login "
        f"first, or the file was changed: try again later, {BRING}",
        {"content": b"Please log in"},
    ),
    Download(
        "no token",
        "CellSAM's weights need a free access token: get one at https://users.deepcell.org and store it here or by "
        "`python -m alapp models token`.",
        cellsam=True,
        token="",
    ),
    Download(
        "invalid token",
        "DeepCell did not accept the access token; it may have expired. Make a new one at https://users.deepcell.org.",
        cellsam=True,
        deepcell=(403, f"API token {SECRET} is not valid".encode()),
    ),
    Download(
        "offline",
        "The server of DeepCell (users.deepcell.org) cannot be reached. Check the internet connection.",
        cellsam=True,
        deepcell=None,
    ),
]


@pytest.mark.parametrize("row", DOWNLOADS, ids=lambda row: f"{'CellSAM' if row.cellsam else 'micro_sam'}: {row.what}")
def test_what_the_user_reads_when_a_download_fails(monkeypatch: pytest.MonkeyPatch, row: Download) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ALAPP_CELLSAM_LICENCE", "accepted")
    monkeypatch.setenv("DEEPCELL_ACCESS_TOKEN", row.token)
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(download, "MARGIN", 0)
    monkeypatch.setattr(download, "CHUNK", 10_000)
    with (
        serving(Behaviour(**(row.server or {}))) as server,
        serving(Behaviour(post=row.deepcell or (200, b""))) as other,
    ):
        gone = "http://127.0.0.1:9/weights"  # the port of the discard service, which nobody offers
        monkeypatch.setattr(deepcell, "ENDPOINT", other.url if row.deepcell else gone)
        url = "" if row.cellsam else server.url if row.server else gone
        model = published(url)
        if not row.sentence:
            download.fetch(model, silent)
            assert model.paths[0].read_bytes() == CONTENT
            return
        with pytest.raises(DownloadError) as caught:
            download.fetch(model, silent)
    assert str(caught.value) == row.sentence.replace("{host}", "127.0.0.1")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert not model.present
    assert list(model.folder.rglob("*")) == []


def published(url: str) -> catalogue.Model:
    """A model whose weights are `CONTENT`; without an address that of CellSAM."""
    model = catalogue.MODELS["vit_b_lm" if url else "cellsam_v1.2"]
    name = model.files[0].name
    file = catalogue.WeightsFile(name, url, f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}", len(CONTENT))
    return replace(model, files=(file,))


@pytest.mark.parametrize("name", ["vit_b_lm", "vit_t_em_organelles", "sam2.1_hiera_tiny"])
def test_a_broken_cache_is_named_on_the_page_of_the_models(name: str) -> None:
    model = replace(catalogue.model(name), needs=())
    for path in model.paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    status = states.status(model)
    assert status.state is BackendState.BROKEN
    assert status.detail == f"{model.paths[0]} is not the published file."
    assert status.remedy == f"Download {name} again; the broken file is replaced."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b"not a checkpoint",
            "mine.pt cannot be read as a PyTorch checkpoint. If micro_sam's training wrote it, export it with "
            "micro_sam.util.export_custom_sam_model; otherwise copy it again.",
        ),
        (b"", "mine.pt is empty. Copy it again."),
        (
            {"image_encoder.patch_embed.proj.weight": torch.zeros(384, 1)},
            "mine.pt is not a model that micro_sam can use: its encoder is 384 wide, and those of micro_sam are 768, "
            "1024, 1280. Choose a checkpoint of Segment Anything (vit_t, vit_b, vit_l or vit_h), or one that micro_sam "
            "trained.",
        ),
    ],
    ids=["garbage", "empty", "wrong architecture"],
)
def test_a_checkpoint_of_ones_own_that_is_none(tmp_path: Path, content: object, sentence: str) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError) as caught:
        own.import_file(path)
    assert str(caught.value) == sentence
    assert own.checkpoints() == []
