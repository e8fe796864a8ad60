"""Core-set that prefers patches about which the model is in doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from alapp.stages.select.base import LIKENESS, Context, Need, Selection, candidate_rows
from alapp.stages.select.coreset import instead, weighted
from alapp.stages.select.entropy import NO_MODEL

LEAST_WEIGHT = 0.1
"""Patches without any doubt still count, for what the model is wrongly sure of."""


class CoreSetUncertainty:
    """k-centre greedy with distances weighted by predictive entropy.

    The greedy step of the core-set (Sener & Savarese 2018) with distance times doubt in place of distance, as
    uncertainty weights diversity in Zhdanov 2019, "Diverse mini-batch Active Learning".
    """

    title: ClassVar[str] = "Core-set by doubt"
    suits: ClassVar[str] = "Patches unlike all labelled ones in which the model is also unsure."
    needs: ClassVar[frozenset[Need]] = LIKENESS | {Need.UNCERTAINTY}
    uses_embeddings: ClassVar[bool] = True

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` picks, by cosine distance to the nearest labelled or picked patch times `doubt_weights`. Plain
        core-set before there is a model."""
        if context.uncertainty is None:
            return instead(NO_MODEL, embeddings, labelled, k, rng, context)
        candidates = candidate_rows(embeddings, labelled, k, context)
        weights = doubt_weights(context.uncertainty)
        found = weighted(embeddings, labelled, candidates, min(k, len(candidates)), rng, context, weights)
        return with_doubt(found, context.uncertainty)


def doubt_weights(uncertainty: np.ndarray) -> np.ndarray:
    """float64 (N,) from `LEAST_WEIGHT` for the least to 1 for the greatest doubt; all 1 where all doubt is the same."""
    low, high = float(np.min(uncertainty, initial=1)), float(np.max(uncertainty, initial=0))
    if high <= low:
        return np.ones(len(uncertainty))
    return LEAST_WEIGHT + (1 - LEAST_WEIGHT) * (np.asarray(uncertainty, dtype=np.float64) - low) / (high - low)


def with_doubt(found: Selection, uncertainty: np.ndarray) -> Selection:
    """The picks, whose reasons tell the doubt too."""
    return Selection(
        tuple(replace(p, reason=f"{p.reason}; the model's doubt: {uncertainty[p.row]:.3f} of at most 1")
              for p in found.picks)
    )  # fmt: skip
