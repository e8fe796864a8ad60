"""Annotation of a batch: every act of the person becomes an event of the patch's journal, and only that.

Used by the Annotate page, the simulator and imports. `revision` is the last event the caller knows: a page
passes it, so that two tabs cannot overwrite each other; without it the newest is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from alapp.domain import LabelKind
from alapp.errors import InputError, NotReadyError
from alapp.rounds.annotate import annotation_classes, annotation_region, clicks
from alapp.rounds.annotate.annotation_batch import BatchPatch, batch, next_patch, patch_states
from alapp.rounds.annotate.annotation_journal import STARTS, Change, begin, closed_error, repeated, starts, state, write
from alapp.rounds.annotate.annotation_stack import propagate
from alapp.rounds.annotate.clicks import Box, check_box, check_points, shape
from alapp.rounds.annotate.ledger import Effort
from alapp.rounds.annotate.ledger import of_round as effort
from alapp.rounds.timing import content_hash
from alapp.stages.annotate import journal, masks
from alapp.stages.annotate.base import PLAIN, Point, Tuning
from alapp.stages.annotate.journal import DONE, OPEN, SKIPPED, STARTED, Event, State
from alapp.stages.annotate.masks import Mask
from alapp.stages.label_ids import instance_map
from alapp.storage import annotations, catalogue, labels
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap

__all__ = [
    "DONE",
    "OPEN",
    "SKIPPED",
    "STARTED",
    "STARTS",
    "BatchPatch",
    "Change",
    "Effort",
    "accept",
    "accept_suggestions",
    "batch",
    "begin",
    "click",
    "delete_object",
    "effort",
    "mark_done",
    "next_patch",
    "patch_states",
    "preview",
    "propagate",
    "redo",
    "reopen",
    "repeated",
    "skip",
    "starts",
    "state",
    "submit_labels",
    "undo",
]


def click(
    store: Store,
    patch_id: int,
    session: str,
    *,
    positive: Sequence[Point],
    negative: Sequence[Point] = (),
    box: Box | None = None,
    z: int = 0,
    object_id: int | None = None,
    overlap: str = "keep",
    tuning: Tuning = PLAIN,
    revision: int | None = None,
    token: str | None = None,
) -> tuple[Mask | None, Change]:
    """The mask under the points (y, x) and in the box (y0, x0, y1, x1) of slice `z`, which are all of the
    unfinished object; None if it is empty.

    `object_id`: the object or suggestion that is being corrected. Neither points nor box clears the draft.
    """
    patch = catalogue.patch(store, patch_id)
    check_points(patch, z, [*positive, *negative])
    if box is not None:
        check_box(patch, box)
    now = state(store, patch_id)
    mask = preview(store, patch, now, z, positive, negative, object_id, overlap, box, tuning)
    prompts = {"positive": list(positive), "negative": list(negative), "box": box, "tuning": asdict(tuning)}
    payload = {**prompts, "z": z, "object": object_id, "token": token}
    return mask, write(store, patch_id, session, "click", payload, revision=revision)


def preview(
    store: Store,
    patch: Patch,
    now: State,
    z: int,
    positive: Sequence[Point],
    negative: Sequence[Point],
    object_id: int | None,
    overlap: str = "keep",
    box: Box | None = None,
    tuning: Tuning = PLAIN,
) -> Mask | None:
    """The mask of an unfinished object, as `accept` would take it; nothing is written. A box says what the object
    is, so that its earlier mask no longer counts."""
    if not positive and box is None and (object_id is None or not negative):
        return None
    item = now.objects.get(object_id) or now.suggestions.get(object_id)
    known = item.mask if item and box is None else None
    mask = clicks.segment(store, patch, z, positive, negative, known, box, tuning)
    if mask is None or overlap != "keep":
        return mask
    return masks.without(mask, [other.mask for key, other in now.objects.items() if key != object_id])


def accept(
    store: Store,
    patch_id: int,
    session: str,
    mask: Mask,
    *,
    object_id: int | None = None,
    source: str = "click",
    kind: int = 1,
    overlap: str = "keep",
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Make `mask` an object of class `kind`, or, with `object_id`, the new content of that object on the slices
    it spans.

    Where it overlaps other objects, they keep their pixels, or lose them with `overlap="replace"`. Raises
    `InputError` when nothing of it would be left.
    """
    patch = catalogue.patch(store, patch_id)
    if any(low < 0 for low in mask.box[:3]) or any(
        high > size for high, size in zip(mask.box[3:], shape(patch), strict=True)
    ):
        raise InputError("This mask reaches beyond the patch. Reload the page.")
    if overlap not in ("keep", "replace"):
        raise InputError(f"There is no way to overlap called {overlap!r}. Choose keep or replace.")
    now = state(store, patch_id)
    known = now.objects.get(object_id) or now.suggestions.get(object_id)
    if object_id is not None and known is None:
        raise InputError("The object that you correct is gone. Press Esc and click it anew.")
    others = [item.mask for key, item in now.objects.items() if key != object_id]
    if overlap == "keep" and masks.without(mask, others) is None:
        raise InputError("All of this mask lies on other objects, which keep their pixels.")
    if known is None:
        annotation_classes.check(store, patch_id, kind)
    payload = {
        "object": object_id if object_id is not None else now.last_id + 1,
        "box": mask.box,
        "new": known is None,
        "source": source,
        "overlap": overlap,
        "corrected": known is not None and masks.differ(known.mask, mask),
        "class": kind if known is None else known.kind,
        "token": token,
    }
    if overlap == "replace":
        payload["gone"] = _gone(now, [*now.objects], "accept", payload, mask.blob)
    # What is gone holds for this state only: whoever wrote meanwhile must be a conflict.
    base = now.revision if revision is None else revision
    return write(store, patch_id, session, "accept", payload, mask.blob, base)


