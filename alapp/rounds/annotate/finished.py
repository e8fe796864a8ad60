"""Patches that people finished, and which of their pixels may be learned from.

Patches overlap where the user said so, and where a side of an image is no multiple of theirs. What a patch shares with
a validation patch must not be learned from: scores on it would flatter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from alapp.domain import Box, LabelKind, PatchRole
from alapp.rounds.annotate import annotation
from alapp.storage import catalogue, labels
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap


def maps(store: Store, project_id: int, role: PatchRole | None = None) -> dict[int, LabelMap]:
    """The newest human labels of every finished patch, or of those with a role, by patch id in the order of their
    selection."""
    chosen = round_rows.selected_in_project(store, project_id)
    done = annotation.patch_states(store, list(chosen))
    human = labels.latest_by_patch(store, project_id, LabelKind.HUMAN)
    return {
        patch_id: human[patch_id]
        for patch_id, item in chosen.items()
        if role in (None, item.role) and done.get(patch_id) == annotation.DONE and patch_id in human
    }


def held_out(store: Store, project_id: int) -> dict[int, list[Box]]:
    """Where validation patches lie, by image id; those that were skipped are not scored on."""
    chosen = round_rows.selected_in_project(store, project_id)
    states = annotation.patch_states(store, list(chosen))
    return boxes(
        store,
        (
            patch_id
            for patch_id, item in chosen.items()
            if item.role is PatchRole.VALIDATION and states.get(patch_id) != annotation.SKIPPED
        ),
    )


def boxes(store: Store, patch_ids: Iterable[int]) -> dict[int, list[Box]]:
    """Where patches lie, by image id."""
    found = defaultdict(list)
    for patch_id in patch_ids:
        patch = catalogue.patch(store, patch_id)
        found[patch.image_id].append(patch.box)
    return dict(found)


def shared(patch: Patch, others: Sequence[Box]) -> list[Box]:
    """The parts of a patch that lie in `others`, boxes of the same image."""
    return [box for other in others if (box := patch.box.shared(other))]


def ignored(store: Store, patch: Patch, region: LabelMap | None, covered: Sequence[Box]) -> np.ndarray:
    """bool (Y, X) or (Z, Y, X) of the shape of a patch: True in its `region` that nobody annotated, and in the boxes
    `covered` of its image."""
    size = (patch.box.depth, patch.box.height, patch.box.width)
    found = np.zeros(size if patch.is_3d else size[1:], bool)
    if region is not None:
        found |= labels.read(store, region) > 0
    stack = found if patch.is_3d else found[None]
    for box in covered:
        stack[box.within(patch.box)] = True
    return found


def nothing_left(store: Store, patch: Patch, region: LabelMap | None, covered: Sequence[Box]) -> bool:
    """Whether `ignored` takes the whole patch: several boxes may cover it together, or with its region."""
    # A region alone never takes a whole patch, so it is only read where boxes are.
    return bool(covered) and bool(ignored(store, patch, region, covered).all())
