"""Predictions of a checkpoint on every image, and its scores on validation patches and test images."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alapp.domain import ImageRole, InstanceScores, LabelKind, PatchRole, Report, part
from alapp.errors import NotReadyError
from alapp.rounds.annotate import annotation, annotation_region
from alapp.rounds.predict import segmenting
from alapp.rounds.timing import content_hash, timed
from alapp.stages.metrics import annotated_only, bootstrap_interval, pool, score_instances
from alapp.stages.train.base import NETWORK, TRAINERS
from alapp.storage import catalogue, labels, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.storage.models import Checkpoint


@dataclass(frozen=True)
class Summary:
    """Pooled scores of a checkpoint. `interval` is the 95% bootstrap interval of `f1_50` over patches (or
    images); None with fewer than two."""

    scores: InstanceScores
    n: int
    interval: tuple[float, float] | None


def predict_and_score(store: Store, project_id: int, checkpoint: Checkpoint, report: Report) -> None:
    """Predict every image that `checkpoint` has not predicted yet, then bring all scores up to date."""
    number = round_rows.round_by_id(store, checkpoint.round_id).number if checkpoint.round_id else 0
    with timed(store, project_id, "predict", number):
        predict(store, project_id, checkpoint, report)
    rescore(store, project_id)


def run_predict(store: Store, project_id: int, report: Report) -> dict[str, int]:
    """Predict and score, by the current model, the images that it has not predicted (or no longer in full).

    Raises `NotReadyError` before the first training.
    """
    current = verdicts.current_checkpoint(store, project_id)
    if current is None:
        raise NotReadyError("Train a model first, then it can be applied to new images.")
    count = len(unpredicted(store, project_id))
    predict_and_score(store, project_id, current, report)
    return {"images": count}


def unpredicted(store: Store, project_id: int) -> list[Image]:
    """Images that the current model has not predicted; all of them before the first training."""
    current = verdicts.current_checkpoint(store, project_id)
    known = labels.of_checkpoint(store, current.id) if current else {}
    return [image for image in catalogue.images(store, project_id) if image.id not in known]


def predict(store: Store, project_id: int, checkpoint: Checkpoint, report: Report) -> dict[int, LabelMap]:
    """Instances of every image by `checkpoint`, by image id; images it has predicted are skipped.

    Probabilities are kept for the current model and for the newest, which may become current. Where those of
    such a model were removed, they are made again.
    """
    known = labels.of_checkpoint(store, checkpoint.id)
    keep = with_probabilities(store, project_id)
    bare = labels.without_probability(store, checkpoint.id) if checkpoint.id in keep else set()
    images = [image for image in catalogue.images(store, project_id) if image.id not in known or image.id in bare]
    network = TRAINERS.create(NETWORK)
    for index, image in enumerate(images):
        here = part(report, index / len(images), (index + 1) / len(images))
        here(0, 1, f"Predicting {image.name}")
        pixels = catalogue.read_image(store, image)
        with tempfile.TemporaryDirectory(dir=store.root, prefix=".tmp-", ignore_cleanup_errors=True) as folder:
            segmented = segmenting.segment_image(
                store,
                network,
                checkpoint,
                pixels if image.is_3d else pixels[None],
                image.is_3d,
                image.voxel_size,
                Path(folder),
                lambda done, total, _, here=here, name=image.name: here(done, total, f"Predicting {name}"),
                with_foreground=True,
            )
            found, foreground = segmented.found.labels, segmented.foreground
            if image.id not in known:
                known[image.id] = labels.add(
                    store,
                    LabelKind.PREDICTED,
                    found if image.is_3d else found[0],
                    project_id=project_id,
                    image_id=image.id,
                    checkpoint_id=checkpoint.id,
                    round_id=checkpoint.round_id,
                    backend="nnunet",
                    # for the table of images
                    params={"foreground": int(segmented.found.sizes.sum()), "pixels": found.size},
                    input_hash=content_hash("predict", checkpoint.sha256, image.sha256),
                )
            labels.add_probability(store, known[image.id], foreground if image.is_3d else foreground[0])
            segmented.close()
    labels.drop_probabilities(store, project_id, keep)
    report(1, 1, f"Predicted {len(images)} images")
    return known


def with_probabilities(store: Store, project_id: int) -> set[int]:
    """Ids of the models whose probabilities are kept: the current one, and the newest, which may become current."""
    found = models.latest_checkpoint(store, project_id), verdicts.current_checkpoint(store, project_id)
    return {item.id for item in found if item}


def rescore(store: Store, project_id: int) -> None:
    """Score every checkpoint on every validation patch and test image that it was not scored on yet.

    All checkpoints are scored on the same patches, those of later rounds too, so that the curve compares like
    with like. A patch whose labels changed is scored again. What nobody annotated is not scored.
    """
    chosen = round_rows.selected_in_project(store, project_id)
    states = annotation.patch_states(store, list(chosen))
    human = labels.latest_by_patch(store, project_id, LabelKind.HUMAN)
    validation = [
        human[patch_id]
        for patch_id, item in chosen.items()
        if item.role is PatchRole.VALIDATION and states.get(patch_id) == annotation.DONE and patch_id in human
    ]
    references = labels.latest_by_image(store, project_id, LabelKind.REFERENCE)
    tests = [image for image in catalogue.images(store, project_id, ImageRole.TEST) if image.id in references]
    for checkpoint in models.checkpoints(store, project_id):
        predicted = labels.of_checkpoint(store, checkpoint.id)
        _score_patches(store, checkpoint, validation, predicted)
        _score_images(store, checkpoint, tests, references, predicted)


def summary(store: Store, checkpoint_id: int, split: str) -> Summary | None:
    """Pooled scores of a checkpoint on "validation" or "test"; None when there are none."""
    rows = models.scores(store, checkpoint_id, split)
    if not rows:
        return None
    parts = [row.scores for row in rows]
    rng = np.random.default_rng(0)
    interval = bootstrap_interval(parts, rng=rng) if len(parts) > 1 else None
    return Summary(pool(parts), len(parts), interval)


def _score_patches(
    store: Store, checkpoint: Checkpoint, validation: list[LabelMap], predicted: dict[int, LabelMap]
) -> None:
    scored = models.score_times(store, checkpoint.id, "validation")
    whole: dict[int, np.ndarray] = {}
    for truth in validation:
        if truth.image_id not in predicted or scored.get(truth.patch_id, "") > truth.created:
            continue
        if truth.image_id not in whole:
            whole[truth.image_id] = labels.read(store, predicted[truth.image_id])
        patch = catalogue.patch(store, truth.patch_id)
        reference, guess = labels.read(store, truth), catalogue.crop(whole[truth.image_id], patch)
        ignored = annotation_region.pixels_of(store, truth)
        if ignored is not None:
            reference, guess = annotated_only(reference, ignored), annotated_only(guess, ignored)
        scores = score_instances(reference, guess)
        models.add_score(store, checkpoint.id, truth.image_id, truth.patch_id, "validation", scores)


def _score_images(
    store: Store,
    checkpoint: Checkpoint,
    tests: list[Image],
    references: dict[int, LabelMap],
    predicted: dict[int, LabelMap],
) -> None:
    done = {row.image_id for row in models.scores(store, checkpoint.id, "test")}
    for image in tests:
        if image.id in predicted and image.id not in done:
            truth, guess = labels.read(store, references[image.id]), labels.read(store, predicted[image.id])
            models.add_score(store, checkpoint.id, image.id, None, "test", score_instances(truth, guess))
