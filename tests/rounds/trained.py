"""A project whose network, a real one, has learned for a moment to see bright discs. Not a test itself."""

from __future__ import annotations

from alapp.domain import LabelKind, silent
from alapp.rounds import annotation, importing, pseudo, selection, training
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from tests.rounds.conftest import discs


def trained_project(store: Store, iterations: int = 40) -> Project:
    """Three images of discs, of which the patches are labelled with the reference, and one round of training."""
    made = catalogue.create_project(store, "discs", patch_size=128, strategy="random", validation_share=0.0)
    for seed in range(3):
        pixels, truth = discs(seed, size=128)
        importing.add_reference(store, importing.add_array(store, made.id, f"image_{seed}", pixels), truth)
    pseudo.decide(store, made.id, pseudo.NONE)
    references = labels.latest_by_image(store, made.id, LabelKind.REFERENCE)
    for patch_id in selection.run_select(store, made.id, silent, budget=3)["patches"]:
        patch = catalogue.patch(store, patch_id)
        annotation.submit_labels(
            store, patch_id, catalogue.crop(labels.read(store, references[patch.image_id]), patch), "oracle"
        )
    training.run_round(store, made.id, silent, iterations=iterations)
    return catalogue.project(store, made.id)
