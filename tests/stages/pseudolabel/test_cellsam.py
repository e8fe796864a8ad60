"""CellSAM's states, and how its package is called. Its weights are not free, so a stand-in has its interface."""

from __future__ import annotations

import importlib.machinery
import sys
import traceback
import types
from itertools import pairwise

import numpy as np
import pytest
import torch

from alapp.domain import BackendState
from alapp.errors import BackendError, LicenceError, NotInstalledError, ResourceError, WeightsMissingError
from alapp.stages.foundation import access
from alapp.stages.pseudolabel import cellsam
from alapp.stages.pseudolabel.cellsam import CellSam, as_cellsam
from alapp.stages.pseudolabel.foundation import HALO, TILE


@pytest.fixture
def package(monkeypatch, tmp_path):
    """An installed, licensed CellSAM with a weights file; it labels what is bright and keeps its calls."""
    module = types.ModuleType("cellSAM")
    module.__spec__ = importlib.machinery.ModuleSpec("cellSAM", None)
    module.calls, module.loaded = [], []

    def segment_cellular_image(img, model, **options):
        module.calls.append((img, options))
        return (img[..., 2] > 0.5).astype(np.int64) * 300, None, None

    module.segment_cellular_image = segment_cellular_image
    module.get_local_model = module.loaded.append
    monkeypatch.setitem(sys.modules, "cellSAM", module)
    monkeypatch.setenv(access.LICENCE_VARIABLE, "accepted")
    monkeypatch.setattr(cellsam, "NEEDED", ())
    monkeypatch.setattr(cellsam, "weights_folder", lambda: tmp_path)
    monkeypatch.setattr(cellsam, "_check_keys", lambda path: None)
    (tmp_path / "cellsam_v1.2").mkdir()
    (tmp_path / "cellsam_v1.2" / "cellsam_general.pt").write_bytes(b"weights")
    return module


def square() -> np.ndarray:
    image = np.zeros((80, 90, 1), np.float32)
    image[20:40, 30:60] = 1
    return image


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_states_in_order(package, monkeypatch, tmp_path):
    assert CellSam.status().state is BackendState.READY
    (tmp_path / "cellsam_v1.2" / "cellsam_general.pt").unlink()
    assert CellSam.status().state is BackendState.WEIGHTS_MISSING
    assert "broke off" in CellSam.status().detail
    (tmp_path / "cellsam_v1.2").rmdir()
    assert CellSam.status().state is BackendState.WEIGHTS_MISSING
    assert "broke off" not in CellSam.status().detail
    assert "models download cellsam_v1.2" in CellSam.status().remedy
    monkeypatch.setenv(access.LICENCE_VARIABLE, "yes")
    assert CellSam.status().state is BackendState.LICENCE
    monkeypatch.setattr(cellsam, "NEEDED", ("json", "no_such_module"))
    assert CellSam.status().state is BackendState.NOT_INSTALLED
    assert CellSam.status().detail.endswith("needs: no_such_module.")
    monkeypatch.delitem(sys.modules, "cellSAM")
    assert CellSam.status().detail.startswith("The package cellSAM is not installed")


def test_using_it_too_early_says_what_is_missing(package, monkeypatch, tmp_path):
    (tmp_path / "cellsam_v1.2" / "cellsam_general.pt").unlink()
    with pytest.raises(WeightsMissingError, match="no weights"):
        CellSam().label(square(), {})
    monkeypatch.delenv(access.LICENCE_VARIABLE)
    with pytest.raises(LicenceError, match="non-commercial"):
        CellSam().label(square(), {})
    monkeypatch.delitem(sys.modules, "cellSAM")
    with pytest.raises(NotInstalledError, match="not on PyPI"):
        CellSam().label(square(), {})


def test_the_published_weights_of_the_newest_version_are_loaded_once(package, tmp_path):
    (tmp_path / "cellsam_v1.2" / "cellsam_newer_name.pt").write_bytes(b"weights")
    (tmp_path / "cellsam_v1.10").mkdir()
    for name in ("cellsam_extra.pt", "cellsam_general.pt", "cellsam_other.pt"):
        (tmp_path / "cellsam_v1.10" / name).write_bytes(b"weights")
    package.get_local_model = lambda path: package.loaded.append(path) or "model"
    method = CellSam()
    method.label(square(), {})
    method.label(square(), {})
    assert package.loaded == [str(tmp_path / "cellsam_v1.10" / "cellsam_general.pt")]


def test_gray_goes_to_the_last_channel_and_large_ids_survive(package):
    labels = CellSam().label(square(), {"bbox_threshold": 0.7})
    image, options = package.calls[0]
    assert not image[..., :2].any()
    assert (image[..., 2:] == square()).all()
    assert options["bbox_threshold"] == 0.7
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [0, 1]
    assert labels[30, 40] == 1


def test_several_channels_are_nuclear_and_membrane():
    two = np.stack([np.full((4, 4), 1), np.full((4, 4), 2)], -1)
    assert as_cellsam(two)[0, 0].tolist() == [0, 1, 2]
    four = np.stack([np.full((4, 4), value, np.uint16) for value in (1, 2, 3, 4)], -1)
    assert as_cellsam(four)[0, 0].tolist() == [0, 1, 2]


