"""Predictions of a checkpoint on every image, and its scores on validation patches and test images."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby

from alapp import jobs
from alapp.domain import ImageRole, InstanceScores, LabelKind, PatchRole, Report, part
from alapp.errors import NotReadyError
from alapp.jobs import JobState
from alapp.rounds.annotate import annotation_region, finished
from alapp.rounds.predict import segmenting
from alapp.rounds.timing import content_hash, timed
from alapp.stages.metrics import annotated_only, f1_interval, pool, score_instances
from alapp.stages.train.base import NETWORK, TRAINERS
from alapp.storage import catalogue, labels, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image, Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.storage.models import Checkpoint
from alapp.storage.scratch import work_folder
from alapp.wording import counted

RESCORE = "rescore"
"""The job that scores again what was corrected."""

Scored = tuple[int, int | None]
"""Image and patch; None: the whole image."""


@dataclass(frozen=True)
class Summary:
    """Pooled scores of a checkpoint on `n` patches (or images). `interval` is the 95% interval of `f1_50` over them,
    None where they are too few, see `stages.metrics.f1_interval`."""

    scores: InstanceScores
    n: int
    interval: tuple[float, float] | None


def predict_and_score(store: Store, project_id: int, checkpoint: Checkpoint, report: Report) -> None:
    """Predict every image that `checkpoint` has not predicted yet, then bring all scores up to date."""
    number = round_rows.round_by_id(store, checkpoint.round_id).number if checkpoint.round_id else 0
    with timed(store, project_id, "predict", number):
        predict(store, project_id, checkpoint, report)
    while rescore(store, project_id):  # again, for labels that changed meanwhile
        pass


def run_predict(store: Store, project_id: int, report: Report) -> dict[str, int]:
    """Predict and score, by the current model, the images that it has not predicted (or no longer in full). Where
    another model was made the current one meanwhile, that one too.

    Raises `NotReadyError` before the first training.
    """
    count, applied = 0, None
    while True:
        current = verdicts.current_checkpoint(store, project_id)
        if current is None:
            raise NotReadyError("Train a model first, then it can be applied to new images.")
        if current.id == applied:
            return {"images": count}
        count += len(unpredicted(store, project_id))
        predict_and_score(store, project_id, current, report)
        applied = current.id


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
    kept = checkpoint.id in with_probabilities(store, project_id)
    bare = labels.without_probability(store, checkpoint.id) if kept else set()
    images = [image for image in catalogue.images(store, project_id) if image.id not in known or image.id in bare]
    network = TRAINERS.create(NETWORK)
    for index, image in enumerate(images):
        here = part(report, index / len(images), (index + 1) / len(images))
        here(0, 1, f"Predicting {image.name}")
        pixels = catalogue.read_image(store, image)
        with work_folder(store.root) as folder:
            segmented = segmenting.segment_image(
                store,
                network,
                checkpoint,
                pixels if image.is_3d else pixels[None],
                image.is_3d,
                image.voxel_size,
                folder,
                lambda done, total, _, here=here, name=image.name: here(done, total, f"Predicting {name}"),
                with_foreground=True,
            )
            with closing(segmented):
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
    # Asked anew: a person may have gone back to another model meanwhile, which needs those that it has.
    labels.drop_probabilities(store, project_id, with_probabilities(store, project_id))
    report(1, 1, f"Predicted {counted(len(images), 'image')}")
    return known


def with_probabilities(store: Store, project_id: int) -> set[int]:
    """Ids of the models whose probabilities are kept: the current one, and the newest, which may become current."""
    found = models.latest_checkpoint(store, project_id), verdicts.current_checkpoint(store, project_id)
    return {item.id for item in found if item}


def rescore(store: Store, project_id: int) -> int:
    """Score every checkpoint on every validation patch and test image that it was not scored on yet; returns how many
    scores were made.

    All checkpoints are scored on the same patches, those of later rounds too, so that the curve compares like
    with like. A patch whose labels changed is scored again. What nobody annotated is not scored.
    """
    due = _due(store, project_id)
    for item in due:
        if item.truth.patch_id is None:
            _score_image(store, item)
    _score_patches(store, [item for item in due if item.truth.patch_id is not None])
    return len(due)


def run_rescore(store: Store, project_id: int, report: Report) -> dict[str, int]:
    """The job that brings scores up to date after labels were corrected. Labels that change while it works are scored
    too: finishing a patch then finds the job running, and queues no other."""
    made = 0
    report(0, 1, "")
    while new := rescore(store, project_id):
        made += new
        report(0, 1, f"Made {made} scores")
    return {"scores": made}


def queue_rescore(store: Store, project_id: int) -> int:
    """How many validation patches and test images were scored on labels that were corrected since; queues the job that
    scores them again, if there are any. After it failed or was cancelled, it waits for the next correction.

    A patch that was never scored waits for the training, which scores it.
    """
    outdated = {item.truth.id: item.truth for item in _due(store, project_id) if item.outdated}
    if outdated:
        last = next((job for job in jobs.history(store, project_id) if job.kind == RESCORE), None)
        given_up = last is not None and last.state in (JobState.FAILED, JobState.CANCELLED)
        if not given_up or last.created < max(truth.created for truth in outdated.values()):
            jobs.enqueue(store, RESCORE, project_id)
    return len(outdated)


def scored_on(store: Store, checkpoint_id: int, split: str) -> set[Scored]:
    """What a checkpoint was scored on."""
    return {(row.image_id, row.patch_id) for row in models.scores(store, checkpoint_id, split)}


def in_all(keys: Iterable[set[Scored]]) -> set[Scored] | None:
    """What all checkpoints that were scored were scored on, of what each was; only there can they be compared. None
    where that is nothing."""
    some = [each for each in keys if each]
    return (set.intersection(*some) if some else set()) or None


def summary(store: Store, checkpoint_id: int, split: str, among: Collection[Scored] | None = None) -> Summary | None:
    """Pooled scores of a checkpoint on "validation" or "test", or on those (image id, patch id) of them that are
    `among` some; None when there are none."""
    rows = models.scores(store, checkpoint_id, split)
    parts = [row.scores for row in rows if among is None or (row.image_id, row.patch_id) in among]
    if not parts:
        return None
    return Summary(pool(parts), len(parts), f1_interval(parts))


@dataclass(frozen=True)
class _Due:
    """A score to be made: `guess`, of a whole image by a checkpoint, against `truth`. `outdated`: there is one, against
    earlier labels."""

    checkpoint: Checkpoint
    truth: LabelMap
    guess: LabelMap
    outdated: bool


def _due(store: Store, project_id: int) -> list[_Due]:
    references = labels.latest_by_image(store, project_id, LabelKind.REFERENCE)
    tests = [image.id for image in catalogue.images(store, project_id, ImageRole.TEST) if image.id in references]
    truths = {
        "validation": list(finished.maps(store, project_id, PatchRole.VALIDATION).values()),
        "test": [references[image_id] for image_id in tests],
    }
    due = []
    for checkpoint in models.checkpoints(store, project_id):
        predicted = labels.of_checkpoint(store, checkpoint.id)
        for split, maps in truths.items():
            known = models.scored(store, checkpoint.id, split)
            for truth in maps:
                key = (truth.image_id, truth.patch_id)
                if truth.image_id in predicted and not known.get(key):
                    due.append(_Due(checkpoint, truth, predicted[truth.image_id], key in known))
    return due


def _score_patches(store: Store, due: list[_Due]) -> None:
    """Patches on the same slices of an image share one reading of its map, and only one is in memory at a time."""
    patches = {item.truth.patch_id: catalogue.patch(store, item.truth.patch_id) for item in due}

    def slices(item: _Due) -> tuple[int, int, int]:
        box = patches[item.truth.patch_id].box
        return item.guess.id, box.z, box.depth

    for _, same in groupby(sorted(due, key=slices), slices):
        _score_on_slices(store, [(item, patches[item.truth.patch_id]) for item in same])


def _score_on_slices(store: Store, due: list[tuple[_Due, Patch]]) -> None:
    around = labels.read_around(store, due[0][0].guess, due[0][1])
    for item, patch in due:
        truth, guess = labels.read(store, item.truth), around[(slice(None), *patch.box.slices[1:])]
        guess = guess if patch.is_3d else guess[0]
        ignored = annotation_region.pixels_of(store, item.truth)
        if ignored is not None:
            truth, guess = annotated_only(truth, ignored), annotated_only(guess, ignored)
        _add(store, item, "validation", score_instances(truth, guess))


def _score_image(store: Store, item: _Due) -> None:
    _add(store, item, "test", score_instances(labels.read(store, item.truth), labels.read(store, item.guess)))


def _add(store: Store, item: _Due, split: str, scores: InstanceScores) -> None:
    truth = item.truth
    models.add_score(store, item.checkpoint.id, truth.image_id, truth.patch_id, split, scores, truth.id)
