"""Drift: do images that were added later look like those that the model learned from?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from alapp.domain import ImageRole, PatchRole
from alapp.rounds.predict import evidence
from alapp.rounds.results.diagnostics import Diagnosis, State
from alapp.rounds.select import embedding
from alapp.stages.select.variety import nearest
from alapp.storage import catalogue, models
from alapp.storage.catalogue import Image
from alapp.storage.db import Store

NAME = "New images look different"

FAR = 1.5
"""A new image is far when its patches are this many times as far from the nearest known patch as those of a known
image are from the other known images."""

SPREADS = 3.0
"""How many spreads (robust standard deviations) of the known images' brightness a new one may be away."""

CONTRAST = 2.0
"""How many times the contrast (standard deviation of the pixels) may be that of the known images, or the reverse."""

SAMPLE = 3000
"""All pairs of that many patches are compared; of more, a sample is."""

_PIXELS = 2**16
_NAMED = 3


def drift(store: Store, project_id: int) -> Diagnosis:
    """Whether training images that came after the first training, and of which nothing is labelled yet, differ from
    the others: by the embedding of their patches, where they are embedded, or by brightness and contrast."""
    new, known = _split(store, project_id)
    if not new:
        return Diagnosis(NAME, State.OK, "There are no new images that nobody annotated.")
    if len(known) < 2:
        return Diagnosis(NAME, State.UNKNOWN, "It takes two known images to tell whether new ones are different.")
    ratios = far_images(*_vectors(store, project_id), {image.id for image in known})
    shifted = shifted_images(
        {image.id: _intensity(store, image.id) for image in known},
        {image.id: _intensity(store, image.id) for image in new},
    )
    different = [image for image in new if ratios.get(image.id, 0) > FAR or image.id in shifted]
    numbers: dict[str, float] = {
        "new images without labels": len(new),
        "of them different in brightness or contrast": len(shifted),
    }
    if embedded := [ratios[image.id] for image in new if image.id in ratios]:
        numbers["largest distance to known patches (1: as among known images)"] = max(embedded)
    if not different:
        return Diagnosis(NAME, State.OK, "The new images look like the others.", "", numbers)
    names = ", ".join(image.name for image in different[:_NAMED]) + (" …" if len(different) > _NAMED else "")
    count = f"{len(different)} new image{' looks' if len(different) == 1 else 's look'}"
    return Diagnosis(
        NAME,
        State.WARNING,
        f"{count} different from those the model learned from: {names}.",
        "Select another batch and annotate some of the new patches before you trust the predictions there.",
        numbers,
    )


def far_images(image_ids: Sequence[int], vectors: np.ndarray, known: set[int]) -> dict[int, float]:
    """For each image that is not `known`: the mean cosine distance of its patches to the nearest known patch, in
    units of what known images have among each other (the largest of them, each against all others).

    `vectors` float32 (N, D), rows of length 1; `image_ids` names the image of each row. Patches of one image resemble
    each other, so an image is only compared with others. Empty with fewer than two known images.
    """
    ids = np.asarray(image_ids, dtype=np.int64)
    old = np.isin(ids, list(known))
    inside = np.unique(ids[old])
    if len(inside) < 2:
        return {}
    usual = max(nearest(vectors[ids == one], vectors[old & (ids != one)]).mean() for one in inside)
    return {
        int(one): float(nearest(vectors[ids == one], vectors[old]).mean() / max(usual, 1e-6))
        for one in np.unique(ids[~old])
    }


def shifted_images(known: Mapping[int, np.ndarray], new: Mapping[int, np.ndarray]) -> set[int]:
    """The `new` images whose brightness or contrast is unlike that of the `known`, in any channel.

    Values are float (2, C): mean and standard deviation of the pixels of each channel. A mean counts as different when
    it is `SPREADS` spreads of the known means away, and more than the known images' own contrast.
    """
    means, contrasts = np.stack(list(known.values()), axis=1)
    middle, contrast = np.median(means, axis=0), np.maximum(np.median(contrasts, axis=0), 1e-9)
    allowed = np.maximum(SPREADS * 1.4826 * np.median(np.abs(means - middle), axis=0), contrast)
    found = set()
    for image_id, (mean, deviation) in new.items():
        ratio = np.maximum(deviation, 1e-9) / contrast
        if (np.abs(mean - middle) > allowed).any() or (np.maximum(ratio, 1 / ratio) > CONTRAST).any():
            found.add(image_id)
    return found


def _split(store: Store, project_id: int) -> tuple[list[Image], list[Image]]:
    """(new images, known images), training images all."""
    trained = models.checkpoints(store, project_id)
    images = catalogue.images(store, project_id, ImageRole.TRAIN)
    if not trained:
        return [], images
    annotated = {item.human.image_id for item in evidence.labelled(store, project_id, PatchRole.TRAIN)}
    new = [image for image in images if image.created > trained[0].created and image.id not in annotated]
    return new, [image for image in images if image not in new]


def _vectors(store: Store, project_id: int) -> tuple[list[int], np.ndarray]:
    """(image id of each row, vectors) of patches that are embedded, a sample of them in a large project. None are
    before the first selection."""
    if models.latest_embedding(store, project_id) is None:
        return [], np.zeros((0, 1), np.float32)
    patches, vectors = embedding.embedded(store, project_id)
    rows = sample_rows([patch.image_id for patch in patches])
    return [patches[row].image_id for row in rows], np.asarray(vectors[rows])


def sample_rows(image_ids: Sequence[int], most: int = SAMPLE) -> np.ndarray:
    """int64 rows, in order, of about `most` patches at most, drawn evenly from all images; at least one of each
    image. Deterministic."""
    ids = np.asarray(image_ids, dtype=np.int64)
    if len(ids) <= most:
        return np.arange(len(ids))
    shuffled = np.random.default_rng(0).permutation(len(ids))
    grouped = shuffled[np.argsort(ids[shuffled], kind="stable")]
    _, starts, counts = np.unique(ids[grouped], return_index=True, return_counts=True)
    place = np.arange(len(ids)) - np.repeat(starts, counts)
    return np.sort(grouped[place < max(1, most // len(starts))])


@lru_cache(maxsize=4096)
def _intensity(store: Store, image_id: int) -> np.ndarray:
    """float64 (2, C): mean and standard deviation of a regular sample of the pixels."""
    pixels = store.files.read_array(catalogue.image(store, image_id).path)
    step = max(1, math.ceil((np.prod(pixels.shape[:3]) / _PIXELS) ** (1 / 2)))
    sample = np.asarray(pixels[:, ::step, ::step], dtype=np.float64).reshape(-1, pixels.shape[-1])
    return np.stack([sample.mean(axis=0), sample.std(axis=0)])
