"""The journal of a patch: what a person did, in order. The annotation is the fold of its events.

Events are only ever appended, so nothing that was accepted can be lost, and undo reaches back to the first
event, across reloads and restarts. Kinds, with payload and blob:

    open       start: nothing | model | pseudo; label_map, shape    blob: label map of the suggestions
               doubts: {id: [confidence, flag]}                     -    see doubt.Assessment
               lasting: undo keeps the suggestions, less what       -    journals from before say nothing, and
               objects cover                                             replay as they did
    click      positive, negative: [[y, x]...], z, object, box      -    every point of the unfinished object
               tuning: {granularity, looseness}                     -    see base.Tuning
    accept     object, new, corrected, box, source, overlap         blob: packed mask; overlap: keep | replace
               propagated: [z...], carried through the stack        -    blob: then all of the object
               gone: [id...], other objects, now wholly under it    -    for the ledger, which reads no mask
    edit       tool, object, new, set, gone: [id...]                blob: packed masks of `set`, joined
               set: [{object, box, size, source, corrected}...]     -    objects as the tool left them
               each with emptied: [z...]                            -    see Instance
    take       objects: [id...]                                     -    suggestions accepted as they are
               gone: [id...], those that lie wholly under objects   -    for the ledger
    delete     objects: [id...]                                     -    objects removed, suggestions dismissed
    ignore     add, box                                             blob: packed mask of a region that is not
                                                                          annotated (add), or is after all
    classify   objects: [id...], class                              -    objects and suggestions of another class
    submit     backend, shape                                       blob: label map of the whole patch
    undo redo  -
    done       label_map                                            -
    skip       reason                                               -
    reopen     -
    claim      -                                                    a page takes the patch over from another one

A class counts from 1. `accept`, and `edit` for each object of `set`, may carry the `class` of a new object; it is 1
where nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from alapp.errors import InputError
from alapp.stages.annotate import edits, masks
from alapp.stages.annotate.base import PLAIN, Tuning
from alapp.stages.annotate.masks import Mask

OPEN, STARTED, DONE, SKIPPED = "open", "started", "done", "skipped"
EDITS = ("open", "accept", "edit", "take", "delete", "classify", "ignore", "submit")
WITHDRAW = 0.5  # a suggestion that a new object covers by this share has served its purpose


@dataclass(frozen=True)
class Event:
    """One row of the journal. `revision` counts from 1; `blob` is the mask or label map, if any."""

    revision: int
    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    blob: bytes | None = None


@dataclass(frozen=True)
class Instance:
    """An object or a suggestion. `source` says where its pixels come from: a click method's name, `model`,
    `pseudo`, or a backend of imported labels; `corrected` that a person changed a suggestion or an object. `kind` is
    its class, from 1. `confidence` and `flag` of a suggestion: see `doubt.Assessment`; nobody doubts what a person
    made. `propagated`: the slices z whose pixels were carried there from other slices, and that nobody changed since;
    every other slice of the object is an anchor for the next propagation. `emptied`: the slices from which a person
    took its last pixel, and where nobody drew it again; the next propagation ends before them."""

    mask: Mask
    source: str
    corrected: bool = False
    kind: int = 1
    confidence: float | None = None
    flag: str = ""
    propagated: tuple[int, ...] = ()
    emptied: tuple[int, ...] = ()


@dataclass(frozen=True)
class Content:
    """What undo goes back to: objects and suggestions by id. Never changed in place.

    `ignored` is the region that a person marked as not annotated. Objects lie on top of it (`not_annotated`), so
    an object that is deleted there leaves no background that nobody looked at.
    """

    objects: Mapping[int, Instance] = field(default_factory=dict)
    suggestions: Mapping[int, Instance] = field(default_factory=dict)
    ignored: Mask | None = None


@dataclass(frozen=True)
class Draft:
    """The unfinished object: its points (y, x) and box (y0, x0, y1, x1) on slice `z`, and the object that it
    corrects or extends; `tuning` as the sliders stood."""

    z: int
    positive: tuple[tuple[float, float], ...]
    negative: tuple[tuple[float, float], ...]
    object: int | None = None
    box: tuple[float, float, float, float] | None = None
    tuning: Tuning = PLAIN


@dataclass(frozen=True)
class State:
    """A patch after its events. `past` and `future` are the contents that undo and redo go to;
    `start` is where the suggestions came from, None before the patch was opened."""

    revision: int = 0
    status: str = OPEN
    content: Content = field(default_factory=Content)
    draft: Draft | None = None
    past: tuple[Content, ...] = ()
    future: tuple[Content, ...] = ()
    last_id: int = 0
    start: str | None = None

    @property
    def objects(self) -> Mapping[int, Instance]:
        """The objects that are drawn or accepted, by id."""
        return self.content.objects

    @property
    def suggestions(self) -> Mapping[int, Instance]:
        """What is suggested and neither accepted nor rejected, by id."""
        return self.content.suggestions

    @property
    def closed(self) -> bool:
        """Whether the patch is done or skipped."""
        return self.status in (DONE, SKIPPED)


def fold(events: Iterable[Event], start: State | None = None) -> State:
    """The state after `events`, beginning with `start` (or an untouched patch)."""
    state = start or State()
    for event in events:
        state = apply(state, event)
    return state


def apply(state: State, event: Event) -> State:
    """The state after one more event. Raises `InputError` for a kind that this version does not know."""
    if event.kind in EDITS:
        state = _edit(state, event)
    elif event.kind == "click":
        state = replace(state, draft=_draft(event.payload), status=_touched(state))
    elif event.kind == "undo" and state.past:
        past = state.past[:-1]
        future = (*state.future, state.content)
        state = replace(state, content=state.past[-1], past=past, future=future, draft=None)
    elif event.kind == "redo" and state.future:
        past = (*state.past, state.content)
        state = replace(state, content=state.future[-1], past=past, future=state.future[:-1], draft=None)
    elif event.kind == "done":
        state = replace(state, status=DONE, draft=None)
    elif event.kind == "skip":
        state = replace(state, status=SKIPPED, draft=None)
    elif event.kind == "reopen":
        state = replace(state, status=STARTED)
    elif event.kind not in ("undo", "redo", "claim"):
        raise InputError(f"The journal has an event {event.kind!r} that this version does not know. Update the app.")
    return replace(state, revision=event.revision)


def to_labels(state: State, shape: tuple[int, int, int]) -> np.ndarray:
    """int32 (Z, Y, X) of the objects, each with its id; suggestions that were not accepted are left out."""
    labels = np.zeros(shape, np.int32)
    for identity, item in state.objects.items():
        item.mask.paint(labels, identity)
    return labels


def not_annotated(state: State) -> Mask | None:
    """The region that is neither background nor an object for anybody: what was marked, less all objects."""
    ignored = state.content.ignored
    return ignored and masks.without(ignored, [item.mask for item in state.objects.values()])


def _edit(state: State, event: Event) -> State:
    payload = event.payload
    if event.kind == "open":
        return _opened(state, event)
    if event.kind == "submit":
        found = masks.of_labels(masks.unpack_labels(event.blob or b"", tuple(payload["shape"])))
        content = Content({identity: Instance(mask, payload["backend"]) for identity, mask in found.items()})
        top = max(found, default=0)
    elif event.kind == "accept":
        content = _accepted(state.content, payload, event.blob or b"")
        top = int(payload["object"])
    elif event.kind == "edit":
        content = _changed(state.content, payload, event.blob or b"")
        top = max((int(entry["object"]) for entry in payload["set"]), default=0)
    elif event.kind == "take":
        content = _taken(state.content, payload["objects"])
        top = 0
    elif event.kind == "ignore":
        mark = Mask(tuple(payload["box"]), event.blob or b"")
        content = replace(state.content, ignored=edits.paint(state.content.ignored, mark, erase=not payload["add"]))
        top = 0
    elif event.kind == "classify":
        content = _classified(state.content, set(payload["objects"]), int(payload["class"]))
        top = 0
    else:
        gone = set(payload["objects"])
        content = Content(_less(state.objects, gone), _less(state.suggestions, gone))
        top = 0
    if event.kind not in ("submit", "ignore"):
        content = replace(content, ignored=state.content.ignored)
    return replace(
        state,
        content=content,
        past=(*state.past, state.content),
        future=(),
        draft=state.draft if event.kind == "classify" else None,
        last_id=max(top, state.last_id),
        status=_touched(state),
    )


def _opened(state: State, event: Event) -> State:
    # The start of a patch is not something to undo: that would empty a page nobody touched.
    suggested = _suggested(event, state.last_id)
    contents = [*state.past, replace(state.content, suggestions=suggested)]
    if event.payload.get("lasting"):
        # Undo takes edits back, not the start: whatever it goes to has the same suggestions.
        covers = masks.covering({key: item.mask for key, item in suggested.items()}, WITHDRAW)
        left = cache(lambda served: _less(suggested, served))  # neighbours in `past` share one
        contents = [replace(content, suggestions=left(_served(content, covers))) for content in contents]
    return replace(
        state,
        content=contents[-1],
        past=tuple(contents[:-1]),
        future=(),
        last_id=max(suggested, default=state.last_id),
        start=event.payload["start"],
    )


def _served(content: Content, covers: Callable[[Mask], frozenset[int]]) -> frozenset[int]:
    """The suggestions that a content's objects leave no need of, by the rule of `_unserved`."""
    return frozenset().union(*(covers(item.mask) for item in content.objects.values()))


