"""Whether SAM 2's package and weights are here and whole, and what is refused. The package is a stand-in."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys

import pytest
import torch

from alapp.domain import BackendState
from alapp.errors import BackendError, NotInstalledError, ResourceError, WeightsMissingError
from alapp.stages.annotate import sam2_weights
from alapp.stages.annotate.sam2 import Sam2Clicks
from tests.stages.annotate.sam2_stand_in import Model, checkpoint, picture, raising


class TestStatus:
    def test_not_installed(self, sam2_folder, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
        assert Sam2Clicks.status().state is BackendState.NOT_INSTALLED
        with pytest.raises(NotInstalledError, match=r"SAM 2 cannot be used.*requirements-sam2\.txt"):
            Sam2Clicks().prepare("a", picture())

    def test_a_folder_of_that_name_is_not_the_package(self, sam2_folder, monkeypatch):
        namespace = importlib.machinery.ModuleSpec("sam2", None, is_package=True)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: namespace)
        assert Sam2Clicks.status().state is BackendState.NOT_INSTALLED

    def test_what_the_package_needs(self, sam2_package, monkeypatch):
        monkeypatch.setattr(sam2_weights, "NEEDED", ("json", "no_such_module"))
        status = Sam2Clicks.status()
        assert status.state is BackendState.NOT_INSTALLED
        assert status.detail.endswith("needs: no_such_module.")

    def test_weights_missing_says_where_they_belong(self, sam2_package, sam2_folder):
        (sam2_folder / "sam2.1_hiera_tiny.pt").unlink()
        status = Sam2Clicks.status()
        assert status.state is BackendState.WEIGHTS_MISSING
        assert str(sam2_folder) in status.detail
        assert "models download sam2.1_hiera_tiny" in status.remedy
        with pytest.raises(WeightsMissingError, match="No weights of SAM 2"):
            Sam2Clicks().prepare("a", picture())

    def test_a_copy_that_broke_off_is_seen_without_loading(self, sam2_package, sam2_folder):
        path = sam2_folder / "sam2.1_hiera_tiny.pt"
        path.write_bytes(path.read_bytes()[:-100])
        status = Sam2Clicks.status()
        assert status.state is BackendState.BROKEN
        assert "not copied completely" in status.detail
        with pytest.raises(BackendError, match="Remove the file"):
            Sam2Clicks().prepare("a", picture())

    def test_ready(self, sam2_package):
        assert Sam2Clicks.status().ready


class TestWeights:
    def test_the_users_own_then_the_fastest_then_what_is_damaged(self, sam2_package, sam2_folder):
        (sam2_folder / "sam2.1_hiera_tiny.pt").write_bytes(b"damaged")
        assert sam2_weights.weights().name == "sam2.1_hiera_tiny.pt"
        for name in ("sam2.1_hiera_large.pt", "sam2.1_hiera_small.pt"):
            torch.save({}, sam2_folder / name)
        assert sam2_weights.weights().name == "sam2.1_hiera_small.pt"
        torch.save({}, sam2_folder / "mine.pt")
        assert sam2_weights.weights().name == "mine.pt"

    @pytest.mark.parametrize("network", sam2_weights.NETWORKS, ids=lambda network: network.config)
    @pytest.mark.parametrize("newer", [True, False])
    def test_the_network_is_told_from_the_tensors(self, tmp_path, network, newer):
        torch.save(checkpoint(network.width, network.blocks, newer), tmp_path / "any.pt")
        config, tensors = sam2_weights.read(tmp_path / "any.pt")
        version = "sam2.1" if newer else "sam2"
        assert config == f"configs/{version}/{version}_{network.config}"
        assert len(tensors) == 1 + network.blocks + newer

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ({"model": {"some.weight": torch.zeros(1)}}, "it does not hold a SAM 2 model"),
            ([1], "it does not hold a SAM 2 model"),
            (checkpoint(width=80, blocks=3), "no size of SAM 2 has 3 blocks that begin 80 channels wide"),
        ],
    )
    def test_other_models_are_refused_and_the_status_knows_it(self, sam2_package, sam2_folder, content, reason):
        torch.save(content, sam2_folder / "sam2.1_hiera_tiny.pt")
        assert Sam2Clicks.status().ready
        with pytest.raises(BackendError, match=reason):
            Sam2Clicks().prepare("a", picture())
        status = Sam2Clicks.status()
        assert status.state is BackendState.BROKEN
        assert reason in status.detail
        torch.save(checkpoint(), sam2_folder / "sam2.1_hiera_tiny.pt")
        assert Sam2Clicks.status().ready

    def test_code_in_a_file_is_not_run(self, sam2_package, sam2_folder, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (tmp_path / "ran").touch, ()

        torch.save({"model": Bomb()}, sam2_folder / "sam2.1_hiera_tiny.pt")
        with pytest.raises(BackendError, match="cannot be loaded"):
            Sam2Clicks().prepare("a", picture())
        assert not (tmp_path / "ran").exists()

    def test_a_model_that_refuses_the_tensors(self, sam2_package, sam2_folder, monkeypatch):
        monkeypatch.setattr(Model, "load_state_dict", raising(RuntimeError("Missing keys:\n many")))
        with pytest.raises(BackendError, match=r"cannot be loaded: Missing keys\. Remove the file"):
            Sam2Clicks().prepare("a", picture())

    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")])
    def test_memory_that_runs_out_is_not_the_fault_of_the_file(self, sam2_package, monkeypatch, error):
        monkeypatch.setattr(Model, "load_state_dict", raising(error))
        with pytest.raises(ResourceError, match="SAM 2 ran out of memory"):
            Sam2Clicks().prepare("a", picture())
        assert Sam2Clicks.status().ready

    def test_a_package_that_cannot_be_imported(self, sam2_package):
        del sys.modules["sam2.build_sam"].build_sam2
        with pytest.raises(NotInstalledError, match=r"sam2 cannot be imported.*requirements-sam2\.txt"):
            Sam2Clicks().prepare("a", picture())
