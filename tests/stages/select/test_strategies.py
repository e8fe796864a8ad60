"""What is particular to each strategy; what all promise is in `test_selectors`."""

import numpy as np
import pytest

from alapp.stages.select import clasp, typical
from alapp.stages.select.auto import SEEN, Auto
from alapp.stages.select.bald import Bald
from alapp.stages.select.base import Context
from alapp.stages.select.clasp import Clasp
from alapp.stages.select.coreset import CoreSet
from alapp.stages.select.coreset_cost import CoreSetCost
from alapp.stages.select.coreset_uncertainty import CoreSetUncertainty, doubt_weights
from alapp.stages.select.entropy import Entropy
from alapp.stages.select.typical import Typical


def groups(sizes, width=6, spread=0.05, seed=0):
    """Rows around as many directions as there are sizes, and the direction of each row."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    return (np.eye(width)[of] + spread * rng.standard_normal((len(of), width))).astype(np.float32), of


def select(strategy, embeddings, labelled=None, k=4, seed=0, **known):
    marked = np.zeros(len(embeddings), bool)
    marked[[] if labelled is None else labelled] = True
    return strategy()(embeddings, marked, k, np.random.default_rng(seed), Context(**known)).picks


def rows(picks):
    return [pick.row for pick in picks]


def test_typical_takes_the_middle_of_the_largest_groups_first():
    embeddings, of = groups([12, 30, 20])
    picks = select(Typical, embeddings, k=3)
    assert [of[row] for row in rows(picks)] == [1, 2, 0]
    assert "group of 30 patches that look alike, of which none is labelled" in picks[0].reason
    members = np.flatnonzero(of == 1)
    unit = embeddings[members] / np.linalg.norm(embeddings[members], axis=1, keepdims=True)
    apart = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    near = np.sort(apart, axis=1)[:, : typical.NEIGHBOURS].mean(axis=1)
    assert picks[0].row == members[near.argmin()]


def test_typical_goes_to_groups_without_a_labelled_patch():
    embeddings, of = groups([30, 20, 12])
    assert of[rows(select(Typical, embeddings, labelled=[0, 31], k=1))[0]] == 2


@pytest.mark.parametrize("sizes", [[4, 4, 3], [30, 30, 12]])
def test_typical_takes_one_of_each_group_before_a_second_of_any(sizes):
    embeddings, of = groups(sizes)
    picks = select(Typical, embeddings, k=3)
    assert sorted(of[rows(picks)]) == [0, 1, 2]
    assert all("none is labelled" in p.reason for p in picks)


def test_typical_leaves_outliers_for_last():
    embeddings, of = groups([30, 20, 2])
    assert of[rows(select(Typical, embeddings, k=3))].tolist() == [0, 1, 0]


def test_typical_of_a_pool_that_is_sampled(monkeypatch):
    monkeypatch.setattr(typical, "MOST_ROWS", 20)
    embeddings, _ = groups([30, 30])
    picks = select(Typical, embeddings, labelled=[1], k=59)
    assert sorted(rows(picks)) == [row for row in range(60) if row != 1]
    assert "not grouped" in picks[-1].reason


def test_most_doubtful_and_most_contradictory_follow_their_measure():
    embeddings = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    values = np.array([0.1, 0.4, 0.3, 0.9, 0.4, 0.2])
    picks = select(Entropy, embeddings, labelled=[3], k=3, uncertainty=values)
    assert rows(picks) == [1, 4, 2]
    assert picks[0].reason == "the model is in doubt: 0.400 of at most 1, the most of 5 patches"
    assert "number 3 of 5" in picks[2].reason
    picks = select(Bald, embeddings, labelled=[3], k=3, mutual_information=values[::-1].copy())
    assert rows(picks) == [2, 1, 4]
    assert "when the patch is mirrored: 0.900" in picks[0].reason


def test_doubt_by_class_gives_every_class_its_turn():
    # The doubt about objects is small over the whole patch, and each class has one patch of its own.
    embeddings = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    by_class = np.full((40, 3), 1e-9)
    by_class[5, 0] = by_class[6, 1] = by_class[7, 2] = 1.0
    by_class[8:, 2] = np.nan
    picks = select(Clasp, embeddings, k=4, uncertainty=np.full(40, 0.1), class_entropy=by_class, round_number=12)
    assert rows(picks)[:3] == [6, 7, 5]
    assert "class 1" in picks[0].reason
    assert "the background" in picks[2].reason
    assert "the whole patch" in picks[3].reason


def test_doubt_by_class_follows_the_doubt_more_closely_from_round_to_round():
    embeddings = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    doubt = np.linspace(0.2, 0.4, 200)

    def mean_rank(number):
        found = [
            rows(select(Clasp, embeddings, k=9, seed=seed, uncertainty=doubt, class_entropy=doubt[:, None],
                        round_number=number))
            for seed in range(12)
        ]  # fmt: skip
        return np.mean(found)

    assert mean_rank(1) < mean_rank(6) < mean_rank(14)
    assert mean_rank(14) > 180
    assert [clasp.power(number) for number in (None, 1, 3, 5)] == [1, 1, 2, 4]


def test_core_set_by_doubt_weighs_distances():
    angles = np.array([0, 1.0, 1.1, 3.0])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    doubt = np.array([0, 0.5, 0.0, 0.1])
    weights = doubt_weights(doubt)
    np.testing.assert_allclose(weights, [0.1, 1, 0.1, 0.28])
    # 1: 1.0 x 0.46; 3: 0.28 x 1.99. Then 1 is alone in having doubt.
    picks = select(CoreSetUncertainty, embeddings, labelled=[0], k=3, uncertainty=doubt)
    assert rows(picks) == [3, 1, 2]
    assert rows(select(CoreSetUncertainty, embeddings, labelled=[0], k=1, uncertainty=np.array([0, 0.5, 0, 0]))) == [1]
    assert "doubt: 0.100" in picks[0].reason
    np.testing.assert_array_equal(doubt_weights(np.full(3, 0.4)), np.ones(3))
    assert doubt_weights(np.zeros(0)).shape == (0,)


def test_core_set_by_effort_takes_what_is_cheap_for_its_distance():
    angles = np.array([0, 1.0, 3.0])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    cheap = select(CoreSetCost, embeddings, labelled=[0], k=2, cost=np.array([10.0, 10, 300]))
    assert rows(cheap) == [1, 2]
    assert cheap[0].reason.endswith("expected to take 10 s")
    assert cheap[1].reason.endswith("expected to take 5 min")
    assert rows(select(CoreSetCost, embeddings, labelled=[0], k=1, cost=np.full(3, 10.0))) == [2]


def test_core_set_by_effort_without_known_objects_is_core_set():
    embeddings, _ = groups([5, 5])
    picks = select(CoreSetCost, embeddings, labelled=[0], k=3)
    assert rows(picks) == rows(select(CoreSet, embeddings, labelled=[0], k=3))
    assert all("not known without predictions" in p.reason for p in picks)


@pytest.mark.parametrize("labelled", [None, [0]])
def test_automatic_takes_a_third_with_objects(labelled):
    embeddings, of = groups([40, 20, 3])
    foreground = np.where(of == 1, 0.2, 0)
    picks = select(Auto, embeddings, labelled=labelled, k=9, foreground=foreground)
    assert all(of[row] == 1 for row in rows(picks)[:3])
    assert all(SEEN in p.reason for p in picks[:3])
    assert not any(SEEN in p.reason for p in picks[3:])
    assert {0, 1, 2} == {of[row] for row in rows(picks)}


@pytest.mark.parametrize("labelled", [None, [0]])
def test_automatic_does_not_take_specks_for_objects(labelled):
    embeddings, of = groups([40, 20, 3])
    foreground = np.where(of == 1, 0.2, 0.002)
    picks = select(Auto, embeddings, labelled=labelled, k=9, foreground=foreground)
    assert [of[p.row] == 1 for p in picks if SEEN in p.reason] == [True] * 3


@pytest.mark.parametrize("seed", range(5))
def test_automatic_begins_at_random_with_objects_and_goes_on_with_what_is_new(seed):
    embeddings, of = groups([30, 20, 1])
    foreground = np.where(of == 1, 0.2, 0)
    picks = select(Auto, embeddings, k=6, seed=seed, foreground=foreground)
    assert [p.reason.startswith("random start") for p in picks] == [True] * 3 + [False] * 3
    assert [of[p.row] == 1 for p in picks[:2]] == [True] * 2  # the third of the batch; the next is drawn from all
    assert 2 in of[rows(picks)[:5]]  # the odd one comes as soon as distance counts


def test_automatic_differs_by_seed():
    embeddings, of = groups([30, 20])
    foreground = np.where(of == 1, 0.2, 0)
    first = {select(Auto, embeddings, seed=seed, foreground=foreground)[0].row for seed in range(9)}
    assert len(first) > 1


def test_automatic_counts_what_the_start_holds():
    embeddings, _ = groups([20, 20])
    picks = select(Auto, embeddings, k=12, foreground=np.full(40, 0.2))
    assert [SEEN in p.reason for p in picks] == [True] * 4 + [False] * 8


@pytest.mark.parametrize("labelled", [None, [0]])
def test_automatic_is_core_set_where_objects_are_everywhere(labelled):
    embeddings, _ = groups([20, 20], spread=0.3)
    picks = select(Auto, embeddings, labelled=labelled, k=8, foreground=np.full(40, 0.2))
    first = rows(picks)[: 0 if labelled else 3]
    rest = select(CoreSet, embeddings, labelled=labelled or first, k=8 - len(first))
    assert rows(picks) == [*first, *rows(rest)]


def test_automatic_is_core_set_where_no_objects_are_known():
    embeddings, _ = groups([20, 20], spread=0.3)
    picks = select(Auto, embeddings, labelled=[0], k=8)
    assert rows(picks) == rows(select(CoreSet, embeddings, labelled=[0], k=8))
    assert not any(SEEN in p.reason for p in picks)


def test_automatic_takes_no_repeated_objects_while_others_are_left():
    embeddings = np.concatenate([np.tile(np.eye(8)[:1], (5, 1)), np.eye(8)[1:]]).astype(np.float32)
    foreground = np.where(np.arange(12) < 5, 0.5, 0)
    found = rows(select(Auto, embeddings, k=7, foreground=foreground))
    assert sum(row < 5 for row in found) == 1
    assert len(found) == 7
