"""A batch at a glance: the state of its patches, and which one comes next. `ledger` has what the work cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alapp.domain import PatchRole
from alapp.rounds.annotate.annotation_journal import state
from alapp.stages.annotate.journal import DONE, OPEN, STARTED
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store


@dataclass(frozen=True)
class BatchPatch:
    """A patch of a batch, for the list beside the canvas. `state` as in `patch_states`; `not_annotated` is the share
    of a finished patch that was marked so, in [0, 1]; `control` as in `storage.rounds.Selected`."""

    patch_id: int
    name: str
    role: PatchRole
    state: str
    n_objects: int
    reason: str
    not_annotated: float = 0.0
    note: str = ""
    control: bool = False

    @property
    def empty(self) -> bool:
        """Whether a person looked and found no object."""
        return self.state == DONE and self.n_objects == 0


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
    project_id = round_rows.round_by_id(store, round_id).project_id
    known = {item.id: item for item in catalogue.patches(store, project_id, ids=list(states))}
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
        about = (word, n_objects, reason, share, note, pick.control)
        found.append(BatchPatch(pick.patch_id, patch.name, pick.role, *about))
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
