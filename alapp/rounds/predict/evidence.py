"""What the diagnostics rest on: label maps compared with each other. Read from what is stored, and remembered.

Label maps are never changed, so what was compared once is not compared again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from alapp.domain import InstanceScores, PatchRole
from alapp.rounds.annotate import annotation_region, finished
from alapp.stages.metrics import annotated_only, score_instances
from alapp.stages.object_errors import ObjectErrors, object_errors
from alapp.stages.train.targets import object_sizes
from alapp.storage import catalogue, labels
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap


@dataclass(frozen=True)
class Labelled:
    """A finished patch: its newest human labels, what they are for, and the round that selected it."""

    patch_id: int
    human: LabelMap
    role: PatchRole
    round_number: int


@dataclass(frozen=True)
class Compared:
    """A label map against the human labels of one patch; what nobody annotated is left out."""

    scores: InstanceScores
    errors: ObjectErrors


def labelled(store: Store, project_id: int, role: PatchRole | None = None) -> list[Labelled]:
    """Finished patches of a project, in the order of their selection; all, or those with one role."""
    chosen = round_rows.selected_in_project(store, project_id)
    numbers = {item.id: item.number for item in round_rows.rounds(store, project_id)}
    return [
        Labelled(patch_id, human, chosen[patch_id].role, numbers[chosen[patch_id].round_id])
        for patch_id, human in finished.maps(store, project_id, role).items()
    ]


def compare(store: Store, items: Iterable[Labelled], guesses: Mapping[int, LabelMap]) -> dict[int, Compared]:
    """Maps of whole images (by image id) against human labels, by patch id; patches of other images are left out."""
    by_image: dict[int, list[Labelled]] = {}
    for item in items:
        by_image.setdefault(item.human.image_id, []).append(item)
    found = {}
    for image_id in by_image.keys() & guesses.keys():
        members = by_image[image_id]
        results = _compared(store, guesses[image_id].id, tuple(item.human.id for item in members))
        found |= {item.patch_id: result for item, result in zip(members, results, strict=True)}
    return found


def scores(store: Store, items: Iterable[Labelled], guesses: Mapping[int, LabelMap]) -> dict[int, InstanceScores]:
    """The scores of `compare`, by patch id."""
    return {patch_id: result.scores for patch_id, result in compare(store, items, guesses).items()}


def sizes(store: Store, items: Iterable[Labelled]) -> list[tuple[float, float, bool, bool]]:
    """Sizes of the human objects, see `stages.train.targets.object_sizes`."""
    return [size for item in items for size in _sizes(store, item.human.id)]


@lru_cache(maxsize=2048)
def _compared(store: Store, guess_id: int, truth_ids: tuple[int, ...]) -> tuple[Compared, ...]:
    """One image at a time, so that its map is read once for all its patches."""
    (guess,) = labels.of_ids(store, [guess_id])
    whole = labels.read(store, guess)
    return tuple(_against(store, truth, whole) for truth in labels.of_ids(store, truth_ids))


def _against(store: Store, truth: LabelMap, whole: np.ndarray) -> Compared:
    reference = labels.read(store, truth)
    guess = catalogue.crop(whole, catalogue.patch(store, truth.patch_id))
    ignored = annotation_region.pixels_of(store, truth)
    if ignored is not None:
        reference, guess = annotated_only(reference, ignored), annotated_only(guess, ignored)
    return Compared(score_instances(reference, guess), object_errors(reference, guess))


@lru_cache(maxsize=4096)
def _sizes(store: Store, label_id: int) -> tuple[tuple[float, float, bool, bool], ...]:
    (item,) = labels.of_ids(store, [label_id])
    return tuple(object_sizes(labels.read(store, item)))
