"""nnU-Net: plan once, pre-train on the pseudo-labels, fine-tune each round from the last checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import LabelKind, PatchRole, Report, part
from alapp.environment import machine
from alapp.errors import NotReadyError
from alapp.rounds import annotation, annotation_region, evaluation, pseudo
from alapp.rounds.timing import content_hash, timed
from alapp.stages.train.base import NETWORK, TRAINERS, Case, EpochLog, Overrides
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch, Project
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.storage.models import Checkpoint, Plan
from alapp.storage.rounds import Round

PRETRAIN_PATCHES = 400
"""At most this many patches with pseudo-labels are trained on, drawn at random."""

DEMO_ITERATIONS = 150
"""A visitor of the public demo trains at most this long."""


@dataclass(frozen=True)
class Run:
    """One training run: what it learns from, and where it starts."""

    round: Round | None
    cases: tuple[Case, ...]
    start_from: Checkpoint | None
    iterations: int
    seed: int


def run_pretrain(store: Store, project_id: int, report: Report, iterations: int | None = None) -> dict[str, Any]:
    """Pseudo-label what is missing, plan, train on the pseudo-labels, predict.

    Raises `NotReadyError` when pseudo-labels are not decided, switched off, or empty.
    """
    project = catalogue.project(store, project_id)
    if project.pseudo_method in (None, pseudo.NONE):
        raise NotReadyError("Pre-training needs pseudo-labels. Choose a method on the Pseudo-labels tab.")
    pseudo.run_all(store, project_id, part(report, 0.0, 0.1))
    cases = pseudo_cases(store, project)
    if not cases:
        raise NotReadyError("The pseudo-labels have no object at all. Try another method or other parameters.")
    plan = ensure_plan(store, project, cases, part(report, 0.1, 0.15))
    run = Run(None, cases, None, _iterations(project, plan, "pretrain", iterations), project.seed)
    checkpoint = train(store, project, plan, run, part(report, 0.15, 0.85))
    evaluation.predict_and_score(store, project_id, checkpoint, part(report, 0.85, 1.0))
    return {"checkpoint": checkpoint.id, "iterations": run.iterations, "cases": len(cases)}


def run_round(store: Store, project_id: int, report: Report, iterations: int | None = None) -> dict[str, Any]:
    """Fine-tune on everything labelled so far, from the last checkpoint, then predict and score.

    Raises `NotReadyError` when the batch is not finished or nothing can be learnt from.
    """
    project = catalogue.project(store, project_id)
    this = round_rows.latest(store, project_id)
    if this is None:
        raise NotReadyError("Select and annotate a batch first.")
    cases = human_cases(store, project)
    if not cases:
        raise NotReadyError("No finished patch has an object to learn from. Annotate at least one patch of the batch.")
    plan = ensure_plan(store, project, cases, part(report, 0.0, 0.05))
    start_from = start_checkpoint(store, project, this)
    run = Run(this, cases, start_from, _iterations(project, plan, "round", iterations), project.seed + this.number)
    checkpoint = train(store, project, plan, run, part(report, 0.05, 0.85))
    evaluation.predict_and_score(store, project_id, checkpoint, part(report, 0.85, 1.0))
    return {"checkpoint": checkpoint.id, "round": this.number, "iterations": run.iterations, "cases": len(cases)}


def start_checkpoint(store: Store, project: Project, this: Round) -> Checkpoint | None:
    """The newest checkpoint of the plan in use from before this round; those of another plan have another network."""
    plan = models.find_plan(store, project.id, project.preset)
    earlier = [
        item
        for item in models.checkpoints(store, project.id)
        if plan is not None and item.plan_id == plan.id and item.round_id != this.id
    ]
    return earlier[-1] if earlier else None


def ensure_plan(store: Store, project: Project, cases: Iterable[Case], report: Report) -> Plan:
    """The project's plan for its preset; made on `cases` the first time and then kept."""
    return models.find_plan(store, project.id, project.preset) or make_plan(store, project, cases, report)


def make_plan(
    store: Store, project: Project, cases: Iterable[Case], report: Report, overrides: Overrides | None = None
) -> Plan:
    """A new plan of the project for its preset, in a folder of its own; from now on it is the one in use."""
    cases = tuple(cases)
    earlier = models.plans(store, project.id, project.preset)
    name = f"{project.preset}-{len(earlier) + 1}" if earlier else str(project.preset)
    workspace = store.files.project(project.id) / "nnunet" / name
    # No plan has this folder: what is in it was left by a planning that did not end, perhaps with other overrides.
    shutil.rmtree(workspace, ignore_errors=True)
    with timed(store, project.id, "plan"):
        summary = TRAINERS.create(NETWORK).plan(workspace, cases, project.preset, machine(), report, overrides)
    content = sorted((case.key, case.hash) for case in cases)
    again = (len(earlier), summary.overrides) if earlier or summary.overrides else ()
    return models.add_plan(
        store,
        {
            "project_id": project.id,
            "preset": project.preset,
            "input_hash": content_hash("plan", project.preset, content, *again),
            "workspace": workspace.relative_to(store.root).as_posix(),
            "summary": asdict(summary),
        },
    )


