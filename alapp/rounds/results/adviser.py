"""Whether to label one more batch: what it would gain, what it would cost, and what speaks for stopping.

The score's slope is cheap and computed when a page asks. How far the labels reach and how much the predictions changed
need every vector and many label maps: the worker computes them, into a file named by what they were computed from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

import numpy as np

from alapp.domain import ImageRole, InstanceScores, PatchRole, Report
from alapp.rounds.annotate import annotation, ledger
from alapp.rounds.results import results
from alapp.rounds.select import embedding
from alapp.rounds.timing import content_hash
from alapp.stages.paired import MIN_PATCHES
from alapp.stages.stopping import Change, Gain, Reach, changed, gain_of_more, reach_by_round
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.wording import counted

STOP_SET = 200
"""Predictions are compared on at most so many patches that nobody labelled, the same for every round as far as they
stay unlabelled: enough to see a change of a percent, few enough to take seconds."""

LITTLE = 0.01
"""A gain of F1 below this is not worth a batch."""

RECENT_ROUNDS = 2
"""Working time is taken from so many last rounds: people get faster."""

NONE_LEFT = "No patch is left for another batch: stop after the last one, or import more images."
ONLY_VETOED = (
    "Only vetoed patches are left for another batch: stop after the last one, offer them again, or import more images."
)


class Verdict(StrEnum):
    """What speaks for what."""

    GO_ON = "go on"
    STOP = "stop"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Facts:
    """What the worker computes. `reach`: by round number, ascending. `change`: between the models of the rounds
    `compared`, on the patches of the stop set; None where there are not two, or nothing is left unlabelled.
    `uncompared`: patches of the stop set on which not both made predictions."""

    reach: dict[int, Reach]
    compared: tuple[int, int] | None = None
    change: Change | None = None
    uncompared: int = 0


@dataclass(frozen=True)
class Advice:
    """On one more batch of `batch` patches. `gain` is None when it cannot be known, for the reason `unknown`;
    `minutes` of the person's work, None before anything was annotated by hand; `facts` None until the worker has
    computed them. `exhausted`: what to do where no patch is left to select, so that the batch would be one of images
    yet to import; "" else."""

    batch: int
    gain: Gain | None
    unknown: str
    minutes: float | None
    facts: Facts | None
    exhausted: str = ""

    @property
    def settled(self) -> bool | None:
        """Whether the predictions changed no more in the last round (or nothing is left on which they could); None
        until it is known."""
        if self.facts is None:
            return None
        settled = True if self.facts.change is None else self.facts.change.settled
        return None if settled and self.facts.uncompared else settled

    @property
    def verdict(self) -> Verdict:
        """By the interval of the gain; the predictions must have settled as well before anyone is told to stop."""
        if self.gain is None or self.gain.interval is None:
            return Verdict.UNKNOWN
        low, high = self.gain.interval
        if high < LITTLE:
            return Verdict.STOP if self.settled else Verdict.OPEN
        return Verdict.GO_ON if low > 0 and self.gain.expected >= LITTLE else Verdict.OPEN

    @property
    def sentence(self) -> str:
        """The advice in one sentence."""
        if self.gain is None:
            return f"{self.exhausted} {self.unknown}".strip()
        batch = f"One more batch of {self.batch}"
        if self.exhausted:
            batch = f"{self.exhausted} {counted(self.batch, 'patch', 'patches')} more, of images like these"
        time = "" if self.minutes is None else f", about {_minutes(self.minutes)} of your time"
        if self.gain.interval is None:
            return (
                f"{batch}: about {_signed(self.gain.expected)} F1{time}. How sure that is cannot be told from "
                f"{self.gain.n} validation patches; it takes {MIN_PATCHES}."
            )
        expected, low, high = (_signed(value) for value in (self.gain.expected, *self.gain.interval))
        return f"{batch}: about {expected} F1 ({low} to {high}){time}."


def advise(store: Store, project_id: int) -> Advice:
    """The advice on one more batch, as large as the last one as far as patches are left. Quick: what the worker has
    not computed is left out."""
    latest = round_rows.latest(store, project_id)
    free, n_vetoed = _left(store, project_id)
    budget = latest.budget if latest else 0
    # Where none is left, the last batch stands for one of new images: is importing any worth it?
    batch = min(budget, free) or budget
    gain, unknown = _gain(store, project_id, batch)
    minutes, facts = _minutes_of(store, project_id, batch), _known(store, project_id)
    exhausted = ""
    if latest and not free:
        exhausted = ONLY_VETOED if n_vetoed else NONE_LEFT
    return Advice(batch, gain, unknown, minutes, facts, exhausted)


def _left(store: Store, project_id: int) -> tuple[int, int]:
    """How many patches no round picked: those that the next selection can pick, and those that were vetoed."""
    chosen = round_rows.selected_in_project(store, project_id).keys()
    vetoed = round_rows.vetoed(store, project_id)
    taken = catalogue.patches(store, project_id, ids=chosen | vetoed)
    return catalogue.count_patches(store, project_id) - len(taken), len(vetoed)


def _gain(store: Store, project_id: int, batch: int) -> tuple[Gain | None, str]:
    """The gain, or why it cannot be known."""
    usable = []
    for _, checkpoint, labelled in results.labelled_by_round(store, project_id):
        rows = {row.patch_id: row.scores for row in models.scores(store, checkpoint.id, "validation")}
        if labelled and rows:
            usable.append((labelled, rows))
    if len({labelled for labelled, _ in usable}) < 2:
        have = "one round" if usable else "no round"
        return (
            None,
            f"What another batch gains can be told once two rounds have a validation score; now {have} has one.",
        )
    # A model of an earlier version may lack scores on patches that came later.
    common = sorted(set.intersection(*(set(rows) for _, rows in usable)))
    scores = [[rows[key] for key in common] for _, rows in usable]
    gain = gain_of_more([n for n, _ in usable], scores, batch)
    return gain, "" if gain else _why_unknown(scores[-1])


def _why_unknown(newest: Sequence[InstanceScores]) -> str:
    """Why the scores of the newest model do not tell a gain."""
    if not newest:
        return "The rounds were not scored on the same validation patches; train once more to compare."
    if not any(part.n_true for part in newest):
        return (
            "The validation patches on which all rounds were scored show no objects, so what another batch gains "
            "cannot be told."
        )
    return (
        "The newest model finds none of the objects on the validation patches, so what another batch gains cannot be "
        "told."
    )


def _minutes_of(store: Store, project_id: int, batch: int) -> float | None:
    """Working time that so many patches take, by the pace of the last rounds; None without work by hand."""
    known = ledger.patches(store, project_id)
    chosen = round_rows.selected_in_project(store, project_id)
    states = annotation.patch_states(store, list(chosen))
    by_round: dict[int, list[float]] = {}
    for patch_id, pick in chosen.items():
        work = known.get(patch_id)
        if work and not work.imported and work.seconds and states.get(patch_id) == annotation.DONE:
            by_round.setdefault(pick.round_id, []).append(work.seconds)
    recent = [seconds for number in sorted(by_round)[-RECENT_ROUNDS:] for seconds in by_round[number]]
    return batch * float(np.mean(recent)) / 60 if recent else None


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # adding 0 makes a zero of a negative zero


def _minutes(minutes: float) -> str:
    if minutes < 1.5:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"


# --- what the worker computes --------------------------------------------------------------------------------


def missing(store: Store, project_id: int) -> str:
    """What `run_advise` has to compute, as a hash that stays the same until it is done; "" when there is nothing."""
    target = _file(store, project_id)
    return "" if target is None or target.exists() else target.stem


def run_advise(store: Store, project_id: int, report: Report, wanted: str = "") -> None:
    """Compute what `missing` names. `wanted` is only kept with the job: it tells the pages what was tried. Raises
    `Cancelled` from `report`."""
    target = _file(store, project_id)
    if target is None or target.exists():
        return
    report(0, 1, "Measuring how far the labels reach")
    reach = _reach(store, project_id)
    pair = _last_two(store, project_id)
    stop_set = _stop_set(store, project_id)
    comparable = [patch for patch in stop_set if pair and all(patch.image_id in maps for _, maps in pair)]
    change = changed(_pairs(store, pair, comparable, report)) if comparable else None
    found = {
        "reach": {str(number): asdict(item) for number, item in reach.items()},
        "compared": [number for number, _ in pair] if change else None,
        "change": asdict(change) if change else None,
        "uncompared": len(stop_set) - len(comparable),
    }
    store.files.write(target, lambda handle: handle.write(json.dumps(found).encode()))
    for path in target.parent.glob("facts-*.json"):
        if path != target:
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
    report(1, 1, "Compared the last two rounds")


def _known(store: Store, project_id: int) -> Facts | None:
    target = _file(store, project_id)
    if target is None or not target.exists():
        return None
    found = json.loads(target.read_text(encoding="utf-8"))
    return Facts(
        {int(number): Reach(**item) for number, item in found["reach"].items()},
        tuple(found["compared"]) if found["compared"] else None,
        Change(**found["change"]) if found["change"] else None,
        found["uncompared"],
    )


def _file(store: Store, project_id: int) -> Path | None:
    """Where the facts are kept; None before the first round is trained."""
    row = models.latest_embedding(store, project_id)
    if row is None or not any(results.checkpoint_by_round(store, project_id)):
        return None
    labelled = sorted(_labelled(store, project_id).items())
    # The patches of an image stay the same once any is picked: the images and the picks tell what no round picked.
    images = [image.id for image in catalogue.images(store, project_id, ImageRole.TRAIN)]
    chosen = sorted(round_rows.selected_in_project(store, project_id))
    pair = [(number, sorted(item.id for item in maps.values())) for number, maps in _last_two(store, project_id)]
    key = content_hash("advice", row.sha256, labelled, images, chosen, pair, STOP_SET)
    return store.files.project(project_id) / "advice" / f"facts-{key[:16]}.json"


def _labelled(store: Store, project_id: int) -> dict[int, int]:
    """The round in which each finished training patch was picked, by patch id."""
    chosen = round_rows.selected_in_project(store, project_id)
    states = annotation.patch_states(store, list(chosen))
    numbers = {item.id: item.number for item in round_rows.rounds(store, project_id)}
    return {
        patch_id: numbers[pick.round_id]
        for patch_id, pick in chosen.items()
        if pick.role is PatchRole.TRAIN and states.get(patch_id) == annotation.DONE
    }


def _reach(store: Store, project_id: int) -> dict[int, Reach]:
    patches, vectors = embedding.embedded(store, project_id)
    labelled = _labelled(store, project_id)
    numbers = sorted(set(labelled.values()))
    made = np.array([labelled.get(patch.id, 0) for patch in patches])
    return dict(zip(numbers, reach_by_round(vectors, made, numbers), strict=True))


def _last_two(store: Store, project_id: int) -> list[tuple[int, dict[int, LabelMap]]]:
    """(round number, predictions by image id) of the last two rounds that have predictions; empty with fewer."""
    trained = results.checkpoint_by_round(store, project_id)
    predicted = ((number, labels.of_checkpoint(store, trained[number].id)) for number in sorted(trained, reverse=True))
    newest = list(islice((item for item in predicted if item[1]), 2))
    return newest[::-1] if len(newest) == 2 else []


def _pairs(
    store: Store, pair: list[tuple[int, dict[int, LabelMap]]], patches: Sequence[Patch], report: Report
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What both models predicted on `patches`."""
    by_image: dict[int, list[Patch]] = {}
    for patch in patches:
        by_image.setdefault(patch.image_id, []).append(patch)
    for index, (image_id, here) in enumerate(by_image.items()):
        report(index, len(by_image), "Comparing the predictions of the last two rounds")
        maps = [labels.read(store, found[image_id]) for _, found in pair]
        for patch in here:
            yield catalogue.crop(maps[0], patch), catalogue.crop(maps[1], patch)


def _stop_set(store: Store, project_id: int) -> list[Patch]:
    """Patches that no round picked, in an order by chance that is always the same."""
    patches = catalogue.patches(store, project_id)
    chosen = round_rows.selected_in_project(store, project_id)
    order = np.random.default_rng([catalogue.project(store, project_id).seed, 5]).permutation(len(patches))
    return [patches[at] for at in order if patches[at].id not in chosen][:STOP_SET]
