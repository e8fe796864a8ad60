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

from alapp.domain import LabelKind, PatchRole, Report, part
from alapp.rounds.annotate import annotation, annotation_region
from alapp.stages.decoding import Example, Fit, fit, for_shapes
from alapp.stages.instances import Decoding, decoded_at_once
from alapp.stages.train.base import NETWORK, TRAINERS
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from alapp.storage.labels import LabelMap
from alapp.storage.models import Checkpoint
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


def fit_for_round(store: Store, checkpoint: Checkpoint, this: Round, before: Checkpoint | None, report: Report) -> None:
    """Find the decoding of `checkpoint`: by the shapes of all labelled objects, and fitted on the batch of `this` round
    as the model `before` it predicts the batch.

    Only the first where there is no such model or too little is labelled. Does nothing when it was done already.
    """
    path = store.files.resolve(checkpoint.path).with_name(FILE)
    if path.is_file():
        return
    shapes = for_shapes(_labelled(store, this.project_id))
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


def _finished(store: Store, project_id: int) -> dict[int, LabelMap]:
    """The labels of patches that a person finished, by patch."""
    maps = labels.latest_by_patch(store, project_id, LabelKind.HUMAN)
    states = annotation.patch_states(store, list(maps))
    return {key: item for key, item in maps.items() if states.get(key) == annotation.DONE}


def _labelled(store: Store, project_id: int) -> Iterator[np.ndarray]:
    """All finished labels, as they are decoded."""
    for key, item in _finished(store, project_id).items():
        yield from decoded_at_once(labels.read(store, item), catalogue.patch(store, key).voxel_size)


def _examples(store: Store, this: Round, before: Checkpoint, report: Report) -> list[Example]:
    chosen = [item.patch_id for item in round_rows.selected(store, this.id) if item.role is PatchRole.TRAIN]
    maps = _finished(store, this.project_id)
    ready = [key for key in chosen if key in maps][:MOST_PATCHES]
    workspace = store.root / models.plan(store, before.plan_id).workspace
    network = TRAINERS.create(NETWORK)
    examples = []
    for number, key in enumerate(ready):
        report(number, len(ready), f"Learning how touching objects come apart: patch {number + 1} of {len(ready)}")
        patch, item = catalogue.patch(store, key), maps[key]
        probabilities = network.predict(
            workspace, store.files.resolve(before.path), catalogue.read_patch(store, patch),
            lambda done, total, _, n=number: report(n + done / total, len(ready), "Learning how to separate objects"),
        )  # fmt: skip
        ignored = annotation_region.pixels_of(store, item)
        examples.append(Example(probabilities, labels.read(store, item), ignored, patch.voxel_size))
    return examples
