"""Regions above rising thresholds: the tree, and the choice among them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from alapp.stages.component_tree import Region, apart, best, in_labels, regions, worth


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

    @pytest.mark.filterwarnings("error")
    def test_a_large_body_is_as_solid_as_a_small_one_of_its_shape(self):
        def body(radius):
            grid = np.indices((2 * radius + 1,) * 3) - radius
            mask = ((grid**2).sum(0) <= radius**2) & (grid.max(0) >= 0)
            return Region(tuple(slice(0, side) for side in mask.shape), mask)

        small, large = body(14), body(60)
        assert large.area > 700_000
        assert large.solidity == pytest.approx(small.solidity, abs=0.03)

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

    def test_they_are_found_in_stacks_too(self):
        (whole,) = regions(np.stack([self.PLANE] * 3), [0.5, 1.5], 1)
        assert (whole.area, [each.area for each in whole.inner]) == (30, [12, 12])

    def test_those_of_an_instance_map_are_its_objects(self):
        labels = np.array([[1, 1, 0, 3, 3, 3]])
        assert [each.area for each in in_labels(labels)] == [2, 3]


class TestApart:
    def pair(self, gap: int) -> Region:
        """Two discs of radius 10 whose middles are `gap` pixels apart, with a faint dip between them."""
        yy, xx = np.mgrid[:24, : 24 + gap]
        distance = [np.hypot(yy - 12, xx - x) for x in (12, 12 + gap)]
        values = np.where(np.minimum(*distance) < 10, 0.99, 0.0)
        values[np.abs(distance[0] - distance[1]) < 1.5] *= 0.98
        (whole,) = regions(values, [0.5, 0.98], 10)
        return whole

    def test_two_that_touch_come_apart(self):
        whole = self.pair(18)
        assert whole.solidity < 0.95
        assert len(apart(whole, 0.95)) == 2
        assert worth(apart(whole, 0.95)) > whole.worth

    def test_what_is_solid_enough_stays_whole(self):
        whole = self.pair(18)
        assert len(whole.inner) == 2
        assert apart(whole, 0.5) == [whole]

    @pytest.mark.parametrize("tops", [1, 3])
    def test_as_many_as_there_are_tops(self, tops):
        """In a row with notches between them, each a level below the last."""
        values = np.zeros((20, 30 * tops))
        for number in range(tops):
            values[2:18, 30 * number + 1 : 30 * number + 29] = 0.9
        for number in range(1, tops):
            values[8:12, 30 * number - 1 : 30 * number + 1] = 0.5 + 0.1 * number
        (whole,) = regions(values, [0.4, 0.55, 0.65, 0.75], 10)
        assert len(apart(whole, 0.99)) == tops
