"""What every network promises about predictions of mirrored images."""

import json
import shutil

import numpy as np
import pytest

from alapp.domain import silent
from alapp.errors import Cancelled
from alapp.stages.train.base import TRAINERS
from alapp.stages.train.nnunet import NnUNet
from tests.rounds.fakes import ThresholdTrainer
from tests.rounds.spoilt import SpoiltTrainer
from tests.stages.train.nnunet_discs import disc_cases, discs

FLIPS = ((), (0,), (1,), (0, 1))
NETWORKS = [*TRAINERS, "threshold", "spoilt"]


@pytest.fixture(scope="module")
def networks(planned, tmp_path_factory):
    """By name: (a network that does not mirror by itself, its workspace, a checkpoint)."""
    root = shutil.copytree(planned, tmp_path_factory.mktemp("mirrored") / "workspace")
    trained = NnUNet("cpu").train(root, disc_cases(), root / "run", 8, 0, None, silent, lambda entry: None)
    path = root / "threshold.json"
    path.write_text(json.dumps({"threshold": 60.0, "seed": 0}))
    return {
        "nnunet": (NnUNet("cpu", mirroring=False), root, trained.checkpoint),
        "threshold": (ThresholdTrainer(), root, path),
        "spoilt": (SpoiltTrainer(), root, path),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_members_are_the_predictions_of_mirrored_images_mirrored_back(networks, name):
    network, *model = networks[name]
    image, _ = discs(5, size=70)
    image = image[:, :60]
    members = list(network.mirrored(*model, image, silent))
    assert len(members) == 4
    for member, axes in zip(members, FLIPS, strict=True):
        assert member.shape[1:] == (70, 60)
        assert member.dtype == np.float32
        np.testing.assert_allclose(member.sum(axis=0), 1, atol=1e-4)
        alone = network.predict(*model, np.flip(image, axes).copy(), silent)
        np.testing.assert_array_equal(np.flip(alone, [axis + 1 for axis in axes]), member)


def test_a_network_that_mirrors_by_itself_gives_the_same_members(networks):
    network, *model = networks["nnunet"]
    image, _ = discs(6)
    mirroring = NnUNet("cpu", mirroring=True)
    whole = mirroring.predict(*model, image, silent)
    members = list(mirroring.mirrored(*model, image, silent))
    for one, other in zip(members, network.mirrored(*model, image, silent), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(members[0], members[1])
    np.testing.assert_array_equal(mirroring.predict(*model, image, silent), whole)


def test_a_network_that_never_saw_mirrored_images_looks_once(networks):
    network, *model = networks["nnunet"]
    image, _ = discs(7)
    network.predict(*model, image, silent)
    learned = network._cached[1].allowed_mirroring_axes
    try:
        network._cached[1].allowed_mirroring_axes = (0,)
        assert len(list(network.mirrored(*model, image, silent))) == 1
    finally:
        network._cached[1].allowed_mirroring_axes = learned


def test_progress_goes_over_all_members_and_can_stop(networks):
    network, *model = networks["nnunet"]
    image, _ = discs(8)
    told = []
    list(network.mirrored(*model, image, lambda done, total, message: told.append(done / total)))
    assert told == sorted(told)
    assert told[-1] == 1

    def stop(done, total, message):
        if done / total > 0.3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        list(network.mirrored(*model, image, stop))
