"""The control lane: a share of each batch's training patches is drawn at random, to check the strategy on the user's
own data.

Labels are not known for patches that nobody picked, so what can be compared honestly is how wrong the model was on
either kind of patch before it learned from them: how much there was to learn there. Whether learning from them helps
more, only a second training without them could tell.

Control patches here are not those of `measuring`, which start without suggestions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alapp.domain import InstanceScores, PatchRole
from alapp.errors import InputError
from alapp.rounds.annotate.measuring import share_count
from alapp.rounds.predict import evidence
from alapp.stages.metrics import pool
from alapp.stages.paired import MIN_PATCHES, unpaired_interval
from alapp.stages.select.base import SELECTORS, Context, Pick
from alapp.storage import catalogue, labels, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.rounds import Selected
from alapp.storage.verdicts import VerdictKind

SHARES = (0.0, 0.25, 0.5)

STRATEGY = "foreground_random"
"""The baseline that no strategy reliably beats (nnActive, arXiv 2511.19183)."""

KEY = "lane"
"""In a pick's reason, with the value `CONTROL`: the patch was drawn by the lane."""

CONTROL = "control"


@dataclass(frozen=True)
class Arm:
    """Patches of one kind, by the models that were in use when they were picked. `f1` at IoU 0.5, all objects pooled;
    `mistakes`: objects missed, invented or badly outlined, for each patch."""

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
    picks = SELECTORS.create(STRATEGY)(vectors, labelled, n, rng, context).picks
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

    Rounds with one kind only are left out: models get better from round to round.
    """
    chosen = round_rows.selected_in_project(store, project_id)
    finished = evidence.labelled(store, project_id, PatchRole.TRAIN)
    arms: tuple[list[InstanceScores], list[InstanceScores]] = ([], [])
    rounds = 0
    for number in sorted({item.round_number for item in finished}):
        checkpoint_id = model_before(store, project_id, number)
        if checkpoint_id is None:
            continue
        items = [item for item in finished if item.round_number == number]
        found = evidence.scores(store, items, labels.of_checkpoint(store, checkpoint_id))
        split = [
            [score for patch_id, score in found.items() if is_control(chosen[patch_id]) is control]
            for control in (False, True)
        ]
        if all(split):
            rounds += 1
            for arm, scores in zip(arms, split, strict=True):
                arm.extend(scores)
    if not rounds:
        return None
    enough = min(len(arm) for arm in arms) >= MIN_PATCHES
    return Comparison(rounds, _arm(arms[0]), _arm(arms[1]), unpaired_interval(*arms) if enough else None)


def model_before(store: Store, project_id: int, number: int) -> int | None:
    """The id of the model that was in use when round `number` was selected: of those of earlier rounds that were
    accepted, the newest; None without one."""
    numbers = {item.id: item.number for item in round_rows.rounds(store, project_id)}
    last = {item.checkpoint_id: item for item in verdicts.of_project(store, project_id, VerdictKind.PROMOTION)}
    before = [
        item.id
        for item in models.checkpoints(store, project_id)
        if (numbers.get(item.round_id, 0) if item.round_id else 0) < number
        and (item.id not in last or last[item.id].accepted)
    ]
    return max(before, default=None)


def _arm(scores: Sequence[InstanceScores]) -> Arm:
    together = pool(scores)
    return Arm(len(scores), together.f1_50, (together.fp_50 + together.fn_50) / len(scores))
