"""Fine-tuning micro_sam (Archit et al. 2025) on a project's own labels, from weights that are on this computer.

On a GPU the image encoder, the part that answers clicks and, where there is one, the decoder for automatic labels
learn together, as micro_sam's own training does; on a CPU only the part that answers clicks. Judged by what it is
for: how well one click on an object finds it, on images that were never trained on.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from alapp.domain import Report, part
from alapp.environment import home_relative, prepare
from alapp.errors import AlappError, BackendError, NotInstalledError, NotReadyError, OutOfMemoryError
from alapp.stages.annotate.microsam import as_rgb, own_unpickler
from alapp.stages.foundation import finetune_trainer
from alapp.stages.foundation.finetune_trainer import MIN_AREA
from alapp.stages.foundation.residency import RESIDENTS, is_out_of_memory

MIN_TRAIN, MIN_VALIDATION, MIN_OBJECTS = 3, 1, 10
"""Fewest training images, validation images and objects of each that can say anything."""
MOST_CLICKS = 100
"""Objects that a model is judged by at most, drawn at random: a click takes 50 ms on a CPU."""


@dataclass(frozen=True)
class Sample:
    """A labelled image: `image` (Y, X, C) of any numeric dtype, `labels` int32 (Y, X), 0 background."""

    image: np.ndarray
    labels: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """The objects that are large enough."""
        areas = np.bincount(self.labels.ravel())
        areas[0] = 0
        return np.flatnonzero(areas >= MIN_AREA)


@dataclass(frozen=True)
class Start:
    """Where a training begins: a file of weights and perhaps one of a decoder."""

    architecture: str
    weights: Path
    decoder: Path | None = None


@dataclass(frozen=True)
class Tuned:
    """What a training made: tensors by name, and the mean IoU of one click before and after on `objects` objects."""

    weights: Mapping[str, Any]
    decoder: Mapping[str, Any] | None
    before: float
    after: float
    objects: int
    iterations: int

    @property
    def better(self) -> bool:
        """Whether one click finds objects better than before."""
        return self.after > self.before


def check(train: Sequence[Sample], validation: Sequence[Sample]) -> None:
    """Raises `NotReadyError` where there are too few labels to learn from, or to judge by."""
    for samples, fewest, what in ((train, MIN_TRAIN, "training"), (validation, MIN_VALIDATION, "validation")):
        usable = [len(sample.ids) for sample in samples if len(sample.ids)]
        if lack := lacking(what, fewest, len(usable), sum(usable)):
            raise NotReadyError(lack)


def lacking(what: str, fewest: int, patches: int, objects: int) -> str:
    """What is missing for fine-tuning, as a sentence, where there are so many `what` ("training") patches with
    objects, and so many objects in them; "" when it is enough."""
    if patches >= fewest and objects >= MIN_OBJECTS:
        return ""
    return (
        f"Fine-tuning needs at least {fewest} annotated {what} {'patch' if fewest == 1 else 'patches'} with "
        f"{MIN_OBJECTS} objects in all; there {'is' if patches == 1 else 'are'} {patches} "
        f"{'patch' if patches == 1 else 'patches'} with {objects}. Annotate more first."
    )


def finetune(
    start: Start,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    iterations: int,
    seed: int,
    report: Report,
) -> Tuned:
    """Train on `train` for `iterations` steps of one image each, and judge on `validation`, which is only clicked on.

    Deterministic on a CPU for a seed. Which state of the training is kept is decided on a fifth of `train` that is
    left out of it (with fewer than five images, on all of `train`), never on `validation`. Nothing is written to disk.
    Raises `NotReadyError` for too few labels, `OutOfMemoryError`, `NotInstalledError` or `BackendError`; lets
    what `report` raises through.
    """
    check(train, validation)
    RESIDENTS.release()  # training takes all the memory that there is
    prepare()
    usable = [sample for sample in train if len(sample.ids)]
    judged = [sample for sample in validation if len(sample.ids)]
    try:
        predictor, state = _load(start)
        report(0.02, 1, "Measuring the model as it is")
        before, objects = one_click_iou(predictor, judged, seed, part(report, 0.02, 0.1))
        best = finetune_trainer.train(
            predictor.model, state.get("decoder_state"), usable, iterations, seed, part(report, 0.1, 0.92)
        )
        predictor.model.load_state_dict(best.weights)
        predictor.reset_image()
        report(0.92, 1, "Measuring the fine-tuned model")
        after, _ = one_click_iou(predictor, judged, seed, part(report, 0.92, 1.0))
    except AlappError:
        raise
    except ImportError as error:
        raise NotInstalledError(
            f"micro_sam's training cannot be imported: {error}. Run: pip install -r requirements.txt"
        ) from error
    except Exception as error:
        raise _told(error) from error
    decoder = best.decoder or state.get("decoder_state")  # as it was, where it did not learn
    return Tuned(best.weights, decoder, before, after, objects, iterations)


def one_click_iou(predictor: Any, samples: Sequence[Sample], seed: int, report: Report) -> tuple[float, int]:
    """Mean IoU with the object after one click on its innermost pixel, over at most `MOST_CLICKS` objects drawn by
    `seed`, and how many these are. `predictor` is micro_sam's; its model is asked in evaluation mode."""
    from micro_sam import util
    from micro_sam.prompt_based_segmentation import segment_from_points

    predictor.model.eval()
    everything = [(number, int(key)) for number, sample in enumerate(samples) for key in sample.ids]
    order = np.random.default_rng([seed, 1]).permutation(len(everything))[:MOST_CLICKS]
    chosen = sorted(everything[row] for row in order)
    found, embedded = [], (-1, None)
    for count, (number, key) in enumerate(chosen):
        report(count, len(chosen), f"Clicking on object {count + 1} of {len(chosen)}")
        sample = samples[number]
        if embedded[0] != number:
            pixels = as_rgb(sample.image)
            embedded = number, util.precompute_image_embeddings(predictor, pixels, ndim=2, verbose=False)
        object_ = sample.labels == key
        mask = segment_from_points(
            predictor, np.array([innermost(object_)]), np.array([1]), image_embeddings=embedded[1]
        )
        mask = np.asarray(mask).reshape(object_.shape).astype(bool)
        found.append(np.count_nonzero(mask & object_) / np.count_nonzero(mask | object_))
    return float(np.mean(found)), len(found)


def innermost(mask: np.ndarray) -> tuple[int, int]:
    """(y, x) of the pixel of a bool mask (Y, X) that is farthest from its outline; the first one of several."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    return int(y), int(x)


def _load(start: Start) -> tuple[Any, dict[str, Any]]:
    """micro_sam's predictor, and a state with "decoder_state" if there is a decoder."""
    try:
        with own_unpickler():
            from micro_sam import util

            decoder = {"decoder_path": str(start.decoder)} if start.decoder else {}
            return util.get_sam_model(
                start.architecture, checkpoint_path=str(start.weights), return_state=True, **decoder
            )
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        if is_out_of_memory(error):
            raise
        raise BackendError(
            f"The weights {home_relative(start.weights)} cannot be loaded: {error}. Choose other weights."
        ) from error


def _told(error: Exception) -> AlappError:
    if is_out_of_memory(error):
        return OutOfMemoryError(
            "micro_sam ran out of memory while it was fine-tuned. Close other programs, or start from a smaller "
            "model, such as vit_t_lm. The model that you had is as it was."
        )
    return BackendError(f"micro_sam failed while it was fine-tuned: {error}. The model that you had is as it was.")