def _suggested(event: Event, above: int) -> dict[int, Instance]:
    """The objects of the label map as suggestions, with ids above those that the patch has used."""
    if not event.blob:
        return {}
    found = masks.of_labels(masks.unpack_labels(event.blob, tuple(event.payload["shape"])))
    doubts = event.payload.get("doubts", {})  # journals from before there were any have none
    suggested = {}
    for key, mask in found.items():
        confidence, flag = doubts.get(str(key), (None, ""))
        suggested[above + key] = Instance(mask, event.payload["start"], confidence=confidence, flag=flag)
    return suggested


def _accepted(content: Content, payload: Mapping[str, Any], blob: bytes) -> Content:
    identity = int(payload["object"])
    before = content.objects.get(identity) or content.suggestions.get(identity)
    mask = Mask(tuple(payload["box"]), blob)
    carried = payload.get("propagated")
    if before is not None:
        by_hand = range(mask.box[0], mask.box[3])
        propagated = [z for z in before.propagated if z not in by_hand] if carried is None else carried
        mask = masks.replace_slices(before.mask, mask) if carried is None else mask
    else:
        propagated = carried or ()
    objects = _less(content.objects, {identity})
    if payload.get("overlap", "keep") == "replace":
        objects = {key: cut for key, item in objects.items() if (cut := _cut(item, [mask])) is not None}
    else:
        mask = masks.without(mask, [item.mask for item in objects.values()])
    if mask is None:
        return content
    source, corrected, kind = payload["source"], payload["corrected"], int(payload.get("class", 1))
    if before is not None:
        source, corrected, kind = before.source, before.corrected or corrected, before.kind
    emptied = masks.empty_on(mask, before.emptied) if before is not None else ()
    objects[identity] = Instance(
        mask, source, corrected, kind=kind, propagated=tuple(propagated), emptied=tuple(emptied)
    )
    return Content(_in_order(objects, content), _unserved(content, {identity: mask}))


