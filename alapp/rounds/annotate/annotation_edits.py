"""Edits by hand: brush, outline, merge, split, and changes of shape. Each is one event, and one step of undo.

The event holds the objects as the tool left them, so that a journal replays to the same pixels even if a later
version of the app fills or smooths in another way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from alapp.errors import InputError
from alapp.rounds.annotate import annotation_classes
from alapp.rounds.annotate.annotation_journal import Change, state, write
from alapp.rounds.annotate.clicks import shape
from alapp.stages.annotate import edits, masks
from alapp.stages.annotate.edits import Line
from alapp.stages.annotate.journal import Instance, State
from alapp.stages.annotate.masks import Mask
from alapp.storage import catalogue
from alapp.storage.db import Store

STROKES = ("brush", "lasso")
RESHAPES = ("fill", "smooth", "grow", "shrink")
BY_HAND = "hand"
COLOURS = 7  # of the canvas, which takes them by id


def paint(
    store: Store,
    patch_id: int,
    session: str,
    stroke: Mask,
    *,
    tool: str = "brush",
    erase: bool = False,
    object_id: int | None = None,
    kind: int = 1,
    overlap: str = "keep",
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Add the pixels of `stroke` to an object or suggestion, or take them away; without `object_id` they are a
    new object of class `kind`. An object that is erased whole is gone.

    Where it overlaps other objects, they keep their pixels, or lose them with `overlap="replace"`. Raises
    `InputError` when nothing would change.
    """
    _check(tool in STROKES, f"There is no tool called {tool!r}.")
    _check(overlap in ("keep", "replace"), f"There is no way to overlap called {overlap!r}. Choose keep or replace.")
    inside = all(
        high <= size for high, size in zip(stroke.box[3:], shape(catalogue.patch(store, patch_id)), strict=True)
    )
    _check(inside, "This stroke reaches beyond the patch. Reload the page.")
    now = state(store, patch_id)
    if object_id is None:
        _check(not erase, "There is no object to erase from. Select one first.")
        annotation_classes.check(store, patch_id, kind)
        item, known = None, Instance(stroke, BY_HAND, kind=kind)
    else:
        item = known = _known(now, object_id)
    mask = edits.paint(item.mask if item else None, stroke, erase)
    emptied = _emptied(item, mask) if erase else []
    changed: dict[int, Instance | None] = {}
    others = {key: other for key, other in now.objects.items() if key != object_id}
    if mask is not None and (erase or overlap == "keep"):
        # What is left of a suggestion may lie under objects too.
        mask = masks.without(mask, [other.mask for other in others.values()])
        _check(erase or mask is not None, "All of this lies on other objects, which keep their pixels.")
    elif not erase:
        cut = {key: masks.without(other.mask, [mask]) for key, other in others.items()}
        changed = {key: _with(others[key], cut[key]) for key in others if cut[key] is not others[key].mask}
    _check(item is None or mask != item.mask or item is now.suggestions.get(object_id), "The stroke changes nothing.")
    identity = object_id if object_id is not None else now.last_id + 1
    # Who goes on drawing corrects nothing.
    changed[identity] = _with(known, mask, corrected=known.source != BY_HAND, emptied=emptied)
    return _write(store, patch_id, session, tool, identity, changed, now, revision, token, new=item is None)


