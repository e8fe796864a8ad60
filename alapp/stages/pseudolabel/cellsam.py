"""CellSAM (Marks et al. 2025), when it is installed, licensed and has its weights on this computer."""

from __future__ import annotations

import importlib.util
import pickle
import re
import threading
import traceback
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from alapp.domain import BackendState, Modality, Parameter, Report, Status, silent
from alapp.environment import home_relative, prepare
from alapp.errors import AlappError, BackendError, NotInstalledError
from alapp.stages.foundation import access, folders
from alapp.stages.foundation.catalogue import how_to_accept, how_to_get
from alapp.stages.foundation.fingerprint import weights_hash
from alapp.stages.foundation.reading import why_not
from alapp.stages.foundation.residency import is_out_of_memory
from alapp.stages.pseudolabel.base import Keep, Provenance, keep_nothing
from alapp.stages.pseudolabel.foundation import by_plane, failure, require_ready

NAME = "cellsam_v1.2"
"""Its name in `foundation.catalogue`, under which its licence is accepted."""
NEEDED = ("kornia", "dask_image", "distributed")
"""Modules that CellSAM imports and that its installation without dependencies leaves out."""
NO_CELLS = (
    (AttributeError, "'NoneType' object has no attribute 'ndim'"),
    (TypeError, "not a sequence"),
)
"""What CellSAM raises where there is no cell: on an empty field, and on a constant image."""
SMALLEST = 4
"""CellSAM takes the shortest axis of an image for its channels, so a side must be longer than three pixels."""


class CellSam:
    """Boxes by CellFinder, masks by Segment Anything. Never downloads.

    The licence of code and weights allows academic, non-commercial use only, so it must be accepted first; see
    `foundation.access`.
    """

    title: ClassVar[str] = "CellSAM"
    suits: ClassVar[str] = "Cells and nuclei of many kinds in light microscopy. For academic, non-commercial use."
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.LIGHT})
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("bbox_threshold", "Confidence", 0.4, 0.05, 0.95, 0.05, "", "Lower finds more cells."),
    )
    keep: Keep = staticmethod(keep_nothing)

    def __init__(self, modality: Modality | None = None) -> None:
        """`modality` makes no difference: the model suits one only."""
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
        absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if absent:
            return Status(
                BackendState.NOT_INSTALLED,
                f"The package cellSAM is installed, but not what it needs: {', '.join(absent)}.",
                "Run: pip install -r requirements-cellsam.txt",
            )
        if not access.accepted(NAME):
            return Status(
                BackendState.LICENCE,
                "Its licence allows academic, non-commercial use only.",
                how_to_accept(NAME),
            )
        return _weights_status()

    @classmethod
    def models(cls, modality: Modality | None = None) -> list[str]:
        """See `base.HasModels`. There is one model."""
        return []

    def provenance(self, params: Mapping[str, Any]) -> Provenance:
        """See `base.HasModels`."""
        require_ready(self.title, self.status())
        path = weights()
        try:
            version = f" {metadata.version('cellSAM')}"
        except metadata.PackageNotFoundError:  # on the path, but not installed
            version = ""
        return Provenance("", f"{path.parent.name}/{path.stem}", weights_hash(path), f"cellSAM{version}")

    def label(self, image: np.ndarray, params: Mapping[str, Any], report: Report = silent) -> np.ndarray:
        """See `PseudoLabeller.label`. A stack is segmented slice by slice and linked through z."""
        threshold = float(params.get("bbox_threshold", self.parameters[0].default))
        with self._lock:
            return by_plane(lambda tile, _: self._tile(tile, threshold), image, as_cellsam, report, keep=self.keep)

    def _tile(self, image: np.ndarray, threshold: float) -> np.ndarray:
        nothing = np.zeros(image.shape[:2], np.int32)
        if min(nothing.shape) < SMALLEST:
            return nothing
        model = self._loaded()
        from cellSAM import segment_cellular_image

        try:
            mask, _, _ = segment_cellular_image(
                image, model, normalize=True, bbox_threshold=threshold, device=_device()
            )
        except Exception as error:
            if any(isinstance(error, kind) and words in str(error) for kind, words in NO_CELLS):
                return nothing
            raise _without_token_in(error, failure(self.title, error, access.without_token(str(error)))) from None
        # Without cells it may also give zeros of another shape, (channels, Y, X).
        return mask if mask.any() else nothing

    def _loaded(self) -> Any:
        """The model, loaded on first use from the file that is here."""
        if self._model is None:
            require_ready(self.title, self.status())
            path = weights()
            prepare()
            try:
                from cellSAM import get_local_model

                _check_keys(path)
                self._model = get_local_model(str(path))
            except ImportError as error:
                told = NotInstalledError(
                    f"cellSAM cannot be imported: {access.without_token(str(error))}. See requirements-cellsam.txt."
                )
                raise _without_token_in(error, told) from None
            except (
                MemoryError,
                RuntimeError,
                ValueError,
                KeyError,
                OSError,
                EOFError,
                pickle.UnpicklingError,
            ) as error:
                if is_out_of_memory(error):  # nothing is wrong with the file
                    raise failure(self.title, error, "") from error
                told = BackendError(
                    f"The weights {home_relative(path)} cannot be loaded: {access.without_token(why_not(error))}. "
                    "Download them again."
                )
                raise _without_token_in(error, told) from None
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
    return folders.deepcell()


def weights() -> Path | None:
    """The weights file to use, or None: of the newest version, `cellsam_general` (the published one) first.

    A version folder without a file (a broken download) counts as none.
    """
    found = [path for path in weights_folder().glob("cellsam_v*/*.pt") if path.is_file()]
    return max(found, key=_preference, default=None)


def _preference(path: Path) -> tuple[list[int], bool, str]:
    version = [int(number) for number in re.findall(r"\d+", path.parent.name)]
    return version, path.stem == "cellsam_general", path.name


def _weights_status() -> Status:
    if weights() is not None:
        return Status(BackendState.READY, "Installed, with its weights.")
    broken = sorted(weights_folder().glob("cellsam_v*/"))
    if broken:  # CellSAM takes the folder for the weights and never downloads again
        return Status(
            BackendState.WEIGHTS_MISSING,
            f"The folder {home_relative(broken[-1])} holds no weights; its download broke off.",
            how_to_get(NAME),
        )
    return Status(
        BackendState.WEIGHTS_MISSING,
        f"No weights were found in {home_relative(weights_folder())}.",
        how_to_get(NAME),
    )


def _without_token_in(error: BaseException, told: AlappError) -> AlappError:
    """`told`, with the traceback of `error` as a note: logs print a chained error, and its token, as it is."""
    told.add_note(access.without_token("".join(traceback.format_exception(error))))
    return told


def _check_keys(path: Path | None) -> None:
    """Raises `ValueError` unless the file holds CellSAM's parts; the package itself accepts any file."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    keys = [str(key) for key in content] if isinstance(content, dict) else []
    if not all(any(key.startswith(part) for key in keys) for part in ("cellfinder.", "model.")):
        raise ValueError("the file does not hold a CellSAM model")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
