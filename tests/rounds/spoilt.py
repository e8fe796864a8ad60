"""A stand-in for the network that can be made to learn nothing, and a project with enough to compare models on."""

from __future__ import annotations

import json

from alapp.domain import LabelKind, silent
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.select import selection
from alapp.rounds.train import training
from alapp.storage import catalogue, labels
from tests.rounds.conftest import discs
from tests.rounds.fakes import ThresholdTrainer

BLIND = 1000.0  # no pixel is as bright, so nothing is found


class SpoiltTrainer(ThresholdTrainer):
    """Finds nothing after training while `spoilt`, or, while `harmed`, after a training from other weights."""

    spoilt = harmed = False

    def train(self, workspace, cases, out, iterations, seed, start_from, report, log, options=None):
        result = super().train(workspace, cases, out, iterations, seed, start_from, report, log, options)
        if self.spoilt or (self.harmed and start_from is not None):
            content = json.loads(result.checkpoint.read_text())
            result.checkpoint.write_text(json.dumps({**content, "threshold": BLIND}))
        return result


def dense_project(store, validation_share=0.5):
    """Four images of 128 x 128 with 30 small discs each, cut into 16 patches."""
    made = catalogue.create_project(store, "dense", patch_size=64, validation_share=validation_share)
    for seed in range(4):
        pixels, truth = discs(seed, n=30, radius=5)
        importing.add_reference(store, importing.add_array(store, made.id, f"image_{seed}", pixels), truth)
    return made


def annotate(store, project, budget):
    """Select a batch and answer it by the reference masks."""
    picked = selection.run_select(store, project.id, silent, budget)["patches"]
    for patch_id in picked:
        patch = catalogue.patch(store, patch_id)
        truth = labels.read(store, labels.latest_of_image(store, patch.image_id, LabelKind.REFERENCE))
        annotation.submit_labels(store, patch_id, catalogue.crop(truth, patch), "oracle")
    return picked


def run_round(store, project, budget=4):
    """One round: select, annotate, train. Returns the result of the training."""
    annotate(store, project, budget)
    return training.run_round(store, project.id, silent)
