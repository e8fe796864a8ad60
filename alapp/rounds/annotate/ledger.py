"""What annotation costs: working time, clicks and outcomes of every object, patch and round, from the journals.

Time. Two acts of one page (a session) that follow each other within `PAUSE_SECONDS` have working time between them,
which belongs to the patch of the later act; a longer gap is a break and counts nothing. Within a patch, the time up to
an act that creates, changes, accepts or deletes objects belongs to those objects, in equal parts; so do the clicks.
The time up to any other act (opening, clicks that came to nothing, marking done) is the patch's alone. Pages into
which labels were imported cost nothing: no person worked there.

Clicks. A click is something that the person adds: a point, a box, a scribble, or an edit by hand (a stroke, a merge, a
change of shape, ...). For each answer of the click method the journal has all points and the box of the unfinished
object; what counts is what these have that the answer before did not have. So a slider that is moved, another rule for
overlaps, and a point that is taken back add nothing. Several points of one sign (belongs to the object, or does not)
that come at once are one scribble. Of a scribble the first point may come alone, with its own answer; what follows it
at once is not counted again. This cannot be told from points that are clicked faster than the method answers, which are
counted like a scribble: too low. A scribble of two points is counted as two: too high by one.

Outcome of an object, as the patch is now (what was undone never happened): `accepted` as suggested; `edited`, a
suggestion that was changed before or after it was accepted; `drawn` from nothing; `dismissed`, a suggestion that was
refused; `deleted`, an object that was removed, or that a newer one covers whole. Suggestions that were left alone have
none. Imported objects are not counted.

The journals are replayed without their masks, so that this is cheap enough for a page that is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from alapp.stages.annotate.journal import EDITS
from alapp.storage import ledger as rows
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store

PAUSE_SECONDS = 60  # a longer gap between two acts is a break, not work

ACCEPTED, EDITED, DRAWN, DISMISSED, DELETED = "accepted", "edited", "drawn", "dismissed", "deleted"
OUTCOMES = (ACCEPTED, EDITED, DRAWN, DISMISSED, DELETED)
KEPT = (ACCEPTED, EDITED, DRAWN)
SIGNS = ("positive", "negative")
ENDS_DRAFT = ("accept", "undo", "redo", "submit", "done", "skip")
"""Events after which no point is left of the unfinished object on the page."""
SUGGESTED = ("model", "pseudo")  # sources of suggestions, see stages/annotate/journal.py


@dataclass(frozen=True)
class ObjectWork:
    """An object or suggestion that the person acted on. `outcome` is one of `OUTCOMES`; `seconds` of work; `clicks`
    that led to it, see the module."""

    object_id: int
    outcome: str
    seconds: float
    clicks: int


@dataclass(frozen=True)
class PatchWork:
    """A patch. `seconds` and `clicks` include what belongs to no object. `starts`: what it was opened from, each of
    `nothing`, `model`, `pseudo`; `imported`: labels came from a file or a reference, at least for a part."""

    patch_id: int
    seconds: float = 0.0
    clicks: int = 0
    objects: tuple[ObjectWork, ...] = ()
    starts: frozenset[str] = frozenset()
    imported: bool = False

    def count(self, *outcomes: str) -> int:
        """Number of objects with one of these outcomes."""
        return sum(item.outcome in outcomes for item in self.objects)

    @property
    def kept(self) -> int:
        """Objects that the person left in the patch."""
        return self.count(*KEPT)


@dataclass(frozen=True)
class Effort:
    """What some patches cost together: working time in seconds, clicks, and objects by outcome; see the module.
    `corrected` are the edited ones."""

    seconds: float
    clicks: int
    drawn: int
    accepted: int
    corrected: int
    rejected: int

    @property
    def made(self) -> int:
        """Objects that were kept."""
        return self.drawn + self.accepted + self.corrected

    @property
    def seconds_per_object(self) -> float | None:
        """None without an object."""
        return self.seconds / self.made if self.made else None

    @property
    def clicks_per_object(self) -> float | None:
        """None without an object."""
        return self.clicks / self.made if self.made else None


NOBODY = Effort(0.0, 0, 0, 0, 0, 0)


def patches(store: Store, project_id: int) -> Mapping[int, PatchWork]:
    """The work on every patch of a project that was opened, by patch id. Replayed only after something was written."""
    return _patches(store, project_id, rows.stamp(store))


@lru_cache(maxsize=4)
def _patches(store: Store, project_id: int, _stamp: tuple[int, int]) -> Mapping[int, PatchWork]:
    events = rows.work(store, project_id)
    people = {row["session"] for row in events} - {row["session"] for row in events if row["kind"] == "submit"}
    last: dict[str, float] = {}
    replays: dict[int, _Replay] = {}
    for row in events:
        gap = row["at"] - last.get(row["session"], row["at"])
        last[row["session"]] = row["at"]
        worked = gap if row["session"] in people and 0 <= gap <= PAUSE_SECONDS else 0.0
        replays.setdefault(row["patch_id"], _Replay()).act(row["kind"], json.loads(row["payload"]), worked)
    return {patch_id: replay.result(patch_id) for patch_id, replay in replays.items()}


def total(parts: Iterable[PatchWork]) -> Effort:
    """What these patches cost together."""
    parts = list(parts)
    return Effort(
        seconds=sum(part.seconds for part in parts),
        clicks=sum(part.clicks for part in parts),
        drawn=sum(part.count(DRAWN) for part in parts),
        accepted=sum(part.count(ACCEPTED) for part in parts),
        corrected=sum(part.count(EDITED) for part in parts),
        rejected=sum(part.count(DISMISSED, DELETED) for part in parts),
    )


def of_round(store: Store, round_id: int) -> Effort:
    """What the batch of a round cost so far, patches that were shown again included."""
    known = patches(store, round_rows.round_by_id(store, round_id).project_id)
    return total(known[pick.patch_id] for pick in round_rows.selected(store, round_id) if pick.patch_id in known)


def by_round(store: Store, project_id: int) -> dict[int, Effort]:
    """The same for every round of a project, by round number, reading the journals once."""
    known = patches(store, project_id)
    return {
        item.number: total(
            known[pick.patch_id] for pick in round_rows.selected(store, item.id) if pick.patch_id in known
        )
        for item in round_rows.rounds(store, project_id)
    }


@dataclass(frozen=True)
class _Mark:
    """An object's outcome, and the act that touched it last: two contents differ where their marks do."""

    outcome: str
    act: int


