import shutil

import pytest

from alapp.domain import silent
from alapp.environment import prepare
from alapp.stages.embed.network import TrainedNetwork
from alapp.stages.train.nnunet import NnUNet
from tests.stages.train.nnunet_discs import case, disc_cases, plan_small, stack

TIMM_MODEL = "vit_tiny_patch16_224"


@pytest.fixture(scope="session")
def timm_weights(tmp_path_factory):
    """A file of random weights for `TIMM_MODEL`."""
    prepare()
    import timm
    import torch

    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model(TIMM_MODEL).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """`networks(dimensions, seed)`: a nnU-Net for one channel that was trained for one iteration."""
    made = {}

    def network(dimensions=2, seed=0):
        if (dimensions, seed) not in made:
            root = tmp_path_factory.mktemp("network") / "workspace"
            cases = disc_cases(2) if dimensions == 2 else [case(f"gt_{s}", *stack(s)) for s in range(2)]
            if (dimensions, 0) in made:
                shutil.copytree(made[dimensions, 0].workspace, root)
            else:
                plan_small(root, cases)
            found = NnUNet("cpu").train(root, cases, root / f"run-{seed}", 1, seed, None, silent, lambda entry: None)
            made[dimensions, seed] = TrainedNetwork(root, found.checkpoint)
        return made[dimensions, seed]

    return network
