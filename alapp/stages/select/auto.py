"""What the app recommends: a core-set that sees to it that objects are in every batch."""

from __future__ import annotations

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
        holding, words = _with_objects(candidates, context)
        quota = min(max(1, round(k * FOREGROUND_SHARE)), len(holding))
        picks: list[Pick] = []
        if not labelled.any():
            picks = _start(embeddings, candidates, holding, words, min(RANDOM_START, k), quota, rng, context)
        centres = np.array([*np.flatnonzero(labelled), *(pick.row for pick in picks)], dtype=np.int64)
        nearest = NearestCentre(embeddings, candidates, centres)
        avoid = Avoid(context, len(embeddings), centres)
        still = quota - np.isin([pick.row for pick in picks], holding).sum()
        nearest.allow(holding)
        picks += [_pick(taken, words) for taken in farthest_first(nearest, still, avoid, fill=False)]
        nearest.allow(candidates)
        picks += [_pick(taken, "") for taken in farthest_first(nearest, k - len(picks), avoid)]
        return Selection(tuple(picks))


def _with_objects(candidates: np.ndarray, context: Context) -> tuple[np.ndarray, str]:
    """Candidates in which objects are seen, all where none or nothing is known, and the words for it."""
    if context.foreground is None:
        return candidates, ""
    holding = candidates[measures.holds_objects(context.foreground)[candidates]]
    return (holding, SEEN) if len(holding) else (candidates, "")


def _start(
    embeddings: np.ndarray,
    candidates: np.ndarray,
    holding: np.ndarray,
    words: str,
    k: int,
    quota: int,
    rng: np.random.Generator,
    context: Context,
) -> list[Pick]:
    """`k` random patches, of which `quota` at most are drawn from `holding`, the others from all candidates."""
    none = np.array([], dtype=np.int64)
    first = in_order(rng.permutation(holding), min(quota, k), embeddings, none, context, fill=False)
    drawn = np.array([taken.row for taken in first], dtype=np.int64)
    others = rng.permutation(np.setdiff1d(candidates, drawn))
    rest = in_order(others, k - len(drawn), embeddings, drawn, context)
    picks = [Pick(taken.row, said(f"random start{words}", taken)) for taken in first]
    return [*picks, *(Pick(taken.row, said("random start", taken)) for taken in rest)]


def _pick(taken: Taken, words: str) -> Pick:
    reason = "nothing is there to compare with"
    if taken.distance is not None:
        reason = f"unlike everything labelled or picked: cosine distance {taken.distance:.2f}"
    return Pick(taken.row, said(f"{reason}{words}", taken), taken.distance, taken.nearest)
