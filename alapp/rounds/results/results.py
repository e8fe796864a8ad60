"""What the pages show of finished work: curves, tables, history."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from alapp.domain import InstanceScores, LabelKind, PatchRole
from alapp.rounds.annotate import annotation, finished, ledger
from alapp.rounds.predict import evaluation, evidence
from alapp.storage import catalogue, labels, models, removed, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint
from alapp.storage.verdicts import VerdictKind

SPLITS = ("validation", "test")


@dataclass(frozen=True)
class CurvePoint:
    """A checkpoint on the learning curve. Round 0 is the model from pseudo-labels alone. `labelled` counts the patches
    that were finished when it was trained, validation included, `fraction` is their share of all patches that there
    were then, in [0, 1], NaN where that is not known; `validation` and `test` are None without such patches or images.

    All points are scored on the same patches and images. `left_out`: how many the model was scored on beside them, on
    images that came after another model of the curve."""

    round_number: int
    checkpoint_id: int
    labelled: int
    fraction: float
    validation: evaluation.Summary | None
    test: evaluation.Summary | None
    left_out: int = 0


@dataclass(frozen=True)
class HistoryRow:
    """A round in the timeline. Its score is the one on the learning curve: all rounds are scored on the same patches.
    `left_out`: how many its model was scored on beside them."""

    number: int
    strategy: str
    created: str
    selected: int
    done: int
    skipped: int
    trained: bool
    iterations: int | None
    f1_50: float | None
    interval: tuple[float, float] | None
    annotate_seconds: float
    train_seconds: float | None
    left_out: int = 0


def checkpoint_by_round(store: Store, project_id: int) -> dict[int, Checkpoint]:
    """The checkpoint of each round number, 0 is the pre-trained one: the one in use, else the newest that was
    accepted, else the newest."""
    numbers = {item.id: item.number for item in round_rows.rounds(store, project_id)}
    current = verdicts.current_checkpoint(store, project_id)
    last = {item.checkpoint_id: item for item in verdicts.of_project(store, project_id, VerdictKind.PROMOTION)}

    def preference(item: Checkpoint) -> tuple[bool, bool, int]:
        return current is not None and item.id == current.id, item.id in last and last[item.id].accepted, item.id

    found = sorted(models.checkpoints(store, project_id), key=preference)
    return {numbers.get(item.round_id, 0): item for item in found}


def shown_round(store: Store, project_id: int) -> int | None:
    """The round number of the model in use, which the pages show first; None before the first model."""
    current = verdicts.current_checkpoint(store, project_id)
    if current is None or current.round_id is None:
        return None if current is None else 0
    return round_rows.round_by_id(store, current.round_id).number


def learning_curve(store: Store, project_id: int) -> list[CurvePoint]:
    """Scores against labelled patches, one point a trained round, where all are scored on something in common."""
    found = labelled_by_round(store, project_id)
    scored = {split: [evaluation.scored_on(store, item.id, split) for _, item, _ in found] for split in SPLITS}
    common = {split: evaluation.in_all(keys) for split, keys in scored.items()}
    points = []
    for row, (number, checkpoint, labelled) in enumerate(found):
        scores = [evaluation.summary(store, checkpoint.id, split, common[split]) for split in SPLITS]
        left_out = sum(len(scored[split][row] - among) for split, among in common.items() if among)
        share = _fraction(store, checkpoint, labelled)
        points.append(CurvePoint(number, checkpoint.id, labelled, share, *scores, left_out))
    return points


def labelled_now(store: Store, project_id: int) -> tuple[int, int]:
    """How many patches are finished today, validation included, and how many there are; removed images do not count."""
    return len(finished.maps(store, project_id)), catalogue.count_patches(store, project_id)


def labelled_by_round(store: Store, project_id: int) -> list[tuple[int, Checkpoint, int]]:
    """(round number, its checkpoint, patches that were finished when it was trained, validation included), first to
    last.

    What happens to patches and images later moves no model along the curve. Where the number was not kept, it is what
    the model learned from, and the validation patches up to its round that are finished now.
    """
    validation = _validation_by_round(store, project_id)

    def labelled(number: int, checkpoint: Checkpoint) -> int:
        if number == 0:
            return 0
        if checkpoint.n_labelled is not None:
            return checkpoint.n_labelled
        return checkpoint.n_cases + sum(count for n, count in validation.items() if n <= number)

    found = sorted(checkpoint_by_round(store, project_id).items())
    return [(number, checkpoint, labelled(number, checkpoint)) for number, checkpoint in found]


def history(store: Store, project_id: int) -> list[HistoryRow]:
    """Every round with what was selected, annotated, trained and scored."""
    trained = checkpoint_by_round(store, project_id)
    keys = {number: evaluation.scored_on(store, item.id, "validation") for number, item in trained.items()}
    common = evaluation.in_all(keys.values())
    efforts = ledger.by_round(store, project_id)
    rows = []
    for item in round_rows.rounds(store, project_id):
        picks = [pick.patch_id for pick in round_rows.picked(store, item.id)]
        states = list(annotation.patch_states(store, picks).values())
        checkpoint = trained.get(item.number)
        scored = evaluation.summary(store, checkpoint.id, "validation", common) if checkpoint else None
        rows.append(
            HistoryRow(
                number=item.number,
                strategy=item.strategy,
                created=item.created,
                selected=len(picks),
                done=states.count(annotation.DONE),
                skipped=states.count(annotation.SKIPPED),
                trained=checkpoint is not None,
                iterations=checkpoint.iterations if checkpoint else None,
                f1_50=scored.scores.f1_50 if scored else None,
                interval=scored.interval if scored else None,
                annotate_seconds=efforts[item.number].seconds,
                train_seconds=checkpoint.seconds if checkpoint else None,
                left_out=len(keys[item.number] - common) if checkpoint and common else 0,
            )
        )
    return rows


def image_table(store: Store, checkpoint_id: int) -> list[dict[str, Any]]:
    """For each image: objects found, their mean area in pixels, foreground share, and scores where there are
    labels to score against: `scored_patches` validation patches of the image pooled, or the whole test image."""
    checkpoint = models.checkpoint(store, checkpoint_id)
    predicted = labels.of_checkpoint(store, checkpoint_id)
    scored: dict[int, list[InstanceScores]] = {}
    for row in models.scores(store, checkpoint_id):
        scored.setdefault(row.image_id, []).append(row.scores)
    table = []
    for image in catalogue.images(store, checkpoint.project_id):
        if image.id not in predicted:
            continue
        found = predicted[image.id]
        # A map of an earlier version has no counts.
        foreground, pixels = found.params.get("foreground"), found.params.get("pixels")
        counted = foreground is not None and found.n_objects > 0
        pooled = evaluation.pool(scored[image.id]) if image.id in scored else None
        table.append(
            {
                "image_id": image.id,
                "image": image.name,
                "role": str(image.role),
                "objects": found.n_objects,
                "mean_area": foreground / found.n_objects if counted else None,
                "foreground": None if foreground is None else foreground / pixels,
                "scored_patches": len(scored.get(image.id, ())),
                "f1_50": pooled.f1_50 if pooled else None,
                "ap_50": pooled.ap_50 if pooled else None,
                "pq": pooled.pq if pooled else None,
                "dice": pooled.dice if pooled else None,
            }
        )
    return table


def validation_patches(store: Store, checkpoint_id: int) -> list[tuple[Patch, InstanceScores]]:
    """Validation patches with their scores, worst first."""
    rows = [row for row in models.scores(store, checkpoint_id, "validation") if row.patch_id]
    scored = [(catalogue.patch(store, row.patch_id), row.scores) for row in rows]
    return sorted(scored, key=lambda item: item[1].f1_50)


def patch_views(store: Store, checkpoint_id: int, patch: Patch) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(pixels, predicted labels, human labels or None) of a patch, for showing side by side."""
    predicted = labels.of_checkpoint(store, checkpoint_id)[patch.image_id]
    human = labels.latest_of_patch(store, patch.id, LabelKind.HUMAN)
    return (
        catalogue.read_patch(store, patch),
        labels.read_patch(store, predicted, patch),
        labels.read(store, human) if human else None,
    )


def _fraction(store: Store, checkpoint: Checkpoint, labelled: int) -> float:
    """See `CurvePoint`. A model from before the number of patches was kept has the one of today, unless images came or
    went since."""
    if not labelled:
        return 0.0
    total = checkpoint.n_patches
    if total is None and not removed.changed_since(store, checkpoint.project_id, checkpoint.created):
        total = catalogue.count_patches(store, checkpoint.project_id)
    return labelled / total if total and labelled <= total else math.nan


def _validation_by_round(store: Store, project_id: int) -> Counter[int]:
    """Finished validation patches, by the number of the round that selected them."""
    held = evidence.labelled(store, project_id, PatchRole.VALIDATION)
    return Counter(item.round_number for item in held)
