"""Random selection that sees to it that objects are in it: the baseline that is hard to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alapp.stages.select import measures
from alapp.stages.select.base import Context, Need, Pick, Selection, candidate_rows

FOREGROUND_SHARE = 1 / 3
"""Share of the draws that must hold foreground (nnActive, arXiv 2511.19183, strategy "Random 33% FG")."""


class ForegroundRandom:
    """A third of the draws only from patches with foreground, the others from all patches.

    The foreground-aware random baseline of nnActive (arXiv 2511.19183), with the foreground that predictions or
    pseudo-labels show (`Context.foreground`) in place of a reference, which is not known here; as they also show
    specks where nothing is, patches with no more than that do not count.
    """

    title: ClassVar[str] = "Random, a third with objects"
    suits: ClassVar[str] = "A strong baseline where most of the image is background."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.FOREGROUND})
    uses_embeddings: ClassVar[bool] = False

    def __init__(self, quota_by_chance: bool = False):
        """With `quota_by_chance` every draw has a chance of a third to be one of those that must hold foreground, so
        that a few draws are on average what many are; a quota of one in a single draw would be all of it."""
        self.quota_by_chance = quota_by_chance

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` rows, of which `round(k / 3)`, at least one, hold foreground while there are such patches; or as
        many as chance says, see `quota_by_chance`.

        Without `context.foreground`, or where no candidate has foreground, all draws are random, and say so.
        """
        candidates = candidate_rows(embeddings, labelled, k, context)
        k = min(k, len(candidates))
        if context.foreground is None:
            return self._random(candidates, k, rng, "drawn at random: the foreground is not known yet")
        fraction = np.asarray(context.foreground, dtype=np.float64)
        holding = candidates[measures.holds_objects(fraction)[candidates]]
        if len(holding) == 0:
            return self._random(candidates, k, rng, "drawn at random: no patch left has foreground")
        quota = rng.binomial(k, FOREGROUND_SHARE) if self.quota_by_chance else max(1, round(k * FOREGROUND_SHARE))
        quota = min(quota, k, len(holding))
        foreground = rng.permutation(holding)[:quota]
        others = rng.permutation(np.setdiff1d(candidates, foreground))[: k - quota]
        picks = [
            Pick(int(row), f"drawn at random among patches with foreground: {percent(fraction[row])} of its pixels")
            for row in foreground
        ]
        picks += [Pick(int(row), "drawn at random among all patches") for row in others]
        return Selection(tuple(picks[i] for i in rng.permutation(len(picks))))

    @staticmethod
    def _random(candidates: np.ndarray, k: int, rng: np.random.Generator, reason: str) -> Selection:
        return Selection(tuple(Pick(int(row), reason) for row in rng.permutation(candidates)[:k]))


def percent(fraction: float) -> str:
    """A short percentage that never rounds something to nothing."""
    return f"{fraction:.0%}" if fraction >= 0.01 else "less than 1%"
