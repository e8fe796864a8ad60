"""One run of an experiment: choose patches, train on their labels, test."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import InstanceScores, Report, part
from alapp.experiments import informing
from alapp.experiments.lab import Lab
from alapp.experiments.study import ALL, CHAIN, NONE, Run
from alapp.rounds.train import rehearsal
from alapp.stages import decoding, segment
from alapp.stages.instances import by_slices, decoded_at_once
from alapp.stages.metrics import pool, score_instances
from alapp.stages.select.base import SELECTORS, Context


@dataclass(frozen=True)
class Result:
    """What a run gave. `rows`: the patches that were trained on, in the order in which they were chosen; `scores` of
    each test image; `checkpoint` relative to the experiment's folder, None where nothing could be learned. `elsewhere`:
    the result came without its model, see `exchange`; its scores are those of all test images together. `objects` that
    the patches showed, each of which a person would have had to outline; None in results of older versions."""

    rows: tuple[int, ...]
    patches: int
    iterations: int
    seconds: float
    scores: tuple[InstanceScores, ...]
    checkpoint: str | None
    elsewhere: bool = False
    objects: int | None = None

    @property
    def pooled(self) -> InstanceScores:
        """The scores of all test images together."""
        return pool(self.scores)

    def as_json(self) -> dict[str, Any]:
        """The inverse of `of`."""
        return asdict(self)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Result:
        """A result from JSON."""
        scores = tuple(cls.scores_of(each) for each in stored["scores"])
        return cls(**{**stored, "rows": tuple(stored["rows"]), "scores": scores})

    @staticmethod
    def scores_of(stored: Mapping[str, Any]) -> InstanceScores:
        """Scores from JSON."""
        return InstanceScores(**stored)


class Claim:
    """Whose a run is: nobody else's, and nothing is stored. `runner` has one for several processes."""

    def check(self) -> None:
        """Raises `Cancelled` when the run is another process's by now."""

    def finish(self, result: Result) -> bool:
        """Store the result. False when the run is another process's by now, which is at work on it."""
        return True


def carry_out(lab: Lab, run: Run, before: Result | None, report: Report, claim: Claim | None = None) -> Result:
    """Carry out a run whose model starts from that of `before` (`Run.after`). Killed, it goes on where it was.

    Raises what the stages raise, and `Cancelled` from `report` and `claim`.
    """
    claim = claim or Claim()
    start = lab.folder / before.checkpoint if before and before.checkpoint else None
    workspace = lab.workspace(run, start, part(report, 0, 0.1))
    _, each = lab.iterations
    total = len(lab.images.patches)
    if run.budget == 0:
        rows: tuple[int, ...] = ()
        iterations = lab.iterations[0]
        cases = [] if run.start == NONE else lab.cases(lab.pseudo(run.start, run.seed, part(report, 0.1, 0.15)), "pl")
    else:
        rows = choose(lab, run, before, start, part(report, 0.1, 0.3))
        iterations = each if run.schedule == CHAIN else each * run.round_in(lab.study)
        cases = lab.cases([image.labels for image in lab.images.train], "gt", rows)
        known = lab.cases([image.labels for image in lab.images.train], "gt", before.rows) if before else []
        anew = lab.fitted(workspace, cases, known, report)
        start = start if start and lab.network.same_network(anew, workspace) else None
        workspace = anew
    objects = lab.images.objects(rows)
    if not cases:  # nothing to learn: a model, if there is one, stays as it is
        scores = before.scores if before else tuple(_empty(image.labels) for image in lab.images.test)
        same = Result(rows, total, 0, 0.0, scores, before.checkpoint if before else None, objects=objects)
        claim.finish(same)
        return same
    weights = None
    if rehearsal.is_needed(objects) and run.start != NONE:
        others = [row for row in range(total) if row not in rows]
        cases, weights = rehearsal.mixed(cases, lab.cases(lab.pseudo(run.start, run.seed, report), "pl", others))
    began = time.perf_counter()
    made = lab.network.train(
        workspace, cases, workspace / "run", iterations, run.seed, start, part(report, 0.3, 0.9), lambda entry: None,
        {"weights": weights},
    )  # fmt: skip
    seconds = time.perf_counter() - began
    scores = tuple(_test(lab, workspace, made.checkpoint, rows, part(report, 0.9, 1.0)))
    claim.check()
    kept = lab.keep(run, workspace, made.checkpoint)
    model = kept.relative_to(lab.folder).as_posix()
    result = Result(rows, total, iterations, round(seconds, 1), scores, model, objects=objects)
    if claim.finish(result):  # else what another process works with stays
        lab.clear(run)
    return result


def count(budget: float | None, patches: int) -> int:
    """How many of `patches` a budget is; at least one."""
    if budget is None:
        return patches
    return min(patches, max(1, round(budget * patches) if budget < 1 else math.floor(budget)))


def choose(lab: Lab, run: Run, before: Result | None, start: Path | None, report: Report) -> tuple[int, ...]:
    """The patches to label: those of the smaller budget and as many more as the strategy picks, seeing what a person
    would have at that time."""
    patches = lab.images.patches
    if run.strategy == ALL:
        return tuple(range(len(patches)))
    known = before.rows if before else ()
    wanted = count(run.budget, len(patches))
    labelled = np.zeros(len(patches), bool)
    labelled[list(known)] = True
    selector = SELECTORS.create(run.strategy)
    rng = np.random.default_rng([run.seed, len(known), 1])
    context = Context(**informing.inform(lab, run, start, run.round_in(lab.study), selector.needs, report))
    vectors = lab.embeddings(run.seed, report) if selector.uses_embeddings else np.zeros((len(patches), 1), np.float32)
    picks = selector(vectors, labelled, wanted - len(known), rng, context).rows
    return (*known, *picks.tolist())


def _test(lab: Lab, workspace: Path, checkpoint: Path, rows: Iterable[int], report: Report) -> list[InstanceScores]:
    """Scores of the test images, decoded as for the shapes of the labelled objects (patches `rows`)."""
    voxel_size = lab.images.voxel_size
    labelled = (decoded_at_once(lab.images.labels(lab.images.patches[row]), by_slices(voxel_size)) for row in rows)
    shapes = decoding.for_shapes(chain.from_iterable(labelled))
    how = segment.decoding_for(voxel_size, parameters=replace(shapes, **lab.study.decoding))
    scores = []
    count = len(lab.images.test)
    for number, image in enumerate(lab.images.test):
        report(number, count, f"Testing on {image.name}")
        inner = _saying(part(report, number / count, (number + 1) / count), f"Testing on {image.name}")
        found = segment.whole(lab.network.predict(workspace, checkpoint, image.pixels, inner), how)
        scores.append(score_instances(image.labels, found))
    return scores


def _saying(report: Report, message: str) -> Report:
    """`report` with the same message all the time."""
    return lambda done, total, _="": report(done, total, message)


def _empty(labels: np.ndarray) -> InstanceScores:
    return score_instances(labels, np.zeros_like(labels))
