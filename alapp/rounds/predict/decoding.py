"""How a project's predictions become instances: parameters from its own labels, kept beside each checkpoint.

The shapes of the labelled objects tell what must not be cut. The model that a round starts from has never seen the
round's batch: its predictions there, with the labels that a person made, tell how this data is best decoded, at no cost
in labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from alapp.domain import PatchRole, Report, part
from alapp.rounds.annotate import annotation_region, finished
from alapp.stages.decoding import Example, Fit, fit, for_shapes
from alapp.stages.instances import Decoding, by_slices, decoded_at_once
from alapp.stages.train.base import NETWORK, TRAINERS
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from alapp.storage.models import Checkpoint, Plan
from alapp.storage.rounds import Round

FILE = "decoding.json"
MOST_PATCHES = 16


@dataclass(frozen=True)
class Used:
    """The decoding of a checkpoint, None for the defaults. `fit` tells what it rests on, if it was fitted on
    predictions."""

    decoding: Decoding | None
    fit: Fit | None


def used(store: Store, checkpoint: Checkpoint) -> Used:
    """The decoding of a checkpoint: what was found when it was trained, else the defaults."""
    path = store.files.resolve(checkpoint.path).with_name(FILE)
    if not path.is_file():
        return Used(None, None)
    stored = json.loads(path.read_text(encoding="utf-8"))
    # What was fitted before seeds were cut and objects reached further goes on without.
    parameters = stored.pop("decoding")
    before = {"solidity": 0.0, "outline": parameters.get("foreground", Decoding.foreground)}
    decoding = Decoding(**before | parameters)
    return Used(decoding, Fit(decoding=decoding, **stored) if stored else None)


def learned_slices(plan: Plan) -> bool:
    """Whether the network of a plan learned borders in the plane only."""
    return plan.summary["configuration"] == "2d"


def fit_for_round(store: Store, checkpoint: Checkpoint, this: Round, before: Checkpoint | None, report: Report) -> None:
    """Find the decoding of `checkpoint`: by the shapes of all objects labelled for training, and fitted on the batch of
    `this` round as the model `before` it predicts the batch.

    Only the first where there is no such model or too little is labelled. Does nothing when it was done already.
    """
    path = store.files.resolve(checkpoint.path).with_name(FILE)
    if path.is_file():
        return
    shapes = for_shapes(_labelled(store, this.project_id, learned_slices(models.plan(store, checkpoint.plan_id))))
    found = None
    if before is not None:
        examples = _examples(store, this, before, part(report, 0.0, 0.5))
        found = fit(
            examples,
            lambda done, total: report(0.5 + 0.5 * done / total, 1.0, "Trying ways to separate objects"),
            shapes,
        )
    with atomic_write(path) as handle:
        handle.write(json.dumps(asdict(found) if found else {"decoding": asdict(shapes)}, indent=1).encode("utf-8"))


def _labelled(store: Store, project_id: int, flat: bool) -> Iterator[np.ndarray]:
    """All finished labels, as they are decoded where the network learned borders in the plane only, or not (`flat`)."""
    for key, item in finished.maps(store, project_id, PatchRole.TRAIN).items():
        in_plane = by_slices(catalogue.patch(store, key).voxel_size, flat)
        yield from decoded_at_once(labels.read(store, item), in_plane)


def _examples(store: Store, this: Round, before: Checkpoint, report: Report) -> list[Example]:
    """The batch's own pixels: not those that the model `before` learned from, nor those of validation patches."""
    maps = finished.maps(store, this.project_id, PatchRole.TRAIN)
    batch = [item.patch_id for item in round_rows.selected(store, this.id) if item.patch_id in maps]
    learned = finished.boxes(store, maps.keys() - set(batch))
    held_out = finished.held_out(store, this.project_id)
    ready = []
    for patch in (catalogue.patch(store, key) for key in batch):
        covered = finished.shared(patch, [*learned.get(patch.image_id, ()), *held_out.get(patch.image_id, ())])
        region = annotation_region.map_of(store, maps[patch.id])
        if not finished.nothing_left(store, patch, region, covered):
            ready.append((patch, region, covered))
    ready = ready[:MOST_PATCHES]
    plan = models.plan(store, before.plan_id)
    workspace = store.root / plan.workspace
    network = TRAINERS.create(NETWORK)
    examples = []
    for number, (patch, region, covered) in enumerate(ready):
        report(number, len(ready), f"Learning how touching objects come apart: patch {number + 1} of {len(ready)}")
        item = maps[patch.id]
        probabilities = network.predict(
            workspace, store.files.resolve(before.path), catalogue.read_patch(store, patch),
            lambda done, total, _, n=number: report(n + done / total, len(ready), "Learning how to separate objects"),
        )  # fmt: skip
        ignored = finished.ignored(store, patch, region, covered) if region is not None or covered else None
        in_plane = by_slices(patch.voxel_size, learned_slices(plan))
        examples.append(Example(probabilities, labels.read(store, item), ignored, in_plane))
    return examples