@dataclass(frozen=True)
class _Prompts:
    """The points, by sign, and the box of the unfinished object as a click event has them; `place` is its slice and
    object. `begun`: the signs of which this event added one point, with which a scribble may have begun."""

    place: tuple[Any, ...] = ()
    points: Mapping[str, list[Any]] = field(default_factory=dict)
    box: Sequence[float] | None = None
    begun: frozenset[str] = frozenset()

    def then(self, payload: Mapping[str, Any]) -> tuple[_Prompts, int]:
        """Those of the next click event, and how many clicks it adds."""
        place = (payload.get("z"), payload.get("object"))
        before = self if place == self.place else _Prompts()
        points = {sign: payload.get(sign) or [] for sign in SIGNS}
        box = payload.get("box")
        boxed = box is not None and box != before.box
        more = {sign: _added(before.points.get(sign, []), points[sign]) for sign in SIGNS}
        strokes = sum(n > 0 and not (n > 1 and before._begun_in(sign, points[sign])) for sign, n in more.items())
        begun = frozenset(sign for sign, n in more.items() if n == 1)
        return _Prompts(place, points, box, begun), strokes + boxed

    def _begun_in(self, sign: str, points: list[Any]) -> bool:
        """Whether `points` may be the rest of a scribble that began here, which is counted already."""
        known = self.points.get(sign, [])
        return sign in self.begun and points[: len(known)] == known


def _added(before: list[Any], now: list[Any]) -> int:
    """How many points `now` has that are not those of `before`, in their order; undo takes the last ones away."""
    if now[: len(before)] == before:  # nearly always, and long where there are scribbles
        return len(now) - len(before)
    return len(now) - next((i for i, (old, new) in enumerate(zip(before, now, strict=False)) if old != new), len(now))


