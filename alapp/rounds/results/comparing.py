"""Two models on the same patches: what got better, what got worse."""

from __future__ import annotations

from dataclasses import dataclass

from alapp.domain import InstanceScores, PatchRole
from alapp.rounds.predict import evidence
from alapp.stages.paired import Difference, paired_difference
from alapp.storage import labels, models
from alapp.storage.db import Store

SAME = 0.005
"""F1 that differs by less is the same on the page, where it has two decimals."""


@dataclass(frozen=True)
class Change:
    """A patch (or an image: `kind` "image") and its scores by both models."""

    kind: str
    item_id: int
    before: InstanceScores
    after: InstanceScores

    @property
    def f1(self) -> float:
        """The change of F1 at IoU 0.5."""
        return self.after.f1_50 - self.before.f1_50


@dataclass(frozen=True)
class Changes:
    """`items`, the largest change first. `split`: what they are, "validation", "test" or "train"."""

    split: str
    items: tuple[Change, ...]

    @property
    def better(self) -> int:
        """How many got better by at least `SAME`."""
        return sum(item.f1 >= SAME for item in self.items)

    @property
    def worse(self) -> int:
        """How many got worse by at least `SAME`."""
        return sum(item.f1 <= -SAME for item in self.items)

    @property
    def difference(self) -> Difference:
        """Of all items together. Raises `ValueError` without items."""
        return paired_difference([item.before for item in self.items], [item.after for item in self.items])


def changes(store: Store, before_id: int, after_id: int) -> Changes:
    """Two checkpoints on the validation patches that both were scored on, else on the test images, else on the patches
    they were trained on; without items when nothing is labelled."""
    for split, kind in (("validation", "patch"), ("test", "image")):
        found = [
            {
                (row.patch_id if kind == "patch" else row.image_id): row.scores
                for row in models.scores(store, one, split)
            }
            for one in (before_id, after_id)
        ]
        if items := _both(kind, *found):
            return Changes(split, items)
    training = evidence.labelled(store, models.checkpoint(store, after_id).project_id, PatchRole.TRAIN)
    guesses = [labels.of_checkpoint(store, one) for one in (before_id, after_id)]
    return Changes("train", _both("patch", *(evidence.scores(store, training, maps) for maps in guesses)))


def _both(kind: str, before: dict[int, InstanceScores], after: dict[int, InstanceScores]) -> tuple[Change, ...]:
    items = [Change(kind, key, before[key], after[key]) for key in before if key in after]
    return tuple(sorted(items, key=lambda item: -abs(item.f1)))
