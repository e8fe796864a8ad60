from __future__ import annotations

import importlib.machinery
import sys
import types

import pytest
import torch

from alapp.stages.annotate import sam2, sam2_weights
from alapp.stages.foundation.residency import Residents
from tests.stages.annotate.sam2_stand_in import Model, Predictor, checkpoint


@pytest.fixture
def sam2_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ALAPP_MODELS_DIR", str(tmp_path))
    monkeypatch.setattr(sam2_weights, "_refused", {})
    (tmp_path / "sam2").mkdir()
    return tmp_path / "sam2"


@pytest.fixture
def sam2_package(monkeypatch, sam2_folder):
    """An installed sam2 with weights of its smallest model; `built` holds what was asked for."""
    modules = {name: types.ModuleType(name) for name in ("sam2", "sam2.build_sam", "sam2.sam2_image_predictor")}
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="here")
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sam2_weights, "NEEDED", ())
    package = modules["sam2"]
    package.built = []
    Predictor.calls.clear()
    Predictor.embedded.clear()
    monkeypatch.setattr(sam2, "RESIDENTS", Residents(free=lambda: 10**12))
    modules["sam2.build_sam"].build_sam2 = lambda config, device: package.built.append(config) or Model(config)
    modules["sam2.sam2_image_predictor"].SAM2ImagePredictor = Predictor
    torch.save(checkpoint(), sam2_folder / "sam2.1_hiera_tiny.pt")
    return package
