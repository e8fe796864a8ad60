"""One table of what can go wrong with a foundation model, for each backend that it can hit, and what the user reads.

The packages are stand-ins that fail as the real ones were seen to: micro_sam 1.8.14, cellSAM 0.0.dev1 (35bc6e0),
sam2 1.1.0. In a sentence `{models}` is the folder of the weights; a row without an error ends well. Downloads and files
that somebody brings are in test_failure_sentences_files.py.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import pickle
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from alapp.domain import Modality
from alapp.errors import (
    BackendError,
    LicenceError,
    NotInstalledError,
    OutOfMemoryError,
    WeightsMissingError,
)
from alapp.stages.annotate import microsam, sam2, sam2_weights
from alapp.stages.foundation import folders
from alapp.stages.foundation.residency import Residents
from alapp.stages.pseudolabel import cellsam
from alapp.stages.pseudolabel.microsam import MicroSamAutomatic

MICRO, AUTOMATIC, CELLSAM, SAM2 = "clicks of micro_sam", "labels of micro_sam", "CellSAM", "SAM 2"
CPU_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes.")
CUDA_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
GARBAGE = pickle.UnpicklingError("invalid load key, 'n'.")


class Here:
    """A computer on which every package and every file of weights is as it should be, until a row spoils it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.models = folders.models()
        self.failing: dict[str, BaseException] = {}
        self.absent: set[str] = set()
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name in self.absent else find(name, *rest)
        )
        monkeypatch.setattr(pickle, "Unpickler", pickle.Unpickler)
        monkeypatch.setattr(sam2_weights, "_refused", {})
        monkeypatch.setenv("ALAPP_CELLSAM_LICENCE", "accepted")
        for module in (microsam, sam2):
            monkeypatch.setattr(module, "RESIDENTS", Residents(free=lambda: 10**12))
        self._micro_sam()
        self._cellsam()
        self._sam2()

    def module(self, name: str, **content: object) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="here")
        vars(made).update(content)
        self.patch.setitem(sys.modules, name, made)
        return made

    def step(self, name: str, answer: Callable[..., object]) -> Callable[..., object]:
        """A function of a package, which raises what a row put into `failing` under `name`."""

        def call(*given: object, **named: object) -> object:
            if name in self.failing:
                raise self.failing[name]
            return answer(*given, **named)

        return call

    def _micro_sam(self) -> None:
        predictor = types.SimpleNamespace(model_type="vit_b", reset_image=lambda: None)
        self.predictor = predictor

        def load(model_type: str, return_state: bool = False, **_: object) -> object:
            return (predictor, {}) if return_state else predictor

        embedding = {"features": np.zeros(1), "input_size": (1024, 1024), "original_size": (64, 64)}
        util = self.module(
            "micro_sam.util",
            get_sam_model=self.step("load", load),
            precompute_image_embeddings=self.step("run", lambda *_, **__: embedding),
        )
        segmenter = types.SimpleNamespace(initialize=lambda **_: None, generate=lambda **_: np.zeros((64, 64), int))
        automatic = self.module("micro_sam.automatic_segmentation")
        automatic.get_predictor_and_segmenter = lambda *_, **__: (predictor, segmenter)
        self.module("micro_sam", util=util, automatic_segmentation=automatic)
        self.module("mobile_sam")
        for name in ("vit_b_lm", "vit_b_lm_decoder"):
            self.put(folders.microsam() / name)

    def _cellsam(self) -> None:
        self.patch.setattr(cellsam, "NEEDED", ("cellsam_needs_this",))
        self.module("cellsam_needs_this")
        self.module(
            "cellSAM",
            get_local_model=self.step("load", lambda path: object()),
            segment_cellular_image=self.step("run", self._segment),
        )
        torch.save({"cellfinder.a": torch.zeros(1), "model.a": torch.zeros(1)}, self.put(cellsam_file()))

    @staticmethod
    def _segment(img: np.ndarray, model: object, **_: object) -> tuple[object, None, None]:
        if img.shape[-1] > 3:  # as its format_image_shape
            raise ValueError("A maximum of three channels is supported.")
        return (img[..., 2] > img[..., 2].mean()).astype(np.int64), None, None

    def _sam2(self) -> None:
        self.patch.setattr(sam2_weights, "NEEDED", ("sam2_needs_this",))
        self.module("sam2_needs_this")
        step = self.step

        class Predictor:
            _features = None

            def __init__(self, model: object) -> None:
                pass

            def set_image(self, image: np.ndarray) -> None:
                step("run", lambda: None)()

        model = types.SimpleNamespace(load_state_dict=step("load", lambda tensors: None), to=lambda device: None)
        self.module("sam2")
        self.module("sam2.build_sam", build_sam2=lambda config, device: model)
        self.module("sam2.sam2_image_predictor", SAM2ImagePredictor=Predictor)
        tensors = {f"image_encoder.trunk.blocks.{number}.a": torch.zeros(1) for number in range(12)}
        tensors["image_encoder.trunk.patch_embed.proj.weight"] = torch.zeros(96, 1)
        torch.save({"model": tensors}, self.put(sam2_file()))

    @staticmethod
    def put(path: Path, content: bytes = b"not a checkpoint") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


