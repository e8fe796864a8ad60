"""Whether pre-training on pseudo-labels helps: asked once people's labels are there, before a round goes on from it.

Two things are measured on the labelled patches. First, at no cost, the objects that the pre-trained model and the
pseudo-labels show there. Then a short trial: the network learns from the labels once from the pre-trained weights
and once from scratch, and the round goes on with the better one. Pre-training can harm although the pseudo-labels
are good, so their score alone does not tell.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import InstanceScores, Report, part
from alapp.rounds.predict import decoding
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.timing import content_hash, timed
from alapp.rounds.train import memory, promotion
from alapp.stages import instances
from alapp.stages.metrics import annotated_only, pool, score_instances
from alapp.stages.train.base import NETWORK, TRAINERS, Case, Trainer, TrainResult
from alapp.storage import catalogue, labels, verdicts
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.storage.models import Checkpoint, Plan
from alapp.storage.rounds import Round
from alapp.storage.verdicts import Verdict, VerdictKind

TRIAL_SHARE, TRIAL_MOST = 0.2, 2_000
"""Each of the two trials has this share of the round's iterations, and at most so many."""

HELD_OUT = 1 / 3
"""Share of the training patches that a trial is scored on when there are too few validation patches."""

MIN_TRAINING = 3
"""With fewer labelled training patches there is nothing to hold out."""

TIE = 0.02
"""Starting from scratch must be better by more than this: pre-training starts ahead in a trial this short, so it is
not lucky often, and it has seen images that nobody labelled yet."""

STARTS = ("pretrained", "scratch")

GOOD = 0.7
"""A pre-trained model with at least this F1 on people's labels is a good start, and not worth a trial."""


@dataclass(frozen=True)
class Labelled:
    """Finished patches by patch id: those to learn from, and those for validation."""

    training: Mapping[int, Case]
    validation: Mapping[int, Case]


def due(project: Project, start: Checkpoint | None) -> bool:
    """Whether a round that would start from `start` has to ask first."""
    return project.check_pretraining and start is not None and start.round_id is None


def choose(
    store: Store,
    project: Project,
    plan: Plan,
    start: Checkpoint,
    labelled: Labelled,
    this: Round,
    iterations: int,
    seed: int,
    report: Report,
    killed: int = 0,
) -> Checkpoint | None:
    """The pre-trained model that round `this` starts from, or None to start from scratch. Records the verdict with its
    numbers.

    `iterations` are the round's. With the same labels the known verdict holds; after a kill the trials go on where
    they were; `killed`: see `jobs.JobKind`. Raises `Cancelled` from `report`.
    """
    key = content_hash(
        "pretraining",
        plan.input_hash,
        start.sha256,
        sorted((case.key, case.hash) for case in labelled.training.values()),
        sorted((case.key, case.hash) for case in labelled.validation.values()),
        iterations,
        seed,
    )
    known = [
        item
        for item in verdicts.of_checkpoint(store, start.id, VerdictKind.PRETRAINING)
        if item.facts["input_hash"] == key
    ]
    verdict = known[-1] if known else None
    if verdict is None:
        facts = _measure(store, project, plan, start, labelled, this, iterations, seed, key, report, killed)
        accepted = facts["trial"] is None or facts["trial"]["scratch"] <= facts["trial"]["pretrained"] + TIE
        facts |= {"input_hash": key, "round": this.number}
        verdict = verdicts.add(store, start, VerdictKind.PRETRAINING, accepted, facts)
    _clean(store.root / plan.workspace, key)
    report(1, 1, "The pre-trained model is checked")
    return start if verdict.accepted else None


def latest(store: Store, project_id: int) -> Verdict | None:
    """The last verdict on pre-training, if any."""
    found = verdicts.of_project(store, project_id, VerdictKind.PRETRAINING)
    return found[-1] if found else None


def sentence(verdict: Verdict) -> str:
    """The verdict in plain words, with its numbers."""
    facts = verdict.facts
    found = (
        f"On the patches you labelled, the pre-trained model finds {facts['n_model']:,} objects where you marked "
        f"{facts['n_true']:,} (F1 {facts['f1_model']:.2f})"
    )
    if facts["f1_pseudo"] is not None:
        found += f"; the pseudo-labels themselves have F1 {facts['f1_pseudo']:.2f}"
    if facts["trial"] is None:
        return f"Round {facts['round']} started from the pre-trained model{_untried(facts['reason'])}. {found}."
    trial = facts["trial"]
    patches = f"{trial['patches']} patch{'' if trial['patches'] == 1 else 'es'} with your labels"
    numbers = (
        f"in a short trial of {trial['iterations']:,} iterations each, starting from it gave F1 "
        f"{trial['pretrained']:.2f} and starting from scratch {trial['scratch']:.2f} on {patches}"
    )
    if verdict.accepted:
        return f"Round {facts['round']} started from the pre-trained model: {numbers}. {found}."
    return f"Round {facts['round']} left the pre-training out, because it does harm here: {numbers}. {found}."


def _untried(reason: str) -> str:
    if reason == "good":
        return ", which is good enough to need no trial"
    return ", untried, because too few patches are labelled for a trial"


