"""Random selection: the baseline that every strategy has to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alapp.stages.select.base import Context, Need, Pick, Selection, candidate_rows


class Random:
    """Every patch has the same chance."""

    title: ClassVar[str] = "Random"
    suits: ClassVar[str] = "The fair baseline: every patch has the same chance."
    needs: ClassVar[frozenset[Need]] = frozenset()
    uses_embeddings: ClassVar[bool] = False

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` rows drawn uniformly without replacement; only the length of `embeddings` matters."""
        candidates = candidate_rows(embeddings, labelled, k, context)
        rows = rng.permutation(candidates)[:k]
        return Selection(tuple(Pick(int(row), "drawn at random") for row in rows))