def cellsam_file() -> Path:
    return folders.deepcell() / "cellsam_v1.2" / "cellsam_general.pt"


def sam2_file() -> Path:
    return folders.sam2() / "sam2.1_hiera_tiny.pt"


def picture(channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (64, 64, channels), dtype=np.uint16)


USE: dict[str, Callable[[np.ndarray], object]] = {
    MICRO: lambda image: microsam.MicroSamClicks(Modality.LIGHT)._embedding(
        microsam.MicroSamClicks(Modality.LIGHT)._weights(), image
    ),
    AUTOMATIC: lambda image: MicroSamAutomatic(Modality.LIGHT).label(image, {}),
    CELLSAM: lambda image: cellsam.CellSam().label(image, {}),
    SAM2: lambda image: sam2.Sam2Clicks().prepare("a", image),
}


@dataclass(frozen=True)
class Row:
    """`spoil` makes the failure `what` happen to `backend`; `sentence` is what the user reads."""

    what: str
    backend: str
    spoil: Callable[[Here], object]
    error: type[Exception] | None = None
    sentence: str = ""
    image: Callable[[], np.ndarray] = picture


def without(name: str) -> Callable[[Here], None]:
    return lambda here: here.absent.add(name)


def fails(step: str, error: BaseException) -> Callable[[Here], None]:
    return lambda here: here.failing.update({step: error})


def nothing(here: Here) -> None:
    pass


def tiny_only(here: Here) -> None:
    here.absent.add("mobile_sam")
    for name in ("vit_b_lm", "vit_b_lm_decoder"):
        (folders.microsam() / name).rename(folders.microsam() / name.replace("_b_", "_t_"))


def half_cut(path: Callable[[], Path]) -> Callable[[Here], None]:
    def cut(here: Here) -> None:
        path().write_bytes(path().read_bytes()[:-50])

    return cut


def holds(path: Callable[[], Path], content: object) -> Callable[[Here], None]:
    return lambda here: torch.save(content, path())


def no_room(here: Here) -> None:
    for module in (microsam, sam2):
        here.patch.setattr(module, "RESIDENTS", Residents(free=lambda: 10**9))


def constant() -> np.ndarray:
    return np.full((64, 64, 1), 7, np.uint16)


def closed(limit: str) -> str:
    return f"{limit} Close other programs, or choose another method."


NO_MICRO = "The package micro_sam is not installed. Run: pip install micro_sam"
NO_TINY = (
    "vit_t_lm is on this computer, but not the package mobile_sam that it needs. Run: pip install mobilesam-mirror"
)


def fetch(name: str) -> str:
    """What to do about weights that are missing."""
    return f"Download {name} under “Models on this computer”, or run: python -m alapp models download {name}"


