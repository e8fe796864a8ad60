"""nnU-Net: plan once, pre-train on the pseudo-labels, fine-tune each round from the current model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from alapp.disk import patiently
from alapp.domain import PatchRole, Preset, Report, part
from alapp.errors import NotReadyError
from alapp.rounds.annotate import finished
from alapp.rounds.predict import decoding, evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.timing import content_hash, timed
from alapp.rounds.train import lineage, memory, plan_in_use, pretrain_check, promotion, rehearsal, replay, retention
from alapp.rounds.train.training_cases import (
    finished_cases,
    human_cases,
    keys_of,
    labelled_objects,
    pseudo_cases,
    unlabelled_cases,
)
from alapp.stages.train.base import NETWORK, TRAINERS, Case, EpochLog, TrainResult
from alapp.storage import catalogue, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint, Plan
from alapp.storage.rounds import Round

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
    weights: Mapping[str, float] | None = None
    """How often cases are drawn, by key, relative to 1 of the others; None: all alike."""
    rehearsed: int = 0
    """How many of the cases are pseudo-labels that a round rehearses."""
    labelled: int = 0
    """How many patches are finished, validation included."""
    patches: int | None = None
    """How many patches can be picked, finished ones included; None in pre-training."""


def run_pretrain(
    store: Store,
    project_id: int,
    report: Report,
    iterations: int | None = None,
    killed: int = 0,
    preset: str | None = None,
) -> dict[str, Any]:
    """Pseudo-label what is missing, plan, train on the pseudo-labels, predict, decide whether to use the model.
    `killed`: see `jobs.JobKind`. `preset`: the one that the training was started with; without, the project's.

    Raises `NotReadyError` when pseudo-labels are not decided, switched off, or empty.
    """
    project = project_with(store, project_id, preset)
    if project.pseudo_method in (None, pseudo.NONE):
        raise NotReadyError("Pre-training needs pseudo-labels. Choose a method on the Pseudo-labels tab.")
    pseudo.run_all(store, project_id, part(report, 0.0, 0.1), retry=False)
    cases = pseudo_cases(store, project)
    if not cases:
        raise NotReadyError("The pseudo-labels have no object at all. Try another method or other parameters.")
    plan = plan_in_use.ensure_plan(store, project, cases, part(report, 0.1, 0.15), killed=killed)
    run = pretraining(project, plan, cases, iterations)
    checkpoint = train(store, project, plan, run, part(report, 0.15, 0.85), killed)
    evaluation.predict_and_score(store, project_id, checkpoint, part(report, 0.85, 1.0))
    promotion.judge(store, checkpoint)
    retention.apply(store, project_id)
    return {"checkpoint": checkpoint.id, "iterations": run.iterations, "cases": len(cases)}


def run_round(
    store: Store,
    project_id: int,
    report: Report,
    iterations: int | None = None,
    killed: int = 0,
    round_id: int | None = None,
    preset: str | None = None,
) -> dict[str, Any]:
    """Fine-tune on everything labelled so far, from the current model, then predict, score, and decide whether to use
    the new model. `killed`: see `jobs.JobKind`. `round_id`, `preset`: those that the training was started with;
    without, as in jobs of earlier versions, the newest round and the project's preset.

    Raises `NotReadyError` when the batch is not finished or nothing can be learnt from.
    """
    project, this = project_with(store, project_id, preset), round_of(store, project_id, round_id)
    cases = human_cases(store, project)
    if not cases:
        raise NotReadyError("No finished patch has an object to learn from. Annotate at least one patch of the batch.")
    earlier = {case.key for case in cases} - set(keys_of(store, this))
    plan = plan_in_use.fitted(store, project, cases, earlier, part(report, 0.0, 0.05), this.number, killed)
    run, begin = fine_tuning(store, project, plan, this, cases, iterations), 0.05
    # Two trials on next to nothing would tell nothing.
    few = rehearsal.is_needed(labelled_objects(store, project))
    if run.start_from is not None and not few and pretrain_check.due(project, run.start_from):
        labelled = pretrain_check.Labelled(
            finished_cases(store, project, PatchRole.TRAIN), finished_cases(store, project, PatchRole.VALIDATION)
        )
        begin = 0.25
        start_from = pretrain_check.choose(
            store, project, plan, run.start_from, labelled, this, run.iterations, run.seed, part(report, 0.05, begin),
            killed,
        )  # fmt: skip
        run = replace(run, start_from=start_from)
    checkpoint = train(store, project, plan, run, part(report, begin, 0.8), killed)
    decoding.fit_for_round(store, checkpoint, this, run.start_from, part(report, 0.8, 0.85))
    evaluation.predict_and_score(store, project_id, checkpoint, part(report, 0.85, 1.0))
    promotion.judge(store, checkpoint)
    retention.apply(store, project_id)
    return {"checkpoint": checkpoint.id, "round": this.number, "iterations": run.iterations, "cases": len(cases)}


def project_with(store: Store, project_id: int, preset: str | None) -> Project:
    """The project as a training takes it that was started with `preset`: it goes on with that when it waited, or was
    paused, while another one was chosen. With None it is the project as it is."""
    project = catalogue.project(store, project_id)
    return replace(project, preset=Preset(preset)) if preset else project


def round_of(store: Store, project_id: int, round_id: int | None) -> Round:
    """The round that a training was started for, which waited or was paused while another batch was selected; without
    `round_id` the newest. Raises `NotReadyError` if there is none."""
    this = round_rows.latest(store, project_id) if round_id is None else round_rows.round_by_id(store, round_id)
    if this is None:
        raise NotReadyError("Select and annotate a batch first.")
    return this


def pretraining(project: Project, plan: Plan, cases: tuple[Case, ...], iterations: int | None) -> Run:
    """The run that learns from pseudo-labels."""
    return Run(None, cases, None, _iterations(project, plan, "pretrain", iterations), project.seed)


def fine_tuning(
    store: Store, project: Project, plan: Plan, this: Round, cases: tuple[Case, ...], iterations: int | None
) -> Run:
    """The run of a round on `cases`, which people labelled, from `start_checkpoint`; raises as that does."""
    start_from = start_checkpoint(store, project, this)
    few = rehearsal.is_needed(labelled_objects(store, project))
    drawn = replay.weights([case.key for case in cases], keys_of(store, this))
    seen, drawn = rehearsal.mixed(cases, unlabelled_cases(store, project) if few else (), drawn)
    return Run(
        this,
        seen,
        start_from,
        _iterations(project, plan, "round", iterations),
        project.seed + this.number,
        drawn,
        rehearsed=len(seen) - len(cases),
        labelled=len(finished.maps(store, project.id)),
        patches=catalogue.count_patches(store, project.id),
    )


def start_checkpoint(store: Store, project: Project, this: Round) -> Checkpoint | None:
    """The model that was in use before this round was trained, if it has the network of the plan in use; at another
    resolution, perhaps.

    If it has not, or none was ever good enough to be used, the newest one of this plan: it is still better than to
    start anew. A plan without any model takes the pre-trained one of an earlier plan, if its network is the same.
    Raises `NotReadyError` when its file is gone.
    """
    plan = models.find_plan(store, project.id, project.preset)
    found = verdicts.current_checkpoint(store, project.id, project.preset, before_round=this.id)
    if plan is None or found is None or not plan_in_use.same_network(store, plan.id, found.plan_id):
        found = _start_of_plan(store, project, plan, this) if plan is not None else None
    if found is not None and not lineage.available(store, found):
        name = lineage.names(store, project.id)[found.id]
        raise NotReadyError(
            f"The training would go on from {name}, but its file is gone. Choose another model to use under Models on "
            "the Train tab."
        )
    return found


def _start_of_plan(store: Store, project: Project, plan: Plan, this: Round) -> Checkpoint | None:
    known = [item for item in models.checkpoints(store, project.id) if lineage.available(store, item)]
    own = [item for item in known if item.plan_id == plan.id and item.round_id != this.id]
    if own:
        return own[-1]
    pretrained = [
        item
        for item in known
        if item.round_id is None
        and item.preset == project.preset
        and plan_in_use.same_network(store, plan.id, item.plan_id)
    ]
    return pretrained[-1] if pretrained else None


def train(store: Store, project: Project, plan: Plan, run: Run, report: Report, killed: int = 0) -> Checkpoint:
    """Carry out a run, or find it finished, with a model that is as it was. A killed run goes on where it was when
    called again.

    When memory runs out, it goes on in smaller portions; so it does when the system ended it `killed` times.
    """
    key = run_hash(plan, run)
    known = models.find_checkpoint(store, project.id, key)
    if known and lineage.intact(store, known):
        if known.removed_at is None:
            return known
    elif known and lineage.available(store, known):
        # It is not what was trained, but the trainer could take it for the finished model.
        patiently(os.remove, store.files.resolve(known.path))
    workspace = store.root / plan.workspace
    round_id = run.round.id if run.round else None

    def log(line: EpochLog) -> None:
        models.log_epoch(store, project.id, round_id, key, asdict(line))

    network = TRAINERS.create(NETWORK)

    def once(options: Mapping[str, Any] | None) -> TrainResult:
        return network.train(
            workspace,
            run.cases,
            run_folder(workspace, key),
            run.iterations,
            run.seed,
            store.files.resolve(run.start_from.path) if run.start_from else None,
            report,
            log,
            {**(options or {}), "weights": run.weights},
        )

    with timed(store, project.id, "train", run.round.number if run.round else 0):
        result = memory.within_memory(store, project.id, key, lambda n: network.reduction(workspace, n), once, killed)
    return _record(store, project, plan, run, key, result.checkpoint, result.seconds)


def run_folder(workspace: Path, key: str) -> Path:
    """Where a run of this hash keeps its files."""
    return workspace / "runs" / key[:16]


def run_hash(plan: Plan, run: Run) -> str:
    """Names a run by what it learns from. Runs that draw their cases evenly keep the names they had before cases
    could be weighted."""
    return content_hash(
        "train",
        plan.input_hash,
        run.start_from.sha256 if run.start_from else None,
        sorted((case.key, case.hash) for case in run.cases),
        run.iterations,
        run.seed,
        *([dict(run.weights)] if run.weights else []),
    )


def _iterations(project: Project, plan: Plan, what: str, wanted: int | None) -> int:
    iterations = wanted or plan.summary["iterations"][what]
    return min(iterations, DEMO_ITERATIONS) if project.visitor else iterations


def _record(store: Store, project: Project, plan: Plan, run: Run, key: str, path: Path, seconds: float) -> Checkpoint:
    stored = store.files.register(path)
    values: Mapping[str, Any] = {
        "project_id": project.id,
        "plan_id": plan.id,
        "round_id": run.round.id if run.round else None,
        "parent_id": run.start_from.id if run.start_from else None,
        "preset": project.preset,
        "iterations": run.iterations,
        "n_cases": len(run.cases) - run.rehearsed,
        "n_rehearsed": run.rehearsed,
        "n_labelled": run.labelled,
        "n_patches": run.patches,
        "seed": run.seed,
        "seconds": seconds,
        "input_hash": key,
        "path": stored.path,
        "sha256": stored.sha256,
    }
    removed = models.find_checkpoint(store, project.id, key)
    if removed:
        return models.restore_checkpoint(store, removed.id, values)
    return models.add_checkpoint(store, values)
