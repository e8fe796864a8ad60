"""What micro_sam's clicks compute with: the encoder of SAM, which takes seconds a slice, and apart from it the small
decoder (16 MB), which is all that a click on a slice with a known embedding needs."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alapp.environment import prepare
from alapp.errors import BackendError, NotInstalledError
from alapp.stages.annotate.base import Point
from alapp.stages.foundation.fingerprint import weights_hash
from alapp.stages.foundation.reading import why_not
from alapp.stages.foundation.residency import is_out_of_memory

GB = 10**9
ENCODER_BYTES = {"vit_t": 1.2 * GB, "vit_b": 3.9 * GB, "vit_l": 6 * GB, "vit_h": 8 * GB}
"""At most, while an image is embedded. Measured for the first two (`benchmarks.segmenters`); the others have a third
more heads and 1.2 and 2.5 GB of weights."""
DECODER_BYTES = int(0.3 * GB)

_UNPICKLER_LOCK = threading.Lock()


@dataclass(frozen=True)
class Weights:
    """A file of weights: what it is called, its architecture ("vit_b"), and where it is."""

    name: str
    architecture: str
    path: Path

    @property
    def fingerprint(self) -> str:
        """The hash of the file of weights."""
        return weights_hash(self.path)


@dataclass
class Part:
    """A predictor holds the image that it works on, so whoever uses it holds the lock."""

    predictor: Any
    lock: Any = field(default_factory=threading.Lock)


@contextmanager
def own_unpickler() -> Iterator[None]:
    """Loading a model replaces `pickle.Unpickler` in the whole process; this puts it back."""
    with _UNPICKLER_LOCK:  # two loads at once would take each other's for the original
        unpickler = pickle.Unpickler
        try:
            yield
        finally:
            pickle.Unpickler = unpickler


def load_encoder(weights: Weights) -> Part:
    """The whole model. Raises `BackendError` for a file that holds none."""
    with _loading(weights), own_unpickler():
        from micro_sam import util

        # A path is given even for cached weights: with a name alone a wrong hash would start a download.
        predictor = util.get_sam_model(model_type=weights.architecture, checkpoint_path=str(weights.path))
        if predictor.model_type != weights.architecture:  # micro_sam only prints a warning
            raise ValueError(f"they are of {predictor.model_type}, not of {weights.architecture}")
        return Part(predictor)


def load_decoder(weights: Weights) -> Part:
    """SAM without its image encoder, whose weights are not even read where the file allows it."""
    with _loading(weights):
        from micro_sam import util
        from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
        from segment_anything.predictor import SamPredictor

        # As `segment_anything.build_sam` and `mobile_sam.build_sam` have it; the same for every encoder.
        grid = 64
        prompts = PromptEncoder(256, (grid, grid), (16 * grid, 16 * grid), mask_in_chans=16)
        transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
        masks = MaskDecoder(transformer_dim=256, transformer=transformer)
        model = Sam(_no_encoder(16 * grid), prompts, masks).eval()
        model.load_state_dict(_decoder_state(weights.path))
        return Part(SamPredictor(model.to(util.get_device())))


def _no_encoder(size: int) -> Any:
    import torch

    class NoEncoder(torch.nn.Module):
        """Stands where the encoder would; the predictor asks it for the size of its images."""

        img_size = size

    return NoEncoder()


def _decoder_state(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError):
        # An old file format, or a checkpoint of torch_em that holds objects of its training too.
        with own_unpickler():
            from micro_sam import util

            state, _ = util._load_checkpoint(str(path))
    state = state.get("model_state", state)
    state = {name.removeprefix("sam."): value for name, value in state.items()}
    # Cloned, because what is mapped would keep the file open.
    return {name: value.clone() for name, value in state.items() if not name.startswith("image_encoder.")}


@contextmanager
def _loading(weights: Weights) -> Iterator[None]:
    prepare()
    try:
        yield
    except ImportError as error:
        raise NotInstalledError(f"micro_sam cannot be imported: {error}. Run: pip install micro_sam") from error
    except (
        MemoryError,
        pickle.UnpicklingError,
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        if is_out_of_memory(error):  # nothing is wrong with the file
            raise MemoryError(str(error)) from error
        raise BackendError(
            f"The weights {weights.path} cannot be loaded: {why_not(error)}. Remove the file and download it again."
        ) from error


def embed(part: Part, image: np.ndarray) -> dict[str, np.ndarray]:
    """The embedding of `image`, uint8 (Y, X) or (Y, X, 3): `features` float32 (1, 256, 64, 64), and two sizes (Y, X).
    The lock of `part` is held."""
    from micro_sam import util

    found = util.precompute_image_embeddings(part.predictor, image, ndim=2, verbose=False)
    part.predictor.reset_image()  # it would keep the image's features, of a GPU too
    sizes = {name: np.array(found[name], np.int64) for name in ("input_size", "original_size")}
    return {"features": np.asarray(found["features"], np.float32), **sizes}


def unpacked(stored: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """An embedding as micro_sam wants it."""
    sizes = {name: tuple(int(side) for side in stored[name]) for name in ("input_size", "original_size")}
    return {"features": stored["features"], **sizes}


@contextmanager
def threshold(part: Part, logit: float) -> Iterator[None]:
    """SAM cuts its logits lower by `logit` inside of the block. The lock of `part` is held."""
    model = part.predictor.model
    before = model.mask_threshold
    model.mask_threshold = before - logit
    try:
        yield
    finally:
        model.mask_threshold = before


def prompt(
    part: Part,
    embedding: Mapping[str, Any],
    positive: Sequence[Point],
    negative: Sequence[Point],
    box: tuple[float, float, float, float] | None,
    previous: np.ndarray | None,
    logits: np.ndarray | None,
    granularity: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The mask, bool (Y, X), for what is given of points (y, x), box (y0, x0, y1, x1) and mask, and SAM's logits
    float32 (256, 256) for it. The lock of `part` is held.

    `logits`: those of `previous`, if they are known; SAM was trained to correct its own logits, and takes a mask
    without any for much surer than it is. With `granularity` one of the three masks that SAM proposes is taken by
    size; without it SAM's best one for a single positive point, and otherwise its only one.
    """
    from micro_sam import prompt_based_segmentation as prompts

    predictor = part.predictor
    points = np.array([*positive, *negative], np.float32).reshape(-1, 2)
    signs = np.array([1] * len(positive) + [0] * len(negative))
    every: dict[str, Any] = {"multimask_output": bool(granularity), "return_all": True}
    by_points = {"points": points, "labels": signs}
    known: dict[str, Any] = {"image_embeddings": embedding, **every}
    if logits is not None:
        found = _from_logits(predictor, embedding, by_points, box, logits, bool(granularity))
    elif previous is not None:
        # A box around the mask so far would forbid it to grow to a point outside.
        rows, columns = np.flatnonzero(previous.any(axis=1)), np.flatnonzero(previous.any(axis=0))
        inside = all(rows[0] <= y <= rows[-1] and columns[0] <= x <= columns[-1] for y, x in positive)
        # This function alone takes points as (x, y).
        given = {"points": points[:, ::-1].copy(), "labels": signs} if len(points) else {}
        around = None if box is None else np.array(box)
        found = prompts.segment_from_mask(predictor, previous, use_box=inside, box=around, **given, **known)
    elif box is not None and len(points):
        found = prompts.segment_from_box_and_points(predictor, np.array(box), **by_points, **known)
    elif box is not None:
        found = prompts.segment_from_box(predictor, np.array(box), **known)
    else:
        best = False if granularity else None
        found = prompts.segment_from_points(predictor, use_best_multimask=best, **by_points, **known)
    masks, scores, low = found
    if granularity:
        by_size = sorted(range(len(masks)), key=lambda index: np.count_nonzero(masks[index]))
        chosen = by_size[round((granularity + 1) / 2 * (len(by_size) - 1))]
        return masks[chosen].astype(bool), low[chosen]
    # micro_sam gives the best mask alone, and the logits of all.
    return masks[0].astype(bool), low[int(np.argmax(scores)) if len(low) > 1 else 0]


def _from_logits(
    predictor: Any,
    embedding: Mapping[str, Any],
    by_points: Mapping[str, np.ndarray],
    box: tuple[float, float, float, float] | None,
    logits: np.ndarray,
    many: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from micro_sam import util

    util.set_precomputed(predictor, embedding)
    points = by_points["points"]
    return predictor.predict(
        point_coords=points[:, ::-1].copy() if len(points) else None,
        point_labels=by_points["labels"] if len(points) else None,
        box=None if box is None else np.array([box[1], box[0], box[3], box[2]]),
        mask_input=logits[None],
        multimask_output=many,
    )
