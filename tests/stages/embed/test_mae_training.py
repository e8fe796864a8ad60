"""How the masked autoencoder trains: what it learns, when it ends, and that a kill costs little."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from alapp.domain import silent
from alapp.errors import Cancelled
from alapp.stages.embed import mae_training
from alapp.stages.embed.mae import MaskedAutoencoder
from alapp.stages.embed.mae_network import Architecture, build, reconstruction_loss
from alapp.stages.embed.mae_training import CHECK_EVERY, Training

TINY = Architecture(side=32, token=8, width=24, depth=2, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2)


def waves(n, seed=0):
    """Smooth patterns whose tokens follow from their neighbours: plane waves of any direction."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :40]
    patches = []
    for _ in range(n):
        angle, phase = rng.random(2) * 2 * np.pi
        wave = np.sin((y * np.sin(angle) + x * np.cos(angle)) / 3 + phase)
        patches.append((1000 + 400 * wave[..., None]).astype(np.uint16))
    return patches


def model(iterations, seed=0):
    return MaskedAutoencoder(seed=seed, iterations=iterations, architecture=TINY)


def stop_at(step, steps):
    """A report that cancels once `step` iterations are done."""

    def report(done, total, message=""):
        if "loss" in message and round((done / total - 0.1) / 0.85 * steps) >= step:
            raise Cancelled("Cancelled.")

    return report


def test_hidden_tokens_are_predicted_from_their_neighbours():
    autoencoder = model(100)
    autoencoder.fit(waves(30), silent)
    assert len(autoencoder.losses) == 100 // CHECK_EVERY
    assert autoencoder.losses[-1] < 0.8 * autoencoder.losses[0]


def test_the_decoder_starts_from_the_neighbours():
    """A hidden token's start depends on what is visible beside it, and on the side on which it is."""
    torch.manual_seed(0)
    _, decoder = build(TINY, 1)
    places = torch.zeros(1, TINY.decoder_width, 4, 4)
    places[0, :, 1, 1] = torch.randn(TINY.decoder_width)
    around = decoder["neighbours"](places.to(next(decoder.parameters()).device))[0]
    assert not torch.allclose(around[:, 1, 2], around[:, 1, 0])
    assert not around[:, 3, 3].any()


def test_the_loss_counts_hidden_tokens_only_and_each_alike():
    """Against the loss written out token by token for the tokens that the same draw hides."""
    torch.manual_seed(0)
    encoder, decoder = build(TINY, 1)
    images = torch.rand(2, 1, 32, 32).to(next(encoder.parameters()).device)
    torch.manual_seed(5)
    loss = reconstruction_loss(encoder, decoder, images, TINY).item()
    torch.manual_seed(5)
    dim = reconstruction_loss(encoder, decoder, 0.5 * images + 0.25, TINY).item()
    assert loss > 0
    torch.manual_seed(6)
    assert reconstruction_loss(encoder, decoder, images, TINY).item() != loss
    assert abs(dim - loss) < 0.2 * loss


@pytest.fixture
def often(monkeypatch):
    """Looks at the held-out images, and saves, after every 4 iterations."""
    monkeypatch.setattr(mae_training, "CHECK_EVERY", 4)


def test_a_stopped_training_goes_on_to_the_same_result(often, tmp_path):
    patches, state = waves(20), tmp_path / "training"
    whole = model(12)
    whole.fit(patches, silent)
    stopped = model(12)
    with pytest.raises(Cancelled):
        stopped.fit(patches, stop_at(10, 12), state)
    seen = []
    again = model(12)
    again.fit(patches, lambda done, total, message: seen.append(done) if "loss" in message else None, state)
    assert len(seen) == 12 - 8  # the state was saved after iteration 8
    np.testing.assert_array_equal(again.embed(patches, silent), whole.embed(patches, silent))
    assert again.losses == whole.losses
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["patches", "seed", "broken"])
def test_the_state_of_another_training_counts_for_nothing(often, tmp_path, other):
    patches, state = waves(10), tmp_path / "training"
    with pytest.raises(Cancelled):
        model(8).fit(patches, stop_at(6, 8), state)
    if other == "broken":
        state.write_bytes(state.read_bytes()[:500])
    changed = waves(10, seed=1) if other == "patches" else patches
    seed = 1 if other == "seed" else 0
    expected, found = model(8, seed), model(8, seed)
    expected.fit(changed, silent)
    found.fit(changed, silent, state)
    np.testing.assert_array_equal(found.embed(changed, silent), expected.embed(changed, silent))


CHILD = """
import sys
from pathlib import Path
from alapp.domain import silent
from tests.stages.embed.test_mae_training import model, waves
model(5000).fit(waves(30), silent, Path(sys.argv[1]))
"""


def test_training_goes_on_after_kill_9(tmp_path):
    state = tmp_path / "training"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(state)], cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while not state.exists() and child.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    first = []

    def report(done, total, message=""):
        if "loss" in message:
            first.append((done / total - 0.1) / 0.85 * 5000)
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        model(5000).fit(waves(30), report, state)
    assert first[0] > CHECK_EVERY


def test_training_ends_when_held_out_images_gain_nothing(monkeypatch):
    monkeypatch.setattr(mae_training, "CHECK_EVERY", 1)
    losses = iter([0.9, 0.8, 0.7, *[0.7] * 100])
    monkeypatch.setattr(Training, "_held_loss", lambda self: next(losses))
    autoencoder = model(2000)
    autoencoder.fit(waves(20), silent)
    assert len(autoencoder.losses) == 3 + mae_training.PATIENCE


def test_few_images_are_all_trained_on():
    autoencoder = model(CHECK_EVERY)
    autoencoder.fit(waves(8), silent)
    images, _ = autoencoder._read_training(waves(8), silent)
    training = Training(*build(TINY, 1), images, TINY, 10, 1e-3)
    assert (len(training.images), len(training.held)) == (8, 0)
    assert not training.gains_nothing


def test_training_goes_on_with_new_images_from_the_weights_it_has(tmp_path):
    first = model(75)
    first.fit(waves(20), silent)
    first.save(tmp_path / "model.pt")
    warm = model(25)
    warm.load(tmp_path / "model.pt")
    warm.fit(waves(20, seed=2), silent)
    cold = model(25)
    cold.fit(waves(20, seed=2), silent)
    assert warm.losses[-1] < cold.losses[-1]
    assert not np.allclose(warm.embed(waves(3), silent), first.embed(waves(3), silent))
