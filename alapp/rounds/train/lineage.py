"""All models of a project, as the pages list them: name, parent, score, whether it is in use, and why not."""

from __future__ import annotations

from dataclasses import dataclass

from alapp.errors import CorruptFileError
from alapp.rounds.predict import evaluation
from alapp.storage import models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint
from alapp.storage.verdicts import Verdict, VerdictKind


@dataclass(frozen=True)
class Model:
    """A model in the list. `name` is unique in the project ("Model 3 (round 2)"); `parent` is the name of the model
    it started from, None if it started from scratch; `verdict` is the last decision about it, None while its
    training has not ended; `size` is its file's in bytes, None when the file is gone.

    `score` is on the validation patches that all models were scored on, as far as there are any, so that models can be
    compared; `left_out`: how many this one was scored on beside them."""

    checkpoint: Checkpoint
    name: str
    round_number: int
    parent: str | None
    current: bool
    verdict: Verdict | None
    score: evaluation.Summary | None
    size: int | None
    left_out: int = 0


def models_of(store: Store, project_id: int) -> list[Model]:
    """The models of a project, oldest first."""
    found = models.checkpoints(store, project_id)
    called, numbers = names(store, project_id), _round_numbers(store, project_id)
    current = verdicts.current_checkpoint(store, project_id)
    last = {item.checkpoint_id: item for item in verdicts.of_project(store, project_id, VerdictKind.PROMOTION)}
    keys = {item.id: evaluation.scored_on(store, item.id, "validation") for item in found}
    common = evaluation.in_all(keys.values())
    return [
        Model(
            checkpoint=item,
            name=called[item.id],
            round_number=numbers.get(item.round_id, 0),
            parent=called.get(item.parent_id),
            current=current is not None and item.id == current.id,
            verdict=last.get(item.id),
            score=evaluation.summary(store, item.id, "validation", common),
            size=store.files.resolve(item.path).stat().st_size if available(store, item) else None,
            left_out=len(keys[item.id] - common) if common else 0,
        )
        for item in found
    ]


def names(store: Store, project_id: int) -> dict[int | None, str]:
    """How the pages call each model, by checkpoint id: numbered in the order of training."""
    numbers = _round_numbers(store, project_id)
    return {
        item.id: f"Model {index} ({f'round {numbers[item.round_id]}' if item.round_id else 'pre-training'})"
        for index, item in enumerate(models.checkpoints(store, project_id), start=1)
    }


def available(store: Store, checkpoint: Checkpoint) -> bool:
    """Whether the model's file is still there."""
    return store.files.resolve(checkpoint.path).exists()


def intact(store: Store, checkpoint: Checkpoint) -> bool:
    """Whether the model's file is still there and as it was stored. Reads all of it."""
    try:
        store.files.verify(checkpoint.path, checkpoint.sha256)
    except CorruptFileError:
        return False
    return True


def _round_numbers(store: Store, project_id: int) -> dict[int | None, int]:
    return {item.id: item.number for item in round_rows.rounds(store, project_id)}
