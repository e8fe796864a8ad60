"""Objects of a stack: carried from slice to slice, and again after a correction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alapp.domain import Report
from alapp.errors import Cancelled, InputError
from alapp.rounds.annotate import clicks
from alapp.rounds.annotate.annotation_journal import Change, closed_error, state, write
from alapp.stages.annotate import masks
from alapp.stages.annotate.base import DOWN, UP
from alapp.storage import catalogue
from alapp.storage.db import Store

_running: dict[tuple[Path, int], threading.Event] = {}

DIRECTIONS = {"both": (DOWN, UP), "down": (DOWN,), "up": (UP,)}


def propagate(
    store: Store,
    patch_id: int,
    session: str,
    object_id: int,
    z: int,
    *,
    direction: str = "both",
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Carry an object from slice `z` to the slices below and above (`direction`: both, down or up).

    Slices that a person made or changed stay. Those that an earlier propagation made are made anew, up to the
    next slice that stays; between two such slices the shape is interpolated, otherwise the object is followed to
    its end, or to a slice from which a person erased it. Raises `InputError` when the object is not on that slice,
    or nothing would change, and `Cancelled` when `stop` was called meanwhile; nothing is written then.
    """
    if direction not in DIRECTIONS:
        raise InputError(f"An object cannot be carried {direction!r}. Choose one of: {', '.join(DIRECTIONS)}.")
    patch = catalogue.patch(store, patch_id)
    clicks.check_points(patch, z, [])
    now = state(store, patch_id)
    if now.closed:
        raise closed_error(now)
    base = now.revision if revision is None else revision
    if base != now.revision:  # refused by the journal; before the work, which may take seconds
        return write(store, patch_id, session, "accept", {}, None, base)
    item = now.objects.get(object_id)
    if item is None or masks.on_slice(item.mask, z) is None:
        raise InputError("Choose an object on this slice first, then carry it through the stack.")
    with _stoppable(store, patch_id) as report:
        known = item.mask, item.propagated, DIRECTIONS[direction], report, item.emptied
        mask = clicks.propagate(store, patch, z, *known)
    mask = masks.without(mask, [other.mask for key, other in now.objects.items() if key != object_id])
    kept = masks.filled(item.mask, item.propagated)
    if mask == item.mask:
        erased = ", or you erased it there: then draw it there first" if item.emptied else ""
        raise InputError(f"Nothing changes: the object does not continue on the neighbouring slices{erased}.")
    payload = {
        "object": object_id,
        "box": mask.box,
        "new": False,
        "source": item.source,
        "overlap": "keep",
        "corrected": False,
        "propagated": masks.filled(mask, kept),
        "token": token,
    }
    # The result holds for this state only: whoever wrote meanwhile must be a conflict.
    return write(store, patch_id, session, "accept", payload, mask.blob, base)


def stop(store: Store, patch_id: int) -> bool:
    """Stop carrying an object of this patch at the next slice. False if nothing is under way."""
    asked = _running.get((store.root, patch_id))
    if asked is None:
        return False
    asked.set()
    return True


@contextmanager
def _stoppable(store: Store, patch_id: int) -> Iterator[Report]:
    """A `Report` that raises once `stop` was called."""
    key, asked = (store.root, patch_id), threading.Event()

    def report(done: float, total: float, message: str = "") -> None:
        if asked.is_set():
            raise Cancelled("You stopped it: the object is as it was before.")

    _running[key] = asked
    try:
        yield report
    finally:
        if _running.get(key) is asked:  # another page may have begun meanwhile
            del _running[key]
