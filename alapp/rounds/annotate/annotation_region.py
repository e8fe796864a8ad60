"""Partial annotation: regions of a patch that nobody annotated. Each act is one event, and one step of undo.

What is marked is neither object nor background: it is not trained on, not scored and not exported as background.
Objects lie on top of the region and take their pixels out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from alapp.domain import LabelKind
from alapp.errors import InputError, NotReadyError
from alapp.rounds.annotate.annotation_journal import Change, state, write
from alapp.rounds.annotate.clicks import shape
from alapp.stages.annotate import edits, journal, masks
from alapp.stages.annotate.journal import State
from alapp.stages.annotate.masks import Mask
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap

MARGIN = 3
"""Pixels around an object that stay annotated, or around a suggestion that do not: outlines are never exact, and
the border of an object is learned from both of its sides."""

IGNORED = "ignored"
"""Key in the params of a human label map: the id of the map of its region, or None."""

NOT_ANNOTATED = "not_annotated"
"""Key in the params of a human label map: the share of the patch that its region takes, in [0, 1]."""


def mark(
    store: Store,
    patch_id: int,
    session: str,
    mask: Mask,
    *,
    add: bool = True,
    every_slice: bool = False,
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Mark `mask` as not annotated, or with `add` False as annotated after all. `every_slice` repeats it through
    the stack. Raises `InputError` when nothing would change."""
    size = shape(catalogue.patch(store, patch_id))
    if any(low < 0 for low in mask.box[:3]) or any(high > n for high, n in zip(mask.box[3:], size, strict=True)):
        raise InputError("This region reaches beyond the patch. Reload the page.")
    if every_slice:
        flat = mask.array().any(axis=0)
        mask = masks.from_array(np.repeat(flat[None], size[0], axis=0), (0, *mask.box[1:3]))
    return _write(store, patch_id, session, mask, add, revision, token)


def mark_suggestions(
    store: Store, patch_id: int, session: str, *, revision: int | None = None, token: str | None = None
) -> Change:
    """Mark what lies under suggestions that were not accepted, and `MARGIN` pixels around them, as not annotated.
    Raises `InputError` without suggestions."""
    now = state(store, patch_id)
    if not now.suggestions:
        raise InputError("There is no suggestion left on this patch.")
    pixels = np.zeros(shape(catalogue.patch(store, patch_id)), bool)
    for item in now.suggestions.values():
        item.mask.paint(pixels, True)
    return _write(store, patch_id, session, masks.from_array(_wider(pixels)), True, revision, token)


def mark_rest(
    store: Store, patch_id: int, session: str, *, revision: int | None = None, token: str | None = None
) -> Change:
    """Mark the whole patch as not annotated, except for its objects and `MARGIN` pixels around them.

    Raises `InputError` without objects: such a patch is skipped, not marked.
    """
    now = state(store, patch_id)
    if not now.objects:
        raise InputError("Nothing is annotated on this patch yet. Skip the patch if you do not want to annotate it.")
    objects = journal.to_labels(now, shape(catalogue.patch(store, patch_id))) > 0
    rest = masks.from_array(~_wider(objects))
    if rest is None:
        raise InputError("The objects fill the patch, so there is nothing left to mark.")
    return _write(store, patch_id, session, rest, True, revision, token)


def clear(
    store: Store, patch_id: int, session: str, *, revision: int | None = None, token: str | None = None
) -> Change:
    """Nothing is marked as not annotated any more."""
    known = state(store, patch_id).content.ignored
    if known is None:
        raise InputError("No region of this patch is marked as not annotated.")
    return _write(store, patch_id, session, known, False, revision, token)


def share(now: State, patch: Patch) -> float:
    """The part of the patch that is not annotated, in [0, 1]."""
    region = journal.not_annotated(now)
    return float(np.count_nonzero(region.array()) / np.prod(shape(patch))) if region else 0.0


def store_map(store: Store, patch: Patch, now: State, human: Mapping[str, Any]) -> dict[str, Any]:
    """Write the region of `now` as a label map of its own, before the human map that refers to it. Returns what
    belongs into the params of the human map; `human` holds what both rows share.

    Raises `NotReadyError` when the region takes the whole patch.
    """
    region = journal.not_annotated(now)
    if region is None:
        return {IGNORED: None, NOT_ANNOTATED: 0.0, "empty": not now.objects}
    pixels = np.zeros(shape(patch), np.int32)
    region.paint(pixels, 1)
    if pixels.all():
        raise NotReadyError("The whole patch is marked as not annotated. Skip it instead, or annotate a part of it.")
    made = labels.add(store, LabelKind.IGNORED, pixels if patch.is_3d else pixels[0], **human)
    return {IGNORED: made.id, NOT_ANNOTATED: float(pixels.mean()), "empty": not now.objects}


def map_of(store: Store, human: LabelMap) -> LabelMap | None:
    """The map of the region that belongs to a human label map: 1 where nobody annotated; None without a region."""
    identity = human.params.get(IGNORED)
    if identity is None:
        return None
    found = labels.of_ids(store, [identity])
    if not found:
        name = catalogue.patch(store, human.patch_id).name
        raise NotReadyError(
            f"The part of {name} that is not annotated is gone (label map {identity}). Reopen the patch and mark it "
            "done again."
        )
    return found[0]


def pixels_of(store: Store, human: LabelMap) -> np.ndarray | None:
    """bool (Y, X) or (Z, Y, X), True where nobody annotated; None when the whole patch is annotated."""
    region = map_of(store, human)
    return None if region is None else labels.read(store, region) > 0


def _wider(pixels: np.ndarray) -> np.ndarray:
    """bool (Z, Y, X) with all pixels nearer than `MARGIN` on the same slice."""
    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), MARGIN)
    return ndimage.binary_dilation(pixels, disc[None])


def _write(
    store: Store, patch_id: int, session: str, mask: Mask, add: bool, revision: int | None, token: str | None
) -> Change:
    now = state(store, patch_id)
    known = now.content.ignored
    if not add and known is None:
        raise InputError("No region of this patch is marked as not annotated.")
    if edits.paint(known, mask, erase=not add) == known:
        raise InputError("That is marked as not annotated already." if add else "Nothing of this is marked.")
    if add and masks.without(mask, [item.mask for item in now.objects.values()]) is None:
        raise InputError("All of this lies on objects, and those are annotated.")
    payload = {"add": add, "box": mask.box, "token": token}
    # What is marked here was chosen for this state only: whoever wrote meanwhile must be a conflict.
    base = now.revision if revision is None else revision
    return write(store, patch_id, session, "ignore", payload, mask.blob, base)
