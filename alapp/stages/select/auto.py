"""What the app recommends: a core-set that sees to it that objects are in every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from alapp.stages.select import measures
from alapp.stages.select.avoid import Avoid, Taken, farthest_first, in_order
from alapp.stages.select.base import LIKENESS, Context, Need, Pick, Selection, candidate_rows
from alapp.stages.select.coreset import RANDOM_START, said
from alapp.stages.select.foreground_random import FOREGROUND_SHARE
from alapp.stages.select.kcentre import NearestCentre

SEEN = ", among patches in which objects are seen"


class Auto:
    """Core-set, of which a third of each batch, at least one patch, are patches in which objects are seen.

    A core-set spreads over what the images look like; where objects are rare, most of that is background, and a batch
    teaches little of the objects. Random selection that sees to it that objects are in it is hard to beat (nnActive,
    arXiv 2511.19183), and was not beaten by this (docs/evidence.md); this spreads out as well, and tells why it took a
    patch. Where most patches have objects, it is close to `CoreSet`: while nothing is labelled it begins with as many
    random patches, as far as may be with objects.

    Without what shows objects, it is a core-set, and its first patches are drawn from all. Almost empty patches and
    those that show the same are avoided.
    """

    title: ClassVar[str] = "Automatic"
    suits: ClassVar[str] = "Patches that differ from the labelled ones; a third show objects."
    needs: ClassVar[frozenset[Need]] = LIKENESS | {Need.FOREGROUND}
    uses_embeddings: ClassVar[bool] = True

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` picks. What the context does not tell is left out, and the reasons say so."""
        candidates = candidate_rows(embeddings, labelled, k, context)
        k = min(k, len(candidates))
        if k == 0:
            return Selection(())
        holding = _Holding.among(candidates, k, context)
        picks: list[Pick] = []
        if not labelled.any():
            picks = _start(embeddings, candidates, holding, min(RANDOM_START, k), rng, context)
        centres = np.array([*np.flatnonzero(labelled), *(pick.row for pick in picks)], dtype=np.int64)
        nearest = NearestCentre(embeddings, candidates, centres)
        avoid = Avoid(context, len(embeddings), centres)
        still = holding.quota - np.isin([pick.row for pick in picks], holding.rows).sum()
        nearest.allow(holding.rows)
        picks += [_pick(taken, holding.words) for taken in farthest_first(nearest, still, avoid, fill=False)]
        nearest.allow(candidates)
        picks += [_pick(taken, "") for taken in farthest_first(nearest, k - len(picks), avoid)]
        return Selection(tuple(picks))


@dataclass(frozen=True)
class _Holding:
    """Candidates in which objects are seen, all where none or nothing is known; how many of them a batch has at least;
    and the words for it."""

    rows: np.ndarray
    quota: int
    words: str = ""

    @classmethod
    def among(cls, candidates: np.ndarray, k: int, context: Context) -> _Holding:
        rows = np.array([], dtype=np.int64)
        if context.foreground is not None:
            rows = candidates[measures.holds_objects(context.foreground)[candidates]]
        share = max(1, round(k * FOREGROUND_SHARE))
        return cls(rows, min(share, len(rows)), SEEN) if len(rows) else cls(candidates, min(share, len(candidates)))


def _start(
    embeddings: np.ndarray,
    candidates: np.ndarray,
    holding: _Holding,
    k: int,
    rng: np.random.Generator,
    context: Context,
) -> list[Pick]:
    """`k` random patches; those that the quota asks for are drawn from `holding`, the others from all candidates."""
    none = np.array([], dtype=np.int64)
    first = in_order(rng.permutation(holding.rows), min(holding.quota, k), embeddings, none, context, fill=False)
    drawn = np.array([taken.row for taken in first], dtype=np.int64)
    others = rng.permutation(np.setdiff1d(candidates, drawn))
    rest = in_order(others, k - len(drawn), embeddings, drawn, context)
    picks = [Pick(taken.row, said(f"random start{holding.words}", taken)) for taken in first]
    return [*picks, *(Pick(taken.row, said("random start", taken)) for taken in rest)]


def _pick(taken: Taken, words: str) -> Pick:
    reason = "nothing is there to compare with"
    if taken.distance is not None:
        reason = f"unlike everything labelled or picked: cosine distance {taken.distance:.2f}"
    return Pick(taken.row, said(f"{reason}{words}", taken), taken.distance, taken.nearest)
