"""Clicks answered by micro_sam (Archit et al. 2025), when its weights are on this computer."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import BackendState, Modality, Parameter, Report, Status, silent
from alapp.environment import home_relative
from alapp.errors import BackendError, NotInstalledError, WeightsMissingError
from alapp.stages.annotate import microsam_model, microsam_volume
from alapp.stages.annotate.base import DOWN, PLAIN, UP, Point, ReadSlice, Tuning
from alapp.stages.annotate.embedding_cache import EmbeddingCache, entry_name
from alapp.stages.annotate.microsam_model import Part, Weights, own_unpickler
from alapp.stages.foundation import choice
from alapp.stages.foundation.catalogue import how_to_get
from alapp.stages.foundation.residency import RESIDENTS, is_out_of_memory

__all__ = ["MODELS", "MicroSamClicks", "as_rgb", "cache_folder", "own_unpickler"]

MODELS = {
    Modality.LIGHT: ("vit_t_lm", "vit_b_lm", "vit_l_lm"),
    Modality.EM: ("vit_t_em_organelles", "vit_b_em_organelles", "vit_l_em_organelles"),
}
"""Fit for each modality, the fastest first: a CPU embeds with vit_t in a second, with vit_b in nine."""

CACHED_SLICES = 8  # in memory, 4.2 MB each
KNOWN_ANSWERS = 64  # whose logits are kept, 0.3 MB each

LOOSEST_LOGIT = 4.0  # logits of SAM lie mostly within 10 of 0


class MicroSamClicks:
    """Segment Anything, fine-tuned on microscopy, prompted by points, a box and the mask so far, together or alone.

    `modality` chooses among the weights that are here, the user's own first (`choice.for_clicks`); `checkpoint` is a
    file of weights to use whatever is here, `model_type` its architecture. Nothing is ever downloaded here. The
    embedding of a slice is kept in memory and, after `keep_in`, on disk; for a slice that has one only the decoder is
    loaded. Models are held by `residency.RESIDENTS`.
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
        self._cache: EmbeddingCache | None = None
        self._embeddings: OrderedDict[str, tuple[Weights, dict[str, Any]]] = OrderedDict()
        self._answers: OrderedDict[tuple[str, bytes], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()  # of the two above; held for moments only

    @classmethod
    def status(cls, modality: Modality | None = None) -> Status:
        """Whether the package and weights (for `modality`, or any) are here. Imports neither torch nor micro_sam."""
        if importlib.util.find_spec("micro_sam") is None:
            return Status(
                BackendState.NOT_INSTALLED, "The package micro_sam is not installed.", "Run: pip install micro_sam"
            )
        found = choice.for_clicks(modality)
        if found is None:
            return _what_is_missing(modality)
        what = f"Your own model {found.name} is" if found.own else f"Weights {found.name} are"
        return Status(BackendState.READY, f"{what} on this computer.")

    def keep_in(self, cache: EmbeddingCache) -> None:
        """Look for embeddings in `cache`, and keep them there, from now on."""
        self._cache = cache

    def is_embedded(self, image: np.ndarray) -> bool:
        """Whether the embedding of `image` (Y, X, C) lies in the cache on disk. Loads nothing."""
        return self._cache is not None and self._entry(self._weights(), image) in self._cache

    def embed(self, image: np.ndarray) -> bool:
        """Compute what clicks on `image` (Y, X, C) will need, and keep it on disk; seconds on a CPU.

        False if it was there, or could not be kept. Raises as `prepare` does.
        """
        if self._cache is None or self.is_embedded(image):
            return False
        self._embedding(self._weights(), image)
        return self.is_embedded(image)

    def prepare(self, key: str, image: np.ndarray, prior: np.ndarray | None = None) -> None:
        """Have the embedding of `image` (Y, X, C) in memory; seconds on a CPU, unless it is on disk. `prior` is not
        used.

        Raises `WeightsMissingError`, `NotInstalledError`, or `BackendError` when the model fails.
        """
        weights = self._weights()
        self._embedding(weights, image, key)
        self._decoder(weights)  # so that the first click need not wait for it

    def segment(
        self,
        key: str,
        positive: Sequence[Point],
        negative: Sequence[Point],
        box: tuple[float, float, float, float] | None = None,
        previous: np.ndarray | None = None,
        tuning: Tuning = PLAIN,
    ) -> np.ndarray:
        """See `base.ClickSegmenter`. Granularity chooses among the three masks that SAM proposes; at full looseness
        the threshold on SAM's logits is `LOOSEST_LOGIT` instead of 0. A `previous` mask that is an answer of this
        process for the slice is known with its logits."""
        weights = self._weights()
        embedding = self._known(key, weights)
        if embedding is None:
            raise KeyError(key)
        box = None if box is None else _ordered(box)
        previous = previous if previous is not None and previous.any() else None
        if not positive and previous is None and (box is None or box[0] >= box[2] or box[1] >= box[3]):
            return np.zeros(embedding["original_size"], bool)
        decoder = self._decoder(weights)
        logits = self._logits_of(key, previous)
        prompts = positive, negative, box, previous, logits, tuning.granularity
        try:
            with decoder.lock, microsam_model.threshold(decoder, tuning.looseness * LOOSEST_LOGIT):
                mask, low = microsam_model.prompt(decoder, embedding, *prompts)
        except (MemoryError, RuntimeError, ValueError) as error:
            raise _failure("failed on these clicks", error) from error
        self._remember(key, mask, low)
        return mask

    def propagate(
        self,
        key: Callable[[int], str],
        read: ReadSlice,
        volume: np.ndarray,
        z: int,
        replaced: Collection[int] = (),
        directions: Sequence[int] = (DOWN, UP),
        report: Report = silent,
        emptied: Collection[int] = (),
    ) -> np.ndarray:
        """See `base.Carries`, and `microsam_volume.propagate` for how. Only the slices that it comes to are embedded.

        Clicks go on meanwhile: it works with a copy of the decoder's state."""
        weights = self._weights()
        decoder = self._decoder(weights)

        def embedding(other: int) -> dict[str, Any]:
            return self._embedding(weights, read(other), key(other))

        try:
            return microsam_volume.propagate(decoder, embedding, read, volume, z, replaced, directions, report, emptied)
        except (MemoryError, RuntimeError, ValueError) as error:
            raise _failure("could not carry the object on", error) from error

    def _known(self, key: str, weights: Weights) -> dict[str, Any] | None:
        """The embedding in memory; None if there is none, or it is of other weights."""
        with self._lock:
            of, found = self._embeddings.get(key, (None, None))
            if of != weights:
                return None
            self._embeddings.move_to_end(key)
            return found

    def _embedding(self, weights: Weights, image: np.ndarray, key: str | None = None) -> dict[str, Any]:
        """From memory (under `key`), from disk, or computed; then it is in both."""
        found = self._recalled(weights, image, key)
        if found is not None:
            return found
        needs = int(microsam_model.ENCODER_BYTES[weights.architecture])
        try:
            encoder = RESIDENTS.get(
                ("micro_sam encoder", weights), lambda: microsam_model.load_encoder(weights), needs, weights.name
            )
            with encoder.lock:
                # Whoever waited may find that another thread, or the worker, was faster.
                found = self._recalled(weights, image, key)
                if found is None:
                    made = microsam_model.embed(encoder, as_rgb(image))
                    found = self._hold(weights, key, made)
                    if self._cache is not None:
                        self._cache.put(self._entry(weights, image), made)
                return found
        except (MemoryError, RuntimeError, ValueError) as error:
            raise _failure("could not read this image", error) from error

    def _recalled(self, weights: Weights, image: np.ndarray, key: str | None) -> dict[str, Any] | None:
        """An embedding in memory or on disk; that from disk is in memory too then, under `key`."""
        known = self._known(key, weights) if key else None
        if known is not None or self._cache is None:
            return known
        stored = self._cache.get(self._entry(weights, image))
        if stored is None or not stored.keys() >= {"features", "input_size", "original_size"}:
            return None
        return self._hold(weights, key, stored)

    def _hold(self, weights: Weights, key: str | None, stored: Mapping[str, np.ndarray]) -> dict[str, Any]:
        found = microsam_model.unpacked(stored)
        if key is not None:
            with self._lock:
                self._embeddings[key] = weights, found
                while len(self._embeddings) > CACHED_SLICES:
                    self._embeddings.popitem(last=False)
        return found

    def _entry(self, weights: Weights, image: np.ndarray) -> str:
        return entry_name(f"micro_sam {version('micro_sam')} {weights.architecture}", weights.fingerprint, image)

    def _decoder(self, weights: Weights) -> Part:
        try:
            return RESIDENTS.get(
                ("micro_sam decoder", weights),
                lambda: microsam_model.load_decoder(weights),
                microsam_model.DECODER_BYTES,
                weights.name,
            )
        except MemoryError as error:
            raise _failure("could not be loaded", error) from error

    def _logits_of(self, key: str, mask: np.ndarray | None) -> np.ndarray | None:
        if mask is None:
            return None
        with self._lock:
            return self._answers.get((key, _digest(mask)))

    def _remember(self, key: str, mask: np.ndarray, logits: np.ndarray) -> None:
        with self._lock:
            self._answers[key, _digest(mask)] = logits
            while len(self._answers) > KNOWN_ANSWERS:
                self._answers.popitem(last=False)

    def _weights(self) -> Weights:
        """Those to use now; a download may have brought better ones since the last time."""
        if importlib.util.find_spec("micro_sam") is None:
            raise NotInstalledError("The package micro_sam is not installed. Run: pip install micro_sam")
        if self._checkpoint is not None:
            if self._checkpoint.is_file() and self._model_type:
                return Weights(self._model_type, self._model_type[:5], self._checkpoint)
        elif (found := choice.for_clicks(self._modality)) is not None:
            return Weights(found.name, found.architecture, found.path)
        elif (missing := _what_is_missing(self._modality)).state is BackendState.NOT_INSTALLED:
            raise NotInstalledError(f"{missing.detail} {missing.remedy}")
        raise WeightsMissingError(
            f"micro_sam has no weights at {self._checkpoint or cache_folder()}. Download them, or choose the built-in "
            "click method."
        )


def cache_folder() -> Path:
    """Where micro_sam keeps its weights: `MICROSAM_CACHEDIR`, or pooch's cache of the operating system."""
    if "MICROSAM_CACHEDIR" in os.environ:
        return Path(os.environ["MICROSAM_CACHEDIR"]) / "models"
    import pooch

    return Path(os.path.expanduser(pooch.os_cache("micro_sam"))) / "models"


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (Y, X) or (Y, X, 3): channels other than three are averaged, 0.5 to 99.5 percentile to 0..255."""
    pixels = image.astype(np.float32)
    pixels = pixels if pixels.shape[-1] == 3 else pixels.mean(axis=-1)
    low, high = np.percentile(pixels, (0.5, 99.5))
    return np.clip((pixels - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)


def _what_is_missing(modality: Modality | None) -> Status:
    """Why there are no weights to use."""
    names = [name for each in ([modality] if modality else MODELS) for name in MODELS[each]]
    there = next((name for name in names if (cache_folder() / name).is_file()), None)
    if there is not None:  # and yet not to be used: a tiny model, without its package
        return Status(
            BackendState.NOT_INSTALLED,
            f"{there} is on this computer, but not the package mobile_sam that it needs.",
            "Run: pip install mobilesam-mirror",
        )
    wanted = next((name for name in names if choice.can_run(name[:5])), names[0])
    return Status(
        BackendState.WEIGHTS_MISSING,
        f"No weights of micro_sam were found in {home_relative(cache_folder())}.",
        how_to_get(wanted),
    )


def _ordered(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    (y0, y1), (x0, x1) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    return y0, x0, y1, x1


def _digest(mask: np.ndarray) -> bytes:
    return hashlib.sha256(np.packbits(mask).data).digest()


def _failure(what: str, error: BaseException) -> BackendError:
    """The error to raise when micro_sam did `what`; where memory ran out, all models go first."""
    if is_out_of_memory(error):
        RESIDENTS.release()
        return BackendError(
            "micro_sam ran out of memory. Close other programs, or choose a smaller model or the built-in click method."
        )
    return BackendError(f"micro_sam {what}: {error}")
