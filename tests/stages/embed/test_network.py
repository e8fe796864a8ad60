import numpy as np
import pytest

from alapp.domain import silent
from alapp.errors import CorruptFileError, InputError, NotReadyError
from alapp.stages.embed import network as network_module
from alapp.stages.embed.combined import Combined, combine
from alapp.stages.embed.network import NetworkFeatures, TrainedNetwork
from tests.stages.train.nnunet_discs import discs, stack


def fitted(network, patches):
    features = NetworkFeatures(network=network)
    features.fit(patches, silent)
    return features


def test_without_a_network_it_says_what_to_do(networks, tmp_path):
    for missing in (None, TrainedNetwork(tmp_path, tmp_path / "gone.pth")):
        with pytest.raises(NotReadyError, match="Train a round first"):
            NetworkFeatures(network=missing).fit([discs(0)[0]], silent)
    (tmp_path / "broken.pth").write_text("x")
    with pytest.raises(CorruptFileError, match="damaged"):
        NetworkFeatures(network=TrainedNetwork(networks().workspace, tmp_path / "broken.pth")).fit(
            [discs(0)[0]], silent
        )
    with pytest.raises(NotReadyError):
        NetworkFeatures(network=networks()).embed([discs(0)[0]], silent)
    with pytest.raises(NotReadyError):
        NetworkFeatures(network=networks()).save(tmp_path / "nothing")


def test_another_network_sees_something_else(networks):
    patches = [discs(seed)[0] for seed in range(4)]
    first, second = (fitted(networks(seed=seed), patches).embed(patches, silent) for seed in (0, 1))
    assert not np.allclose(first, second)


def test_the_average_is_that_of_the_deepest_stage(networks):
    """Against a forward pass through the whole network, with the stage's output taken by a hook."""
    import torch

    features = NetworkFeatures(network=networks())
    image = discs(5)[0]
    found = features._features([image], silent)[0]
    predictor = features._predictor
    seen = []
    hook = predictor.network.encoder.stages[-1].register_forward_hook(lambda m, i, out: seen.append(out))
    view = predictor.view(image[None], silent)
    from alapp.domain import Box

    with torch.inference_mode():
        predictor.network(torch.from_numpy(view.read(Box(0, 0, 0, *view.shape))[None, :, 0]))
    hook.remove()
    expected = seen[0].mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(found[len(expected) :], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 30), (64, 200), (5, 5), (150, 64)])
def test_patches_of_any_size_are_covered(networks, shape):
    image = np.random.default_rng(0).normal(50, 5, (*shape, 1)).astype(np.float32)
    found = NetworkFeatures(network=networks())._features([image, discs(0)[0]], silent)
    assert np.isfinite(found).all()
    assert found.any(axis=1).all()


def test_batches_hold_windows_of_one_shape_in_order(networks, monkeypatch):
    monkeypatch.setattr(network_module, "_BATCH", 2)
    images = [discs(0)[0], discs(1)[0], discs(2)[0], discs(3, size=96)[0]]
    together = NetworkFeatures(network=networks())._features(images, silent)
    alone = [NetworkFeatures(network=networks())._features([image], silent)[0] for image in images]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_network_in_another_dimension_is_refused(networks):
    with pytest.raises(InputError, match="2D"):
        fitted(networks(), [stack(0)[0]])


def test_similarity_of_combined_vectors_is_the_weighted_mean():
    rng = np.random.default_rng(0)
    parts = {name: rng.normal(size=(6, width)) for name, width in (("mae", 7), ("network", 3))}
    units = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in parts.items()}
    joined = combine(units)
    expected = sum(0.5 * units[name] @ units[name].T for name in units)
    np.testing.assert_allclose(joined @ joined.T, expected, atol=1e-6)


def test_combined_embeds_both_parts(networks):
    patches = [discs(seed)[0] for seed in range(3)]

    class Shades:
        trains = True

        def fit(self, patches, report, state=None):
            pass

        def embed(self, patches, report):
            return np.array([[0.6, 0.8]] * len(patches), np.float32)

    seen = fitted(networks(), patches).embed(patches, silent)
    both = Combined(parts={"mae": Shades(), "network": fitted(networks(), patches)})
    both.fit(patches, silent)
    np.testing.assert_allclose(both.embed(patches, silent)[:, 2:], seen * np.sqrt(0.5), atol=1e-6)
