"""The diagnostics applied to a project: gathers what each of them needs from what is stored."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from alapp.domain import InstanceScores, LabelKind, PatchRole
from alapp.rounds.predict import evaluation, evidence
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import diagnostics, drift, forgetting, results
from alapp.rounds.results.diagnostics import Diagnosis, State
from alapp.rounds.select import embedding
from alapp.rounds.train import training, training_cases
from alapp.stages.metrics import pool
from alapp.stages.train.targets import typical_size
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint

POOL = 20_000
"""Random batches are drawn from at most this many patches; more would only take memory."""

Diagnose = Callable[[], Diagnosis | None]


def diagnose(store: Store, project_id: int) -> list[Diagnosis]:
    """Every diagnosis that applies to the project, warnings first. Empty before the first training.

    Label maps are compared once and remembered: the first call takes a while (some milliseconds a labelled patch).
    """
    if not models.checkpoints(store, project_id):
        return []
    project = _Project(store, project_id)
    order = {State.WARNING: 0, State.UNKNOWN: 1, State.OK: 2}
    found = [made for made in (check() for check in project.checks()) if made is not None]
    return sorted(found, key=lambda item: order[item.state])


class _Project:
    """What is stored of a project, read once for all diagnoses."""

    def __init__(self, store: Store, project_id: int):
        self.store, self.id = store, project_id
        self.labelled = evidence.labelled(store, project_id)
        self.validation = [item for item in self.labelled if item.role is PatchRole.VALIDATION]
        self.full = _trained_on_everything(store, project_id)
        by_round = results.checkpoint_by_round(store, project_id)
        self.models = {n: item for n, item in by_round.items() if self.full is None or item.id != self.full.id}
        self.newest = self.models[max(self.models)] if self.models else self.full
        # What was annotated since is as unknown to it as the validation patches are.
        learned = max(self.models) if self.models else math.inf
        self.training = [
            item for item in self.labelled if item.role is PatchRole.TRAIN and item.round_number <= learned
        ]

    def checks(self) -> list[Diagnose]:
        return [
            self.wrong_structures, self.no_gain, self.similar_picks, self.gap_to_full, self.overfitting,
            self.merges_and_splits, self.object_size, self.forgetting, self.drift,
        ]  # fmt: skip

    def wrong_structures(self) -> Diagnosis | None:
        maps = pseudo.pseudo_maps(self.store, self.id)
        first = next((item for item in models.checkpoints(self.store, self.id) if item.round_id is None), None)
        if not maps or first is None or first == self.full:
            return None
        found = evidence.compare(self.store, self.labelled, maps)
        newest = self._f1(self.newest) if self.newest.round_id else None
        return diagnostics.wrong_structures(list(found.values()), self._is_3d(), self._f1(first), newest)

    def no_gain(self) -> Diagnosis | None:
        numbers = sorted(self.models)
        if len(numbers) < 2:
            return None
        earlier = self.models[numbers[max(0, len(numbers) - 1 - diagnostics.GAIN_ROUNDS)]]
        before, after = (_by_patch(self.store, item, "validation") for item in (earlier, self.newest))
        both = sorted(before.keys() & after.keys())
        more = self.newest.n_cases - (earlier.n_cases if earlier.round_id else 0)
        return diagnostics.no_gain([before[key] for key in both], [after[key] for key in both], more)

    def similar_picks(self) -> Diagnosis | None:
        latest = round_rows.latest(self.store, self.id)
        if latest is None or models.latest_embedding(self.store, self.id) is None:
            return None
        patches, vectors = embedding.embedded(self.store, self.id)
        rows = {patch.id: row for row, patch in enumerate(patches)}
        chosen = round_rows.selected_in_project(self.store, self.id)
        earlier = {key: pick for key, pick in chosen.items() if pick.round_id != latest.id}
        batch = [
            rows[pick.patch_id]
            for pick in round_rows.picked(self.store, latest.id)
            if pick.role is PatchRole.TRAIN and pick.patch_id in rows
        ]
        known = [rows[key] for key, pick in earlier.items() if pick.role is PatchRole.TRAIN and key in rows]
        free = np.array([row for key, row in rows.items() if key not in earlier], dtype=np.int64)
        if len(free) > POOL:
            free = np.sort(np.random.default_rng(0).permutation(free)[:POOL])
        return diagnostics.similar_picks(vectors[batch], vectors[free], vectors[known], latest.seed)

    def gap_to_full(self) -> Diagnosis | None:
        split = "test" if models.scores(self.store, self.newest.id, "test") else "validation"
        # It was trained on the validation patches too, so only test images judge it.
        full = self.full if split == "test" else None
        rounds = [item for _, item in sorted(self.models.items()) if item.round_id]
        compared = [*rounds, full] if full else rounds
        common = evaluation.in_all(evaluation.scored_on(self.store, item.id, split) for item in compared)
        found = {item.id: evaluation.summary(self.store, item.id, split, common) for item in compared}
        curve = [(item.n_cases, made.scores.f1_50) for item in rounds if (made := found[item.id])]
        everything = catalogue.count_patches(self.store, self.id) - len(self.validation)
        measured = found[full.id] if full else None
        return diagnostics.gap_to_full(curve, everything, measured.scores.f1_50 if measured else None)

    def overfitting(self) -> Diagnosis | None:
        if not self.newest.round_id:
            return None
        predicted = labels.of_checkpoint(self.store, self.newest.id)
        fit, held = (evidence.scores(self.store, items, predicted) for items in (self.training, self.validation))
        return diagnostics.overfitting(list(fit.values()), list(held.values()))

    def merges_and_splits(self) -> Diagnosis | None:
        predicted = labels.of_checkpoint(self.store, self.newest.id)
        return diagnostics.merges_and_splits(list(evidence.compare(self.store, self.validation, predicted).values()))

    def object_size(self) -> Diagnosis | None:
        sizes = evidence.sizes(self.store, self.labelled)
        planned = models.plan(self.store, self.newest.plan_id).summary["object_diameter_px"]
        return diagnostics.object_size(planned, typical_size(sizes).diameter if sizes else planned, len(sizes))

    def forgetting(self) -> Diagnosis | None:
        known = forgetting.memories(self.store, self.id)
        return forgetting.forgetting(known) if known else None

    def drift(self) -> Diagnosis | None:
        return drift.drift(self.store, self.id)

    def _f1(self, checkpoint: Checkpoint) -> float | None:
        scored = list(_by_patch(self.store, checkpoint, "validation").values())
        return pool(scored).f1_50 if scored else None

    def _is_3d(self) -> bool:
        return any(image.is_3d for image in catalogue.images(self.store, self.id))


def _by_patch(store: Store, checkpoint: Checkpoint, split: str) -> dict[tuple[int, int], InstanceScores]:
    return {(row.image_id, row.patch_id or 0): row.scores for row in models.scores(store, checkpoint.id, split)}


def _trained_on_everything(store: Store, project_id: int) -> Checkpoint | None:
    """A model that was trained on all reference masks, if there is one. A checkpoint does not say what it was trained
    on, but it carries the hash of it."""
    candidates = [item for item in models.checkpoints(store, project_id) if item.round_id is None]
    if not candidates or not labels.latest_by_image(store, project_id, LabelKind.REFERENCE):
        return None
    cases = training_cases.reference_cases(store, catalogue.project(store, project_id))
    for item in reversed(candidates):
        parent = models.checkpoint(store, item.parent_id) if item.parent_id else None
        run = training.Run(None, cases, parent, item.iterations, item.seed)
        if training.run_hash(models.plan(store, item.plan_id), run) == item.input_hash:
            return item
    return None
