import subprocess
import sys

import numpy as np
import pytest

from alapp.domain import BackendState, silent
from alapp.environment import prepare
from alapp.errors import InputError, WeightsMissingError
from alapp.stages.embed import timm_features
from alapp.stages.embed.base import EMBEDDERS
from alapp.stages.embed.timm_features import MODELS, TimmFeatures

MODEL = "vit_tiny_patch16_224"


@pytest.fixture
def empty_cache(monkeypatch):
    monkeypatch.setattr(timm_features, "cached_weights", lambda model: None)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    prepare()
    import timm
    import torch

    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model(MODEL).state_dict(), path)
    return path


def patches(channels=1):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (40, 40, channels), np.uint8), rng.integers(0, 255, (3, 40, 40, channels), np.uint8)]


@pytest.mark.parametrize("name", list(EMBEDDERS))
def test_registered_embedders_describe_themselves_without_torch(name):
    code = (
        "import sys\nfrom alapp.stages.embed.base import EMBEDDERS\n"
        f"backend = EMBEDDERS.load({name!r})\nstatus = backend.status()\n"
        "assert backend.title and backend.suits and isinstance(backend.trains, bool)\n"
        "assert status.ready or status.remedy\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_status_without_weights_says_what_to_do(empty_cache):
    status = TimmFeatures.status()
    assert status.state is BackendState.WEIGHTS_MISSING
    assert MODELS[0] in status.remedy


def test_status_finds_cached_weights(monkeypatch, tmp_path):
    folder = tmp_path / f"models--timm--{MODELS[1]}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert TimmFeatures.status().ready
    assert MODELS[1] in TimmFeatures.status().detail


def test_missing_weights_are_an_error(empty_cache, tmp_path):
    with pytest.raises(WeightsMissingError, match=r"dinov2"):
        TimmFeatures().embed(patches(), silent)
    with pytest.raises(WeightsMissingError, match=r"nothing\.pth"):
        TimmFeatures(weights=tmp_path / "nothing.pth").fit(patches(), silent)


def test_wrong_file_is_an_error(tmp_path):
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(InputError, match=r"text\.pth"):
        TimmFeatures(model=MODEL, weights=tmp_path / "text.pth").fit([], silent)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_user_weights_embed_2d_and_3d(weights, channels):
    rows = TimmFeatures(model=MODEL, weights=weights).embed(patches(channels), silent)
    assert rows.shape == (2, 192)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_the_users_file_is_what_is_loaded(weights):
    encoder = TimmFeatures(model=MODEL, weights=weights)._load_encoder()
    import torch

    stored = torch.load(weights, weights_only=True)
    assert torch.equal(encoder.state_dict()["blocks.3.attn.qkv.weight"], stored["blocks.3.attn.qkv.weight"])


def test_save_and_load_keep_the_model(weights, tmp_path):
    first = TimmFeatures(model=MODEL, weights=weights)
    first.save(tmp_path / "m.pt")
    second = TimmFeatures(weights=weights)
    second.load(tmp_path / "m.pt")
    np.testing.assert_array_equal(second.embed(patches(), silent), first.embed(patches(), silent))
    (tmp_path / "bad.pt").write_text("x")
    with pytest.raises(InputError, match=r"bad\.pt"):
        second.load(tmp_path / "bad.pt")
