"""Nested thresholds: the tree of regions, the choice among them, and what they find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from alapp.stages.metrics import score_instances
from alapp.stages.pseudolabel.log_watershed import LogWatershed
from alapp.stages.pseudolabel.nested_regions import NestedRegions, Region, best, regions
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


class TestTree:
    PLANE = np.array([[0, 3, 3, 1, 2, 2, 0], [0, 3, 3, 1, 2, 2, 0]], np.float32)

    def test_regions_lie_in_those_of_the_level_below(self):
        (whole,) = regions(self.PLANE, np.array([0.5, 1.5, 2.5]), 1)
        assert whole.area == 10
        assert [each.area for each in whole.inner] == [4, 4]
        assert [[inner.area for inner in each.inner] for each in whole.inner] == [[4], []]

    def test_small_ones_are_left_out(self):
        (whole,) = regions(self.PLANE, np.array([0.5, 1.5]), 5)
        assert whole.inner == []

    def test_holes_are_filled(self):
        ring = np.ones((5, 5), np.float32)
        ring[2, 2] = 0
        assert regions(ring, np.array([0.5]), 1)[0].area == 25

    def test_the_emptier_its_hull_the_less_a_region_is_worth(self):
        place = (slice(0, 20), slice(0, 20))
        whole, notched, corner = (np.ones((20, 20), bool) for _ in range(3))
        notched[:8, 8:12] = False
        corner[:14, 6:] = False
        worth = [Region(place, mask).worth for mask in (whole, notched, corner)]
        assert worth[0] == pytest.approx(400**0.8)
        assert worth[0] > worth[1] > worth[2] == 0

    @pytest.mark.filterwarnings("error")
    def test_a_line_is_its_own_hull(self):
        for shape in ((1, 30), (30, 1), (1, 1)):
            mask = np.ones(shape, bool)
            assert Region((slice(0, shape[0]), slice(0, shape[1])), mask).worth == pytest.approx(mask.size**0.8)

    def test_those_that_are_worth_most_together_are_chosen(self):
        rng = np.random.default_rng(0)

        def grown(depth):
            region = Region((slice(0, 1), slice(0, 1)), np.ones((1, 1), bool))
            region.worth = rng.random() * 2.0**-depth
            region.inner = [grown(depth + 1) for _ in range(rng.integers(0, 3))] if depth < 3 else []
            return region

        def disjoint(region):
            yield [region]
            for parts in itertools.product(*(list(disjoint(each)) for each in region.inner)):
                yield [each for part in parts for each in part]

        for _ in range(20):
            root = grown(0)
            most = max(sum(each.worth for each in choice) for choice in disjoint(root))
            assert sum(each.worth for each in best([root])) == pytest.approx(most)