def accept_suggestions(
    store: Store,
    patch_id: int,
    session: str,
    object_ids: Sequence[int] | None = None,
    *,
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Make suggestions objects, as they are; all of them without `object_ids`."""
    now = state(store, patch_id)
    wanted = now.suggestions if object_ids is None else set(object_ids)
    chosen = [key for key in now.suggestions if key in wanted]
    if not chosen:
        raise InputError("There is no suggestion to accept.")
    payload = {"objects": chosen, "token": token}
    payload["gone"] = _gone(now, chosen, "take", payload)
    base = now.revision if revision is None else revision
    return write(store, patch_id, session, "take", payload, revision=base)


def _gone(
    now: State, ids: Sequence[int], kind: str, payload: Mapping[str, Any], blob: bytes | None = None
) -> list[int]:
    """Those of `ids` that are no objects after an event, because all of their pixels are other objects' then."""
    after = journal.apply(now, Event(now.revision + 1, kind, payload, blob))
    return [key for key in ids if key not in after.objects]


def delete_object(
    store: Store,
    patch_id: int,
    session: str,
    object_ids: Sequence[int],
    *,
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Remove objects, or dismiss suggestions."""
    now = state(store, patch_id)
    chosen = [key for key in object_ids if key in now.objects or key in now.suggestions]
    if not chosen:
        raise InputError("That object is gone already.")
    return write(store, patch_id, session, "delete", {"objects": chosen, "token": token}, revision=revision)


def undo(store: Store, patch_id: int, session: str, *, revision: int | None = None, token: str | None = None) -> Change:
    """Take the last edit back; undo reaches to the first one."""
    if not state(store, patch_id).past:
        raise InputError("There is nothing to undo.")
    return write(store, patch_id, session, "undo", {"token": token}, revision=revision)


def redo(store: Store, patch_id: int, session: str, *, revision: int | None = None, token: str | None = None) -> Change:
    """Do again what was undone last."""
    if not state(store, patch_id).future:
        raise InputError("There is nothing to redo.")
    return write(store, patch_id, session, "redo", {"token": token}, revision=revision)


def mark_done(
    store: Store,
    patch_id: int,
    session: str,
    *,
    revision: int | None = None,
    token: str | None = None,
    backend: str = "human",
) -> Change:
    """Write the objects as the patch's human label map, the region that is not annotated as a map beside it, and
    close the patch. Suggestions are left out; a patch without objects is checked to be empty.

    Raises `NotReadyError` when nothing of the patch is annotated.
    """
    patch = catalogue.patch(store, patch_id)
    now = state(store, patch_id)
    if now.closed:
        raise closed_error(now)
    # The page may be behind: refuse before the file is written, not after.
    base = now.revision if revision is None else revision
    if base != now.revision:
        annotations.append(store, patch_id, base, "done", {}, None, session)
    pixels = journal.to_labels(now, shape(patch))
    content = [(key, item.mask.box, hashlib.sha256(item.mask.blob).hexdigest()) for key, item in now.objects.items()]
    pick = round_rows.pick_of(store, patch_id)
    region = journal.not_annotated(now)
    marked = [(region.box, hashlib.sha256(region.blob).hexdigest())] if region else []
    row = {
        "project_id": patch.project_id,
        "image_id": patch.image_id,
        "patch_id": patch_id,
        "round_id": pick.round_id if pick else None,
        "backend": backend,
        "input_hash": content_hash(patch_id, content, *marked),
    }
    params = {
        "revision": now.revision,
        **annotation_classes.recorded(store, patch.project_id, now),
        **annotation_region.store_map(store, patch, now, row),
    }
    made = labels.add(store, LabelKind.HUMAN, pixels if patch.is_3d else pixels[0], params=params, **row)
    return write(store, patch_id, session, "done", {"label_map": made.id, "token": token}, revision=base)


def skip(
    store: Store,
    patch_id: int,
    session: str,
    reason: str = "",
    *,
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Close the patch without labels; nothing is learned from it."""
    return write(store, patch_id, session, "skip", {"reason": reason[:500], "token": token}, revision=revision)


def reopen(
    store: Store, patch_id: int, session: str, *, revision: int | None = None, token: str | None = None
) -> Change:
    """Go on with a patch that was done or skipped."""
    if not state(store, patch_id).closed:
        raise InputError("This patch is open already.")
    return write(store, patch_id, session, "reopen", {"token": token}, revision=revision)


def submit_labels(store: Store, patch_id: int, pixels: np.ndarray, backend: str, session: str = "import") -> LabelMap:
    """Take a finished label map (Y, X) or (Z, Y, X) for the patch, from an oracle or a file, and mark it done. For its
    ids see `instance_map`. Raises `InputError` when the size differs, and for fractions or negative numbers."""
    patch = catalogue.patch(store, patch_id)
    expected = shape(patch) if patch.is_3d else shape(patch)[1:]
    if pixels.shape != expected:
        raise InputError(f"The label map of {patch.name} has shape {pixels.shape}, but the patch has {expected}.")
    ready = instance_map(np.asarray(pixels), f"The label map of {patch.name}")
    now = state(store, patch_id)
    if now.closed:
        reopen(store, patch_id, session)
    payload = {"backend": backend, "shape": shape(patch)}
    blob = masks.pack_labels(ready.reshape(shape(patch)))
    write(store, patch_id, session, "submit", payload, blob)
    mark_done(store, patch_id, session, backend=backend)
    made = labels.latest_of_patch(store, patch_id, LabelKind.HUMAN)
    if made is None:
        raise NotReadyError(f"The label map of {patch.name} was removed while it was written. Try again.")
    return made
