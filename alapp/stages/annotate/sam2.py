"""Clicks answered by Segment Anything 2 (Ravi et al. 2024), when its package and weights are on this computer."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Modality, Parameter, Status
from alapp.environment import home_relative, prepare
from alapp.errors import BackendError, NotInstalledError
from alapp.stages.annotate import sam2_weights
from alapp.stages.annotate.base import PLAIN, Point, Tuning
from alapp.stages.annotate.embedding_cache import EmbeddingCache, entry_name
from alapp.stages.annotate.microsam import as_rgb
from alapp.stages.foundation.fingerprint import weights_hash
from alapp.stages.foundation.reading import why_not
from alapp.stages.foundation.residency import RESIDENTS, is_out_of_memory
from alapp.stages.foundation.states import HOW_TO_INSTALL
from alapp.stages.pseudolabel.foundation import failure, require_ready

CACHED_SLICES = 8  # 17 MB each, on disk too
FEATURE, FINER = "image_embed", "high_res_feats"  # names that SAM 2 gives them
MASK_SIDE = 256  # of the mask that SAM 2 takes and gives, pixels
SURE = 6.0  # logit of a pixel of a mask that was made elsewhere, as micro_sam gives it to SAM
LOOSEST_LOGIT = 4.0  # logits of SAM lie mostly within 10 of 0
NEEDED_BYTES = 10**9  # beside the weights, while a slice is embedded; measured with the smallest model

UNREADABLE = (RuntimeError, ValueError, KeyError, OSError, EOFError, pickle.UnpicklingError)

Box = tuple[float, float, float, float]


@dataclass
class _Slice:
    """What is kept of a slice: features by the encoder with these weights (their hash), its shape (Y, X), and the last
    answer, bool (Y, X), with its logits float32 (1, 256, 256)."""

    weights: str
    features: Any
    shape: tuple[int, int]
    answer: np.ndarray | None = None
    logits: np.ndarray | None = None


class Sam2Clicks:
    """Segment Anything 2, trained on photographs and videos, prompted by points, a box or the mask so far.

    Nothing is ever downloaded here. The features of a slice are kept in memory and, after `keep_in`, on disk. The model
    is held by `residency.RESIDENTS`. A predictor holds the image that it works on, so everybody works with a copy,
    which shares the model and has an image of its own. One lock covers the clicks, another one the computing of
    features.
    """

    title = "SAM 2"
    suits = "Objects with a visible outline; trained on photographs, not on microscopy; needs weights (156 to 898 MB)."
    modalities = frozenset(Modality)
    parameters: tuple[Parameter, ...] = ()
    uses_prior = False

    def __init__(self, modality: Modality | None = None) -> None:
        """One model for every `modality`."""
        self._cache: EmbeddingCache | None = None
        self._slices: OrderedDict[str, _Slice] = OrderedDict()
        self._lock = threading.Lock()
        self._computing = threading.Lock()

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Whether the package and weights are here. Imports neither torch nor sam2."""
        return sam2_weights.status()

    def keep_in(self, cache: EmbeddingCache) -> None:
        """Look for features in `cache`, and keep them there, from now on."""
        self._cache = cache

    def is_embedded(self, image: np.ndarray) -> bool:
        """Whether the features of `image` (Y, X, C) lie in the cache on disk. Loads no model. Raises
        `WeightsMissingError`, `NotInstalledError` or `BackendError` where there is none to use."""
        require_ready(self.title, self.status())
        return self._cache is not None and _entry(weights_hash(sam2_weights.weights()), image) in self._cache

    def embed(self, image: np.ndarray) -> bool:
        """Compute the features of `image` (Y, X, C), and keep them on disk; seconds on a CPU.

        False if they were there, or could not be kept. Raises as `prepare` does.
        """
        if self._cache is None or self.is_embedded(image):
            return False
        self._have_features(image)
        return self.is_embedded(image)

    def prepare(self, key: str, image: np.ndarray, prior: np.ndarray | None = None) -> None:
        """Have the features of `image` (Y, X, C) in memory; seconds on a CPU, unless they are on disk. `prior` is not
        used.

        Raises `WeightsMissingError`, `NotInstalledError`, `BackendError` or `OutOfMemoryError` when it cannot.
        """
        self._have_features(image, key)

    def segment(
        self,
        key: str,
        positive: Sequence[Point],
        negative: Sequence[Point],
        box: Box | None = None,
        previous: np.ndarray | None = None,
        tuning: Tuning = PLAIN,
    ) -> np.ndarray:
        """See `base.ClickSegmenter`. Granularity chooses among the three masks that SAM 2 proposes for points; at
        full looseness the threshold on its logits is `LOOSEST_LOGIT` instead of 0."""
        with self._lock:
            known = self._slices[key]
            self._slices.move_to_end(key)
            if previous is not None and not previous.any():
                previous = None
            if not positive and box is None and previous is None:
                return np.zeros(known.shape, bool)
            weights, predictor = self._predictor()
            if weights != known.weights:  # others have come in the meantime, which read features of their own
                raise KeyError(key)
            predictor._features, predictor._orig_hw, predictor._is_image_set = known.features, [known.shape], True
            try:
                proposed, scores, logits = predictor.predict(
                    **_prompt(known, positive, negative, box, previous),
                    multimask_output=_is_ambiguous(positive, negative, box, previous, tuning),
                    return_logits=True,
                )
            except (MemoryError, RuntimeError, ValueError) as error:
                raise failure(self.title, error, str(error)) from error
            masks = proposed > -tuning.looseness * LOOSEST_LOGIT
            best = _choose(masks, scores, tuning.granularity)
            known.answer, known.logits = masks[best].copy(), logits[best : best + 1]
        return masks[best]

    def _have_features(self, image: np.ndarray, key: str | None = None) -> None:
        """Have them in memory (under `key`) and on disk, recalled or computed. Only who computes waits for others."""
        weights, predictor = self._predictor()
        if self._recalled(weights, predictor, image, key):
            return
        with self._computing:
            # Whoever waited may find that another thread, or the worker, was faster.
            if self._recalled(weights, predictor, image, key):
                return
            pixels = as_rgb(image)
            try:
                predictor.set_image(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1))
            except (MemoryError, RuntimeError, ValueError) as error:
                raise failure(self.title, error, str(error)) from error
            self._hold(key, _Slice(weights, predictor._features, image.shape[:2]))
            if self._cache is not None:
                self._cache.put(_entry(weights, image), _packed(predictor._features))

    def _recalled(self, weights: str, predictor: Any, image: np.ndarray, key: str | None) -> bool:
        """Whether the features are in memory, or on disk; then they are in memory now, under `key`."""
        with self._lock:
            if key in self._slices and self._slices[key].weights == weights:
                self._slices.move_to_end(key)
                return True
        stored = None if self._cache is None else self._cache.get(_entry(weights, image))
        if stored is None or FEATURE not in stored:
            return False
        self._hold(key, _Slice(weights, _unpacked(stored, predictor.device), image.shape[:2]))
        return True

    def _hold(self, key: str | None, known: _Slice) -> None:
        """Keep it in memory, instead of what was used longest ago."""
        if key is None:
            return
        with self._lock:
            self._slices[key] = known
            self._slices.move_to_end(key)
            while len(self._slices) > CACHED_SLICES:
                self._slices.popitem(last=False)

    def _predictor(self) -> tuple[str, Any]:
        """The hash of the weights, and a predictor of the caller's own; the model is loaded where it is not here."""
        require_ready(self.title, self.status())
        path = sam2_weights.weights()
        weights, needs = weights_hash(path), NEEDED_BYTES + 2 * path.stat().st_size
        return weights, copy.copy(RESIDENTS.get(("sam2", weights), lambda: _load(path), needs, self.title))


