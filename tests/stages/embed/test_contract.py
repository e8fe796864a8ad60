"""What every embedder promises, whichever it is."""

import numpy as np
import pytest

from alapp.domain import silent
from alapp.errors import Cancelled, InputError
from alapp.stages.embed.base import EMBEDDERS
from alapp.stages.embed.combined import Combined
from alapp.stages.embed.mae import Architecture, MaskedAutoencoder
from alapp.stages.embed.network import NetworkFeatures
from alapp.stages.embed.timm_features import TimmFeatures
from tests.stages.embed.conftest import TIMM_MODEL
from tests.stages.train.nnunet_discs import discs, stack

TINY = Architecture(side=32, token=8, width=24, depth=2, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2)


@pytest.fixture(scope="module")
def make(networks, timm_weights):
    """`make(name, dimensions)`: an embedder of that name, a small one of those that would take long."""

    def mae(dimensions):
        return MaskedAutoencoder(seed=3, iterations=4, architecture=TINY)

    def network(dimensions):
        return NetworkFeatures(seed=3, network=networks(dimensions))

    makers = {
        "mae": mae,
        "timm": lambda dimensions: TimmFeatures(model=TIMM_MODEL, weights=timm_weights),
        "network": network,
        "combined": lambda dimensions: Combined(parts={"mae": mae(dimensions), "network": network(dimensions)}),
    }
    return lambda name, dimensions=2: makers[name](dimensions) if name in makers else EMBEDDERS.create(name, seed=3)


@pytest.fixture(scope="module")
def fitted(make):
    """`fitted(name, dimensions)`: one that saw the patches of `patches_of`, made once."""
    made = {}

    def get(name, dimensions=2):
        if (name, dimensions) not in made:
            made[name, dimensions] = make(name, dimensions)
            made[name, dimensions].fit(patches_of(dimensions), silent)
        return made[name, dimensions]

    return get


def patches_of(dimensions=2, n=5):
    return [discs(seed)[0] if dimensions == 2 else stack(seed)[0] for seed in range(n)]


each = pytest.mark.parametrize("name", list(EMBEDDERS))
each_dimension = pytest.mark.parametrize("dimensions", [2, 3])


@each
@each_dimension
def test_rows_have_unit_length_and_differ(fitted, name, dimensions):
    rows = fitted(name, dimensions).embed(patches_of(dimensions), silent)
    assert rows.dtype == np.float32
    assert rows.shape[0] == 5
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert (rows @ rows.T)[np.triu_indices(5, 1)].max() < 1 - 1e-6


@each
@each_dimension
def test_fitting_and_embedding_are_deterministic(fitted, make, name, dimensions):
    again = make(name, dimensions)
    again.fit(patches_of(dimensions), silent)
    patches = patches_of(dimensions)[:3]
    np.testing.assert_array_equal(again.embed(patches, silent), fitted(name, dimensions).embed(patches, silent))


@each
def test_a_vector_does_not_depend_on_the_other_patches(fitted, name):
    patches = patches_of()
    np.testing.assert_allclose(
        fitted(name).embed(patches, silent)[3:4], fitted(name).embed(patches[3:4], silent), atol=1e-5
    )


@each
@each_dimension
def test_a_saved_one_gives_the_same_vectors(fitted, make, name, dimensions, tmp_path):
    fitted(name, dimensions).save(tmp_path / "model")
    loaded = make(name, dimensions)
    loaded.load(tmp_path / "model")
    patches = patches_of(dimensions)
    np.testing.assert_array_equal(loaded.embed(patches, silent), fitted(name, dimensions).embed(patches, silent))


@each
def test_other_files_are_refused(make, name, tmp_path):
    (tmp_path / "bad.pt").write_text("not a model")
    with pytest.raises(InputError, match=r"bad\.pt"):
        make(name).load(tmp_path / "bad.pt")
    with pytest.raises(InputError, match=r"missing\.pt"):
        make(name).load(tmp_path / "missing.pt")


@each
def test_other_channels_are_refused_in_one_sentence(fitted, name):
    if name == "timm":
        pytest.skip("a pre-trained model reads any number of channels")
    with pytest.raises(InputError, match="2 channels"):
        fitted(name).embed([discs(0, channels=2)[0]], silent)


@each
def test_no_patches_give_no_rows(fitted, name):
    assert fitted(name).embed([], silent).shape == (0, fitted(name).embed(patches_of(n=1), silent).shape[1])


@each
def test_embedding_can_be_cancelled(fitted, name):
    def report(done, total, message=""):
        raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        fitted(name).embed(patches_of(), report)
