"""A project whose network, a real one, has learned for a moment to see bright discs. Not a test itself."""

from __future__ import annotations

from alapp.domain import LabelKind, PatchRole, silent
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import planning, training
from alapp.storage import catalogue, labels
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from tests.rounds.conftest import discs

SMALL = {"patch_size": [64, 64], "batch_size": 4, "features": [8, 16, 32]}
"""What an expert could fix in a plan so that an iteration takes a tenth of the time."""


def trained_project(store: Store, iterations: int = 40) -> Project:
    """Three images of discs, of which the patches are labelled with the reference, and one round of training."""
    made = catalogue.create_project(store, "discs", patch_size=128, strategy="random", validation_share=0.0)
    for seed in range(3):
        pixels, truth = discs(seed, size=128)
        importing.add_reference(store, importing.add_array(store, made.id, f"image_{seed}", pixels), truth)
    pseudo.decide(store, made.id, pseudo.NONE)
    references = labels.latest_by_image(store, made.id, LabelKind.REFERENCE)
    patches = catalogue.patches(store, made.id)
    # Not by the selection, which would train an embedder first.
    picks = [(patch.id, PatchRole.TRAIN, {"sentence": "chosen for the test"}) for patch in patches]
    round_rows.add(store, made.id, "random", len(picks), made.seed, picks)
    for patch in patches:
        annotation.submit_labels(
            store, patch.id, catalogue.crop(labels.read(store, references[patch.image_id]), patch), "oracle"
        )
    planning.run_plan(store, made.id, silent, SMALL)
    training.run_round(store, made.id, silent, iterations=iterations)
    return catalogue.project(store, made.id)
