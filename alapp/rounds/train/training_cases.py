"""What a project's network can be trained on: patches with people's labels, with pseudo-labels, with references."""

from __future__ import annotations

import numpy as np

from alapp.domain import LabelKind, PatchRole
from alapp.rounds.annotate import annotation, annotation_region
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
    """Every finished training patch with its newest human labels; validation patches are never among them."""
    if not labelled_objects(store, project):
        return ()
    return tuple(finished_cases(store, project, PatchRole.TRAIN).values())


def finished_cases(store: Store, project: Project, role: PatchRole) -> dict[int, Case]:
    """Every finished patch of a role with its newest human labels, by patch id."""
    return {
        patch_id: _patch_case(store, catalogue.patch(store, patch_id), item)
        for patch_id, item in finished(store, project, role).items()
    }


def finished(store: Store, project: Project, role: PatchRole) -> dict[int, LabelMap]:
    """The newest human labels of every finished patch of a role, by patch id."""
    chosen = round_rows.selected_in_project(store, project.id)
    done = annotation.patch_states(store, list(chosen))
    maps = labels.latest_by_patch(store, project.id, LabelKind.HUMAN)
    return {
        patch_id: maps[patch_id]
        for patch_id, item in chosen.items()
        if item.role is role and done.get(patch_id) == annotation.DONE and patch_id in maps
    }


def labelled_objects(store: Store, project: Project) -> int:
    """How many objects the finished training patches show."""
    return sum(item.n_objects for item in finished(store, project, PatchRole.TRAIN).values())


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


def _patch_case(store: Store, patch: Patch, item: LabelMap) -> Case:
    def load() -> tuple[np.ndarray, np.ndarray]:
        return catalogue.read_patch(store, patch), labels.read(store, item)

    key, region = _human_key(patch.id), annotation_region.map_of(store, item)
    if region is None:
        return Case(key, content_hash(patch.id, item.sha256), load, patch.voxel_size)
    content = content_hash(patch.id, item.sha256, region.sha256)
    return Case(key, content, load, patch.voxel_size, lambda: labels.read(store, region) > 0)


def _crop_case(store: Store, patch: Patch, item: LabelMap, key: str) -> Case:
    def load() -> tuple[np.ndarray, np.ndarray]:
        return catalogue.read_patch(store, patch), catalogue.crop(labels.read(store, item), patch)

    return Case(key, content_hash(patch.id, item.sha256), load, patch.voxel_size)