def _measure(
    store: Store,
    project: Project,
    plan: Plan,
    start: Checkpoint,
    labelled: Labelled,
    this: Round,
    iterations: int,
    seed: int,
    key: str,
    report: Report,
    killed: int,
) -> dict[str, Any]:
    """What the labels say of the pre-trained model and the pseudo-labels, and the trials, if they can be made."""
    report(0, 1, "Checking the pre-trained model on your labels")
    everything = {**labelled.training, **labelled.validation}
    model = pool(_against_labels(store, everything, labels.of_checkpoint(store, start.id)) or [_nothing()])
    made = _against_labels(store, everything, pseudo.pseudo_maps(store, project.id))
    facts: dict[str, Any] = {
        "n_true": model.n_true,
        "n_model": model.n_pred,
        "f1_model": model.f1_50,
        "f1_pseudo": pool(made).f1_50 if made else None,
        "trial": None,
        "reason": "",
    }
    learn, held = split(labelled, np.random.default_rng([seed, 40]))
    if model.n_true >= promotion.MIN_OBJECTS and model.f1_50 >= GOOD:
        return {**facts, "reason": "good"}
    if not learn:
        return {**facts, "reason": "few"}
    short = max(1, min(round(TRIAL_SHARE * iterations), TRIAL_MOST))
    paths = dict(zip(STARTS, (store.files.resolve(start.path), None), strict=True))
    workspace, scores = store.root / plan.workspace, {}
    network = TRAINERS.create(NETWORK)

    def learnt(name: str, path: Path | None, here: Report) -> TrainResult:
        """One trial; what was too large for one is too large for the other."""
        out = _folder(workspace, key, name)
        return memory.within_memory(
            store,
            project.id,
            key,
            lambda n: network.reduction(workspace, n),
            # A trial is not a round: its loss is not part of the project's curves.
            lambda options: network.train(workspace, learn, out, short, seed, path, here, lambda line: None, options),
            killed,
        )

    with timed(store, project.id, "train", this.number):
        for index, (name, path) in enumerate(paths.items()):
            here = _named(part(report, index / 2, (index + 1) / 2), name)
            result = learnt(name, path, part(here, 0, 0.9))
            scores[name] = _held_out(network, store, plan, result.checkpoint, held, part(here, 0.9, 1)).f1_50
    return {**facts, "trial": {"iterations": short, "patches": len(held), **scores}}


def _folder(workspace: Path, key: str, name: str) -> Path:
    return workspace / "runs" / f"trial-{key[:12]}-{name}"


def _clean(workspace: Path, key: str) -> None:
    """Remove the trials' files, which only served a trial that was killed to go on."""
    for name in STARTS:
        folder = _folder(workspace, key, name)
        if folder.exists():
            shutil.rmtree(folder)


def split(labelled: Labelled, rng: np.random.Generator) -> tuple[list[Case], list[Case]]:
    """Cases that a trial learns from, and cases that it is scored on: the validation patches where there are enough of
    them, else a third of the training patches, drawn by `rng`. Empty lists when there are too few, or one of them has
    no object."""
    validation = list(labelled.validation.values())
    training = list(labelled.training.values())
    if len(validation) >= promotion.MIN_PATCHES and _objects(validation) >= promotion.MIN_OBJECTS:
        return training, validation
    if len(training) < MIN_TRAINING:
        return [], []
    order = rng.permutation(len(training))
    n_held = round(HELD_OUT * len(training))
    held, learn = ([training[row] for row in sorted(rows)] for rows in (order[:n_held], order[n_held:]))
    return (learn, held) if _objects(learn) and _objects(held) else ([], [])


def _objects(cases: Sequence[Case]) -> int:
    return sum(int(np.count_nonzero(np.unique(case.load()[1]))) for case in cases)


def _named(report: Report, name: str) -> Report:
    what = "from the pre-trained model" if name == STARTS[0] else "from scratch"
    return lambda done, total, message="": report(done, total, f"Trying a start {what}. {message}")


def _held_out(
    network: Trainer, store: Store, plan: Plan, checkpoint: Path, held: Sequence[Case], report: Report
) -> InstanceScores:
    """Pooled score of a trial's model on `held`."""
    workspace, flat = store.root / plan.workspace, decoding.learned_slices(plan)
    scores = []
    for index, case in enumerate(held):
        pixels, _ = case.load()
        probabilities = network.predict(
            workspace, checkpoint, pixels, part(report, index / len(held), (index + 1) / len(held))
        )
        in_plane = instances.by_slices(case.voxel_size, flat)
        scores.append(_score(case, instances.from_probabilities(probabilities, in_plane=in_plane)))
    return pool(scores)


def _against_labels(store: Store, cases: Mapping[int, Case], maps: Mapping[int, LabelMap]) -> list[InstanceScores]:
    """Scores of whole images' maps, by image id, on the labelled patches of these images."""
    read = _remembering(lambda image_id: labels.read(store, maps[image_id]))
    patches = {patch_id: catalogue.patch(store, patch_id) for patch_id in cases}
    return [
        _score(cases[patch_id], catalogue.crop(read(patch.image_id), patch))
        for patch_id, patch in sorted(patches.items(), key=lambda item: item[1].image_id)
        if patch.image_id in maps
    ]


def _remembering(read: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray]:
    """The last image's map stays in memory; whole images may be too large to keep more."""
    last: dict[int, np.ndarray] = {}

    def remembered(image_id: int) -> np.ndarray:
        if image_id not in last:
            last.clear()
            last[image_id] = read(image_id)
        return last[image_id]

    return remembered


def _score(case: Case, found: np.ndarray) -> InstanceScores:
    reference = case.load()[1]
    if case.ignored is not None:
        ignored = case.ignored()
        reference, found = annotated_only(reference, ignored), annotated_only(found, ignored)
    return score_instances(reference, found)


def _nothing() -> InstanceScores:
    empty = np.zeros((1, 1), np.int32)
    return score_instances(empty, empty)
