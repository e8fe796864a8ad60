"""The whole loop without a person: reference masks answer in place of the annotator.

It calls the same functions as the pages and the worker, so its numbers are the app's numbers.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import ImageRole, LabelKind, Modality, Preset, Report
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import oracle, selection
from alapp.rounds.train import plan_in_use, training, training_cases
from alapp.stages import images as image_files
from alapp.stages.label_ids import instance_map
from alapp.stages.select.base import SELECTORS
from alapp.storage import catalogue, labels, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from alapp.storage.models import Checkpoint
from alapp.wording import counted

SCHEMA = 1
HELD_OUT = 0.25
"""Share of the images held out for testing when no test images are given."""
STAGES = ("pseudo_label", "plan", "embed", "select", "annotate", "train", "predict")


@dataclass(frozen=True)
class Simulation:
    """What to simulate; see `alapp simulate --help`. `test` is (images, labels) or None."""

    images: Path
    labels: Path
    test: tuple[Path, Path] | None = None
    modality: Modality = Modality.LIGHT
    patch: int = 256
    strategy: str = "auto"
    pseudo: str = pseudo.AUTO
    batch: int = 8
    rounds: int = 3
    preset: Preset = Preset.QUICK
    iterations: int | None = None
    seed: int = 0
    full: bool = False
    validation_share: float = 0.2


def simulate(store: Store, setup: Simulation, report: Report) -> dict[str, Any]:
    """Run the loop in a new project of `store`; returns the result (see the README for its fields). It ends earlier
    where no patch is left, and says so.

    Raises `InputError` when images and labels do not match, or nothing can be read.
    """
    SELECTORS.load(setup.strategy)  # a wrong name must not show after minutes of training
    if setup.pseudo != pseudo.NONE:
        pseudo.resolve(setup.pseudo, setup.modality)
    project = _fill(store, setup, report)
    results = []
    if setup.pseudo != pseudo.NONE:
        training.run_pretrain(store, project.id, report, setup.iterations)
        results.append(_result(store, project, 0))
    ended = None
    for done in range(setup.rounds):
        if done and not catalogue.any_patch(store, project.id, unpicked=True):
            ended = f"No patch was left to label after {done} of {counted(setup.rounds, 'round')}."
            report(1, 1, ended)
            break
        made = selection.run_select(store, project.id, report, setup.batch, setup.strategy)
        oracle.answer(store, project.id, made["patches"])
        training.run_round(store, project.id, report, setup.iterations)
        results.append(_result(store, project, made["round"]))
    return {
        "schema": SCHEMA,
        "strategy": setup.strategy,
        "seed": setup.seed,
        "patches": catalogue.count_patches(store, project.id),
        "backends": _backends(store, project),
        "rounds": results,
        "ended": ended,
        "full": _full(store, project, setup, len(round_rows.rounds(store, project.id)), report) if setup.full else None,
    }


def pairs(images: Path, reference: Path) -> list[tuple[Path, Path]]:
    """Image and label files with the same stem, in whichever of Unicode's forms: a Mac may write "ü" as two characters,
    other systems write one. Raises `InputError` naming what does not match."""
    found, answers = (
        {unicodedata.normalize("NFC", image_files.stem(path)): path for path in image_files.discover(str(folder))}
        for folder in (images, reference)
    )
    if missing := sorted(set(found) - set(answers)):
        raise InputError(f"{reference} has no labels for {counted(len(missing), 'image')}, {missing[0]} among them.")
    return [(found[stem], answers[stem]) for stem in found]


def read_reference(path: Path) -> np.ndarray:
    """An instance map from a label file, int32 (Y, X) or (Z, Y, X); for ids see `instance_map`. Raises `InputError` for
    a colour image, and for fractions or negative numbers."""
    pixels = image_files.read(path, "ZYX" if _is_stack(path) else None)
    if pixels.shape[3] != 1:
        raise InputError(f"{path.name} has {pixels.shape[3]} channels; a label file has one integer per pixel.")
    plain = instance_map(pixels[..., 0], path.name)
    return plain if plain.shape[0] > 1 else plain[0]


def _is_stack(path: Path) -> bool:
    return len(image_files.inspect(path).axes.replace("S", "").replace("C", "")) > 2


def _fill(store: Store, setup: Simulation, report: Report) -> Project:
    here = pairs(setup.images, setup.labels)
    held_out: list[tuple[Path, Path]] = pairs(*setup.test) if setup.test else []
    if not held_out:
        order = np.random.default_rng([setup.seed, 30]).permutation(len(here))
        n_test = max(1, round(HELD_OUT * len(here)))
        held_out = [here[row] for row in sorted(order[:n_test])]
        here = [here[row] for row in sorted(order[n_test:])]
    if not here:
        raise InputError("A simulation needs at least two images: one to train on, one to test on.")
    project = catalogue.create_project(
        store,
        _free_name(store, f"{setup.images.parent.name or setup.images.name} {setup.strategy} {setup.seed}"),
        modality=setup.modality,
        patch_size=setup.patch,
        validation_share=setup.validation_share,
        seed=setup.seed,
        preset=setup.preset,
        strategy=setup.strategy,
    )
    # Training and test images may have the same names (two folders of one data set).
    clash = {image_files.stem(path) for path, _ in here}
    _import(store, project, here, ImageRole.TRAIN, report, {})
    _import(store, project, held_out, ImageRole.TEST, report, {stem: f"test_{stem}" for stem in clash})
    pseudo.decide(store, project.id, setup.pseudo)
    return project


def _free_name(store: Store, about: str) -> str:
    """A numbered name that no project has, nor a deleted one that may come back."""
    known = catalogue.projects(store)
    taken = {item.name for item in (*known, *catalogue.projects(store, deleted=True))}
    names = (f"Simulation {number}: {about}" for number in count(len(known) + 1))
    return next(name for name in names if name not in taken)


def _import(
    store: Store,
    project: Project,
    files: list[tuple[Path, Path]],
    role: ImageRole,
    report: Report,
    rename: dict[str, str],
) -> None:
    names = {path: rename.get(image_files.stem(path), image_files.stem(path)) for path, _ in files}
    sources = [{"path": str(path), "name": names[path]} for path, _ in files]
    done = importing.run_import(store, project.id, report, sources, role)
    if done["problems"]:
        raise InputError(done["problems"][0]["problem"])
    by_name = {image.name: image for image in catalogue.images(store, project.id, role)}
    for path, answer in files:
        importing.add_reference(store, by_name[names[path]], read_reference(answer))


def _full(store: Store, project: Project, setup: Simulation, rounds: int, report: Report) -> dict[str, Any]:
    """Scores with every patch labelled, from the same pre-trained model, with as many iterations as all `rounds` that
    there were together."""
    cases = training_cases.reference_cases(store, project)
    plan = plan_in_use.ensure_plan(store, project, cases, report)
    first = next((item for item in models.checkpoints(store, project.id) if item.round_id is None), None)
    each = setup.iterations or plan.summary["iterations"]["round"]
    run = training.Run(None, cases, first, each * rounds, setup.seed + 1000)
    checkpoint = training.train(store, project, plan, run, report)
    evaluation.predict_and_score(store, project.id, checkpoint, report)
    return _test_scores(store, checkpoint)


def _result(store: Store, project: Project, number: int) -> dict[str, Any]:
    checkpoint = verdicts.current_checkpoint(store, project.id)
    chosen = round_rows.selected_in_project(store, project.id)
    patches = catalogue.patches(store, project.id)
    seconds = models.timings(store, project.id).get(number, {})
    return {
        "round": number,
        "labelled": len(chosen),
        "trained_on": checkpoint.n_cases if number else 0,
        "fraction": len(chosen) / len(patches),
        "iterations": checkpoint.iterations,
        "test": _test_scores(store, checkpoint),
        "seconds": {stage: round(seconds.get(stage, 0.0), 3) for stage in STAGES},
    }


def _test_scores(store: Store, checkpoint: Checkpoint) -> dict[str, Any]:
    found = evaluation.summary(store, checkpoint.id, "test")
    if found is None:
        raise InputError("There are no test images to score.")
    names = ("f1_50", "ap_50", "ap_75", "pq", "dice", "n_true", "n_pred")
    return {name: getattr(found.scores, name) for name in names}


def _backends(store: Store, project: Project) -> dict[str, str]:
    pseudo_map = next(iter(labels.latest_by_image(store, project.id, LabelKind.PSEUDO).values()), None)
    vectors = models.latest_embedding(store, project.id)
    return {
        "pseudo": pseudo_map.backend if pseudo_map else pseudo.NONE,
        "embed": vectors.backend if vectors else "",
        "train": training.NETWORK,
        "annotate": oracle.BACKEND,
    }


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result; the file appears only when it is complete."""
    with atomic_write(path) as handle:
        handle.write((json.dumps(result, indent=2) + "\n").encode())