def train(store: Store, project: Project, plan: Plan, run: Run, report: Report) -> Checkpoint:
    """Carry out a run, or find it finished. A killed run goes on where it was when called again."""
    key = content_hash(
        "train",
        plan.input_hash,
        run.start_from.sha256 if run.start_from else None,
        sorted((case.key, case.hash) for case in run.cases),
        run.iterations,
        run.seed,
    )
    known = models.find_checkpoint(store, project.id, key)
    if known:
        return known
    workspace = store.root / plan.workspace
    round_id = run.round.id if run.round else None

    def log(line: EpochLog) -> None:
        models.log_epoch(store, project.id, round_id, key, asdict(line))

    with timed(store, project.id, "train", run.round.number if run.round else 0):
        result = TRAINERS.create(NETWORK).train(
            workspace,
            run.cases,
            workspace / "runs" / key[:16],
            run.iterations,
            run.seed,
            store.files.resolve(run.start_from.path) if run.start_from else None,
            report,
            log,
        )
    return _record(store, project, plan, run, key, result.checkpoint, result.seconds)


def human_cases(store: Store, project: Project) -> tuple[Case, ...]:
    """Every finished training patch with its newest human labels; validation patches are never among them."""
    chosen = round_rows.selected_in_project(store, project.id)
    done = annotation.patch_states(store, list(chosen))
    maps = labels.latest_by_patch(store, project.id, LabelKind.HUMAN)
    train_ids = [
        patch_id
        for patch_id, item in chosen.items()
        if item.role is PatchRole.TRAIN and done.get(patch_id) == annotation.DONE and patch_id in maps
    ]
    cases = tuple(_patch_case(store, catalogue.patch(store, patch_id), maps[patch_id]) for patch_id in train_ids)
    return cases if any(maps[patch_id].n_objects for patch_id in train_ids) else ()


def pseudo_cases(store: Store, project: Project) -> tuple[Case, ...]:
    """Patches with pseudo-labels, a random part of them in a large project; none if no object was found."""
    maps = pseudo.pseudo_maps(store, project.id)
    if not any(item.n_objects for item in maps.values()):
        return ()
    patches = [patch for patch in catalogue.patches(store, project.id) if patch.image_id in maps]
    order = np.random.default_rng([project.seed, 20]).permutation(len(patches))[:PRETRAIN_PATCHES]
    return tuple(_crop_case(store, patches[row], maps[patches[row].image_id], "pl") for row in sorted(order))


def reference_cases(store: Store, project: Project) -> tuple[Case, ...]:
    """Every patch with its reference masks: full annotation, for comparison."""
    maps = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    patches = [patch for patch in catalogue.patches(store, project.id) if patch.image_id in maps]
    return tuple(_crop_case(store, patch, maps[patch.image_id], "ref") for patch in patches)


def _iterations(project: Project, plan: Plan, what: str, wanted: int | None) -> int:
    iterations = wanted or plan.summary["iterations"][what]
    return min(iterations, DEMO_ITERATIONS) if project.visitor else iterations


def _patch_case(store: Store, patch: Patch, item: LabelMap) -> Case:
    def load() -> tuple[np.ndarray, np.ndarray]:
        return catalogue.read_patch(store, patch), labels.read(store, item)

    key, region = f"gt_{patch.id}", annotation_region.map_of(store, item)
    if region is None:
        return Case(key, content_hash(patch.id, item.sha256), load, patch.voxel_size)
    content = content_hash(patch.id, item.sha256, region.sha256)
    return Case(key, content, load, patch.voxel_size, lambda: labels.read(store, region) > 0)


def _crop_case(store: Store, patch: Patch, item: LabelMap, prefix: str) -> Case:
    def load() -> tuple[np.ndarray, np.ndarray]:
        return catalogue.read_patch(store, patch), catalogue.crop(labels.read(store, item), patch)

    return Case(f"{prefix}_{patch.id}", content_hash(patch.id, item.sha256), load, patch.voxel_size)


def _record(store: Store, project: Project, plan: Plan, run: Run, key: str, path: Path, seconds: float) -> Checkpoint:
    stored = store.files.register(path)
    values: Mapping[str, Any] = {
        "project_id": project.id,
        "plan_id": plan.id,
        "round_id": run.round.id if run.round else None,
        "parent_id": run.start_from.id if run.start_from else None,
        "preset": project.preset,
        "iterations": run.iterations,
        "n_cases": len(run.cases),
        "seed": run.seed,
        "seconds": seconds,
        "input_hash": key,
        "path": stored.path,
        "sha256": stored.sha256,
    }
    return models.add_checkpoint(store, values)
