"""Fine-tuning micro_sam on the labels of a project, and taking the result for clicks where it is better."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from alapp.domain import PatchRole, Report, part
from alapp.environment import machine
from alapp.errors import NotReadyError, WeightsMissingError
from alapp.rounds.annotate import finished
from alapp.rounds.timing import timed
from alapp.rounds.train import training_cases
from alapp.stages.foundation import choice, own
from alapp.stages.foundation.choice import Weights
from alapp.stages.foundation.finetune_sam import MIN_TRAIN, MIN_VALIDATION, Sample, Start, finetune, lacking
from alapp.stages.train.base import Case
from alapp.storage import catalogue
from alapp.storage.catalogue import Project
from alapp.storage.db import Store

STEPS = {"cpu": 100, "cuda": 1000}
"""Steps of a training when nobody chose. How long a step takes was not measured on an idle computer."""
MOST_STEPS = 20_000
SLICES = 4
"""Slices of a stack that are trained on at most, evenly spread: neighbours show the same."""
MOST_SAMPLES = 200


def starts(store: Store, project_id: int) -> list[Weights]:
    """Weights on this computer that can be fine-tuned for the project's images, the best first."""
    return choice.options(catalogue.project(store, project_id).modality)


def samples(store: Store, project: Project, role: PatchRole) -> list[Sample]:
    """Labelled 2D images of the finished patches of a role; at most `MOST_SAMPLES`, drawn at random."""
    cases = list(training_cases.finished_cases(store, project, role).values())
    order = np.random.default_rng([project.seed, 40]).permutation(len(cases))
    found: list[Sample] = []
    for row in order:
        found += _slices(cases[row])
        if len(found) >= MOST_SAMPLES:
            break
    return found[:MOST_SAMPLES]


def why_not(store: Store, project_id: int) -> str:
    """Why fine-tuning cannot start now, as a sentence; "" when it can. Cheap: it reads no pixels, so objects that are
    too small to learn from still count here."""
    project = catalogue.project(store, project_id)
    if project.visitor:
        return "Fine-tuning is not part of the public demo: its models are shared. Install the app to use it."
    objects = {
        role: [item.n_objects for item in finished.maps(store, project_id, role).values() if item.n_objects]
        for role in PatchRole
    }
    fewest = {PatchRole.TRAIN: MIN_TRAIN, PatchRole.VALIDATION: MIN_VALIDATION}
    words = {PatchRole.TRAIN: "training", PatchRole.VALIDATION: "validation"}
    lacks = (lacking(words[role], fewest[role], len(found), sum(found)) for role, found in objects.items())
    return next(filter(None, lacks), "")


def run_finetune(
    store: Store, project_id: int, report: Report, model: str = "", iterations: int | None = None
) -> dict[str, Any]:
    """Fine-tune the weights called `model` (by default those that answer clicks) on all finished training patches.

    Where one click finds the objects of the validation patches better than before, the result is kept as a model of
    the user's own, which then answers clicks; otherwise it is thrown away. Returns {"model", "before", "after",
    "objects", "iterations", "seconds", "kept": name or "", "message"}. Raises `NotReadyError` with too few labels,
    `WeightsMissingError` without weights.
    """
    project = catalogue.project(store, project_id)
    if project.visitor:
        raise NotReadyError(why_not(store, project_id))
    start = _start(store, project_id, model)
    report(0, 1, "Reading your labels")
    learnt, judged = samples(store, project, PatchRole.TRAIN), samples(store, project, PatchRole.VALIDATION)
    steps = min(iterations or STEPS[machine().device], MOST_STEPS)
    begun = time.perf_counter()
    with timed(store, project_id, "finetune"):
        made = finetune(
            Start(start.architecture, start.path, start.decoder), learnt, judged, steps, project.seed,
            part(report, 0.0, 0.97),
        )  # fmt: skip
    kept = ""
    if made.better:
        report(0.97, 1, "Keeping the fine-tuned model")
        source = f"{start.name}, fine-tuned on {len(learnt)} labelled images of the project {project.name}"
        kept = own.add(
            f"{start.name} {project.name}", start.architecture, made.weights, made.decoder,
            modality=project.modality, source=source, report=part(report, 0.97, 1.0),
        ).name  # fmt: skip
    return {
        "model": start.name,
        "before": made.before,
        "after": made.after,
        "objects": made.objects,
        "iterations": made.iterations,
        "seconds": time.perf_counter() - begun,
        "kept": kept,
        "message": verdict(start.name, made.before, made.after, made.objects, kept),
    }


def verdict(model: str, before: float, after: float, objects: int, kept: str) -> str:
    """What came out, in words."""
    measured = (
        f"One click finds the {objects} objects of your validation patches with an overlap (IoU) of {after:.2f}, "
        f"against {before:.2f} with {model}"
    )
    if kept:
        return f"{measured}. The fine-tuned model is kept as “{kept}” and answers clicks from now on."
    return f"{measured}, so the fine-tuned model is not better and was not kept. More labels may help."


def _start(store: Store, project_id: int, model: str) -> Weights:
    if model:
        found = choice.named(model)
        if found is None:
            raise WeightsMissingError(f"The model {model} is not on this computer. Choose another one.")
        return found
    fit = starts(store, project_id)
    if not fit:
        raise WeightsMissingError(
            "micro_sam has no weights for these images on this computer, so there is nothing to fine-tune. Download a "
            "model first."
        )
    return fit[0]


def _slices(case: Case) -> list[Sample]:
    """2D images with labels; of a patch with a region that nobody annotated, what lies around its objects."""
    pixels, labels = case.load()
    ignored = case.ignored() if case.ignored is not None else np.zeros(labels.shape, bool)
    if labels.ndim == 2:
        pixels, labels, ignored = pixels[None], labels[None], ignored[None]
    filled = np.flatnonzero(labels.any(axis=(1, 2)))
    rows = filled[np.unique(np.linspace(0, len(filled) - 1, min(SLICES, len(filled))).round().astype(int))]
    made = []
    for z in rows:
        window = annotated_window(ignored[z])
        if window is not None and labels[z][window].any():
            made.append(Sample(np.asarray(pixels[z][window]), labels[z][window]))
    return made


def annotated_window(ignored: np.ndarray) -> tuple[slice, slice] | None:
    """The whole of a bool plane (Y, X) where nothing is ignored; else the largest of its halves and quarters without
    an ignored pixel; None where there is none. What is not annotated must not be learnt as background."""
    height, width = ignored.shape
    rows = ((0, height), (0, height // 2), (height // 2, height))
    columns = ((0, width), (0, width // 2), (width // 2, width))
    windows = [(slice(*y), slice(*x)) for y in rows for x in columns]
    free = [window for window in windows if ignored[window].size and not ignored[window].any()]
    return max(free, key=lambda window: ignored[window].size, default=None)
