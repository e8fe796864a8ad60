"""The journal of a patch: opened, folded, written. `annotation` has the acts, `annotation_batch` the overview."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage.segmentation import relabel_sequential

from alapp.domain import PatchRole
from alapp.errors import ConflictError, InputError, NotReadyError
from alapp.rounds.annotate.clicks import shape
from alapp.rounds.pseudolabel import pseudo
from alapp.stages.annotate import doubt, journal, masks
from alapp.stages.annotate.journal import DONE, Event, State
from alapp.storage import annotations, catalogue, labels, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap

STARTS = ("nothing", "model", "pseudo")
Suggested = tuple[bytes, dict[str, tuple[float, str]]]

REMEMBERED = 8  # patches whose folded journal is kept; undo makes them large

_states: OrderedDict[tuple[str, int], tuple[float, State]] = OrderedDict()
_starts: OrderedDict[tuple[str, int, int], Suggested] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Change:
    """What an act did: the patch before and after it."""

    before: State
    after: State


def state(store: Store, patch_id: int) -> State:
    """The annotation of a patch, folded from its journal; only events not seen before are read."""
    key = (str(store.root), patch_id)
    newest, born = annotations.head(store, patch_id)
    with _lock:
        known_born, known = _states.get(key, (born, State()))
    if known_born != born or known.revision > newest:
        known = State()
    if known.revision < newest:
        rows = annotations.events(store, patch_id, after=known.revision)
        known = journal.fold((Event(row.revision, row.kind, row.payload, row.mask) for row in rows), known)
    with _lock:
        _states[key] = (born, known)
        _states.move_to_end(key)
        while len(_states) > REMEMBERED:
            _states.popitem(last=False)
    return known


def begin(store: Store, patch_id: int, session: str, start: str | None = None) -> State:
    """Open a patch. The first time, or when `start` is given, suggestions are taken from the `model`'s newest
    prediction, the `pseudo`-labels or `nothing`.

    Without `start`: the model if there is one, else the pseudo-labels; nothing for a validation patch, whose
    labels must not lean towards the model that they judge, and for one that measures what suggestions save.
    Raises `NotReadyError` if the chosen one is missing.
    """
    known, asked = state(store, patch_id), start is not None
    if known.start is not None and not asked:
        return known
    patch = catalogue.patch(store, patch_id)
    if start is not None and start not in STARTS:
        raise InputError(f"A patch cannot start from {start!r}. Choose one of: {', '.join(STARTS)}.")
    if start is None:
        start = "nothing" if known.revision else _default_start(store, patch)
    elif known.closed:
        raise closed_error(known)
    source = _start_map(store, patch, start)
    payload: dict[str, Any] = {"start": start, "shape": shape(patch), "lasting": True}
    blob = None
    if source is not None:
        blob, doubts = _suggested(store, patch, source)
        payload |= {"label_map": source.id, "doubts": doubts}
    try:
        annotations.append(store, patch_id, known.revision, "open", payload, blob, session)
    except ConflictError:
        # A page that shows a tab for the first time may ask twice at once; whoever came first opened the patch.
        if asked or state(store, patch_id).start is None:
            raise
    return state(store, patch_id)


def warm(store: Store, patch_id: int) -> State:
    """Have ready what `begin` will need for a patch; nothing is written. The state as it is now."""
    known = state(store, patch_id)
    if known.start is None and not known.closed:
        patch = catalogue.patch(store, patch_id)
        source = _start_map(store, patch, "nothing" if known.revision else _default_start(store, patch))
        if source is not None:
            _suggested(store, patch, source)
    return known


def starts(store: Store, patch: Patch) -> list[str]:
    """What the patch can start from now."""
    return ["nothing", *(start for start in ("model", "pseudo") if _newest(store, patch, start))]


def repeated(store: Store, patch_id: int, session: str, revision: int, token: str) -> Change | None:
    """What an act did that was written already, but whose answer got lost; None if it was not written.

    A page that asks again after a restart of the app must neither repeat the act nor see a conflict.
    """
    if not annotations.written(store, patch_id, revision, session, token):
        return None
    events = [Event(row.revision, row.kind, row.payload, row.mask) for row in annotations.events(store, patch_id)]
    return Change(journal.fold(events[:revision]), journal.fold(events))


def write(
    store: Store,
    patch_id: int,
    session: str,
    kind: str,
    payload: dict[str, Any],
    blob: bytes | None = None,
    revision: int | None = None,
) -> Change:
    """Append an event to the journal; the one way in which an annotation changes.

    Raises `InputError` when the patch is closed, `ConflictError` when `revision` is not the newest.
    """
    before = state(store, patch_id)
    if before.closed and kind not in ("reopen", "skip", "done"):
        raise closed_error(before)
    base = before.revision if revision is None else revision
    annotations.append(store, patch_id, base, kind, payload, blob, session)
    return Change(before, state(store, patch_id))


def closed_error(now: State) -> InputError:
    """What to tell somebody who changes a patch that is done or skipped."""
    word = "marked done" if now.status == DONE else "skipped"
    return InputError(f"This patch is {word}. Reopen it to change it.")


def _suggested(store: Store, patch: Patch, source: LabelMap) -> Suggested:
    """The patch's part of a label map, packed, and what to doubt of it. Kept, because it takes reading the map."""
    key = (str(store.root), source.id, patch.id)
    with _lock:
        found = _starts.get(key)
    if found is None:
        around = labels.read_around(store, source, patch)
        # Ids of a whole image can be large; those of a patch are shown to the person, so they count from 1.
        pixels = relabel_sequential(around[:, *patch.box.slices[1:]])[0]
        found = masks.pack_labels(pixels), _doubts(store, patch, source, around, pixels)
    with _lock:
        _starts[key] = found
        _starts.move_to_end(key)
        while len(_starts) > REMEMBERED:
            _starts.popitem(last=False)
    return found


def _doubts(
    store: Store, patch: Patch, source: LabelMap, around: np.ndarray, pixels: np.ndarray
) -> dict[str, tuple[float, str]]:
    """Confidence and flag of the suggestions `pixels` (Z, Y, X), by id; `around` is the map that they are cut from."""
    image = catalogue.read_patch(store, patch)
    kept = labels.probability(store, source)
    foreground = None if kept is None else catalogue.crop(kept, patch).reshape(pixels.shape).astype(np.float32) / 255
    found = doubt.assess(pixels, image.reshape(*pixels.shape, image.shape[-1]), foreground, doubt.typical_sizes(around))
    return {str(key): (item.confidence, item.flag) for key, item in found.items()}


def _default_start(store: Store, patch: Patch) -> str:
    pick = round_rows.pick_of(store, patch.id)
    if pick is not None and (pick.control or pick.role is PatchRole.VALIDATION):
        return "nothing"
    return next((start for start in ("model", "pseudo") if _newest(store, patch, start)), "nothing")


def _start_map(store: Store, patch: Patch, start: str) -> LabelMap | None:
    if start == "nothing":
        return None
    found = _newest(store, patch, start)
    if found is None:
        missing = "prediction of the model" if start == "model" else "pseudo-labels"
        raise NotReadyError(f"There are no {missing} for {patch.image_name} yet. Start from nothing instead.")
    return found


def _newest(store: Store, patch: Patch, start: str) -> LabelMap | None:
    if start == "model":
        return verdicts.prediction(store, patch.project_id, patch.image_id)
    return pseudo.pseudo_maps(store, patch.project_id).get(patch.image_id)