def test_a_colour_picture_is_gray():
    rgb = np.broadcast_to(np.array([10, 20, 60], np.uint8), (4, 4, 3))
    assert as_cellsam(rgb)[0, 0].tolist() == [0, 0, 30]


@pytest.mark.parametrize(
    "error", [AttributeError("'NoneType' object has no attribute 'ndim'"), TypeError("not a sequence")]
)
def test_no_cells_are_zeros(package, error):
    package.segment_cellular_image = raising(error)
    labels = CellSam().label(square(), {})
    assert (labels.shape, labels.dtype) == ((80, 90), np.int32)
    assert not labels.any()


def test_zeros_of_another_shape_are_no_cells(package):
    package.segment_cellular_image = lambda img, *_, **__: (np.zeros((3, *img.shape[:2]), np.int32), None, None)
    labels = CellSam().label(square(), {})
    assert labels.shape == (80, 90)
    assert not labels.any()


@pytest.mark.parametrize("shape", [(2, 50, 1), (50, 3, 1), (40, 40, 1)])
def test_it_is_not_asked_about_slivers_and_constant_images(package, shape):
    image = np.full(shape, 9, np.uint8)
    if shape != (40, 40, 1):
        image[:1, :1] = 200
    assert not CellSam().label(image, {}).any()
    assert package.calls == []


@pytest.mark.parametrize(
    "error",
    [AttributeError("'NoneType' object has no attribute 'shape'"), TypeError("a float is required"), ValueError("")],
)
def test_other_errors_are_told(package, error):
    package.segment_cellular_image = raising(error)
    with pytest.raises(BackendError, match=r"CellSAM failed on this image: ['\w]"):
        CellSam().label(square(), {})


def test_running_out_of_memory_is_told_as_such(package):
    package.segment_cellular_image = raising(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(ResourceError, match="CellSAM ran out of memory"):
        CellSam().label(square(), {})


@pytest.mark.parametrize("when", ["import", "load", "segment"])
def test_the_token_is_in_no_text(package, monkeypatch, when):
    monkeypatch.setenv(access.TOKEN_VARIABLE, "s3cret\n")
    error = RuntimeError("API token s3cret is not valid")
    if when == "segment":
        package.segment_cellular_image = raising(error)
    else:
        package.get_local_model = raising(error if when == "load" else ImportError(str(error)))
    with pytest.raises(BackendError, match=r"token \[token\] is not valid") as caught:
        CellSam().label(square(), {})
    logged = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in logged
    assert "RuntimeError: API token" in logged or when == "import"


@pytest.mark.parametrize("content", ["garbage", "another model"])
def test_weights_that_are_no_cellsam_are_refused(package, monkeypatch, tmp_path, content):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cellSAM", package)
    monkeypatch.setenv(access.LICENCE_VARIABLE, "accepted")
    monkeypatch.setattr(cellsam, "NEEDED", ())
    monkeypatch.setattr(cellsam, "weights_folder", lambda: tmp_path)
    path = tmp_path / "cellsam_v1.2" / "cellsam_general.pt"
    if content == "garbage":
        path.write_bytes(b"not a checkpoint")
    else:
        torch.save({"model.weight": torch.zeros(1)}, path)
    with pytest.raises(BackendError, match="cannot be loaded"):
        CellSam().label(square(), {})
    assert package.loaded == []


def test_large_images_are_cut_and_objects_joined(package):
    image = np.zeros((1300, 1500, 1), np.float32)
    image[600:700, 300:1200] = 1
    labels = CellSam().label(image, {})
    assert all(max(tile.shape[:2]) <= 1024 for tile, _ in package.calls)
    assert len(package.calls) == 4
    assert labels.max() == 1
    assert ((labels > 0) == (image[..., 0] > 0)).all()


def test_tiles_that_are_kept_are_not_labelled_again(package):
    image = np.zeros((1300, 1500, 1), np.float32)
    image[600:700, 300:1200] = 1
    kept = {}

    def keep(name, make):
        if name not in kept:
            kept[name] = make()
        return kept[name]

    method = CellSam()
    method.keep = keep
    first = method.label(image, {})
    del kept["2"]
    assert np.array_equal(method.label(image, {}), first)
    assert len(package.calls) == 5
    method.label(square(), {})
    assert sorted(kept) == ["0", "1", "2", "3"]  # nothing is gained by keeping a part that is the whole


def test_a_stack_is_linked_through_z(package):
    stack = np.stack([square()] * 3)
    stack[2] = 0
    labels = CellSam().label(stack, {})
    assert labels.dtype == np.int32
    assert np.unique(labels[:2]).tolist() == [0, 1]
    assert not labels[2].any()
    assert len(package.calls) == 2


@pytest.mark.parametrize("width", [1025, 1792, 1793, 4000])
def test_neighbouring_tiles_share_two_halos_and_cover_everything(package, width):
    columns = np.broadcast_to(np.arange(width, dtype=np.float32)[:, None], (8, width, 1))
    CellSam().label(columns, {})
    ends = [(int(tile[0, 0, 2]), int(tile[0, -1, 2]) + 1) for tile, _ in package.calls]
    assert (ends[0][0], ends[-1][1]) == (0, width)
    assert all(stop - start == TILE for start, stop in ends)
    assert all(stop - start >= 2 * HALO for (_, stop), (start, _) in pairwise(ends))
