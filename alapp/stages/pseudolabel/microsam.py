"""micro_sam's automatic instance segmentation (Archit et al. 2025), when its weights are on this computer."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from alapp.domain import BackendState, Modality, Parameter, Status
from alapp.environment import home_relative, prepare
from alapp.errors import BackendError, NotInstalledError, WeightsMissingError
from alapp.stages.annotate.microsam import MODELS, as_rgb, cache_folder, own_unpickler
from alapp.stages.instances import link_slices


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
        self._modality = modality
        self._loaded: tuple[Any, Any] | None = None
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
            wanted = MODELS[modality or Modality.LIGHT][0]
            return Status(
                BackendState.WEIGHTS_MISSING,
                f"No model with its decoder was found in {home_relative(cache_folder())}.",
                f"Download {wanted} and {wanted}_decoder once with an internet connection, or copy them there.",
            )
        return Status(BackendState.READY, f"{model} and its decoder are on this computer.")

    def label(self, image: np.ndarray, params: Mapping[str, float]) -> np.ndarray:
        """See `PseudoLabeller.label`. A stack is segmented slice by slice and linked through z."""
        with self._lock:
            if image.ndim == 3:
                return self._plane(image)
            return link_slices(np.stack([self._plane(plane) for plane in image])).astype(np.int32)

    def _plane(self, image: np.ndarray) -> np.ndarray:
        if image.max() <= image.min():
            return np.zeros(image.shape[:-1], np.int32)
        predictor, segmenter = self._models()
        from micro_sam.automatic_segmentation import automatic_instance_segmentation

        try:
            found = automatic_instance_segmentation(predictor, segmenter, as_rgb(image), ndim=2, verbose=False)
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"micro_sam failed on this image: {error}") from error
        return np.unique(np.append(0, found), return_inverse=True)[1][1:].reshape(found.shape).astype(np.int32)

    def _models(self) -> tuple[Any, Any]:
        """Predictor and segmenter, loaded on first use."""
        if self._loaded is None:
            if importlib.util.find_spec("micro_sam") is None:
                raise NotInstalledError("The package micro_sam is not installed. Run: pip install micro_sam")
            model = cached_pair(self._modality)
            if model is None:
                raise WeightsMissingError(f"micro_sam has no model with a decoder in {cache_folder()}.")
            prepare()
            path = cache_folder() / model
            try:
                with own_unpickler():
                    from micro_sam.automatic_segmentation import get_predictor_and_segmenter

                    self._loaded = get_predictor_and_segmenter(model, segmentation_mode="ais")
            except (RuntimeError, ValueError, KeyError, OSError) as error:
                raise BackendError(f"The weights {path} cannot be loaded: {error}. Download them again.") from error
        return self._loaded


def cached_pair(modality: Modality | None = None) -> str | None:
    """The first model fit for the modality (or any) whose weights and decoder are in the cache and can run here."""
    tiny = importlib.util.find_spec("mobile_sam") is not None
    folder = cache_folder()
    for each in [modality] if modality else list(MODELS):
        for name in MODELS[each]:
            complete = (folder / name).is_file() and (folder / f"{name}_decoder").is_file()
            if complete and (tiny or not name.startswith("vit_t")):
                return name
    return None