def _changed(content: Content, payload: Mapping[str, Any], blob: bytes) -> Content:
    objects = _less(content.objects, set(payload["gone"]))
    made, at = {}, 0
    for entry in payload["set"]:
        made[entry["object"]] = mask = Mask(tuple(entry["box"]), blob[at : at + entry["size"]])
        carried = _still_propagated(content, payload["object"], entry["object"], mask)
        kind, emptied = int(entry.get("class", 1)), tuple(entry.get("emptied", ()))
        objects[entry["object"]] = Instance(
            mask, entry["source"], entry["corrected"], kind=kind, propagated=carried, emptied=emptied
        )
        at += entry["size"]
    return Content(_in_order(objects, content), _less(_unserved(content, made), set(payload["gone"])))


def _still_propagated(content: Content, edited: int, identity: int, mask: Mask) -> tuple[int, ...]:
    """The propagated slices of an object after an edit. Where a person changed a slice it becomes an anchor, but
    not where the object only made way for the one that was `edited`."""
    before = content.objects.get(identity) or content.objects.get(edited)
    if before is None or (identity != edited and identity in content.objects):
        return before.propagated if before else ()
    same = masks.same_slices(before.mask, mask) if before.propagated else ()
    return tuple(z for z in before.propagated if z in same)


def _in_order(objects: Mapping[int, Instance], before: Content) -> dict[int, Instance]:
    """Dicts keep their order, so a corrected object stays where it was in the list; new ones come last."""
    order = [*(key for key in before.objects if key in objects), *(key for key in objects if key not in before.objects)]
    return {key: objects[key] for key in order}


def _unserved(content: Content, made: Mapping[int, Mask]) -> dict[int, Instance]:
    """The suggestions that are still needed after the objects `made`."""
    return {
        key: item
        for key, item in content.suggestions.items()
        if key not in made and all(masks.covered(item.mask, mask) < WITHDRAW for mask in made.values())
    }


def _taken(content: Content, identities: Iterable[int]) -> Content:
    objects = dict(content.objects)
    suggestions = dict(content.suggestions)
    # Among thousands, a look at every other one for each takes seconds.
    places = masks.ByPlace([item.mask for item in (*objects.values(), *suggestions.values())])
    for item in objects.values():
        places.add(item.mask)
    for identity in identities:
        item = suggestions.pop(identity, None)
        if item and (cut := _cut(item, places.near(item.mask))) is not None:
            objects[identity] = cut
            places.add(cut.mask)
    return Content(objects, suggestions)


def _classified(content: Content, identities: set[int], kind: int) -> Content:
    return Content(*(
        {key: replace(item, kind=kind) if key in identities else item for key, item in items.items()}
        for items in (content.objects, content.suggestions)
    ))  # fmt: skip


def _cut(item: Instance, others: list[Mask]) -> Instance | None:
    mask = masks.without(item.mask, others)
    if mask is None:
        return None
    return item if mask is item.mask else replace(item, mask=mask)


def _less(items: Mapping[int, Instance], gone: Set[int]) -> dict[int, Instance]:
    return {key: item for key, item in items.items() if key not in gone}


def _draft(payload: Mapping[str, Any]) -> Draft | None:
    positive, negative = (tuple(tuple(point) for point in payload[sign]) for sign in ("positive", "negative"))
    box = tuple(payload["box"]) if payload.get("box") else None
    if not positive and not negative and box is None and payload.get("object") is None:
        return None
    return Draft(payload["z"], positive, negative, payload.get("object"), box, Tuning(**payload.get("tuning", {})))


def _touched(state: State) -> str:
    return STARTED if state.status == OPEN else state.status
