"""Replay: new patches are drawn more often, old ones keep their share."""

from __future__ import annotations

import pytest

from alapp.domain import silent
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import replay, training, training_cases
from alapp.storage import models
from tests.rounds.test_loop import run_round


def share_of_new(n_old: int, n_new: int) -> float:
    """The part of the draws that the new batch gets."""
    old, new = [f"old_{i}" for i in range(n_old)], [f"new_{i}" for i in range(n_new)]
    drawn = replay.weights(old + new, new) or {}
    weights = {key: drawn.get(key, 1.0) for key in old + new}
    return sum(weights[key] for key in new) / sum(weights.values())


@pytest.mark.parametrize(("n_old", "n_new"), [(8, 8), (16, 8), (6, 20), (100, 1), (3, 7)])
def test_old_labels_keep_half_of_the_draws(n_old, n_new):
    assert share_of_new(n_old, n_new) <= 0.5 + 1e-9


def test_new_patches_are_drawn_more_often_than_their_number_says():
    assert share_of_new(24, 8) == pytest.approx(0.4)  # a quarter of the patches
    assert share_of_new(16, 8) == pytest.approx(0.5)


def test_few_old_patches_are_not_learned_by_heart():
    drawn = replay.weights(["a", "b", *map(str, range(40))], list(map(str, range(40))))
    assert set(drawn.values()) == {0.25}


def test_nothing_is_weighted_without_old_or_without_new_patches():
    assert replay.weights(["a", "b"], ["a", "b"]) is None
    assert replay.weights(["a", "b"], ["c"]) is None
    assert replay.weights(["a", "b"], ["b"]) is None  # half and half already


def test_a_round_draws_its_batch_within_the_limits(store, project, fast):
    trainer, _ = fast
    pseudo.decide(store, project.id, pseudo.NONE)
    batches = [run_round(store, project, budget)["patches"] for budget in (4, 3, 2)]
    assert [run["weights"] for run in trainer.seen[:1]] == [None]
    for run, batch in zip(trainer.seen[1:], batches[1:], strict=True):
        assert set(run["weights"]) <= {f"gt_{patch_id}" for patch_id in batch}
        assert set(run["weights"]) < set(run["keys"])
        assert set(run["weights"].values()) != {1.0}


def test_a_run_with_other_weights_is_another_run(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project, 4)
    plan = models.find_plan(store, project.id, "quick")
    cases = training_cases.human_cases(store, project)
    even = training.Run(None, cases, None, 5, 0)
    weighted = training.Run(None, cases, None, 5, 0, {cases[0].key: 2.0})
    assert training.run_hash(plan, even) != training.run_hash(plan, weighted)
    first = training.train(store, project, plan, even, silent)
    assert training.train(store, project, plan, even, silent).id == first.id
    assert training.train(store, project, plan, weighted, silent).id != first.id
