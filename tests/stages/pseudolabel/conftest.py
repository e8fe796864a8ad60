"""Stand-ins for the packages of foundation models, so that every pseudo-labeller passes the same tests everywhere.

Each labels the connected parts of the rarer of two classes of brightness, and has the interface, the odd types and
the odd errors of the package that it stands for.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types

import numpy as np
import pytest
from skimage.filters import threshold_otsu
from skimage.measure import label

from alapp.domain import Modality
from alapp.stages.annotate.microsam import MODELS
from alapp.stages.foundation import folders
from alapp.stages.pseudolabel import cellsam


def parts(plane: np.ndarray) -> np.ndarray:
    """The connected parts of the rarer class of a plane (Y, X) with contrast."""
    bright = plane > threshold_otsu(plane)
    return label(bright if bright.mean() < 0.5 else ~bright)


def modules(monkeypatch, *names: str) -> list[types.ModuleType]:
    made = []
    for name in names:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
        made.append(module)
    return made


@pytest.fixture
def stand_ins(monkeypatch):
    """micro_sam and CellSAM, installed with their weights; the latter's licence is accepted."""
    whole, util, automatic = modules(monkeypatch, "micro_sam", "micro_sam.util", "micro_sam.automatic_segmentation")
    whole.util, whole.automatic_segmentation = util, automatic
    folders.microsam().mkdir(parents=True)
    for name in (name for modality in Modality for name in MODELS[modality]):
        for file in (name, f"{name}_decoder"):
            (folders.microsam() / file).write_bytes(b"weights")

    class Segmenter:
        def initialize(self, image, image_embeddings, verbose, pbar_init, pbar_update):
            assert image.dtype == np.uint8
            assert image.shape[2:] in ((), (3,))
            pbar_init(1, "step")
            pbar_update(1)
            self.image = image if image.ndim == 2 else image.mean(axis=-1)

        def generate(self, **_):
            return parts(self.image).astype(np.uint64) if self.image.max() > self.image.min() else self.image * 0

    util.get_sam_model = lambda *_, **__: ("predictor", {"decoder_state": {}})
    util.precompute_image_embeddings = lambda *_, **__: "embeddings"
    automatic.get_predictor_and_segmenter = lambda *_, **__: ("predictor", Segmenter())

    (cell,) = modules(monkeypatch, "cellSAM")
    monkeypatch.setattr(cellsam, "NEEDED", ())
    monkeypatch.setattr(cellsam, "_check_keys", lambda path: None)
    monkeypatch.setenv("ALAPP_CELLSAM_LICENCE", "accepted")
    (folders.deepcell() / "cellsam_v1.2").mkdir(parents=True)
    (folders.deepcell() / "cellsam_v1.2" / "cellsam_general.pt").write_bytes(b"weights")

    def segment_cellular_image(img, model, **_):
        plane = img.sum(axis=-1)
        if plane.max() <= plane.min():
            raise TypeError("cannot unpack: not a sequence")
        return parts(plane).astype(np.int64), None, None

    cell.segment_cellular_image, cell.get_local_model = segment_cellular_image, lambda path: "model"
