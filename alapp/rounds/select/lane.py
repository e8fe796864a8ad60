"""The control lane: a share of each batch's training patches is drawn at random, a third of these among patches with
objects, to check the strategy on the user's own data.

Labels are not known for patches that nobody picked, so what can be compared honestly is how wrong the model was on
either kind of patch before it learned from them: how much there was to learn there. Whether learning from them helps
more, only a second training without them could tell.

Control patches here are not those of `measuring`, which start without suggestions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from alapp.domain import InstanceScores, PatchRole
from alapp.errors import InputError
from alapp.rounds.annotate.measuring import share_count
from alapp.rounds.predict import evidence
from alapp.stages import within_rounds
from alapp.stages.jackknife import combined
from alapp.stages.paired import MIN_PATCHES, chance_variance, counts, f1_of_sums
from alapp.stages.select.base import SELECTORS, Context, Pick
from alapp.storage import catalogue, labels, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.rounds import Selected

SHARES = (0.0, 0.25, 0.5)

STRATEGY = "foreground_random"
"""The baseline that no strategy reliably beats (nnActive, arXiv 2511.19183)."""

KEY = "lane"
"""In a pick's reason, with the value `CONTROL`: the patch was drawn by the lane."""

CONTROL = "control"


@dataclass(frozen=True)
class Arm:
    """`n` patches of one kind, by the models that were in use when they were picked. `f1` at IoU 0.5, all objects of a
    round pooled; `mistakes`: objects missed, invented or badly outlined, for each patch. Both are averages over rounds,
    which count alike for both kinds, see `within_rounds`."""

    n: int
    f1: float
    mistakes: float


@dataclass(frozen=True)
class Comparison:
    """The strategy against the lane, in `rounds` rounds that have both. `interval`: the 95% interval of the strategy's
    F1 minus the lane's, None with fewer than `MIN_PATCHES` patches of a kind."""

    rounds: int
    strategy: Arm
    control: Arm
    interval: tuple[float, float] | None

    @property
    def difference(self) -> float:
        """The strategy's F1 minus the lane's."""
        return self.strategy.f1 - self.control.f1


def set_share(store: Store, project_id: int, share: float) -> Project:
    """Remember the share for the batches to come. Raises `InputError` unless it is one of `SHARES`."""
    if share not in SHARES:
        raise InputError(f"This share is one of {', '.join(f'{100 * one:.0f}' for one in SHARES)} percent of a batch.")
    return catalogue.update_project(store, project_id, lane_share=share)


def count(project: Project, strategy: str, n_training: int) -> int:
    """How many of a batch's training patches the lane draws; the strategy keeps at least one, and has nothing to be
    checked against where it is the lane's own."""
    if strategy == STRATEGY:
        return 0
    return min(share_count(n_training, project.lane_share), max(n_training - 1, 0))


def draw(
    project: Project,
    number: int,
    n: int,
    vectors: np.ndarray,
    labelled: np.ndarray,
    context: Context,
    again: Sequence[int] = (),
) -> list[Pick]:
    """At most `n` picks for round `number`. They are drawn before the strategy chooses, from all that it may choose
    from: what it leaves over would be a sample of the easy ones. `again`: patches that were vetoed in this place."""
    if n < 1:
        return []
    rng = np.random.default_rng([project.seed, number, 6, *again])
    picks = SELECTORS.create(STRATEGY, quota_by_chance=True)(vectors, labelled, n, rng, context).picks
    return [replace(pick, reason=f"to check the strategy, {pick.reason}") for pick in picks]


def is_control(pick: Selected) -> bool:
    """Whether the lane drew it."""
    return pick.reason.get(KEY) == CONTROL


def used(store: Store, project_id: int) -> bool:
    """Whether the lane drew anything in this project."""
    return any(is_control(pick) for pick in round_rows.selected_in_project(store, project_id).values())


def compare(store: Store, project_id: int) -> Comparison | None:
    """Finished training patches of both kinds, by the model that was in use when they were picked; None before a round
    has both and a model came before it.

    Models get better from round to round, so the kinds are compared within each round, and rounds with one kind only
    are left out.
    """
    chosen = round_rows.selected_in_project(store, project_id)
    finished = evidence.labelled(store, project_id, PatchRole.TRAIN)
    rounds: list[tuple[list[InstanceScores], list[InstanceScores]]] = []
    for number in sorted({item.round_number for item in finished}):
        checkpoint_id = model_before(store, project_id, number)
        if checkpoint_id is None:
            continue
        items = [item for item in finished if item.round_number == number]
        found = evidence.scores(store, items, labels.of_checkpoint(store, checkpoint_id))
        strategy, control = (
            [score for patch_id, score in found.items() if is_control(chosen[patch_id]) is drawn]
            for drawn in (False, True)
        )
        if strategy and control:
            rounds.append((strategy, control))
    return comparison(rounds) if rounds else None


def comparison(rounds: Sequence[tuple[Sequence[InstanceScores], Sequence[InstanceScores]]]) -> Comparison:
    """The scores of the strategy's patches and the lane's of each round, neither empty."""
    weight = within_rounds.weights([(len(strategy), len(control)) for strategy, control in rounds])
    tables = [[counts(pair[kind]) for pair in rounds] for kind in (0, 1)]
    strategy, control = (_arm(parts, weight) for parts in tables)
    interval = None
    if min(strategy.n, control.n) >= MIN_PATCHES:
        least = sum(
            w**2 * chance_variance(part.sum(axis=0)) for parts in tables for w, part in zip(weight, parts, strict=True)
        )
        half = combined([within_rounds.spread(parts, weight, f1_of_sums) for parts in tables]).half
        half = max(half, float(ndtri(0.975) * np.sqrt(least)))
        change = strategy.f1 - control.f1
        interval = (max(change - half, -1.0), min(change + half, 1.0))
    return Comparison(len(rounds), strategy, control, interval)


def model_before(store: Store, project_id: int, number: int) -> int | None:
    """The id of the model that was in use when round `number` was selected; None without one. It need not be the newest
    of those before: a person may have gone back to an earlier one."""
    this = next((item for item in round_rows.rounds(store, project_id) if item.number == number), None)
    found = verdicts.current_checkpoint(store, project_id, at=this.created) if this else None
    return found.id if found else None


def _arm(rounds: Sequence[np.ndarray], weight: np.ndarray) -> Arm:
    f1 = within_rounds.average(rounds, weight, f1_of_sums)
    mistakes = float(weight @ [part[:, 1].mean() for part in rounds])
    return Arm(sum(len(part) for part in rounds), f1, mistakes)
