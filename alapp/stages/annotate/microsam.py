"""Clicks answered by micro_sam (Archit et al. 2025), when its weights are on this computer."""

from __future__ import annotations

import importlib.util
import os
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import BackendState, Modality, Parameter, Status
from alapp.environment import home_relative
from alapp.errors import BackendError, NotInstalledError, WeightsMissingError
from alapp.stages.annotate.base import PLAIN, Point, Tuning

MODELS = {
    Modality.LIGHT: ("vit_t_lm", "vit_b_lm", "vit_l_lm"),
    Modality.EM: ("vit_t_em_organelles", "vit_b_em_organelles", "vit_l_em_organelles"),
}
"""Fit for each modality, the fastest first: a CPU embeds with vit_t in a second, with vit_b in nine."""

CACHED_SLICES = 8  # 3.9 MB each

LOOSEST_LOGIT = 4.0  # logits of SAM lie mostly within 10 of 0

_UNPICKLER_LOCK = threading.Lock()


class MicroSamClicks:
    """Segment Anything, fine-tuned on microscopy, prompted by points, a box or the mask so far.

    `modality` chooses among the cached weights; `checkpoint` is a file of the user's own, `model_type` its
    architecture. Nothing is ever downloaded here. The model holds the image that it works on, so one lock
    covers every use of it.
    """

    title = "micro_sam"
    suits = "Cells, nuclei and organelles whose borders are faint or textured; needs weights (41 to 375 MB)."
    modalities = frozenset(Modality)
    parameters: tuple[Parameter, ...] = ()
    uses_prior = False

    def __init__(
        self, modality: Modality | None = None, checkpoint: Path | str | None = None, model_type: str | None = None
    ) -> None:
        self._modality = modality
        self._checkpoint = Path(checkpoint) if checkpoint else None
        self._model_type = model_type
        self._predictor: Any = None
        self._embeddings: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Whether the package and weights (for `modality`, or any) are here. Imports neither torch nor micro_sam."""
        if importlib.util.find_spec("micro_sam") is None:
            return Status(
                BackendState.NOT_INSTALLED, "The package micro_sam is not installed.", "Run: pip install micro_sam"
            )
        model = cached_model(modality)
        if model is None:
            wanted = MODELS[modality][0] if modality else MODELS[Modality.LIGHT][0]
            return Status(
                BackendState.WEIGHTS_MISSING,
                f"No weights of micro_sam were found in {home_relative(cache_folder())}.",
                f"Download {wanted} once with an internet connection, or copy it there from another computer.",
            )
        return Status(BackendState.READY, f"Weights {model} are on this computer.")

    def prepare(self, key: str, image: np.ndarray, prior: np.ndarray | None = None) -> None:
        """Compute the embedding of `image` (Y, X, C) and keep it; seconds on a CPU. `prior` is not used.

        Raises `WeightsMissingError`, `NotInstalledError`, or `BackendError` when the model fails.
        """
        with self._lock:
            if key in self._embeddings:
                self._embeddings.move_to_end(key)
                return
            predictor = self._loaded()
            from micro_sam import util

            try:
                made = util.precompute_image_embeddings(predictor, as_rgb(image), ndim=2, verbose=False)
            except (RuntimeError, ValueError) as error:
                raise BackendError(f"micro_sam could not read this image: {error}") from error
            self._embeddings[key] = made
            while len(self._embeddings) > CACHED_SLICES:
                self._embeddings.popitem(last=False)

    def segment(
        self,
        key: str,
        positive: Sequence[Point],
        negative: Sequence[Point],
        box: tuple[float, float, float, float] | None = None,
        previous: np.ndarray | None = None,
        tuning: Tuning = PLAIN,
    ) -> np.ndarray:
        """See `base.ClickSegmenter`. Granularity chooses among the three masks that SAM proposes for points; at
        full looseness the threshold on SAM's logits is `LOOSEST_LOGIT` instead of 0."""
        with self._lock:
            embedding = self._embeddings[key]
            self._embeddings.move_to_end(key)
            has_previous = previous is not None and bool(previous.any())
            if not positive and box is None and not has_previous:
                return np.zeros(embedding["original_size"], bool)
            predictor = self._loaded()
            try:
                with _threshold(predictor.model, tuning.looseness * LOOSEST_LOGIT):
                    known = previous if has_previous else None
                    mask = _prompt(predictor, embedding, positive, negative, box, known, tuning.granularity)
            except (RuntimeError, ValueError) as error:
                raise BackendError(f"micro_sam failed on these clicks: {error}") from error
        return np.asarray(mask).reshape(mask.shape[-2:]).astype(bool)

    def _loaded(self) -> Any:
        """The predictor; loaded on first use, while the lock is held."""
        if self._predictor is None:
            if importlib.util.find_spec("micro_sam") is None:
                raise NotInstalledError("The package micro_sam is not installed. Run: pip install micro_sam")
            model = self._model_type if self._checkpoint else cached_model(self._modality)
            if model is None or (self._checkpoint and not self._checkpoint.is_file()):
                where = self._checkpoint or cache_folder()
                raise WeightsMissingError(
                    f"micro_sam has no weights at {where}. Download them, or choose the built-in click method."
                )
            self._predictor = _load(model, self._checkpoint)
        return self._predictor


