"""The patches in which the model is least sure."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alapp.stages.select.avoid import in_order
from alapp.stages.select.base import LIKENESS, Context, Need, Pick, Selection, candidate_rows
from alapp.stages.select.coreset import instead, said

NO_MODEL = "there is no model yet that could be in doubt"


class Entropy:
    """Highest predictive entropy, averaged over mirrored copies and over the pixels of a patch.

    Shannon's entropy as a measure of doubt: Settles, "Active Learning Literature Survey", 2009, section 3.1; averaged
    over mirrored copies (Wang et al. 2019, "Aleatoric uncertainty estimation with test-time augmentation").
    """

    title: ClassVar[str] = "Most doubtful"
    suits: ClassVar[str] = "Patches where the model wavers most between background, object and border."
    needs: ClassVar[frozenset[Need]] = LIKENESS | {Need.UNCERTAINTY}
    uses_embeddings: ClassVar[bool] = True

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` rows, those with the largest `context.uncertainty` first; ties go to the lowest row. Embeddings
        serve to pass over patches that show the same as another one. Core-set before there is a model."""
        if context.uncertainty is None:
            return instead(NO_MODEL, embeddings, labelled, k, rng, context)
        return highest(context.uncertainty, "the model is in doubt", embeddings, labelled, k, context)


def highest(
    scores: np.ndarray, words: str, embeddings: np.ndarray, labelled: np.ndarray, k: int, context: Context
) -> Selection:
    """Rows with the highest `scores` float (N,) in [0, 1], with reasons that begin with `words`."""
    candidates = candidate_rows(embeddings, labelled, k, context)
    ordered = candidates[np.argsort(-np.asarray(scores)[candidates], kind="stable")]
    place = {int(row): number for number, row in enumerate(ordered.tolist(), start=1)}
    found = in_order(ordered, k, embeddings, np.flatnonzero(labelled), context)
    return Selection(
        tuple(
            Pick(t.row, said(f"{words}: {scores[t.row]:.3f} of at most 1, {_rank(place[t.row], len(ordered))}", t),
                 t.distance, t.nearest)
            for t in found
        )
    )  # fmt: skip


def _rank(place: int, count: int) -> str:
    return f"the most of {count} patches" if place == 1 else f"number {place} of {count} patches"
