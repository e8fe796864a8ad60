"""Does training forget? Scores on validation patches of earlier rounds, before and after each training.

Every model is scored on every validation patch (`evaluation.rescore`), so nothing has to be predicted anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from alapp.domain import InstanceScores, PatchRole
from alapp.rounds.predict import evidence
from alapp.rounds.results import results
from alapp.rounds.results.diagnostics import Diagnosis, State, there_are
from alapp.stages.paired import MIN_PATCHES, Difference, paired_difference
from alapp.storage import catalogue, models
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint

NAME = "Forgetting"


@dataclass(frozen=True)
class Memory:
    """What training round `number` did to the scores, on validation patches that earlier rounds selected (`old`) and
    on those of its own batch (`new`); None without such patches. `by_image`: `old` by the name of the image."""

    number: int
    old: Difference | None
    new: Difference | None
    by_image: Mapping[str, Difference]

    @property
    def forgets(self) -> bool:
        """Whether the score on old patches fell by more than chance."""
        return self.old is not None and self.old.worse


def memories(store: Store, project_id: int) -> list[Memory]:
    """One for each trained round that has validation patches and a model to compare with, in order."""
    items = evidence.labelled(store, project_id, PatchRole.VALIDATION)
    names = {image.id: image.name for image in catalogue.images(store, project_id)}
    trained = results.checkpoint_by_round(store, project_id)
    found = []
    for number, checkpoint in sorted(trained.items()):
        before = _before(store, checkpoint, number, trained)
        if not number or before is None:
            continue
        scored = [_by_patch(store, item.id) for item in (before, checkpoint)]
        old = [item for item in items if item.round_number < number]
        by_image: dict[str, list[int]] = {}
        for item in old:
            by_image.setdefault(names[item.human.image_id], []).append(item.patch_id)
        pairs = {name: _difference(scored, patches) for name, patches in by_image.items()}
        memory = Memory(
            number,
            _difference(scored, [item.patch_id for item in old]),
            _difference(scored, [item.patch_id for item in items if item.round_number == number]),
            {name: pair for name, pair in pairs.items() if pair is not None},
        )
        if memory.old or memory.new:
            found.append(memory)
    return found


def forgetting(known: Iterable[Memory]) -> Diagnosis:
    """Whether the newest training forgot."""
    last = next((memory for memory in reversed(list(known)) if memory.old is not None), None)
    if last is None or last.old is None or last.old.interval is None:
        n = last.old.n if last and last.old else 0
        sentence = f"It takes {MIN_PATCHES} validation patches of earlier rounds to tell; {there_are(n)}."
        return Diagnosis(NAME, State.UNKNOWN, sentence)
    old = last.old
    numbers = {
        "validation patches of earlier rounds": old.n,
        "F1 before training": old.before,
        "F1 after training": old.after,
        "change of F1, lower end of the 95% interval": old.interval[0],
        "change of F1, upper end": old.interval[1],
    }
    if not last.forgets:
        sentence = f"Training round {last.number} forgot nothing: F1 {old.before:.2f} before, {old.after:.2f} after."
        return Diagnosis(NAME, State.OK, sentence, "", numbers)
    return Diagnosis(
        NAME,
        State.WARNING,
        f"Training round {last.number} forgot: on the {old.n} validation patches of earlier rounds F1 fell from "
        f"{old.before:.2f} to {old.after:.2f}, which is more than chance.",
        "If the older images still matter, go on from the model before, and see that the next batch has patches of "
        "them. Labels of all rounds are always trained on together.",
        numbers,
    )


def _before(store: Store, checkpoint: Checkpoint, number: int, trained: Mapping[int, Checkpoint]) -> Checkpoint | None:
    """The model that the training started from; for one from scratch, that of the round before."""
    if checkpoint.parent_id is not None:
        return models.checkpoint(store, checkpoint.parent_id)
    earlier = [n for n in trained if n < number]
    return trained[max(earlier)] if earlier else None


def _by_patch(store: Store, checkpoint_id: int) -> dict[int, InstanceScores]:
    return {row.patch_id: row.scores for row in models.scores(store, checkpoint_id, "validation") if row.patch_id}


def _difference(scored: list[dict[int, InstanceScores]], patches: Collection[int]) -> Difference | None:
    """On those of `patches` that both models were scored on; None without any."""
    both = [patch_id for patch_id in patches if all(patch_id in known for known in scored)]
    if not both:
        return None
    before, after = ([known[patch_id] for patch_id in both] for known in scored)
    return paired_difference(before, after)
