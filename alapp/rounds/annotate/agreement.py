"""How well the person agrees with themselves: patches that were annotated twice, weeks or minutes apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from alapp.domain import InstanceScores
from alapp.rounds.annotate import annotation_region
from alapp.stages.metrics import annotated_only, f1_interval, pool, score_instances
from alapp.storage import labels, ledger
from alapp.storage.db import Store

MIN_REPEATS = 3  # patches; with fewer the score is mostly chance


@dataclass(frozen=True)
class Agreement:
    """Of the first and the second annotation of `n` patches: F1 at IoU 0.5 over all their objects with its 95%
    interval over patches, and the mean IoU of matched objects. Scores are None with fewer than `MIN_REPEATS`
    patches, `interval` where `stages.metrics.f1_interval` gives none, `mean_iou` also where no object matches."""

    n: int
    f1_50: float | None = None
    interval: tuple[float, float] | None = None
    mean_iou: float | None = None


def agreement(store: Store, project_id: int) -> Agreement:
    """Both annotations of every repeated patch, compared; the first as it was before the patch was repeated. Both
    were made without suggestions (see `measuring.repeatable`). What one of them left out as not annotated is not
    compared."""
    pairs = [(first, second) for _, first, second in ledger.pairs(store, project_id)]
    if len(pairs) < MIN_REPEATS:
        return Agreement(len(pairs))
    parts = [_scores(store, first, second) for first, second in pairs]
    pooled = pool(parts)
    # PQ is the mean IoU of matches times F1 (Kirillov et al. 2019, equation 2).
    mean_iou = pooled.pq / pooled.f1_50 if pooled.tp_50 else None
    return Agreement(len(pairs), pooled.f1_50, f1_interval(parts), mean_iou)


@lru_cache(maxsize=512)
def _scores(store: Store, first: int, second: int) -> InstanceScores:
    """Label maps are never changed, so a pair is compared once."""
    maps = labels.of_ids(store, [first, second])
    before, after = (labels.read(store, item) for item in maps)
    for item in maps:
        ignored = annotation_region.pixels_of(store, item)
        if ignored is not None:
            before, after = annotated_only(before, ignored), annotated_only(after, ignored)
    return score_instances(before, after)
