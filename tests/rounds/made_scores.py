"""Made scores: so many objects found of so many."""

from __future__ import annotations

from alapp.domain import InstanceScores
from alapp.rounds.predict.evidence import Compared
from alapp.stages.object_errors import ObjectErrors


def scored(found: int, objects: int, invented: int | None = None) -> InstanceScores:
    """`found` of `objects` are right; `invented` more are predicted, by default as many as are missed."""
    wrong = objects - found if invented is None else invented
    f1 = 2 * found / (objects + found + wrong)
    return InstanceScores(f1, f1, f1, f1, f1, objects, found + wrong, found, wrong, objects - found)


def compared(scores: InstanceScores, merges=0, splits=0, invented=0, true_size=100, found_size=100) -> Compared:
    sizes = (true_size,) * scores.n_true, (found_size,) * scores.n_pred
    return Compared(scores, ObjectErrors(merges, splits, invented, *sizes))
