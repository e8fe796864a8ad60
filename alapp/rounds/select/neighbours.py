"""The labelled patch that a patch is most like: what a pick is explained by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alapp.domain import PatchRole
from alapp.rounds.annotate import annotation
from alapp.rounds.select import embedding
from alapp.storage import models
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store


@dataclass(frozen=True)
class Neighbour:
    """`distance` is the cosine distance in [0, 2]. `when_picked`: it was noted by the strategy when it picked;
    otherwise it is by the embedding of today."""

    patch_id: int
    distance: float
    when_picked: bool


def nearest(store: Store, project_id: int, patch_id: int) -> Neighbour | None:
    """The patch that is nearest to one, of those that were picked for training before it and not skipped; of all of
    them for a patch that no round picked. None where there are none, or the patch is not embedded.

    What a strategy noted is not computed again: the embedding may have changed since.
    """
    chosen = round_rows.selected_in_project(store, project_id)
    pick = chosen.get(patch_id)
    if pick is not None and {"nearest_patch", "distance"} <= pick.reason.keys():
        return Neighbour(pick.reason["nearest_patch"], pick.reason["distance"], True)
    row = models.latest_embedding(store, project_id)
    if row is None:
        return None
    states = annotation.patch_states(store, list(chosen))
    before = [
        other.patch_id
        for other in chosen.values()
        if other.role is PatchRole.TRAIN
        and states.get(other.patch_id) != annotation.SKIPPED
        and (pick is None or (other.round_id, other.rank) < (pick.round_id, pick.rank))
    ]
    ids, vectors = embedding.read(store, row)
    (here,), rows = np.nonzero(ids == patch_id), np.flatnonzero(np.isin(ids, before))
    if not len(here) or not len(rows):
        return None
    distances = 1 - _unit(vectors[rows]) @ _unit(vectors[here])[0]
    best = int(np.argmin(distances))
    return Neighbour(int(ids[rows[best]]), float(np.clip(distances[best], 0, 2)), False)


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
