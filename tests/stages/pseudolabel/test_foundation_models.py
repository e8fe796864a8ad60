"""CellSAM and micro_sam: true states, and how their packages are called. No weights are at hand, so CellSAM is
a stand-in with its interface."""

from __future__ import annotations

import importlib.machinery
import sys
import types

import numpy as np
import pytest

from alapp.domain import BackendState, Modality
from alapp.errors import BackendError, LicenceError, NotInstalledError, WeightsMissingError
from alapp.stages.pseudolabel import cellsam
from alapp.stages.pseudolabel.cellsam import CellSam, as_cellsam
from alapp.stages.pseudolabel.microsam import MicroSamAutomatic


@pytest.fixture
def package(monkeypatch, tmp_path):
    """An installed, licensed CellSAM with a weights file; gives the list of calls."""
    module = types.ModuleType("cellSAM")
    module.__spec__ = importlib.machinery.ModuleSpec("cellSAM", None)
    module.calls = []

    def segment_cellular_image(img, model, **options):
        module.calls.append((img, options))
        return (img[..., 2] > 0.5).astype(np.int64) * 300, None, None

    module.segment_cellular_image = segment_cellular_image
    module.get_local_model = lambda path: "model"
    monkeypatch.setitem(sys.modules, "cellSAM", module)
    monkeypatch.setenv(cellsam.LICENCE_VARIABLE, "accepted")
    monkeypatch.setattr(cellsam, "NEEDED", ())
    monkeypatch.setattr(cellsam, "weights_folder", lambda: tmp_path)
    monkeypatch.setattr(cellsam, "_check_keys", lambda path: None)
    (tmp_path / "cellsam_v1.2").mkdir()
    (tmp_path / "cellsam_v1.2" / "model.pt").write_bytes(b"weights")
    return module


def square() -> np.ndarray:
    image = np.zeros((80, 90, 1), np.float32)
    image[20:40, 30:60] = 1
    return image


def test_states_in_order(package, monkeypatch, tmp_path):
    assert CellSam.status().state is BackendState.READY
    (tmp_path / "cellsam_v1.2" / "model.pt").unlink()
    assert CellSam.status().state is BackendState.WEIGHTS_MISSING
    monkeypatch.delenv(cellsam.LICENCE_VARIABLE)
    assert CellSam.status().state is BackendState.LICENCE
    monkeypatch.delitem(sys.modules, "cellSAM")
    assert CellSam.status().state is BackendState.NOT_INSTALLED


def test_using_it_too_early_says_what_is_missing(package, monkeypatch, tmp_path):
    (tmp_path / "cellsam_v1.2" / "model.pt").unlink()
    with pytest.raises(WeightsMissingError, match="no weights"):
        CellSam().label(square(), {})
    monkeypatch.delenv(cellsam.LICENCE_VARIABLE)
    with pytest.raises(LicenceError, match="non-commercial"):
        CellSam().label(square(), {})
    monkeypatch.delitem(sys.modules, "cellSAM")
    with pytest.raises(NotInstalledError, match="not on PyPI"):
        CellSam().label(square(), {})


def test_gray_goes_to_the_last_channel_and_large_ids_survive(package):
    labels = CellSam().label(square(), {"bbox_threshold": 0.7})
    image, options = package.calls[0]
    assert not image[..., :2].any()
    assert options["bbox_threshold"] == 0.7
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [0, 1]
    assert labels[30, 40] == 1


def test_two_channels_are_nuclear_and_membrane():
    image = np.stack([np.full((4, 4), 1), np.full((4, 4), 2)], -1)
    assert as_cellsam(image)[0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "error", [AttributeError("'NoneType' object has no attribute 'ndim'"), TypeError("not a sequence")]
)
def test_no_cells_are_zeros(package, error):
    def fail(*_, **__):
        raise error

    package.segment_cellular_image = fail
    assert not CellSam().label(square(), {}).any()


def test_other_errors_are_told_without_the_token(package, monkeypatch):
    monkeypatch.setenv(cellsam.TOKEN_VARIABLE, "s3cret")

    def fail(*_, **__):
        raise RuntimeError("401 for token s3cret")

    package.segment_cellular_image = fail
    with pytest.raises(BackendError, match="CellSAM failed") as caught:
        CellSam().label(square(), {})
    assert "s3cret" not in str(caught.value)


def test_large_images_are_cut_and_objects_joined(package):
    image = np.zeros((1300, 1500, 1), np.float32)
    image[600:700, 300:1200] = 1
    labels = CellSam().label(image, {})
    assert all(max(tile.shape[:2]) <= 1024 for tile, _ in package.calls)
    assert len(package.calls) == 4
    assert labels.max() == 1
    assert ((labels > 0) == (image[..., 0] > 0)).all()


def test_micro_sam_needs_the_model_and_its_decoder(monkeypatch, tmp_path):
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path))
    models = tmp_path / "models"
    models.mkdir()
    assert MicroSamAutomatic.status().state is BackendState.WEIGHTS_MISSING
    (models / "vit_b_lm").write_bytes(b"x")
    assert MicroSamAutomatic.status().state is BackendState.WEIGHTS_MISSING
    (models / "vit_b_lm_decoder").write_bytes(b"x")
    assert MicroSamAutomatic.status(Modality.LIGHT).state is BackendState.READY
    assert MicroSamAutomatic.status(Modality.EM).state is BackendState.WEIGHTS_MISSING
    with pytest.raises(WeightsMissingError):
        MicroSamAutomatic(Modality.EM).label(square(), {})


def test_broken_micro_sam_weights_are_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path))
    models = tmp_path / "models"
    models.mkdir()
    for name in ("vit_b_lm", "vit_b_lm_decoder"):
        (models / name).write_bytes(b"not a checkpoint")
    with pytest.raises(BackendError, match="cannot be loaded"):
        MicroSamAutomatic(Modality.LIGHT).label(square(), {})
