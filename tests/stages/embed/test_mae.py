import numpy as np
import pytest
import torch

from alapp.domain import silent
from alapp.errors import Cancelled, InputError, NotReadyError
from alapp.stages.embed import mae
from alapp.stages.embed.mae import MaskedAutoencoder, iterations_for
from alapp.stages.embed.mae_network import Architecture

TINY = Architecture(side=32, token=8, width=24, depth=2, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2)


def stripes(n, channels=1, seed=0):
    """Half of the patches have horizontal stripes, the others vertical ones, with noise."""
    rng = np.random.default_rng(seed)
    patches = []
    for i in range(n):
        wave = np.sin(np.arange(40)[:, None] / 2 + rng.random() * 6) * np.ones((40, 40))
        wave = wave if i % 2 else wave.T
        patch = 1000 + 400 * wave[..., None] + 40 * rng.standard_normal((40, 40, channels))
        patches.append(patch.astype(np.uint16))
    return patches


@pytest.fixture(scope="module")
def trained():
    model = MaskedAutoencoder(seed=1, iterations=30, architecture=TINY)
    model.fit(stripes(16), silent)
    return model


def test_embeddings_are_unit_rows_that_tell_textures_apart(trained):
    patches = stripes(20, seed=5)
    rows = trained.embed(patches, silent)
    assert rows.shape == (20, 24)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -2)
    group = np.arange(20) % 2
    assert (group[similarity.argmax(axis=1)] == group).all()


def test_same_seed_same_embeddings_and_global_generator_untouched(trained):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    again = MaskedAutoencoder(seed=1, iterations=30, architecture=TINY)
    again.fit(stripes(16), silent)
    assert torch.equal(torch.get_rng_state(), before)
    patches = stripes(4, seed=8)
    np.testing.assert_array_equal(again.embed(patches, silent), trained.embed(patches, silent))
    other = MaskedAutoencoder(seed=2, iterations=30, architecture=TINY)
    other.fit(stripes(16), silent)
    assert not np.allclose(other.embed(patches, silent), trained.embed(patches, silent))


def test_an_embedding_does_not_depend_on_the_other_patches(trained):
    patches = stripes(6, seed=3)
    np.testing.assert_allclose(trained.embed(patches, silent)[4:5], trained.embed(patches[4:5], silent), atol=1e-5)


def test_a_volume_is_the_mean_of_its_slices(trained):
    patch = stripes(1, seed=4)[0]
    volume = np.stack([patch] * 3)
    np.testing.assert_allclose(trained.embed([volume], silent), trained.embed([patch], silent), atol=1e-5)


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_and_volumes_train(channels):
    volumes = [np.stack([p] * 2) for p in stripes(3, channels)]
    model = MaskedAutoencoder(iterations=2, architecture=TINY)
    model.fit(volumes, silent)
    assert model.embed(volumes, silent).shape == (3, 24)
    with pytest.raises(InputError, match=f"trained on {channels}"):
        model.embed(stripes(1), silent)


def test_a_model_of_the_first_format_gives_its_old_embeddings(trained, tmp_path):
    """Its encoder read 0 to 1; the same numbers come out of the one that reads -2 to 2."""
    patches = stripes(4, seed=9)
    trained.save(tmp_path / "new.pt")
    state = torch.load(tmp_path / "new.pt", weights_only=True)
    kernel, bias = (state["encoder"][f"vit.patch_embed.proj.{name}"] for name in ("weight", "bias"))
    state["encoder"]["vit.patch_embed.proj.weight"] = 4 * kernel
    state["encoder"]["vit.patch_embed.proj.bias"] = bias - 2 * kernel.sum(dim=(1, 2, 3))
    del state["decoder"]
    state["format"] = "alapp masked autoencoder 1"
    torch.save(state, tmp_path / "old.pt")
    old = MaskedAutoencoder(iterations=2)
    old.load(tmp_path / "old.pt")
    np.testing.assert_allclose(old.embed(patches, silent), trained.embed(patches, silent), atol=1e-4)
    old.fit(patches, silent)  # from scratch: there is no decoder to go on with
    assert old.embed(patches, silent).shape == (4, 24)


def test_memory_of_training_is_bounded(monkeypatch):
    monkeypatch.setattr(mae, "_TRAINING_MEMORY", 10 * 37 * 37)
    images, _ = MaskedAutoencoder(architecture=TINY)._read_training(stripes(30), silent)
    assert len(images) == 10
    assert {image.dtype for image in images} == {torch.uint8}


def test_progress_never_goes_back():
    seen = []
    MaskedAutoencoder(iterations=3, architecture=TINY).fit(stripes(3), lambda done, total, _: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_cancel_passes_through():
    def report(done, total, message):
        if "loss" in message:
            raise Cancelled("Cancelled.")

    model = MaskedAutoencoder(iterations=5, architecture=TINY)
    with pytest.raises(Cancelled):
        model.fit(stripes(4), report)
    with pytest.raises(NotReadyError):
        model.embed(stripes(1), silent)


def test_saved_model_gives_the_same_embeddings(trained, tmp_path):
    trained.save(tmp_path / "model.pt")
    loaded = MaskedAutoencoder()
    loaded.load(tmp_path / "model.pt")
    patches = stripes(4, seed=9)
    assert loaded.architecture == TINY
    np.testing.assert_array_equal(loaded.embed(patches, silent), trained.embed(patches, silent))


def test_other_files_are_refused(trained, tmp_path):
    (tmp_path / "text.pt").write_text("not a model")
    torch.save({"format": "something else"}, tmp_path / "foreign.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    trained.save(tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:2000])
    for name in ("text.pt", "foreign.pt", "list.pt", "cut.pt"):
        with pytest.raises(InputError, match=name):
            MaskedAutoencoder().load(tmp_path / name)
    with pytest.raises(InputError, match=r"missing\.pt"):
        MaskedAutoencoder().load(tmp_path / "missing.pt")


def test_no_patches(trained):
    with pytest.raises(InputError, match="no patches"):
        MaskedAutoencoder().fit([], silent)
    assert trained.embed([], silent).shape == (0, 24)


def test_nothing_works_before_training(tmp_path):
    with pytest.raises(NotReadyError):
        MaskedAutoencoder().embed(stripes(1), silent)
    with pytest.raises(NotReadyError):
        MaskedAutoencoder().save(tmp_path / "model.pt")


def test_large_projects_train_longer_within_limits():
    lengths = [iterations_for(n) for n in (1, 200, 1000, 10**6)]
    assert lengths == sorted(lengths)
    assert lengths[0] > 0
    assert lengths[-1] < 10_000
    assert iterations_for(200, warm=True) < iterations_for(200)
