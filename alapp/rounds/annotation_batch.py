"""A batch at a glance: the state of its patches, which one comes next, what the work cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from alapp.domain import PatchRole
from alapp.rounds.annotation_journal import state
from alapp.stages.annotate.journal import DONE, OPEN, STARTED
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store

PAUSE_SECONDS = 60  # a longer gap between two acts is a break, not work


@dataclass(frozen=True)
class BatchPatch:
    """A patch of a batch, for the list beside the canvas. `state` as in `patch_states`; `not_annotated` is the share
    of a finished patch that was marked so, in [0, 1]."""

    patch_id: int
    name: str
    role: PatchRole
    state: str
    n_objects: int
    reason: str
    not_annotated: float = 0.0
    note: str = ""

    @property
    def empty(self) -> bool:
        """Whether a person looked and found no object."""
        return self.state == DONE and self.n_objects == 0


@dataclass(frozen=True)
class Effort:
    """What a batch cost: working time in seconds (gaps over a minute are breaks), clicks, objects drawn by
    clicks or by hand, suggestions accepted as they were, and corrections: objects or suggestions that clicks
    changed, and each one once that a tool changed after somebody else drew it."""

    seconds: float
    clicks: int
    drawn: int
    accepted: int
    corrected: int


def patch_states(store: Store, patch_ids: Sequence[int]) -> dict[int, str]:
    """`OPEN`, `STARTED`, `DONE` or `SKIPPED` of each patch."""
    return annotations.states(store, patch_ids)


def batch(store: Store, round_id: int) -> list[BatchPatch]:
    """The patches of a round in the order of the pick."""
    picks = round_rows.selected(store, round_id)
    states = patch_states(store, [pick.patch_id for pick in picks])
    counts = annotations.done_objects(store, [pick.patch_id for pick in picks])
    shares = annotations.not_annotated(store, [pick.patch_id for pick in picks])
    notes = annotations.notes(store, [pick.patch_id for pick in picks])
    known = {item.id: item for item in catalogue.patches(store, round_rows.round_by_id(store, round_id).project_id)}
    found = []
    for pick in picks:
        word = states[pick.patch_id]
        n_objects = counts.get(pick.patch_id, 0)
        if word == STARTED:
            n_objects = len(state(store, pick.patch_id).objects)
        patch = known.get(pick.patch_id) or catalogue.patch(store, pick.patch_id)
        reason = pick.reason.get("sentence", "")
        share = shares.get(pick.patch_id, 0.0) if word == DONE else 0.0
        note = notes.get(pick.patch_id, "")
        found.append(BatchPatch(pick.patch_id, patch.name, pick.role, word, n_objects, reason, share, note))
    return found


def next_patch(store: Store, project_id: int, after: int | None = None) -> int | None:
    """The next patch of the newest round that is neither done nor skipped, going round after the last one."""
    latest = round_rows.latest(store, project_id)
    if latest is None:
        return None
    order = [pick.patch_id for pick in round_rows.selected(store, latest.id)]
    if after in order:
        turn = order.index(after) + 1
        order = order[turn:] + order[: turn - 1]
    states = patch_states(store, order)
    return next((patch_id for patch_id in order if states[patch_id] in (OPEN, STARTED)), None)


def effort(store: Store, round_id: int) -> Effort:
    """What the batch of a round cost so far."""
    seconds, n_clicks, drawn, accepted, corrected = 0.0, 0, 0, 0, 0
    last: dict[str, float] = {}
    handled: set[tuple[int, int]] = set()
    for row in annotations.work_of_round(store, round_id):
        gap = row["at"] - last.get(row["session"], row["at"])
        last[row["session"]] = row["at"]
        seconds += gap if 0 <= gap <= PAUSE_SECONDS else 0.0
        payload = json.loads(row["payload"])
        if row["kind"] == "click":
            n_clicks += bool(payload["positive"] or payload["negative"] or payload.get("box"))
        elif row["kind"] == "accept":
            drawn += payload["new"]
            corrected += payload["corrected"]
        elif row["kind"] == "edit" and (row["patch_id"], payload["object"]) not in handled:
            handled.add((row["patch_id"], payload["object"]))
            drawn += payload["new"]
            corrected += not payload["new"]
        elif row["kind"] == "take":
            accepted += len(payload["objects"])
    return Effort(seconds, n_clicks, drawn, accepted, corrected)
