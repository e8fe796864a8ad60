"""CellSAM (Marks et al. 2025), when it is installed, licensed and has its weights on this computer."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from alapp.domain import BackendState, Box, Modality, Parameter, Status
from alapp.environment import home_relative, prepare
from alapp.errors import BackendError, LicenceError, NotInstalledError, WeightsMissingError
from alapp.stages.instances import link_slices
from alapp.stages.patches import stitch

LICENCE_VARIABLE = "ALAPP_CELLSAM_LICENCE"
TOKEN_VARIABLE = "DEEPCELL_ACCESS_TOKEN"
TILE = 1024
"""CellSAM squashes every image to this many pixels a side; larger ones are cut."""
HALO = 128
NO_CELLS = (
    (AttributeError, "'NoneType' object has no attribute 'ndim'"),
    (TypeError, "not a sequence"),
)
"""What CellSAM raises where there is no cell: on an empty field, and on a constant image."""


class CellSam:
    """Boxes by CellFinder, masks by Segment Anything. Never downloads.

    The licence of code and weights allows academic, non-commercial use only, so it must be accepted first:
    set the environment variable `ALAPP_CELLSAM_LICENCE` to `accepted`.
    """

    title: ClassVar[str] = "CellSAM"
    suits: ClassVar[str] = "Cells and nuclei of many kinds in light microscopy. For academic, non-commercial use."
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.LIGHT})
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("bbox_threshold", "Confidence", 0.4, 0.05, 0.95, 0.05, "", "Lower finds more cells."),
    )

    def __init__(self, modality: Modality | None = None) -> None:
        self._model: Any = None
        self._lock = threading.Lock()

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Whether the package is here, its licence accepted and its weights cached. Imports no torch."""
        if importlib.util.find_spec("cellSAM") is None:
            return Status(
                BackendState.NOT_INSTALLED,
                "The package cellSAM is not installed; it is not on PyPI.",
                "requirements-cellsam.txt tells how to add it.",
            )
        if os.environ.get(LICENCE_VARIABLE) != "accepted":
            return Status(
                BackendState.LICENCE,
                "Its licence allows academic, non-commercial use only.",
                f"If that is your use, start the app with {LICENCE_VARIABLE}=accepted.",
            )
        if weights() is None:
            return Status(
                BackendState.WEIGHTS_MISSING,
                f"No weights were found in {home_relative(weights_folder())}.",
                "Get a token at users.deepcell.org and download the model once (1.2 GB), or copy the file there.",
            )
        return Status(BackendState.READY, "Installed, with its weights.")

    def label(self, image: np.ndarray, params: Mapping[str, float]) -> np.ndarray:
        """See `PseudoLabeller.label`. A stack is segmented slice by slice and linked through z."""
        threshold = float(params.get("bbox_threshold", self.parameters[0].default))
        with self._lock:
            if image.ndim == 3:
                return self._plane(image, threshold)
            return link_slices(np.stack([self._plane(plane, threshold) for plane in image])).astype(np.int32)

    def _plane(self, image: np.ndarray, threshold: float) -> np.ndarray:
        height, width = image.shape[:2]
        prepared = as_cellsam(image)
        boxes = [Box(0, y, x, 1, min(TILE, height), min(TILE, width)) for y in _starts(height) for x in _starts(width)]
        tiles = [(box, self._tile(prepared[box.slices[1:]], threshold)) for box in boxes]
        return tiles[0][1] if len(tiles) == 1 else stitch(tiles, (1, height, width), is_3d=False)

    def _tile(self, image: np.ndarray, threshold: float) -> np.ndarray:
        if image.max() <= image.min():
            return np.zeros(image.shape[:2], np.int32)
        model = self._loaded()
        from cellSAM import segment_cellular_image

        try:
            mask, _, _ = segment_cellular_image(
                image, model, normalize=True, bbox_threshold=threshold, device=_device()
            )
        except Exception as error:
            if any(isinstance(error, kind) and words in str(error) for kind, words in NO_CELLS):
                return np.zeros(image.shape[:2], np.int32)
            raise BackendError(f"CellSAM failed on this image: {without_token(str(error))}") from error
        return np.unique(np.append(0, mask), return_inverse=True)[1][1:].reshape(mask.shape).astype(np.int32)

    def _loaded(self) -> Any:
        """The model, loaded on first use from the file that is here."""
        if self._model is None:
            status = self.status()
            kinds = {
                BackendState.NOT_INSTALLED: NotInstalledError,
                BackendState.LICENCE: LicenceError,
                BackendState.WEIGHTS_MISSING: WeightsMissingError,
            }
            if status.state in kinds:
                raise kinds[status.state](f"CellSAM cannot be used: {status.detail} {status.remedy}")
            prepare()
            from cellSAM import get_local_model

            path = weights()
            try:
                _check_keys(path)
                self._model = get_local_model(str(path))
            except (RuntimeError, ValueError, KeyError, OSError, EOFError) as error:
                reason = without_token(str(error))
                raise BackendError(f"The weights {path} cannot be loaded: {reason}. Download them again.") from error
        return self._model


def as_cellsam(image: np.ndarray) -> np.ndarray:
    """CellSAM's input, float32 (Y, X, 3): (blank, nuclear, membrane). Gray goes last; of several channels the
    first two; RGB by its mean."""
    pixels = image.astype(np.float32)
    if pixels.shape[-1] == 3 and image.dtype == np.uint8:
        pixels = pixels.mean(axis=-1, keepdims=True)
    blank = np.zeros(pixels.shape[:2], np.float32)
    if pixels.shape[-1] == 1:
        return np.stack([blank, blank, pixels[..., 0]], axis=-1)
    return np.stack([blank, pixels[..., 0], pixels[..., 1]], axis=-1)


def weights_folder() -> Path:
    """Where CellSAM keeps its weights."""
    return Path.home() / ".deepcell" / "models"


def weights() -> Path | None:
    """The newest weights file, or None. A version folder without a file (a broken download) counts as none."""
    found = sorted(weights_folder().glob("cellsam_v*/*.pt"))
    return found[-1] if found else None


def without_token(text: str) -> str:
    """`text` without the access token, which some of CellSAM's errors contain."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    return text.replace(token, "[token]") if token else text


def _check_keys(path: Path | None) -> None:
    """Raises `ValueError` unless the file holds CellSAM's parts; the package itself accepts any file."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    keys = [str(key) for key in content] if isinstance(content, dict) else []
    if not all(any(key.startswith(part) for key in keys) for part in ("cellfinder.", "model.")):
        raise ValueError("the file does not hold a CellSAM model")


def _starts(length: int) -> list[int]:
    """Where tiles begin: they overlap by at least twice the halo, the last one ends with the image."""
    if length <= TILE:
        return [0]
    last = length - TILE
    count = int(np.ceil(last / (TILE - 2 * HALO)))
    return [round(index * last / count) for index in range(count + 1)]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