def _entry(weights: str, image: np.ndarray) -> str:
    return entry_name("sam2", weights, image)


def _packed(features: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What SAM 2 keeps of an image, a tensor and a list of finer ones, float32, as arrays by name."""
    tensors = {FEATURE: features[FEATURE]}
    tensors |= {f"{FINER}{number}": tensor for number, tensor in enumerate(features[FINER])}
    return {name: tensor.float().cpu().numpy() for name, tensor in tensors.items()}


def _unpacked(stored: Mapping[str, np.ndarray], device: Any) -> dict[str, Any]:
    """The inverse of `_packed`, on `device`."""
    import torch

    finer = sorted((name for name in stored if name.startswith(FINER)), key=lambda name: int(name.removeprefix(FINER)))
    load = lambda name: torch.from_numpy(stored[name]).to(device)  # noqa: E731
    return {FEATURE: load(FEATURE), FINER: [load(name) for name in finer]}


def _load(path: Path) -> Any:
    prepare()
    try:
        import torch
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        config, tensors = sam2_weights.read(path)
        model = build_sam2(config, device="cpu")
        model.load_state_dict(tensors)
        return SAM2ImagePredictor(model.to("cuda" if torch.cuda.is_available() else "cpu"))
    except ImportError as error:
        raise NotInstalledError(f"sam2 cannot be imported: {error}. {HOW_TO_INSTALL['sam2']}") from error
    except (*UNREADABLE, MemoryError) as error:
        if is_out_of_memory(error):  # nothing is wrong with the file
            raise failure(Sam2Clicks.title, error, "") from error
        reason = why_not(error)
        sam2_weights.refuse(path, reason)
        raise BackendError(
            f"The weights {home_relative(path)} cannot be loaded: {reason}. Remove the file and download it again."
        ) from error


def _prompt(
    known: _Slice, positive: Sequence[Point], negative: Sequence[Point], box: Box | None, previous: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The arguments of SAM 2's predictor, which wants (x, y)."""
    given: dict[str, np.ndarray] = {}
    points = np.array([*positive, *negative], np.float32).reshape(-1, 2)
    if len(points):
        given["point_coords"] = points[:, ::-1].copy()
        given["point_labels"] = np.array([1] * len(positive) + [0] * len(negative), np.int32)
    if previous is not None:
        if known.answer is not None and np.array_equal(previous, known.answer):
            given["mask_input"] = known.logits  # its own logits say more than the mask
        else:
            given["mask_input"] = _as_logits(previous)
            box = box or _box_around(previous, positive)
    if box is not None:
        y0, x0, y1, x1 = box
        given["box"] = np.array([x0, y0, x1, y1], np.float32)
    return given


def _as_logits(mask: np.ndarray) -> np.ndarray:
    """A bool mask (Y, X) as SAM 2's mask prompt, float32 (1, 256, 256): the share of each pixel, -SURE to SURE."""
    from skimage.transform import resize

    share = resize(mask.astype(np.float32), (MASK_SIDE, MASK_SIDE), order=1, anti_aliasing=True)
    return ((2 * share - 1) * SURE)[None].astype(np.float32)


def _box_around(mask: np.ndarray, positive: Sequence[Point]) -> Box | None:
    """(y0, x0, y1, x1); None where a positive point lies outside, to which the mask must be free to grow."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if any(not (rows[0] <= y <= rows[-1] and columns[0] <= x <= columns[-1]) for y, x in positive):
        return None
    return float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1)


def _is_ambiguous(
    positive: Sequence[Point], negative: Sequence[Point], box: Box | None, previous: np.ndarray | None, tuning: Tuning
) -> bool:
    """Whether three masks are asked for: after one click alone, and where the user chooses among them."""
    if box is not None or previous is not None:
        return False
    return bool(tuning.granularity) or (len(positive) == 1 and not negative)


def _choose(masks: np.ndarray, scores: np.ndarray, granularity: float) -> int:
    """Of one or several masks bool (N, Y, X) the one that SAM 2 trusts most, or, if the user steers, by its size."""
    if not granularity or len(masks) == 1:
        return int(np.argmax(scores))
    by_size = np.argsort([np.count_nonzero(mask) for mask in masks], kind="stable")
    return int(by_size[round((granularity + 1) / 2 * (len(masks) - 1))])
