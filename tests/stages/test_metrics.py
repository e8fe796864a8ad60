"""Instance scores against a plain implementation, and their edge cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alapp.domain import InstanceScores
from alapp.stages.metrics import annotated_only, f1_interval, mask_iou, pool, score_instances

maps = arrays(np.int32, (6, 7), elements=st.integers(0, 4))


def plain(reference, predicted, threshold):
    """True positives and their IoUs, pair by pair."""
    found = []
    for a in set(reference.ravel()) - {0}:
        for b in set(predicted.ravel()) - {0}:
            iou = mask_iou(reference == a, predicted == b)
            if iou > threshold:
                found.append(iou)
    return found


@settings(deadline=None, max_examples=150)
@given(maps, maps)
def test_it_agrees_with_the_plain_count(reference, predicted):
    scores = score_instances(reference, predicted)
    n_true, n_pred = (len(set(m.ravel()) - {0}) for m in (reference, predicted))
    at_50, at_75 = plain(reference, predicted, 0.5), plain(reference, predicted, 0.75)
    assert (scores.n_true, scores.n_pred, scores.tp_50) == (n_true, n_pred, len(at_50))
    assert (scores.fp_50, scores.fn_50) == (n_pred - len(at_50), n_true - len(at_50))
    if n_true + n_pred:
        assert scores.f1_50 == pytest.approx(2 * len(at_50) / (n_true + n_pred))
        assert scores.ap_75 == pytest.approx(len(at_75) / (n_true + n_pred - len(at_75)))
        assert scores.pq == pytest.approx(2 * sum(at_50) / (n_true + n_pred))
        both = np.count_nonzero((reference > 0) & (predicted > 0))
        assert scores.dice == pytest.approx(2 * both / (np.count_nonzero(reference) + np.count_nonzero(predicted)))


def test_empty_maps():
    nothing, something = np.zeros((4, 4), np.int32), np.ones((4, 4), np.int32)
    assert score_instances(nothing, nothing).f1_50 == 1
    for pair in [(nothing, something), (something, nothing)]:
        scores = score_instances(*pair)
        assert (scores.f1_50, scores.ap_50, scores.pq, scores.dice) == (0, 0, 0, 0)


def test_a_merge_costs_both_objects():
    reference = np.array([[1, 1, 1, 2, 2, 2]])
    scores = score_instances(reference, np.ones_like(reference))
    assert (scores.tp_50, scores.fp_50, scores.fn_50) == (0, 1, 2)
    assert scores.dice == 1


def test_ids_need_not_be_consecutive_and_stacks_are_volumes():
    labels = np.zeros((3, 8, 8), np.int32)
    labels[:, 1:4, 1:4], labels[1:, 5:8, 5:8] = 70_000, 12
    assert score_instances(labels, labels).f1_50 == 1
    assert score_instances(labels, labels).n_true == 2


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="different shapes"):
        score_instances(np.zeros((2, 2), np.int32), np.zeros((2, 3), np.int32))


def test_pooling_adds_the_counts():
    good = score_instances(np.array([[1, 0, 2]]), np.array([[1, 0, 2]]))
    bad = score_instances(np.array([[1, 0, 2, 0, 3]]), np.array([[0, 1, 0, 2, 0]]))
    both = pool([good, bad])
    assert (both.tp_50, both.fp_50, both.fn_50) == (2, 2, 3)
    assert both.f1_50 == pytest.approx(4 / 9)
    assert bad.pq < both.pq < good.pq
    with pytest.raises(ValueError, match="nothing to pool"):
        pool([])


@settings(deadline=None, max_examples=100)
@given(maps, maps, maps, maps)
def test_pooling_is_as_if_all_objects_were_in_one_image(a, b, c, d):
    apart = [score_instances(a, b), score_instances(c, d)]
    gap = 10
    reference = np.hstack([a, np.where(c > 0, c + gap, 0)])
    predicted = np.hstack([b, np.where(d > 0, d + gap, 0)])
    together, pooled = score_instances(reference, predicted), pool(apart)
    for name in ("f1_50", "ap_50", "ap_75", "pq", "n_true", "n_pred", "tp_50"):
        assert getattr(pooled, name) == pytest.approx(getattr(together, name)), name


@pytest.mark.parametrize("odd", [np.full((2, 2), 0.4), np.array([[-1, 0], [0, 0]])])
def test_what_is_no_instance_map_is_refused(odd):
    with pytest.raises(ValueError, match="integers from 0"):
        score_instances(np.zeros((2, 2), np.int32), odd)


def test_the_interval_holds_the_score_and_narrows_with_more_images():
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(40):
        truth = np.arange(1, 11)[None].repeat(2, 0)
        guess = np.where(rng.random((1, 10)) < 0.7, truth[:1], 0).repeat(2, 0)
        parts.append(score_instances(truth, guess))
    low, high = f1_interval(parts)
    few_low, few_high = f1_interval(parts[:5])
    assert 0 < few_low < low < pool(parts).f1_50 < high < few_high < 1


def test_few_images_have_no_interval():
    parts = [counts(9, 2), counts(6, 5), counts(8, 1), counts(9, 0), counts(3, 4)]
    assert f1_interval(parts) is not None
    assert f1_interval(parts[:4]) is f1_interval(parts[:1]) is f1_interval([]) is None


@pytest.mark.parametrize(("tp", "wrong"), [(12, 0), (9, 4), (0, 7), (0, 0)])
def test_images_that_agree_do_not_make_a_score_certain(tp, wrong):
    low, high = f1_interval([counts(tp, wrong)] * 5)
    assert 0 <= low <= pool([counts(tp, wrong)] * 5).f1_50 <= high <= 1
    assert high - low > 0.05
    more_low, more_high = f1_interval([counts(tp, wrong)] * 40)
    assert high - low > more_high - more_low or tp == wrong == 0


@pytest.mark.parametrize("good", [(6, 3), (20, 1.5), (99, 1), (2, 6)], ids=["usual", "high", "near 1", "low"])
@pytest.mark.parametrize("n", [5, 8, 20])
def test_a_95_percent_interval_holds_the_true_score_in_about_95_percent_of_cases(good, n):
    rng = np.random.default_rng(0)
    true_n = rng.integers(5, 20, (300_000,))
    found, wrong = made(rng, true_n, good)
    true = 2 * found.sum() / (2 * found.sum() + wrong.sum())
    held = 0
    for _ in range(400):
        parts = [counts(*each) for each in zip(*made(rng, rng.integers(5, 20, n), good), strict=True)]
        low, high = f1_interval(parts)
        held += low <= true <= high
    assert held / 400 >= 0.93


def counts(tp: int, wrong: int) -> InstanceScores:
    """Scores with so many objects found, and missed or invented."""
    return InstanceScores(1, 1, 1, 1, 1, int(tp), int(tp + wrong), int(tp), int(wrong), 0)


def made(rng, n_true, good):
    """Objects found, and missed or invented, of images of which each has its own share that is found, from Beta."""
    share = rng.beta(*good, n_true.shape)
    found = rng.binomial(n_true, share)
    return found, n_true - found + rng.poisson(0.6 * n_true * (1 - share))


def test_what_is_not_annotated_is_left_out():
    labels = np.zeros((6, 12), np.int32)
    labels[0:2, 0:4] = 7
    labels[2:4, 0:10] = 300
    labels[4:6, 6:10] = 5
    ignored = np.zeros(labels.shape, bool)
    ignored[:, 2:6] = True
    ignored[5:, 6:] = True
    found = annotated_only(labels, ignored)
    assert found.dtype == np.int32
    # Half in, half out stays; so does what is mostly outside. The pixels inside go.
    assert np.unique(found).tolist() == [0, 5, 7, 300]
    assert not found[ignored].any()
    assert np.array_equal(found[~ignored], labels[~ignored])
    ignored[:, 1] = True
    assert np.unique(annotated_only(labels, ignored)).tolist() == [0, 5, 300]
