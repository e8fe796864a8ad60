import shutil

import pytest

from tests.stages.train.nnunet_discs import disc_cases, plan_small


@pytest.fixture(scope="session")
def planned(tmp_path_factory):
    """A planned workspace with nothing trained yet; copied for each test by `workspace`."""
    root = tmp_path_factory.mktemp("planned")
    plan_small(root, disc_cases())
    return root


@pytest.fixture
def workspace(planned, tmp_path):
    return shutil.copytree(planned, tmp_path / "workspace")
