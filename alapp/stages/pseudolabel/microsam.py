"""micro_sam's automatic instance segmentation (Archit et al. 2025), when its weights are on this computer."""

from __future__ import annotations

import importlib.util
import pickle
import threading
from collections.abc import Mapping
from importlib import metadata
from typing import Any, ClassVar

import numpy as np

from alapp.domain import BackendState, Modality, Parameter, Report, Status, silent
from alapp.environment import home_relative, prepare
from alapp.errors import BackendError, NotInstalledError
from alapp.stages.annotate.microsam import MODELS, as_rgb, cache_folder, own_unpickler
from alapp.stages.foundation import choice
from alapp.stages.foundation.catalogue import how_to_get
from alapp.stages.foundation.choice import Weights
from alapp.stages.foundation.fingerprint import weights_hash
from alapp.stages.foundation.reading import why_not
from alapp.stages.foundation.residency import is_out_of_memory
from alapp.stages.pseudolabel import microsam_weights
from alapp.stages.pseudolabel.base import Keep, Provenance, keep_nothing
from alapp.stages.pseudolabel.foundation import by_plane, failure, require_ready
from alapp.stages.pseudolabel.grayscale import drop_small
from alapp.stages.pseudolabel.microsam_weights import GRID, GRID_ELSE, SEEDS, SEEDS_ELSE

PACKAGE = "micro_sam"

SMALLEST = Parameter("min_size", "Smallest object", 25, 0, 5000, 5, "pixels", "Smaller ones are dropped.")


