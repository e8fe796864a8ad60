"""Which model a project uses: verdicts on its models, the current one, and its predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alapp.domain import LabelKind
from alapp.storage import labels, models
from alapp.storage.db import Store, now, to_json
from alapp.storage.labels import LabelMap
from alapp.storage.models import Checkpoint


class VerdictKind(StrEnum):
    """What a verdict is about: whether a model is used, or whether a round starts from a pre-trained one."""

    PROMOTION = "promotion"
    PRETRAINING = "pretraining"


class DecidedBy(StrEnum):
    """Who decided: the app's own comparison, or a person who chose otherwise."""

    CHECK = "check"
    PERSON = "person"


@dataclass(frozen=True)
class Verdict:
    """A row of `verdict`. `facts` are the numbers behind it; {} for models from before models were compared."""

    id: int
    project_id: int
    checkpoint_id: int
    kind: VerdictKind
    accepted: bool
    decided_by: DecidedBy
    facts: dict[str, Any]
    created: str


def add(
    store: Store,
    checkpoint: Checkpoint,
    kind: VerdictKind,
    accepted: bool,
    facts: Mapping[str, Any],
    decided_by: DecidedBy = DecidedBy.CHECK,
) -> Verdict:
    """Record a verdict; an accepted promotion makes the model the current one at once. Returns it."""
    row = {
        "project_id": checkpoint.project_id,
        "checkpoint_id": checkpoint.id,
        "kind": kind,
        "accepted": int(accepted),
        "decided_by": decided_by,
        "facts": to_json(dict(facts)),
        "created": now(),
    }
    return _verdict({"id": store.insert("verdict", row), **row})


def of_project(store: Store, project_id: int, kind: VerdictKind) -> list[Verdict]:
    """All verdicts of a kind, oldest first."""
    rows = store.rows("SELECT * FROM verdict WHERE project_id = ? AND kind = ? ORDER BY id", (project_id, kind))
    return [_verdict(row) for row in rows]


def of_checkpoint(store: Store, checkpoint_id: int, kind: VerdictKind) -> list[Verdict]:
    """The verdicts of a kind on one model, oldest first."""
    rows = store.rows("SELECT * FROM verdict WHERE checkpoint_id = ? AND kind = ? ORDER BY id", (checkpoint_id, kind))
    return [_verdict(row) for row in rows]


def current_checkpoint(
    store: Store, project_id: int, preset: str | None = None, before_round: int | None = None, at: str | None = None
) -> Checkpoint | None:
    """The model that the project uses: the one that was accepted last, by the app's comparison or by a person.

    With `preset`, the last one of that preset (presets may differ in architecture); with `at`, as `now()`, the one that
    was used then. With `before_round`, a round's id, the one in use if it is not of that round, else the one that was
    in use before it was trained. Without any verdict it is the newest model.
    """
    found = _accepted_last(store, project_id, preset, at)
    # Not the last one of another round: a person may have looked at that and gone back to this round's own since.
    while found is not None and before_round is not None and found.round_id == before_round:
        found = _accepted_last(store, project_id, preset, at, before=found.id)
    return found


def _accepted_last(
    store: Store, project_id: int, preset: str | None, at: str | None, before: int | None = None
) -> Checkpoint | None:
    """The model that was accepted last; with `before`, a model's id, the last one before the first verdict on that."""
    row = store.row(
        """SELECT checkpoint.id FROM checkpoint
           LEFT JOIN verdict ON verdict.checkpoint_id = checkpoint.id AND verdict.kind = 'promotion'
           WHERE checkpoint.project_id = :project AND coalesce(verdict.accepted, 1)
             AND (:preset IS NULL OR preset = :preset)
             AND (:at IS NULL OR coalesce(verdict.created, checkpoint.created) <= :at)
             AND (:before IS NULL OR (coalesce(verdict.id, 0), checkpoint.id) < (
                 (SELECT coalesce(min(id), 0) FROM verdict WHERE checkpoint_id = :before AND kind = 'promotion'),
                 :before))
           ORDER BY coalesce(verdict.id, 0) DESC, checkpoint.id DESC LIMIT 1""",
        {"project": project_id, "preset": preset, "at": at, "before": before},
    )
    return models.checkpoint(store, row["id"]) if row else None


def judged(store: Store, project_id: int) -> set[int]:
    """Ids of the models that were accepted or refused; the training of the others did not end yet."""
    return {item.checkpoint_id for item in of_project(store, project_id, VerdictKind.PROMOTION)}


def predictions(store: Store, project_id: int) -> dict[int, LabelMap]:
    """What the current model predicted, by image id; before the first model, predictions from elsewhere."""
    newest = labels.latest_by_image(store, project_id, LabelKind.PREDICTED)
    current = current_checkpoint(store, project_id)
    if current is None:
        return newest
    return {image_id: item for image_id, item in labels.of_checkpoint(store, current.id).items() if image_id in newest}


def prediction(store: Store, project_id: int, image_id: int) -> LabelMap | None:
    """What the current model predicted on one image, if it did; before the first model, what came from elsewhere."""
    current = current_checkpoint(store, project_id)
    if current is None:
        return labels.latest_of_image(store, image_id, LabelKind.PREDICTED)
    return labels.of_checkpoint(store, current.id).get(image_id)


def _verdict(row: dict[str, Any]) -> Verdict:
    return Verdict(
        **row
        | {
            "kind": VerdictKind(row["kind"]),
            "accepted": bool(row["accepted"]),
            "decided_by": DecidedBy(row["decided_by"]),
            "facts": json.loads(row["facts"]),
        }
    )