def cache_folder() -> Path:
    """Where micro_sam keeps its weights: `MICROSAM_CACHEDIR`, or pooch's cache of the operating system."""
    if "MICROSAM_CACHEDIR" in os.environ:
        return Path(os.environ["MICROSAM_CACHEDIR"]) / "models"
    import pooch

    return Path(os.path.expanduser(pooch.os_cache("micro_sam"))) / "models"


def cached_model(modality: Modality | None = None) -> str | None:
    """The first model fit for the modality (or any) whose weights are in the cache and can run here."""
    chosen = [modality] if modality else list(MODELS)
    tiny = importlib.util.find_spec("mobile_sam") is not None
    for name in (name for each in chosen for name in MODELS[each]):
        if (tiny or not name.startswith("vit_t")) and (cache_folder() / name).is_file():
            return name
    return None


@contextmanager
def own_unpickler() -> Iterator[None]:
    """Loading a model replaces `pickle.Unpickler` in the whole process; this puts it back."""
    with _UNPICKLER_LOCK:  # two loads at once would take each other's for the original
        unpickler = pickle.Unpickler
        try:
            yield
        finally:
            pickle.Unpickler = unpickler


def _load(model: str, checkpoint: Path | None) -> Any:
    path = checkpoint or cache_folder() / model
    try:
        with own_unpickler():
            from micro_sam import util

            # A path is given even for cached weights: with a name alone a wrong hash would start a download.
            return util.get_sam_model(model_type=model[:5], checkpoint_path=str(path))
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, OSError) as error:
        raise BackendError(
            f"The weights {path} cannot be loaded: {error}. Remove the file and download it again."
        ) from error


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (Y, X) or (Y, X, 3): channels other than three are averaged, 0.5 to 99.5 percentile to 0..255."""
    pixels = image.astype(np.float32)
    pixels = pixels if pixels.shape[-1] == 3 else pixels.mean(axis=-1)
    low, high = np.percentile(pixels, (0.5, 99.5))
    return np.clip((pixels - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)


@contextmanager
def _threshold(model: Any, logit: float) -> Iterator[None]:
    """SAM cuts its logits lower by `logit` inside of the block."""
    before = model.mask_threshold
    model.mask_threshold = before - logit
    try:
        yield
    finally:
        model.mask_threshold = before


def _prompt(
    predictor: Any,
    embedding: Any,
    positive: Sequence[Point],
    negative: Sequence[Point],
    box: tuple[float, float, float, float] | None,
    previous: np.ndarray | None,
    granularity: float,
) -> np.ndarray:
    from micro_sam import prompt_based_segmentation as prompts

    points = np.array([*positive, *negative], np.float32).reshape(-1, 2)
    signs = np.array([1] * len(positive) + [0] * len(negative))
    if previous is not None:
        # A box around the mask so far would forbid it to grow to a point outside.
        rows, columns = np.flatnonzero(previous.any(axis=1)), np.flatnonzero(previous.any(axis=0))
        inside = all(rows[0] <= y <= rows[-1] and columns[0] <= x <= columns[-1] for y, x in positive)
        given = {"points": points[:, ::-1].copy(), "labels": signs} if len(points) else {}
        return prompts.segment_from_mask(predictor, previous, image_embeddings=embedding, use_box=inside, **given)
    if box is not None and len(points):
        return prompts.segment_from_box_and_points(predictor, np.array(box), points, signs, image_embeddings=embedding)
    if box is not None:
        return prompts.segment_from_box(predictor, np.array(box), image_embeddings=embedding)
    if granularity:
        masks = prompts.segment_from_points(
            predictor, points, signs, image_embeddings=embedding, multimask_output=True, use_best_multimask=False
        )
        by_size = sorted(masks, key=np.count_nonzero)
        return by_size[round((granularity + 1) / 2 * (len(by_size) - 1))]
    # After one positive click alone, micro_sam takes the best of three masks.
    return prompts.segment_from_points(predictor, points, signs, image_embeddings=embedding)
