"""Nested thresholds: what they find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from alapp.stages.metrics import score_instances
from alapp.stages.pseudolabel.log_watershed import LogWatershed
from alapp.stages.pseudolabel.nested_regions import NestedRegions
from tests.stages.pseudolabel.test_built_in import discs, photo


def rods() -> tuple[np.ndarray, np.ndarray]:
    """Dark rods of 14 x 60 pixels, staggered, with faint clefts between them: (image uint16 (Y, X, 1), labels)."""
    labels = np.zeros((260, 260), np.int32)
    for number, (y, x) in enumerate(itertools.product((30, 130), (40, 57, 74, 150, 167))):
        top = y + 30 * (number % 2)
        labels[top : top + 60, x : x + 14] = number + 1
    image = np.where(labels > 0, 300.0, 900.0)
    image[(labels == 0) & (np.roll(labels, 3, 1) > 0) & (np.roll(labels, -3, 1) > 0)] = 600
    noise = np.random.default_rng(0).normal(0, 20, image.shape)
    return (image + noise).clip(0).astype(np.uint16)[..., None], labels


class TestFound:
    @pytest.mark.parametrize("radius", [6, 10, 18])
    @pytest.mark.parametrize("bright", [True, False])
    def test_discs_of_any_size_and_polarity(self, radius, bright):
        truth = discs(radius)
        assert score_instances(truth, NestedRegions().label(photo(truth, bright), {})).f1_50 > 0.95

    @pytest.mark.parametrize("slope", [400, 800])
    def test_discs_on_uneven_background(self, slope):
        truth = discs(10)
        assert score_instances(truth, NestedRegions().label(photo(truth, slope=slope), {})).f1_50 > 0.9

    def test_rods_side_by_side_stay_whole(self):
        image, truth = rods()
        found = [score_instances(truth, method().label(image, {})).f1_50 for method in (NestedRegions, LogWatershed)]
        assert found[0] > 0.9 > found[1]

    @pytest.mark.parametrize("radius", [12, 20])
    def test_flat_discs_that_overlap_without_an_edge_come_apart(self, radius):
        truth = discs(radius, touching=True)
        assert score_instances(truth, NestedRegions().label(photo(truth), {})).f1_50 > 0.9

    def test_a_higher_sensitivity_finds_fainter_objects(self):
        truth = discs(10)
        image = photo(truth).astype(np.float32)
        faint = (truth % 3 == 1) & (truth > 0)
        image[faint] = 200 + 0.2 * (image[faint] - 200)
        found = [NestedRegions().label(image, {"sensitivity": value}).max() for value in (1, 3)]
        assert found[1] > found[0]

    def test_small_objects_are_left_out_on_request(self):
        truth = discs(10)
        assert NestedRegions().label(photo(truth), {"min_size": 5000}).max() == 0
