"""Decoding parameters: fitted where that helps, left alone where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from alapp.errors import Cancelled
from alapp.stages.component_tree import in_labels
from alapp.stages.decoding import Example, fit, for_shapes
from alapp.stages.instances import DEFAULTS, Decoding, from_probabilities
from alapp.stages.metrics import pool, score_instances
from alapp.stages.train.targets import border_core

DEFAULT = DEFAULTS[3]


def patch(seed: int, shift: float = 0.0) -> Example:
    """Discs of 9 pixels radius in pairs that touch, as a network sees them; `shift` makes it see less foreground."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((96, 96), np.int32)
    yy, xx = np.mgrid[:96, :96]
    for number, (y, x) in enumerate([(20, 20), (20, 38), (60, 30), (60, 48), (40, 75), (78, 75)]):
        y, x = y + rng.integers(-2, 3), x + rng.integers(-2, 3)
        labels[((yy - y) ** 2 + (xx - x) ** 2 <= 81) & (labels == 0)] = number + 1
    classes = border_core(labels, 2)
    soft = np.stack([ndimage.gaussian_filter((classes == k).astype(float), 0.8) for k in range(3)])
    soft[1:] *= 1 - shift
    soft[0] = 1 - soft[1:].sum(0)
    return Example(soft.astype(np.float32), labels)


def quality(examples, decoding):
    return pool(
        [score_instances(e.labels, from_probabilities(e.probabilities, decoding=decoding)) for e in examples]
    ).pq


def test_a_network_that_sees_too_little_gets_lower_thresholds():
    examples = [patch(seed, shift=0.55) for seed in range(6)]
    found = fit(examples)
    assert found.decoding != DEFAULT
    assert found.quality > found.quality_default
    unseen = [patch(seed, shift=0.55) for seed in range(20, 24)]
    assert quality(unseen, found.decoding) > quality(unseen, DEFAULT) + 0.05


def test_a_good_network_keeps_the_defaults():
    found = fit([patch(seed) for seed in range(6)])
    assert found.decoding == DEFAULT or found.quality > found.quality_default
    assert found.patches == 6


@pytest.mark.parametrize("examples", [[], [patch(0)] * 3])
def test_too_few_patches_are_not_fitted_on(examples):
    assert fit(examples) is None


def test_too_few_objects_are_not_fitted_on():
    empty = Example(patch(0).probabilities, np.zeros((96, 96), np.int32))
    assert fit([patch(0), empty, empty, empty]) is None


def test_what_nobody_annotated_does_not_count():
    """Objects are wrong in the ignored half only, so the defaults must look as good as they are in the other."""
    examples = []
    for seed in range(4):
        made = patch(seed)
        ignored = np.zeros(made.labels.shape, bool)
        ignored[:, 56:] = True
        labels = made.labels.copy()
        labels[ignored] = 0
        examples.append(Example(made.probabilities, labels, ignored))
    assert fit(examples).quality_default > 0.8


def test_progress_reaches_the_end_and_can_stop():
    told = []
    fit([patch(seed) for seed in range(4)], lambda done, total: told.append((done, total)))
    assert told
    assert all(done <= total for done, total in told)

    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        fit([patch(seed) for seed in range(4)], stop)


def score(labels: np.ndarray, probabilities: np.ndarray, decoding: Decoding) -> int:
    """How many objects are found."""
    return score_instances(labels, from_probabilities(probabilities, decoding=decoding)).tp_50


class TestShapes:
    def crescents(self, share: float) -> np.ndarray:
        """20 discs on a grid, of which `share` have lost a half disc in their middle."""
        labels = np.zeros((150, 190), np.int32)
        yy, xx = np.mgrid[:150, :190]
        for number in range(20):
            y, x = 20 + 35 * (number // 5), 20 + 35 * (number % 5)
            inside = (yy - y) ** 2 + (xx - x) ** 2 <= 144
            if number < share * 20:
                inside &= (yy - y) ** 2 + (xx - x - 8) ** 2 > 81
            labels[inside] = number + 1
        return labels

    def test_objects_as_hollow_as_the_labelled_ones_stay_whole(self):
        assert for_shapes([self.crescents(0)]) == DEFAULT
        assert for_shapes([self.crescents(0.5)]).solidity < 0.8

    def test_it_is_the_cores_that_are_looked_at(self):
        """Bent rods 9 pixels wide: their cores, 5 wide, leave more of their hulls empty."""
        labels = np.zeros((120, 400), np.int32)
        for number in range(20):
            x = 10 + 19 * number
            for y in range(15, 105):
                middle = x + round(5 * np.sin(np.pi * (y - 15) / 90))
                labels[y, middle - 4 : middle + 5] = number + 1
        whole = min(region.solidity for region in in_labels(labels))
        assert for_shapes([labels]).solidity < min(0.9, whole)

    def test_a_stack_is_looked_at_as_a_whole(self):
        """Of a bow along the slices no slice is hollow."""
        stack = np.zeros((24, 40, 60), np.int32)
        for z in range(2, 22):
            y = 20 + round(10 * np.cos(np.pi * (z - 2) / 19) ** 2)
            stack[z, y - 5 : y + 6, 20:40] = 1
        assert for_shapes(list(stack)) == DEFAULT
        assert for_shapes([stack]).solidity < 0.8

    def test_a_single_hollow_object_of_many_tells_nothing(self):
        assert for_shapes([self.crescents(0.05)] * 3 + [self.crescents(0)]) == DEFAULT

    def test_without_objects_the_defaults_stay(self):
        specks = np.zeros((9, 9), np.int32)
        specks[2, 2:7] = specks[2:7, 2] = 1
        assert for_shapes([]) == for_shapes([np.zeros((9, 9), np.int32)]) == for_shapes([specks]) == DEFAULT

    def two_sizes(self, small: int, radius: int = 4) -> np.ndarray:
        """12 discs of radius 18, and `small` others, that touch nothing."""
        labels = np.zeros((200, 260), np.int32)
        yy, xx = np.mgrid[:200, :260]
        large = [(25 + 50 * (n // 4), 25 + 50 * (n % 4), 18) for n in range(12)]
        little = [(10 + 14 * (n % 13), 215 + 14 * (n // 13), radius) for n in range(small)]
        for number, (y, x, r) in enumerate(large + little):
            labels[(yy - y) ** 2 + (xx - x) ** 2 <= r**2] = number + 1
        return labels

    @pytest.mark.parametrize("radius", [3, 4, 6])
    def test_objects_as_small_as_the_labelled_ones_stay(self, radius):
        labels = self.two_sizes(20, radius)
        probabilities = np.stack([border_core(labels, 2) == each for each in range(3)]).astype(np.float32)
        assert score(labels, probabilities, for_shapes([labels])) == 32
        assert score(labels, probabilities, DEFAULT) == 12

    def test_few_small_objects_tell_nothing(self):
        assert for_shapes([self.two_sizes(2)]).fragment_share == DEFAULT.fragment_share
        assert for_shapes([self.two_sizes(1)] * 8).fragment_share == DEFAULT.fragment_share
        cut = self.two_sizes(20)[:, :216]  # through all of the small ones
        assert for_shapes([cut]).fragment_share == DEFAULT.fragment_share

    def test_the_other_defaults_of_the_network_stay(self):
        assert for_shapes([], 4) == DEFAULTS[4]

    def test_a_fit_begins_with_them(self):
        shapes = for_shapes([self.crescents(0.5)])
        found = fit([patch(seed) for seed in range(6)], defaults=shapes)
        assert found.decoding == shapes or found.quality > found.quality_default