def merge(
    store: Store,
    patch_id: int,
    session: str,
    object_ids: Sequence[int],
    *,
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Make one object of several objects or suggestions; it keeps the id of the first."""
    now = state(store, patch_id)
    chosen = list(dict.fromkeys(object_ids))
    _check(len(chosen) > 1, "Select two objects or more, then merge them.")
    items = [_known(now, key) for key in chosen]
    others = [other.mask for key, other in now.objects.items() if key not in chosen]
    mask = masks.without(edits.merge([item.mask for item in items]), others)
    _check(mask is not None, "All of this lies on other objects, which keep their pixels.")
    changed: dict[int, Instance | None] = dict.fromkeys(chosen)
    changed[chosen[0]] = _with(items[0], mask, emptied=[z for item in items for z in item.emptied])
    return _write(store, patch_id, session, "merge", chosen[0], changed, now, revision, token)


def split(
    store: Store,
    patch_id: int,
    session: str,
    object_id: int,
    line: Line,
    z: int = 0,
    *,
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """Cut an object or suggestion along a line, drawn on slice `z`; the larger part keeps its id."""
    now = state(store, patch_id)
    item = _known(now, object_id)
    large, small = edits.split(item.mask, line, z)
    others = [other.mask for key, other in now.objects.items() if key != object_id]
    parts = [masks.without(part, others) for part in (large, small)]
    _check(all(parts), "One of the two parts lies wholly on other objects, which keep their pixels.")
    fresh = now.last_id + 1
    if (fresh - object_id) % COLOURS == 0:
        fresh += 1  # two halves of one colour would look like one object
    changed = {object_id: _with(item, parts[0]), fresh: _with(item, parts[1])}
    return _write(store, patch_id, session, "split", object_id, changed, now, revision, token)


def reshape(
    store: Store,
    patch_id: int,
    session: str,
    object_id: int,
    how: str,
    *,
    revision: int | None = None,
    token: str | None = None,
) -> Change:
    """`fill` the holes of an object or suggestion, `smooth` it, `grow` or `shrink` it by a pixel. Other objects
    keep their pixels. Raises `InputError` when nothing would change, or nothing be left."""
    _check(how in RESHAPES, f"There is no tool called {how!r}.")
    now = state(store, patch_id)
    item = _known(now, object_id)
    size = shape(catalogue.patch(store, patch_id))
    if how == "fill":
        mask = edits.fill_holes(item.mask)
    else:
        mask = {"smooth": edits.smooth, "grow": edits.grow, "shrink": edits.shrink}[how](item.mask, size)
    emptied = _emptied(item, mask)
    if mask is not None:
        mask = masks.without(mask, [other.mask for key, other in now.objects.items() if key != object_id])
    _check(mask is not None, "Nothing would be left of the object. Press Delete to remove it.")
    _check(mask != item.mask, _UNCHANGED[how])
    changed = {object_id: _with(item, mask, emptied=emptied)}
    return _write(store, patch_id, session, how, object_id, changed, now, revision, token)


_UNCHANGED = {
    "fill": "The object has no holes.",
    "smooth": "The object is smooth already.",
    "grow": "The object cannot grow: other objects or the border of the patch surround it.",
    "shrink": "The object fills the patch and cannot shrink.",
}


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise InputError(sentence)


def _known(now: State, object_id: int) -> Instance:
    item = now.objects.get(object_id) or now.suggestions.get(object_id)
    if item is None:
        raise InputError("The object that you change is gone. Select it anew.")
    return item


def _emptied(item: Instance | None, mask: Mask | None) -> list[int]:
    """The slices from which an edit took the object, before it makes way for others."""
    return [] if item is None or mask is None else masks.empty_on(mask, masks.filled(item.mask))


def _with(item: Instance, mask: Mask | None, corrected: bool = True, emptied: Collection[int] = ()) -> Instance | None:
    if mask is None:
        return None
    emptied = tuple(masks.empty_on(mask, sorted({*item.emptied, *emptied})))
    return replace(item, mask=mask, corrected=item.corrected or corrected, emptied=emptied)


def _write(
    store: Store,
    patch_id: int,
    session: str,
    tool: str,
    object_id: int,
    changed: Mapping[int, Instance | None],
    now: State,
    revision: int | None,
    token: str | None,
    new: bool = False,
) -> Change:
    """The event for the objects that a tool left, seen from state `now`; None stands for an object that is gone."""
    made = {key: item for key, item in changed.items() if item is not None}
    entries = [
        {
            "object": key,
            "box": item.mask.box,
            "size": len(item.mask.blob),
            "source": item.source,
            "corrected": item.corrected,
            "class": item.kind,
            "emptied": item.emptied,
        }
        for key, item in made.items()
    ]
    gone = [key for key, item in changed.items() if item is None]
    payload = {"tool": tool, "object": object_id, "new": new, "set": entries, "gone": gone, "token": token}
    blob = b"".join(item.mask.blob for item in made.values())
    # The result holds for this state only: whoever wrote meanwhile must be a conflict.
    base = now.revision if revision is None else revision
    return write(store, patch_id, session, "edit", payload, blob, base)
