"""Each signature on made data: it fires, it does not, and it says when it cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.rounds.results import diagnostics, drift
from alapp.rounds.results.diagnostics import State
from alapp.rounds.results.forgetting import Memory, forgetting
from alapp.stages.paired import paired_difference
from tests.rounds.made_scores import compared, scored


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cloud(n, seed=0, centre=(0, 0, 0, 0)):
    return unit(np.random.default_rng(seed).normal(size=(n, 4)) + np.array(centre))


def test_good_pseudo_labels():
    found = diagnostics.wrong_structures([compared(scored(8, 10))] * 3, pretrained=0.7)
    assert found.state is State.OK
    assert found.numbers["F1 of the pseudo-labels against your labels"] == pytest.approx(0.8)
    assert found.numbers["F1 of the pre-trained model, validation patches"] == 0.7


def test_pseudo_labels_that_mark_something_else():
    found = diagnostics.wrong_structures([compared(scored(2, 10, 30), invented=24)] * 3)
    assert found.state is State.WARNING
    assert "75% of them lie where you see no object" in found.sentence
    assert "Pseudo-labels tab" in found.advice


def test_pseudo_labels_of_another_size():
    parts = [compared(scored(1, 10), true_size=100, found_size=400)] * 3
    assert "2.0 times as wide" in diagnostics.wrong_structures(parts).sentence
    stack = [compared(scored(1, 10), true_size=100, found_size=800)] * 3
    assert "2.0 times as wide" in diagnostics.wrong_structures(stack, is_3d=True).sentence


def test_pseudo_labels_that_are_empty_or_only_badly_outlined():
    empty = diagnostics.wrong_structures([compared(scored(0, 10, 0))] * 3)
    assert "no object on the patches" in empty.sentence
    rough = diagnostics.wrong_structures([compared(scored(2, 10))] * 3)
    assert "only 6 of your 30 objects are outlined right" in rough.sentence


def test_poor_pseudo_labels_do_not_matter_once_they_are_overcome():
    parts = [compared(scored(1, 10))] * 3
    assert diagnostics.wrong_structures(parts, newest=0.5).state is State.WARNING
    assert diagnostics.wrong_structures(parts, newest=0.8).state is State.OK
    assert diagnostics.wrong_structures(parts[:0]).state is State.UNKNOWN


def test_more_labels_that_do_not_help():
    before = [scored(tp, 20) for tp in (10, 12, 8, 14, 9, 11)]
    after = [scored(tp, 20) for tp in (11, 11, 8, 13, 10, 11)]
    found = diagnostics.no_gain(before, after, 12)
    assert found.state is State.WARNING
    assert "12 labelled patches more did not help" in found.sentence


def test_more_labels_that_make_it_worse():
    found = diagnostics.no_gain([scored(16, 20)] * 6, [scored(10, 20)] * 6, 12)
    assert found.state is State.WARNING
    assert "12 labelled patches more made it worse: F1 fell from 0.80 to 0.50" in found.sentence
    assert "labels of the newest batch" in found.advice


def test_more_labels_that_help_or_are_not_needed_or_cannot_be_judged():
    before = [scored(10, 20)] * 6
    assert diagnostics.no_gain(before, [scored(14, 20)] * 6, 12).state is State.OK
    assert diagnostics.no_gain([scored(19, 20)] * 6, [scored(19, 20)] * 6, 12).state is State.OK
    assert diagnostics.no_gain(before[:4], before[:4], 12).state is State.UNKNOWN
    wide = [scored(tp, 20) for tp in (20, 4, 20, 6, 8, 9)]
    assert diagnostics.no_gain(before, wide, 12).state is State.UNKNOWN


def test_no_labels_in_between_is_not_too_few_patches():
    found = diagnostics.no_gain([scored(10, 20)] * 6, [scored(12, 20)] * 6, 0)
    assert found.state is State.UNKNOWN
    assert "No training patch was labelled in between" in found.sentence
    assert diagnostics.no_gain([scored(10, 20)], [scored(12, 20)], 0).sentence.endswith("there is 1.")


def test_picks_that_are_alike():
    pool = np.concatenate([cloud(60), cloud(6, 1, (30, 0, 0, 0))])
    found = diagnostics.similar_picks(pool[-6:], pool, pool[:0])
    assert found.state is State.WARNING
    assert "resemble each other" in found.sentence


def test_picks_that_represent_nothing():
    rng = np.random.default_rng(0)
    common, odd = cloud(80, 2, (9, 0, 0, 0)), -np.eye(4, dtype=np.float32)
    pool = np.concatenate([common, odd])
    found = diagnostics.similar_picks(odd, pool, pool[:0])
    assert found.state is State.WARNING
    assert "no better than patches drawn at random" in found.sentence
    assert diagnostics.similar_picks(pool[rng.permutation(84)[:2]], pool, pool[:0]).state is State.UNKNOWN


def test_picks_that_are_varied():
    centres = np.repeat(np.eye(4), 15, axis=0) * 9
    pool = unit(centres + np.random.default_rng(0).normal(size=centres.shape))
    assert diagnostics.similar_picks(pool[[0, 15, 30, 45]], pool, pool[:0]).state is State.OK


def test_training_patches_learned_by_heart():
    fit, held = [scored(19, 20)] * 8, [scored(tp, 20) for tp in (11, 9, 12, 10)]
    found = diagnostics.overfitting(fit, held)
    assert found.state is State.WARNING
    assert "(F1 0.95)" in found.sentence
    assert diagnostics.overfitting(fit, [scored(18, 20)] * 4).state is State.OK
    assert diagnostics.overfitting(fit, held[:2]).state is State.UNKNOWN


def test_a_gap_to_full_labels():
    steep = [(8, 0.4), (16, 0.5), (32, 0.6)]
    found = diagnostics.gap_to_full(steep, 240)
    assert found.state is State.WARNING
    assert "would give about 0." in found.sentence
    flat = [(8, 0.80), (16, 0.81), (32, 0.82)]
    assert diagnostics.gap_to_full(flat, 240).state is State.OK
    assert diagnostics.gap_to_full(flat, 240, full=0.95).state is State.WARNING
    assert diagnostics.gap_to_full(steep, 240, full=0.62).state is State.OK
    assert diagnostics.gap_to_full(steep[:2], 240).state is State.UNKNOWN
    assert diagnostics.gap_to_full([], 240, full=0.9).state is State.UNKNOWN


def test_merges_and_splits():
    merged = diagnostics.merges_and_splits([compared(scored(10, 20), merges=2, splits=1)] * 3)
    assert merged.state is State.WARNING
    assert "6 predicted objects cover two or more" in merged.sentence
    cut = diagnostics.merges_and_splits([compared(scored(10, 20), merges=1, splits=2)] * 3)
    assert "6 of your 60 objects are predicted in pieces" in cut.sentence
    assert cut.advice != merged.advice
    assert diagnostics.merges_and_splits([compared(scored(19, 20), merges=1)] * 3).state is State.OK
    assert diagnostics.merges_and_splits([compared(scored(1, 4), merges=2)]).state is State.UNKNOWN
    one = [compared(scored(19, 20), merges=1, splits=1)]
    assert diagnostics.merges_and_splits(one).sentence == "1 merge and 1 split in 20 objects."
    few = [compared(scored(19, 20), merges=4, splits=1)]
    assert diagnostics.merges_and_splits(few).sentence.endswith("(and 1 of yours is split).")
    few = [compared(scored(19, 20), merges=1, splits=4)]
    assert diagnostics.merges_and_splits(few).sentence.endswith("(and 1 prediction covers several).")


def test_the_size_that_was_planned_for():
    assert diagnostics.object_size(20, 30, 50).state is State.OK
    assert diagnostics.object_size(20, 34, 50).state is State.WARNING
    assert diagnostics.object_size(34, 20, 50).state is State.WARNING
    assert diagnostics.object_size(20, 60, 5).state is State.UNKNOWN


def memory(before, after, number=2):
    return Memory(number, paired_difference(before, after), None, {})


def test_forgetting():
    good, worse = [scored(18, 20)] * 6, [scored(12, 20)] * 6
    found = forgetting([memory(worse, good), memory(good, worse, 3)])
    assert found.state is State.WARNING
    assert "Training round 3 forgot" in found.sentence
    assert forgetting([memory(good, worse), memory(worse, good, 3)]).state is State.OK
    assert forgetting([memory(good[:4], worse[:4])]).state is State.UNKNOWN
    assert forgetting([]).state is State.UNKNOWN


def test_images_far_from_the_known_ones():
    known = np.concatenate([cloud(10, seed, (9, 0, 0, 0)) for seed in range(3)])
    near, far = cloud(10, 7, (9, 0, 0, 0)), cloud(10, 8, (0, 9, 0, 0))
    ids = np.repeat([1, 2, 3, 4, 5], 10)
    ratios = drift.far_images(ids, np.concatenate([known, near, far]), {1, 2, 3})
    assert set(ratios) == {4, 5}
    assert ratios[4] < drift.FAR < ratios[5]
    assert drift.far_images(ids, np.concatenate([known, near, far]), {1}) == {}


def test_images_of_another_brightness_or_contrast():
    known = {key: np.array([[100.0 + key], [20.0]]) for key in range(4)}
    new = {10: np.array([[110.0], [22.0]]), 11: np.array([[160.0], [20.0]]), 12: np.array([[101.0], [60.0]])}
    assert drift.shifted_images(known, new) == {11, 12}


def test_a_sample_of_patches_has_every_image():
    ids = np.repeat([5, 3, 9], [400, 1, 50])
    rows = drift.sample_rows(ids, most=60)
    assert np.unique(ids[rows], return_counts=True)[1].tolist() == [1, 20, 20]
    assert (np.diff(rows) > 0).all()
    assert drift.sample_rows(ids, most=451).tolist() == list(range(451))
