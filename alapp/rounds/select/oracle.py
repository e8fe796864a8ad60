"""Reference masks in place of the person: for trying the app out, and for the headless simulation."""

from __future__ import annotations

from collections.abc import Iterable

from alapp.domain import LabelKind
from alapp.errors import NotReadyError
from alapp.rounds.annotate import annotation
from alapp.rounds.select.selection import open_patches
from alapp.rounds.timing import timed
from alapp.storage import catalogue, labels
from alapp.storage.db import Store

BACKEND = "oracle"


def can_answer(store: Store, project_id: int) -> bool:
    """Whether every open patch of the newest round lies in an image with reference masks."""
    waiting = open_patches(store, project_id)
    if not waiting:
        return False
    references = labels.latest_by_image(store, project_id, LabelKind.REFERENCE)
    return all(catalogue.patch(store, pick.patch_id).image_id in references for pick in waiting)


def answer(store: Store, project_id: int, patch_ids: Iterable[int] | None = None) -> int:
    """Submit the reference masks of `patch_ids` (by default the open patches of the newest round), as a person
    would finish them; returns how many. Raises `NotReadyError` where there is no reference."""
    if patch_ids is None:
        patch_ids = [pick.patch_id for pick in open_patches(store, project_id)]
    references = labels.latest_by_image(store, project_id, LabelKind.REFERENCE)
    count = 0
    with timed(store, project_id, "annotate"):
        for patch_id in patch_ids:
            patch = catalogue.patch(store, patch_id)
            if patch.image_id not in references:
                raise NotReadyError(f"{patch.image_name} has no reference masks, so a person has to annotate it.")
            truth = labels.read(store, references[patch.image_id])
            annotation.submit_labels(store, patch_id, catalogue.crop(truth, patch), BACKEND)
            count += 1
    return count
