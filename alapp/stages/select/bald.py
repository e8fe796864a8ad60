"""The patches in which several looks of the model contradict each other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alapp.stages.select.base import LIKENESS, Context, Need, Selection
from alapp.stages.select.coreset import instead
from alapp.stages.select.entropy import NO_MODEL, highest


class Bald:
    """Highest mutual information of prediction and mirrored copy, averaged over the pixels of a patch.

    BALD: Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning", equation 2; for
    networks Gal, Islam & Ghahramani 2017, "Deep Bayesian Active Learning with Image Data". There the predictions are
    those of draws of the weights; here those of mirrored copies, which nnU-Net makes anyway.
    """

    title: ClassVar[str] = "Most contradictory"
    suits: ClassVar[str] = "Patches that the model answers differently when they are mirrored, where labels would help."
    needs: ClassVar[frozenset[Need]] = LIKENESS | {Need.MUTUAL_INFORMATION}
    uses_embeddings: ClassVar[bool] = True

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` rows, those with the largest `context.mutual_information` first; ties go to the lowest row.
        Core-set before there is a model."""
        if context.mutual_information is None:
            return instead(NO_MODEL, embeddings, labelled, k, rng, context)
        words = "the model contradicts itself when the patch is mirrored"
        return highest(context.mutual_information, words, embeddings, labelled, k, context)