class MicroSamAutomatic:
    """Automatic instance segmentation (AIS): a decoder beside the SAM encoder draws, for every pixel, whether it lies
    in an object and how far it is from the object's centre and border; a watershed makes objects of that.

    Never downloads. Needs two files in micro_sam's cache, the model and its `_decoder`. The other two modes below
    share everything but what is done with an embedding.
    """

    title: ClassVar[str] = "micro_sam"
    suits: ClassVar[str] = "Cells and nuclei in light microscopy, mitochondria and nuclei in electron microscopy."
    modalities: ClassVar[frozenset[Modality]] = frozenset(Modality)
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "seeds", "Seeds", 0, 0, 0.95, 0.05, "", "Higher finds more objects, lower splits more; 0 takes micro_sam's."
        ),
        Parameter("foreground", "Foreground", 0.5, 0.05, 0.95, 0.05, "", "Lower makes objects larger and finds more."),
        SMALLEST,
    )
    mode: ClassVar[str] = "AIS"
    with_decoder: ClassVar[bool] = True
    keep: Keep = staticmethod(keep_nothing)

    def __init__(self, modality: Modality | None = None) -> None:
        """`modality` chooses among the cached weights."""
        self._modality = modality
        self._loaded: tuple[Weights, Any, Any] | None = None
        self._lock = threading.Lock()

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Whether the package, a model and its decoder (for `modality`, or any) are here. Imports no torch."""
        if importlib.util.find_spec(PACKAGE) is None:
            return Status(
                BackendState.NOT_INSTALLED, "The package micro_sam is not installed.", "Run: pip install micro_sam"
            )
        found = microsam_weights.fit(modality, cls.with_decoder)
        if found is None:
            return _what_is_missing(modality, cls.with_decoder)
        return Status(BackendState.READY, f"{found.name} is on this computer{', with its decoder' * cls.with_decoder}.")

    @classmethod
    def models(cls, modality: Modality | None = None) -> list[str]:
        """See `base.HasModels`."""
        return [item.name for item in microsam_weights.here(modality, cls.with_decoder)]

    def provenance(self, params: Mapping[str, Any]) -> Provenance:
        """See `base.HasModels`."""
        weights = self._weights(params)
        digests = "+".join(weights_hash(path) for path in microsam_weights.files(weights))
        return Provenance(self.mode, weights.name, digests, f"{PACKAGE} {metadata.version(PACKAGE)}")

    def label(self, image: np.ndarray, params: Mapping[str, Any], report: Report = silent) -> np.ndarray:
        """See `PseudoLabeller.label`. A stack is segmented slice by slice and linked through z."""
        values = {item.name: float(params.get(item.name, item.default)) for item in self.parameters}

        def tile(pixels: np.ndarray, told: Report) -> np.ndarray:
            weights, predictor, segmenter = self._models(params)
            try:
                return _segment(predictor, segmenter, pixels, self._options(weights, values), told)
            except (MemoryError, RuntimeError, ValueError) as error:
                raise failure(PACKAGE, error, str(error)) from error

        with self._lock:
            return by_plane(
                tile, image, as_rgb, report, lambda labels: drop_small(labels, values["min_size"]), self.keep
            )

    def _options(self, weights: Weights, values: Mapping[str, float]) -> dict[str, float]:
        centre, border, smoothing = _seeds(weights, values)
        return {
            "center_distance_threshold": centre,
            "boundary_distance_threshold": border,
            "foreground_threshold": values["foreground"],
            "distance_smoothing": smoothing,
        }

    def _weights(self, params: Mapping[str, Any]) -> Weights:
        wanted = str(params.get("model") or "")
        if not wanted or importlib.util.find_spec(PACKAGE) is None:
            require_ready(PACKAGE, self.status(self._modality))
        return microsam_weights.chosen(wanted, self._modality, self.with_decoder)

    def _models(self, params: Mapping[str, Any]) -> tuple[Weights, Any, Any]:
        """Weights, predictor and segmenter; loaded on first use and when others are chosen."""
        weights = self._weights(params)
        if self._loaded is None or self._loaded[0] != weights:
            self._loaded = None  # frees the memory of the ones before
            self._loaded = (weights, *_load(weights, self.mode.lower()))
        return self._loaded


class MicroSamPrompts(MicroSamAutomatic):
    """Automatic prompt generation (APG): the decoder says where an object's centre is, and SAM answers a click there.

    Needs the same files as AIS. Better outlines where objects overlap or have an odd shape, a little slower.
    """

    title: ClassVar[str] = "micro_sam, clicks by its decoder (APG)"
    suits: ClassVar[str] = (
        "The same objects as micro_sam, with smoother outlines and 50 ms more an object; try it where AIS cuts them."
    )
    mode: ClassVar[str] = "APG"

    def _options(self, weights: Weights, values: Mapping[str, float]) -> dict[str, float]:
        centre, border, _ = _seeds(weights, values)
        return {
            "center_distance_threshold": centre,
            "boundary_distance_threshold": border,
            "foreground_threshold": values["foreground"],
            "min_size": 0,
        }


class MicroSamGrid(MicroSamAutomatic):
    """Automatic mask generation (AMG): SAM answers 32 x 32 clicks on a grid, and masks that are good enough stay.

    Needs no decoder, so it also runs with Segment Anything as it was published. Only used where it is chosen.
    """

    title: ClassVar[str] = "micro_sam, a grid of clicks (AMG)"
    suits: ClassVar[str] = (
        "Objects that no decoder was trained for. Slow: 20 to 160 seconds an image without a GPU, so look at the "
        "preview first."
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("quality", "Quality", 0, 0, 0.99, 0.01, "", "Higher keeps only sure masks; 0 takes micro_sam's."),
        Parameter("stability", "Stability", 0, 0, 0.99, 0.01, "", "Higher keeps only clear borders; 0: micro_sam's."),
        SMALLEST,
    )
    mode: ClassVar[str] = "AMG"
    with_decoder: ClassVar[bool] = False

    def _options(self, weights: Weights, values: Mapping[str, float]) -> dict[str, float]:
        quality, stability = GRID.get(weights.name, GRID_ELSE)
        return {
            "pred_iou_thresh": values["quality"] or quality,
            "stability_score_thresh": values["stability"] or stability,
        }


def _seeds(weights: Weights, values: Mapping[str, float]) -> tuple[float, float, float]:
    """Thresholds on the distances to centre and border, and the smoothing of both."""
    centre, border, smoothing = SEEDS.get(weights.name, SEEDS_ELSE)
    return values["seeds"] or centre, values["seeds"] or border, smoothing


def _segment(predictor: Any, segmenter: Any, pixels: np.ndarray, options: dict[str, float], report: Report) -> Any:
    """Integers (Y, X) for uint8 `pixels` (Y, X) or (Y, X, 3). What `automatic_instance_segmentation` of micro_sam
    does for one image, with a word to `report` after the embedding and after every 64 clicks of a grid."""
    from micro_sam import util

    total, done = 16.0, 0.0

    def begin(count: float, _: str) -> None:
        nonlocal total
        total = count

    def step(count: float) -> None:
        nonlocal done
        done += count
        report(1 + done, 2 + total, "")

    embeddings = util.precompute_image_embeddings(predictor, pixels, ndim=2, verbose=False)
    report(1, 2 + total, "")
    segmenter.initialize(image=pixels, image_embeddings=embeddings, verbose=True, pbar_init=begin, pbar_update=step)
    return np.asarray(segmenter.generate(**options))


def _load(weights: Weights, mode: str) -> tuple[Any, Any]:
    prepare()
    try:
        with own_unpickler():
            from micro_sam import util
            from micro_sam.automatic_segmentation import get_predictor_and_segmenter

            # Paths are given even for cached weights: with a name alone a wrong hash would start a download.
            decoder = {"decoder_path": str(weights.decoder)} if weights.decoder else {}
            predictor, state = util.get_sam_model(
                weights.architecture, checkpoint_path=str(weights.path), return_state=True, **decoder
            )
            return get_predictor_and_segmenter(
                weights.architecture, segmentation_mode=mode, predictor=predictor, state=state
            )
    except ImportError as error:
        raise NotInstalledError(f"micro_sam cannot be imported: {error}. Run: pip install micro_sam") from error
    except (
        MemoryError,
        pickle.UnpicklingError,
        EOFError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        OSError,
    ) as error:
        if is_out_of_memory(error):  # nothing is wrong with the files
            raise failure(PACKAGE, error, "") from error
        files = "or their decoder cannot" if weights.decoder else "cannot"
        remedy = "Remove it from your models." if weights.own else "Remove the files and download them again."
        told = f"The weights {home_relative(weights.path)} {files} be loaded: {why_not(error)}. {remedy}"
        raise BackendError(told) from error


def _what_is_missing(modality: Modality | None, with_decoder: bool) -> Status:
    folder = home_relative(cache_folder())
    names = [name for each in ([modality] if modality else MODELS) for name in MODELS[each]]
    there = [name for name in names if (cache_folder() / name).is_file()]
    complete = [name for name in there if not with_decoder or (cache_folder() / f"{name}_decoder").is_file()]
    if complete:  # and yet not to be used: a tiny model, without its package
        return Status(
            BackendState.NOT_INSTALLED,
            f"{complete[0]} is on this computer, but not the package mobile_sam that it needs.",
            "Run: pip install mobilesam-mirror",
        )
    names = [name for name in names if choice.can_run(name[:5])]
    half = [name for name in there if name in names]
    if half:
        return Status(
            BackendState.WEIGHTS_MISSING,
            f"{half[0]} is in {folder}, but not its decoder.",
            how_to_get(half[0]),
        )
    return Status(
        BackendState.WEIGHTS_MISSING,
        f"No model {'with its decoder ' * with_decoder}was found in {folder}.",
        how_to_get(names[0]),
    )