ROWS = [
    Row("missing package", MICRO, without("micro_sam"), NotInstalledError, NO_MICRO),
    Row("missing package", AUTOMATIC, without("micro_sam"), NotInstalledError, f"micro_sam cannot be used: {NO_MICRO}"),
    Row(
        "missing package", CELLSAM, without("cellSAM"), NotInstalledError,
        "CellSAM cannot be used: The package cellSAM is not installed; it is not on PyPI. requirements-cellsam.txt "
        "tells how to add it.",
    ),
    Row(
        "missing package", SAM2, without("sam2"), NotInstalledError,
        "SAM 2 cannot be used: The package sam2 is not installed. requirements-sam2.txt tells how to add it.",
    ),
    Row(
        "what a package needs is missing", CELLSAM, without("cellsam_needs_this"), NotInstalledError,
        "CellSAM cannot be used: The package cellSAM is installed, but not what it needs: cellsam_needs_this. "
        "Run: pip install -r requirements-cellsam.txt",
    ),
    Row(
        "what a package needs is missing", SAM2, without("sam2_needs_this"), NotInstalledError,
        "SAM 2 cannot be used: The package sam2 is installed, but not what it needs: sam2_needs_this. "
        "Run: pip install -r requirements-sam2.txt",
    ),
    Row("mobile_sam missing", MICRO, tiny_only, NotInstalledError, NO_TINY),
    Row("mobile_sam missing", AUTOMATIC, tiny_only, NotInstalledError, f"micro_sam cannot be used: {NO_TINY}"),
    Row(
        "licence not accepted", CELLSAM, lambda here: here.patch.delenv("ALAPP_CELLSAM_LICENCE"), LicenceError,
        "CellSAM cannot be used: Its licence allows academic, non-commercial use only. If that is your use, accept it "
        "under “Models on this computer”, or run: python -m alapp models accept cellsam_v1.2",
    ),
    Row(
        "weights missing", MICRO, lambda here: (folders.microsam() / "vit_b_lm").unlink(), WeightsMissingError,
        "micro_sam has no weights at {models}. Download them, or choose the built-in click method.",
    ),
    Row(
        "weights missing", AUTOMATIC, lambda here: (folders.microsam() / "vit_b_lm").unlink(), WeightsMissingError,
        "micro_sam cannot be used: No model with its decoder was found in {models}. " + fetch("vit_t_lm"),
    ),
    Row(
        "decoder missing", AUTOMATIC, lambda here: (folders.microsam() / "vit_b_lm_decoder").unlink(),
        WeightsMissingError,
        "micro_sam cannot be used: vit_b_lm is in {models}, but not its decoder. " + fetch("vit_b_lm"),
    ),
    Row(
        "weights missing", CELLSAM, lambda here: folders.deepcell().rename(here.models / "elsewhere"),
        WeightsMissingError,
        "CellSAM cannot be used: No weights were found in {models}. " + fetch("cellsam_v1.2"),
    ),
    Row(
        "weights missing", SAM2, lambda here: sam2_file().unlink(), WeightsMissingError,
        "SAM 2 cannot be used: No weights of SAM 2 were found in {models}. " + fetch("sam2.1_hiera_tiny"),
    ),
    Row(
        "version folder without file", CELLSAM, lambda here: cellsam_file().unlink(), WeightsMissingError,
        "CellSAM cannot be used: The folder {models}/cellsam_v1.2 holds no weights; its download broke off. "
        + fetch("cellsam_v1.2"),
    ),
    Row(
        "copy broke off", SAM2, half_cut(sam2_file), BackendError,
        "SAM 2 cannot be used: The weights {models}/sam2.1_hiera_tiny.pt cannot be used: it is damaged or was not "
        "copied completely. Remove the file and download it again.",
    ),
    Row(
        "garbage checkpoint", MICRO, fails("load", GARBAGE), BackendError,
        "The weights {models}/vit_b_lm cannot be loaded: it is damaged, or no checkpoint of PyTorch. Remove "
        "the file and download it again.",
    ),
    Row(
        "garbage checkpoint", AUTOMATIC, fails("load", GARBAGE), BackendError,
        "The weights {models}/vit_b_lm or their decoder cannot be loaded: it is damaged, or no checkpoint of PyTorch. "
        "Remove the files and download them again.",
    ),
    Row(
        "garbage checkpoint", CELLSAM, lambda here: here.put(cellsam_file()), BackendError,
        "The weights {models}/cellsam_v1.2/cellsam_general.pt cannot be loaded: it is damaged, or no checkpoint of "
        "PyTorch. Download them again.",
    ),
    Row(
        "wrong architecture", MICRO, lambda here: setattr(here.predictor, "model_type", "vit_l"), BackendError,
        "The weights {models}/vit_b_lm cannot be loaded: they are of vit_l, not of vit_b. Remove the file and download "
        "it again.",
    ),
    Row(
        "wrong architecture", CELLSAM, holds(cellsam_file, {"model.a": torch.zeros(1)}), BackendError,
        "The weights {models}/cellsam_v1.2/cellsam_general.pt cannot be loaded: the file does not hold a CellSAM "
        "model. Download them again.",
    ),
    Row(
        "wrong architecture", SAM2, holds(sam2_file, {"model": {"a": torch.zeros(1)}}), BackendError,
        "The weights {models}/sam2.1_hiera_tiny.pt cannot be loaded: it does not hold a SAM 2 model. Remove the file "
        "and download it again.",
    ),
    Row("no cells", CELLSAM, fails("run", AttributeError("'NoneType' object has no attribute 'ndim'"))),
    Row("no cells, on a constant channel", CELLSAM, fails("run", TypeError("not a sequence"))),
    *(Row("constant image", backend, nothing, image=constant) for backend in USE),
    *(Row("five channels", backend, nothing, image=lambda: picture(5)) for backend in USE),
    *(
        Row(
            f"out of memory while {word}, {kind}", MICRO, fails(step, error), BackendError,
            "micro_sam ran out of memory. Close other programs, or choose a smaller model or the built-in click "
            "method.",
        )
        for step, word in (("load", "loading"), ("run", "working"))
        for kind, error in (("CPU", CPU_MEMORY), ("CUDA", CUDA_MEMORY), ("Python", MemoryError()))
    ),
    *(
        Row(f"out of memory while {word}, {kind}", backend, fails(step, error), OutOfMemoryError,
            closed(f"{title} ran out of memory."))
        for backend, title in ((AUTOMATIC, "micro_sam"), (CELLSAM, "CellSAM"), (SAM2, "SAM 2"))
        for step, word in (("load", "loading"), ("run", "working"))
        for kind, error in (("CPU", CPU_MEMORY), ("CUDA", CUDA_MEMORY), ("Python", MemoryError()))
    ),
    Row(
        "too little memory to begin", MICRO, no_room, BackendError,
        "vit_b_lm needs about 3.9 GB of memory, and 1.0 GB are free. Close other programs, or choose a smaller model "
        "or the built-in method.",
    ),
    Row(
        "too little memory to begin", SAM2, no_room, BackendError,
        "SAM 2 needs about 1.0 GB of memory, and 1.0 GB are free. Close other programs, or choose a smaller model "
        "or the built-in method.",
    ),
]  # fmt: skip


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(monkeypatch)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.backend}: {row.what}")
def test_what_the_user_reads(here: Here, row: Row) -> None:
    folder = {CELLSAM: folders.deepcell, SAM2: folders.sam2}.get(row.backend, folders.microsam)()
    row.spoil(here)
    if row.error is None:
        labels = USE[row.backend](row.image())
        if "cells" in row.what or "constant" in row.what:
            assert not np.any(labels) or row.backend in (MICRO, SAM2)
        return
    with pytest.raises(row.error) as caught:
        USE[row.backend](row.image())
    assert type(caught.value) is row.error
    assert str(caught.value).replace("\\", "/") == row.sentence.replace("{models}", folder.as_posix())


def test_every_backend_works_before_it_is_spoilt(here: Here) -> None:
    """Or the rows would prove nothing."""
    for use in USE.values():
        use(picture())
