"""micro_sam's automatic instance segmentation (Archit et al. 2025), when its weights are on this computer."""

from __future__ import annotations

import importlib.util
import pickle
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from alapp.domain import BackendState, Modality, Parameter, Status
from alapp.environment import home_relative, prepare
from alapp.errors import BackendError, NotInstalledError
from alapp.stages.annotate.microsam import MODELS, as_rgb, cache_folder, own_unpickler
from alapp.stages.instances import link_slices
from alapp.stages.pseudolabel.foundation import by_tile, failure, require_ready


class MicroSamAutomatic:
    """Automatic instance segmentation (AIS) by a decoder beside the SAM encoder. Never downloads.

    AIS needs two files in micro_sam's cache, the model and its `_decoder`. The slower grid of prompts (AMG),
    which would do without a decoder, is not used.
    """

    title: ClassVar[str] = "micro_sam"
    suits: ClassVar[str] = "Cells and nuclei in light microscopy, mitochondria and nuclei in electron microscopy."
    modalities: ClassVar[frozenset[Modality]] = frozenset(Modality)
    parameters: ClassVar[tuple[Parameter, ...]] = ()

    def __init__(self, modality: Modality | None = None) -> None:
        """`modality` chooses among the cached weights."""
        self._modality = modality
        self._models: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Whether the package, a model and its decoder (for `modality`, or any) are here. Imports no torch."""
        if importlib.util.find_spec("micro_sam") is None:
            return Status(
                BackendState.NOT_INSTALLED, "The package micro_sam is not installed.", "Run: pip install micro_sam"
            )
        model = cached_pair(modality)
        if model is None:
            return _what_is_missing(modality)
        return Status(BackendState.READY, f"{model} and its decoder are on this computer.")

    def label(self, image: np.ndarray, params: Mapping[str, float]) -> np.ndarray:
        """See `PseudoLabeller.label`. A stack is segmented slice by slice and linked through z."""
        with self._lock:
            if image.ndim == 3:
                return by_tile(self._tile, as_rgb(image))
            return link_slices(np.stack([by_tile(self._tile, as_rgb(plane)) for plane in image])).astype(np.int32)

    def _tile(self, image: np.ndarray) -> np.ndarray:
        predictor, segmenter = self._loaded()
        from micro_sam.automatic_segmentation import automatic_instance_segmentation

        try:
            found = automatic_instance_segmentation(predictor, segmenter, image, ndim=2, verbose=False)
        except (MemoryError, RuntimeError, ValueError) as error:
            raise failure(self.title, error, str(error)) from error
        return np.asarray(found)

    def _loaded(self) -> tuple[Any, Any]:
        """Predictor and segmenter, loaded on first use."""
        if self._models is None:
            require_ready(self.title, self.status(self._modality))
            self._models = _load(cached_pair(self._modality))
        return self._models


def cached_pair(modality: Modality | None = None) -> str | None:
    """The first model fit for the modality (or any) whose weights and decoder are in the cache and can run here."""
    return next((name for name in _names(modality) if _is_complete(name) and _can_run(name)), None)


def _load(model: str) -> tuple[Any, Any]:
    prepare()
    weights, decoder = cache_folder() / model, cache_folder() / f"{model}_decoder"
    try:
        with own_unpickler():
            from micro_sam import util
            from micro_sam.automatic_segmentation import get_predictor_and_segmenter

            # Paths are given even for cached weights: with a name alone a wrong hash would start a download.
            predictor, state = util.get_sam_model(
                model[:5], checkpoint_path=str(weights), decoder_path=str(decoder), return_state=True
            )
            return get_predictor_and_segmenter(model[:5], segmentation_mode="ais", predictor=predictor, state=state)
    except ImportError as error:
        raise NotInstalledError(f"micro_sam cannot be imported: {error}. Run: pip install micro_sam") from error
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise BackendError(
            f"The weights {home_relative(weights)} or their decoder cannot be loaded: {error}. "
            "Remove both files and download them again."
        ) from error


def _names(modality: Modality | None) -> list[str]:
    return [name for each in ([modality] if modality else MODELS) for name in MODELS[each]]


def _is_complete(name: str) -> bool:
    return all((cache_folder() / file).is_file() for file in (name, f"{name}_decoder"))


def _can_run(name: str) -> bool:
    """The tiny models have an architecture of their own, in a package of its own."""
    return not name.startswith("vit_t") or importlib.util.find_spec("mobile_sam") is not None


def _what_is_missing(modality: Modality | None) -> Status:
    folder = home_relative(cache_folder())
    tiny = [name for name in _names(modality) if _is_complete(name)]
    if tiny:
        return Status(
            BackendState.NOT_INSTALLED,
            f"{tiny[0]} and its decoder are on this computer, but not the package mobile_sam that they need.",
            "Run: pip install mobilesam-mirror",
        )
    names = [name for name in _names(modality) if _can_run(name)]
    half = [name for name in names if (cache_folder() / name).is_file()]
    if half:
        return Status(
            BackendState.WEIGHTS_MISSING,
            f"{half[0]} is in {folder}, but not its decoder.",
            f"Download {half[0]}_decoder once with an internet connection, or copy it there.",
        )
    return Status(
        BackendState.WEIGHTS_MISSING,
        f"No model with its decoder was found in {folder}.",
        f"Download {names[0]} and {names[0]}_decoder once with an internet connection, or copy them there.",
    )
