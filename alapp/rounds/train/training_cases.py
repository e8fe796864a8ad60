"""What a project's network can be trained on: patches with people's labels, with pseudo-labels, with references."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from alapp.domain import Box, LabelKind, PatchRole
from alapp.rounds.annotate import annotation_region, finished
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.timing import content_hash
from alapp.stages.train.base import Case
from alapp.storage import catalogue, labels
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch, Project
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.storage.rounds import Round

PRETRAIN_PATCHES = 400
"""At most this many patches with pseudo-labels are trained on, drawn at random."""


def human_cases(store: Store, project: Project) -> tuple[Case, ...]:
    """Every finished training patch with its newest human labels. Validation patches are never among them, nor is what
    they share with others."""
    if not labelled_objects(store, project):
        return ()
    return tuple(finished_cases(store, project, PatchRole.TRAIN).values())


def finished_cases(store: Store, project: Project, role: PatchRole) -> dict[int, Case]:
    """Every finished patch of a role with its newest human labels, by patch id; of training patches those that have
    something for themselves."""
    apart = finished.held_out(store, project.id) if role is PatchRole.TRAIN else {}
    cases = {}
    for patch_id, item in finished.maps(store, project.id, role).items():
        patch = catalogue.patch(store, patch_id)
        case = _patch_case(store, patch, item, apart.get(patch.image_id, ()))
        if case is not None:
            cases[patch_id] = case
    return cases


def labelled_objects(store: Store, project: Project) -> int:
    """How many objects the finished training patches show."""
    return sum(item.n_objects for item in finished.maps(store, project.id, PatchRole.TRAIN).values())


def unlabelled_cases(store: Store, project: Project) -> tuple[Case, ...]:
    """`pseudo_cases` of the patches that were never selected: neither labelled nor for validation. None in a project
    that does without pseudo-labels."""
    if project.pseudo_method in (None, pseudo.NONE):
        return ()
    selected = {_pseudo_key(patch_id) for patch_id in round_rows.selected_in_project(store, project.id)}
    return tuple(case for case in pseudo_cases(store, project) if case.key not in selected)


def pseudo_cases(store: Store, project: Project) -> tuple[Case, ...]:
    """Patches with pseudo-labels, a random part of them in a large project; none if no object was found."""
    maps = pseudo.pseudo_maps(store, project.id)
    if not any(item.n_objects for item in maps.values()):
        return ()
    patches = [patch for patch in catalogue.patches(store, project.id) if patch.image_id in maps]
    order = np.random.default_rng([project.seed, 20]).permutation(len(patches))[:PRETRAIN_PATCHES]
    chosen = [patches[row] for row in sorted(order)]
    return tuple(_crop_case(store, patch, maps[patch.image_id], _pseudo_key(patch.id)) for patch in chosen)


def reference_cases(store: Store, project: Project) -> tuple[Case, ...]:
    """Every patch with its reference masks: full annotation, for comparison."""
    maps = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    patches = [patch for patch in catalogue.patches(store, project.id) if patch.image_id in maps]
    return tuple(_crop_case(store, patch, maps[patch.image_id], f"ref_{patch.id}") for patch in patches)


def keys_of(store: Store, this: Round) -> list[str]:
    """Keys of the cases that a round's batch brought."""
    return [_human_key(pick.patch_id) for pick in round_rows.picked(store, this.id)]


def _human_key(patch_id: int) -> str:
    return f"gt_{patch_id}"


def _pseudo_key(patch_id: int) -> str:
    return f"pl_{patch_id}"


def _patch_case(store: Store, patch: Patch, item: LabelMap, apart: Sequence[Box]) -> Case | None:
    """The case of a patch but for the boxes `apart`; None where nothing is left of it."""

    def load() -> tuple[np.ndarray, np.ndarray]:
        return catalogue.read_patch(store, patch), labels.read(store, item)

    region = annotation_region.map_of(store, item)
    covered = finished.shared(patch, apart)
    if finished.nothing_left(store, patch, region, covered):
        return None
    content: list[object] = [patch.id, item.sha256]
    if region is not None:
        content.append(region.sha256)
    if covered:
        content.append(sorted(repr(box) for box in covered))
    partly = region is not None or bool(covered)
    ignored = partial(finished.ignored, store, patch, region, covered) if partly else None
    return Case(_human_key(patch.id), content_hash(*content), load, patch.voxel_size, ignored)


def _crop_case(store: Store, patch: Patch, item: LabelMap, key: str) -> Case:
    def load() -> tuple[np.ndarray, np.ndarray]:
        return catalogue.read_patch(store, patch), labels.read_patch(store, item, patch)

    return Case(key, content_hash(patch.id, item.sha256), load, patch.voxel_size)
