"""Core-set that asks how much is learned for a minute of annotation."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from alapp.stages.select.base import LIKENESS, Context, Need, Selection, candidate_rows
from alapp.stages.select.coreset import instead, weighted

NO_OBJECTS = "what annotation would cost is not known without predictions or pseudo-labels"


class CoreSetCost:
    """k-centre greedy with distances divided by the expected seconds of annotation.

    Gain per cost, as in Settles, Craven & Friedland 2008, "Active Learning with Real Annotation Costs", section 4. The
    expected cost of a patch is a time for the patch and one for each object that the model or the pseudo-labels show
    in it, both measured on the annotator's own work once there is enough.
    """

    title: ClassVar[str] = "Core-set by effort"
    suits: ClassVar[str] = (
        "Covers the data set with little annotation time: new-looking patches with few objects first."
    )
    needs: ClassVar[frozenset[Need]] = LIKENESS | {Need.COST}
    uses_embeddings: ClassVar[bool] = True

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` picks, by cosine distance to the nearest labelled or picked patch per `context.cost`. Plain
        core-set where the cost is not known."""
        if context.cost is None:
            return instead(NO_OBJECTS, embeddings, labelled, k, rng, context)
        candidates = candidate_rows(embeddings, labelled, k, context)
        cost = np.asarray(context.cost, dtype=np.float64)
        weights = cost.min(initial=np.inf) / cost
        found = weighted(embeddings, labelled, candidates, min(k, len(candidates)), rng, context, weights)
        return Selection(
            tuple(replace(p, reason=f"{p.reason}; expected to take {_time(cost[p.row])}") for p in found.picks)
        )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
