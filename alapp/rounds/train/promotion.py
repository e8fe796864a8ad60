"""Whether a model that was just trained replaces the one in use, and going back to an earlier one.

A model is never deleted here: a refused one stays in the list, and a person can use it anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alapp.domain import InstanceScores
from alapp.errors import NotReadyError
from alapp.rounds.predict import evaluation
from alapp.rounds.train import lineage
from alapp.stages.metrics import pool
from alapp.stages.paired import probability_lower
from alapp.storage import labels, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint
from alapp.storage.verdicts import DecidedBy, Verdict, VerdictKind

MIN_PATCHES, MIN_OBJECTS = 2, 20
"""With fewer validation patches, or fewer labelled objects in all of them, two models are not compared, but for
`LOST_OBJECTS`."""

LOST_OBJECTS = 5
"""A model that finds none where the one in use finds so many is worse, however few patches there are: one that still
finds half of them would miss all five once in 32 times."""

MIN_PROBABILITY = 0.95
"""How sure the paired bootstrap over patches must be that the new model is worse."""


@dataclass(frozen=True)
class Paired:
    """Two models on the same validation patches: pooled F1 at IoU 0.5 of the one in use and of the new one,
    `p_worse` the probability that the new one is worse; the scores are None without a patch. They find
    `tp_current` and `tp_new` objects."""

    patches: int
    objects: int
    f1_current: float | None = None
    f1_new: float | None = None
    p_worse: float | None = None
    tp_current: int = 0
    tp_new: int = 0

    @property
    def lost_all(self) -> bool:
        """Whether the new model finds nothing any more, as after a batch with hardly an object."""
        return self.tp_new == 0 and self.tp_current >= LOST_OBJECTS

    @property
    def checked(self) -> bool:
        """Whether there were enough patches and objects to tell."""
        return self.lost_all or (self.patches >= MIN_PATCHES and self.objects >= MIN_OBJECTS)

    @property
    def clearly_worse(self) -> bool:
        """Whether the new model should not replace the other."""
        if self.lost_all:
            return True
        if not self.checked or self.f1_current is None or self.f1_new is None or self.p_worse is None:
            return False
        return self.f1_current - self.f1_new > margin(self.patches) and self.p_worse >= MIN_PROBABILITY


def margin(patches: int) -> float:
    """By how much F1 must fall, at least: 0.13 with 2 validation patches, 0.05 with 10, 0.03 with very many.

    Two trainings on the same patches differ by 0.03 or more by chance, and the bootstrap over few patches is too sure
    of itself. With this margin, in simulations with 20 objects a patch, a model that is as good as the other is
    refused in 5-7% of cases at any number of patches; one whose F1 is lower by 0.2 in 74% (2 patches), 95% (4)
    and 98% (6) of cases.
    """
    return 0.03 + 0.2 / patches


def compare(current: Sequence[InstanceScores], new: Sequence[InstanceScores]) -> Paired:
    """The scores of two models on the same patches, in the same order."""
    if not current:
        return Paired(0, 0)
    before, after = pool(current), pool(new)
    p_worse = probability_lower(current, new)
    return Paired(len(current), before.n_true, before.f1_50, after.f1_50, p_worse, before.tp_50, after.tp_50)


def compare_models(store: Store, current: Checkpoint, new: Checkpoint) -> Paired:
    """Two models on the validation patches that both were scored on."""
    first, second = (
        {row.patch_id: row.scores for row in models.scores(store, item.id, "validation")} for item in (current, new)
    )
    common = sorted(first.keys() & second.keys())
    return compare([first[patch] for patch in common], [second[patch] for patch in common])


def judge(store: Store, candidate: Checkpoint) -> Verdict | None:
    """Decide whether a scored model becomes the current one, and record it. None when it is the current one already
    or was refused for the same reason before.

    A clearly worse model is refused. So is a model from pseudo-labels alone that would replace one from human
    labels, unless the comparison can be made.
    """
    current = verdicts.current_checkpoint(store, candidate.project_id)
    if current is not None and current.id == candidate.id:
        if candidate.id in verdicts.judged(store, candidate.project_id):
            return None
        current = _before(store, candidate)
    if current is None:
        return verdicts.add(store, candidate, VerdictKind.PROMOTION, True, {})
    found = compare_models(store, current, candidate)
    unproven = candidate.round_id is None and current.round_id is not None and not found.checked
    facts = {
        "replaces": current.id,
        "patches": found.patches,
        "objects": found.objects,
        "f1_current": found.f1_current,
        "f1_new": found.f1_new,
        "p_worse": found.p_worse,
        "checked": found.checked,
    }
    accepted = not found.clearly_worse and not unproven
    known = verdicts.of_checkpoint(store, candidate.id, VerdictKind.PROMOTION)
    if known and not accepted and not known[-1].accepted and known[-1].facts == facts:
        return None
    verdict = verdicts.add(store, candidate, VerdictKind.PROMOTION, accepted, facts)
    labels.drop_probabilities(store, candidate.project_id, evaluation.with_probabilities(store, candidate.project_id))
    return verdict


def _before(store: Store, candidate: Checkpoint) -> Checkpoint | None:
    """The newest model from before `candidate`, of a project in which none was accepted yet."""
    earlier = [item for item in models.checkpoints(store, candidate.project_id) if item.id < candidate.id]
    return earlier[-1] if earlier else None


def use(store: Store, project_id: int, checkpoint_id: int) -> Verdict:
    """Make any model of the project the current one, because a person says so.

    Suggestions, exports, new images and the next training then go on from it. Raises `NotReadyError` when the model
    does not exist, its file is gone, or it is in use already.
    """
    chosen = check_usable(store, project_id, checkpoint_id)
    current = verdicts.current_checkpoint(store, project_id)
    facts = {"replaces": current.id if current else None}
    return verdicts.add(store, chosen, VerdictKind.PROMOTION, True, facts, DecidedBy.PERSON)


def check_usable(store: Store, project_id: int, checkpoint_id: int) -> Checkpoint:
    """The model, if it can take the place of the current one; else raises as `use` does."""
    chosen = models.checkpoint(store, checkpoint_id)
    if chosen.project_id != project_id:
        raise NotReadyError("This model belongs to another project. Reload the page.")
    name = lineage.names(store, project_id)[checkpoint_id]
    if not lineage.available(store, chosen):
        newest = round_rows.latest(store, project_id)
        # An earlier one learns from later labels, too, when it is trained again, so that gives another model.
        again = ", or train the round again" if newest and newest.id == chosen.round_id else ""
        raise NotReadyError(
            f"{name} cannot be used any more: its file was deleted to save space. Choose a model whose size on disk is "
            f"shown{again}."
        )
    current = verdicts.current_checkpoint(store, project_id)
    if current is not None and current.id == checkpoint_id:
        raise NotReadyError(f"{name} is in use already.")
    return chosen


def needs_predicting(store: Store, project_id: int) -> bool:
    """Whether the current model has images to predict: new ones, or some whose probabilities were removed."""
    current = verdicts.current_checkpoint(store, project_id)
    if current is None:
        return False
    return bool(evaluation.unpredicted(store, project_id) or labels.without_probability(store, current.id))


def undoable(store: Store, project_id: int) -> Checkpoint | None:
    """The model that was in use before a person chose the current one; None if the app chose it, or that model's
    file is gone."""
    last = _last_accepted(store, project_id)
    if last is None or last.decided_by is not DecidedBy.PERSON or last.facts["replaces"] is None:
        return None
    known = {item.id: item for item in models.checkpoints(store, project_id)}
    before = known.get(last.facts["replaces"])
    return before if before and lineage.available(store, before) else None


def undo(store: Store, project_id: int) -> Verdict:
    """Go back to the model that was in use before a person chose the current one. Raises `NotReadyError` when there
    is nothing to undo."""
    before = undoable(store, project_id)
    if before is None:
        raise NotReadyError("There is nothing to undo: no other model was in use before.")
    return use(store, project_id, before.id)


def refused(store: Store, project_id: int) -> Checkpoint | None:
    """The newest model, if it was refused and nobody decided otherwise since."""
    found = verdicts.of_project(store, project_id, VerdictKind.PROMOTION)
    return models.checkpoint(store, found[-1].checkpoint_id) if found and not found[-1].accepted else None


def news(store: Store, project_id: int) -> str:
    """One sentence on the last decision about which model is used; "" before the second model."""
    found = verdicts.of_project(store, project_id, VerdictKind.PROMOTION)
    return sentence(store, found[-1]) if found else ""


def sentence(store: Store, verdict: Verdict) -> str:
    """A decision in plain words, with its numbers; "" where nothing was compared or chosen."""
    facts, names = verdict.facts, lineage.names(store, verdict.project_id)
    this, other = names[verdict.checkpoint_id], names.get(facts.get("replaces"), "the model before")
    if verdict.decided_by is DecidedBy.PERSON:
        return f"{this} is in use because you chose it instead of {other}."
    if "checked" not in facts:
        return ""
    if not facts["checked"]:
        return _unchecked(this, other, verdict)
    where = "validation patch" if facts["patches"] == 1 else f"{facts['patches']} validation patches"
    numbers = f"F1 {facts['f1_new']:.2f} against {facts['f1_current']:.2f} on the same {where}"
    if not verdict.accepted:
        return f"{this} was kept but is not used, because it is clearly worse than {other}: {numbers}."
    better = facts["f1_new"] >= facts["f1_current"]
    said = "is at least as good" if better else "is not clearly worse"
    return f"{this} is in use: it {said}{' as' if better else ' than'} {other} ({numbers})."


def _unchecked(this: str, other: str, verdict: Verdict) -> str:
    facts = verdict.facts
    patches = f"{facts['patches']} validation patch{'' if facts['patches'] == 1 else 'es'}"
    why = (
        f"there are only {patches} with {facts['objects']} objects to compare on, and it takes at least {MIN_PATCHES} "
        f"patches with {MIN_OBJECTS} objects"
    )
    if verdict.accepted:
        return f"{this} is in use, but could not be checked against {other}: {why}."
    return (
        f"{this} was kept but is not used: it learned from pseudo-labels only, {other} from your labels, and which is "
        f"better could not be checked: {why}."
    )


def _last_accepted(store: Store, project_id: int) -> Verdict | None:
    found = [item for item in verdicts.of_project(store, project_id, VerdictKind.PROMOTION) if item.accepted]
    return found[-1] if found else None
