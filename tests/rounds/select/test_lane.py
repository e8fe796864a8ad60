"""The control lane: what it draws, and what it tells about the strategy."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind, PatchRole, silent
from alapp.errors import InputError
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import lane, selection
from alapp.rounds.train import promotion, training
from alapp.stages.select.base import Context
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.ui.rounds import lane as panel
from alapp.ui.rounds import picks, rounds
from tests.rounds.made_scores import scored
from tests.rounds.test_loop import answer, run_round


@pytest.fixture
def project(store, project):
    pseudo.decide(store, project.id, pseudo.NONE)
    return lane.set_share(store, project.id, 0.5)


def picks_of(store, project):
    return round_rows.picked(store, round_rows.latest(store, project.id).id)


def test_the_share_is_one_of_the_menu(store, project):
    for share in (0.3, 1, None, "0.5"):
        with pytest.raises(InputError, match="0, 25, 50 percent"):
            lane.set_share(store, project.id, share)
    assert catalogue.project(store, project.id).lane_share == 0.5
    panel.keep(store, project.id, 0.25)
    assert panel.shown(store, project.id).value == 0.25


def test_the_strategy_keeps_a_patch(store, project):
    assert [lane.count(project, "coreset", n) for n in (0, 1, 2, 3, 6)] == [0, 0, 1, 2, 3]
    assert lane.count(project, "random", 6) == 3
    assert lane.count(project, lane.STRATEGY, 6) == 0
    assert lane.count(lane.set_share(store, project.id, 0.0), "coreset", 6) == 0


def test_a_share_of_the_training_patches_is_drawn_by_chance_and_says_so(store, project, fast):
    selection.run_select(store, project.id, silent, budget=5)
    chosen = picks_of(store, project)
    drawn = [pick for pick in chosen if lane.is_control(pick)]
    assert [pick.role for pick in chosen].count(PatchRole.VALIDATION) == 1
    assert len(drawn) == 2
    assert all(pick.role is PatchRole.TRAIN for pick in drawn)
    assert all(pick.reason["sentence"].startswith("to check the strategy, drawn at random") for pick in drawn)
    assert len({pick.patch_id for pick in chosen}) == 5
    assert picks.caption(drawn[0], {}).endswith("by chance")
    assert lane.used(store, project.id)


def test_a_few_draws_are_on_average_what_many_are(project):
    foreground = np.where(np.arange(40) < 4, 0.3, 0)
    context, nothing = Context(foreground=foreground), np.zeros(40, bool)
    drawn = [
        pick.row for number in range(600) for pick in lane.draw(project, number, 1, nothing[:, None], nothing, context)
    ]
    assert np.mean(np.array(drawn) < 4) == pytest.approx(1 / 3 + 2 / 3 * 0.1, abs=0.06)


def test_without_the_lane_the_strategy_picks_as_before(store, project, fast):
    assert "2 of these 4 are drawn" in rounds.share_sentence(store, project.id, 5)
    lane.set_share(store, project.id, 0.0)
    assert "drawn at random instead" not in rounds.share_sentence(store, project.id, 5)
    selection.run_select(store, project.id, silent, budget=5)
    before = [pick.patch_id for pick in picks_of(store, project)]
    selection.discard_round(store, project.id)
    lane.set_share(store, project.id, 0.5)
    selection.run_select(store, project.id, silent, budget=5)
    with_lane = picks_of(store, project)
    # Validation patches are drawn first, by the same chance.
    assert with_lane[-1].patch_id == before[-1]
    assert not lane.used(store, catalogue.create_project(store, "other").id)


def test_a_veto_of_a_control_patch_is_answered_by_chance(store, project, fast):
    selection.run_select(store, project.id, silent, budget=5)
    latest = round_rows.latest(store, project.id)
    vetoed = next(pick for pick in picks_of(store, project) if lane.is_control(pick))
    new = selection.swap_pick(store, latest.id, vetoed.patch_id)
    found = next(pick for pick in picks_of(store, project) if pick.patch_id == new)
    assert lane.is_control(found)
    assert found.reason["vetoed"] == [vetoed.patch_id]


def test_both_kinds_are_compared_by_the_model_before(store, project, fast):
    run_round(store, project, 5)
    assert lane.compare(store, project.id) is None  # no model came before the first round
    assert panel.WAITING in panel.text(store, project.id)
    first = models.latest_checkpoint(store, project.id)
    made = selection.run_select(store, project.id, silent, budget=5)
    assert lane.model_before(store, project.id, made["round"]) == first.id
    answer(store, made["patches"])
    found = lane.compare(store, project.id)
    assert (found.rounds, found.strategy.n, found.control.n) == (1, 2, 2)
    assert found.interval is None
    text = panel.text(store, project.id)
    assert "it takes 5 of each kind, there are 2" in text
    assert "does not show that learning from these patches helps more" in text


def test_each_round_is_judged_by_the_model_that_was_in_use(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    run_round(store, project, 3)
    run_round(store, project, 3)
    pretrained, first, second = (item.id for item in models.checkpoints(store, project.id))
    promotion.use(store, project.id, first)
    selection.run_select(store, project.id, silent, budget=3)
    judged_by = {1: pretrained, 2: first, 3: first}
    assert {number: lane.model_before(store, project.id, number) for number in judged_by} == judged_by
    # What is accepted or used later changes nothing of that.
    promotion.use(store, project.id, second)
    made = training.run_pretrain(store, project.id, silent, iterations=9)
    promotion.use(store, project.id, made["checkpoint"])
    assert {number: lane.model_before(store, project.id, number) for number in judged_by} == judged_by
    assert lane.model_before(store, project.id, 4) is None


def test_what_the_model_did_not_see_lowers_its_score(store, project, fast):
    run_round(store, project, 5)
    made = selection.run_select(store, project.id, silent, budget=5)
    answer(store, made["patches"])
    fair = lane.compare(store, project.id)
    # On the strategy's patches the person sees objects that the model missed: the model's map loses them.
    checkpoint = lane.model_before(store, project.id, made["round"])
    chosen = [pick.patch_id for pick in picks_of(store, project) if not lane.is_control(pick)]
    for image_id, item in labels.of_checkpoint(store, checkpoint).items():
        whole = labels.read(store, item)
        for patch in catalogue.patches(store, project.id):
            if patch.id in chosen and patch.image_id == image_id:
                window = patch.box.slices[1:]
                whole[window] = 0
        labels.add(
            store, LabelKind.PREDICTED, whole, project_id=project.id, image_id=image_id, checkpoint_id=checkpoint,
            backend="test", input_hash="",
        )  # fmt: skip
    found = lane.compare(store, project.id)
    assert found.strategy.f1 == 0 < fair.strategy.f1
    assert found.strategy.mistakes > 0
    assert found.control.f1 > 0


def test_a_model_that_gets_better_does_not_favour_the_kind_with_more_patches_later():
    # Both kinds are equally hard in each round; the share of the lane was lowered after the third.
    plan = [(4, 4, 6), (4, 4, 8), (4, 4, 10), (6, 2, 16), (6, 2, 17), (6, 2, 17), (6, 2, 18)]
    rounds = [
        tuple([scored(found + (-1) ** n, 20) for n in range(size)] for size in (of_strategy, of_lane))
        for of_strategy, of_lane, found in plan
    ]
    found = lane.comparison(rounds)
    assert (found.rounds, found.strategy.n, found.control.n) == (7, 36, 20)
    assert found.difference == pytest.approx(0, abs=0.001)
    assert found.strategy.mistakes == pytest.approx(found.control.mistakes)
    assert found.interval[0] < 0 < found.interval[1]


def test_a_difference_within_every_round_is_seen():
    rounds = [([scored(8, 20)] * 2 + [scored(9, 20)], [scored(14, 20)]) for _ in range(6)]
    found = lane.comparison(rounds)
    assert found.interval[1] < 0
    assert lane.comparison(rounds[:4]).interval is None
    alike = lane.comparison([([scored(20, 20)] * 5, [scored(19, 20)] * 5)])  # is not certain
    assert alike.interval[0] < 0.05 < alike.interval[1]


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((-0.3, -0.1), "wrong more often than by chance"),
        ((0.1, 0.2), "another strategy"),
        ((-0.1, 0.1), "No difference"),
    ],
)
def test_what_was_found_in_words(interval, said):
    found = lane.Comparison(2, lane.Arm(12, 0.4, 6.5), lane.Arm(6, 0.6, 3.0), interval)
    measured, meaning = panel.words(found)
    assert "in 2 rounds: F1 0.40 on 12 patches" in measured
    assert "(6.5 mistakes a patch)" in measured
    assert f"-0.20 (95% interval {interval[0]:+.2f} to {interval[1]:+.2f})" in meaning
    assert said in meaning


def test_nothing_is_shown_where_the_lane_was_never_used(store, project):
    assert panel.text(store, project.id) == ""
    assert panel.text(store, None) == ""