@dataclass
class _Replay:
    """A patch's journal without its masks: contents (object id to mark) as `journal.State` keeps them."""

    content: Mapping[int, _Mark] = field(default_factory=dict)
    past: list[Mapping[int, _Mark]] = field(default_factory=list)
    future: list[Mapping[int, _Mark]] = field(default_factory=list)
    acts: int = 0
    prompts: _Prompts = field(default_factory=_Prompts)
    waiting: tuple[float, int] = (0.0, 0)
    seconds: float = 0.0
    clicks: int = 0
    spent: dict[int, tuple[float, float]] = field(default_factory=dict)
    starts: set[str] = field(default_factory=set)
    imported: bool = False

    def act(self, kind: str, payload: Mapping[str, Any], worked: float) -> None:
        """One more event, after `worked` seconds of work."""
        self.acts += 1
        clicks = self._clicked(kind, payload)
        self.seconds += worked
        self.clicks += clicks
        self.waiting = (self.waiting[0] + worked, self.waiting[1] + clicks)
        touched: Iterable[int] = ()
        if kind == "open":
            self.starts.add(payload["start"])
            self.future = []
        elif kind in EDITS:
            touched = self._edit(kind, payload)
        elif kind in ("undo", "redo"):
            touched = self._step(*((self.past, self.future) if kind == "undo" else (self.future, self.past)))
        if kind != "click":
            self._book(list(touched))

    def _clicked(self, kind: str, payload: Mapping[str, Any]) -> int:
        """How many clicks the event stands for."""
        if kind == "click":
            self.prompts, clicks = self.prompts.then(payload)
            return clicks
        if kind in ENDS_DRAFT:
            self.prompts = _Prompts()
        return int(kind == "edit")

    def result(self, patch_id: int) -> PatchWork:
        """The patch as it is now. Objects that undo took away keep no line; their time is the patch's."""
        return PatchWork(
            patch_id,
            self.seconds,
            self.clicks,
            tuple(
                ObjectWork(key, mark.outcome, self.spent.get(key, (0.0, 0))[0], round(self.spent.get(key, (0, 0))[1]))
                for key, mark in sorted(self.content.items())
            ),
            frozenset(self.starts),
            self.imported,
        )

    def _edit(self, kind: str, payload: Mapping[str, Any]) -> Sequence[int]:
        before, after = self.content, dict(self.content)
        outcomes = _OUTCOMES.get(kind, _other)(self._outcome, payload)
        if kind == "submit":
            self.imported = True
            after = {}
        for key, outcome in outcomes.items():
            after.pop(key, None)
            if outcome is not None:
                after[key] = _Mark(outcome, self.acts)
        self.past.append(before)
        self.future = []
        self.content = after
        return [*outcomes]

    def _step(self, source: list[Mapping[int, _Mark]], target: list[Mapping[int, _Mark]]) -> Sequence[int]:
        if not source:
            return ()
        before, self.content = self.content, source.pop()
        target.append(before)
        return sorted(key for key in {*before, *self.content} if before.get(key) != self.content.get(key))

    def _outcome(self, identity: int) -> str | None:
        """The outcome of an object of the patch; None for a suggestion, and for what is gone."""
        mark = self.content.get(identity)
        return mark.outcome if mark is not None and mark.outcome in KEPT else None

    def _book(self, touched: Sequence[int]) -> None:
        seconds, clicks = self.waiting
        self.waiting = (0.0, 0)
        for key in touched:
            known = self.spent.get(key, (0.0, 0.0))
            self.spent[key] = (known[0] + seconds / len(touched), known[1] + clicks / len(touched))


def _accept(known: Any, payload: Mapping[str, Any]) -> dict[int, str | None]:
    identity = int(payload["object"])
    # Journals from before do not say what a newer object covers whole.
    found = {key: DELETED if known(key) else None for key in payload.get("gone", ())}
    before = known(identity)
    if payload["new"]:
        found[identity] = DRAWN
    elif before in (None, ACCEPTED):
        found[identity] = EDITED if payload["corrected"] else ACCEPTED
    else:
        found[identity] = before
    return found


def _tool(known: Any, payload: Mapping[str, Any]) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    for entry in payload["set"]:
        before = known(entry["object"])
        if before is None:
            found[entry["object"]] = EDITED if entry["source"] in SUGGESTED else DRAWN
        else:
            found[entry["object"]] = EDITED if before == ACCEPTED else before
    for identity in payload["gone"]:
        # What was merged into another object lives on there.
        found[identity] = None if payload["tool"] == "merge" else DELETED if known(identity) else DISMISSED
    return found


def _take(known: Any, payload: Mapping[str, Any]) -> dict[int, str | None]:
    gone = payload.get("gone", ())  # there was nothing left to accept of these
    return {identity: None if identity in gone else known(identity) or ACCEPTED for identity in payload["objects"]}


def _delete(known: Any, payload: Mapping[str, Any]) -> dict[int, str | None]:
    return {identity: DELETED if known(identity) else DISMISSED for identity in payload["objects"]}


def _other(known: Any, payload: Mapping[str, Any]) -> dict[int, str | None]:
    """An edit of something else than pixels: it costs time on its objects, which stay what they are."""
    return {identity: before for identity in payload.get("objects", ()) if (before := known(identity))}


_OUTCOMES = {"accept": _accept, "edit": _tool, "take": _take, "delete": _delete}
"""For each kind of edit: the outcome of every object that it touches, None for one that leaves no line."""
