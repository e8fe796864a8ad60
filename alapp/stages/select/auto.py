"""What the app recommends: typical patches and objects first, then what is new and doubtful."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from alapp.stages.select import measures
from alapp.stages.select.avoid import Avoid, Taken, farthest_first
from alapp.stages.select.base import LIKENESS, Context, Need, Pick, Selection, candidate_rows
from alapp.stages.select.coreset import said
from alapp.stages.select.coreset_uncertainty import doubt_weights
from alapp.stages.select.entropy import NO_MODEL
from alapp.stages.select.foreground_random import FOREGROUND_SHARE
from alapp.stages.select.kcentre import NearestCentre
from alapp.stages.select.typical import typical

SEEN = ", among patches in which objects are seen"


class Auto:
    """A combination of what was found to help elsewhere; on EM a plain core-set was better with 9 patches, and the
    same with 18 (docs/evidence.md).

    A third of a batch, at least one patch, are patches in which objects are seen: nothing reliably beats random
    selection that does so (nnActive, arXiv 2511.19183). The rest may be any patch. Almost empty patches and those that
    show the same are avoided.

    While nothing is labelled, that third are typical patches: with few labels they teach more than rare ones
    (Hacohen et al. 2022, arXiv 2202.02794). The others spread out from there as a core-set does, in place of the
    random patches with which it would begin.

    Once something is labelled, both parts are a core-set. As soon as there is a model, which may be the pre-trained
    one, the distances are weighted by its doubt: doubt alone picks patches that are much alike, distance alone odd
    ones that teach little.
    """

    title: ClassVar[str] = "Automatic"
    suits: ClassVar[str] = "Typical patches first, then new-looking ones that the model doubts; a third show objects."
    needs: ClassVar[frozenset[Need]] = LIKENESS | {Need.FOREGROUND, Need.UNCERTAINTY}
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
            first = typical(embeddings, labelled, holding, quota, rng, context, fill=False).picks
            picks = [replace(pick, reason=f"{pick.reason}{words}") for pick in first]
        centres = np.array([*np.flatnonzero(labelled), *(pick.row for pick in picks)], dtype=np.int64)
        weights = None if context.uncertainty is None else doubt_weights(context.uncertainty)
        nearest = NearestCentre(embeddings, candidates, centres, weights)
        avoid = Avoid(context, len(embeddings), centres)
        if labelled.any():
            nearest.allow(holding)
            found = farthest_first(nearest, quota, avoid, fill=False)
            picks += [_pick(taken, words, context) for taken in found]
            nearest.allow(candidates)
        picks += [_pick(taken, "", context) for taken in farthest_first(nearest, k - len(picks), avoid)]
        return Selection(tuple(picks))


def _with_objects(candidates: np.ndarray, context: Context) -> tuple[np.ndarray, str]:
    """Candidates in which objects are seen, all where none or nothing is known, and the words for it."""
    if context.foreground is None:
        return candidates, ""
    holding = candidates[measures.holds_objects(context.foreground)[candidates]]
    return (holding, SEEN) if len(holding) else (candidates, "")


def _pick(taken: Taken, words: str, context: Context) -> Pick:
    reason = "nothing is there to compare with"
    if taken.distance is not None:
        reason = f"unlike everything labelled or picked: cosine distance {taken.distance:.2f}"
    doubt = NO_MODEL if context.uncertainty is None else f"doubt {context.uncertainty[taken.row]:.3f} of at most 1"
    return Pick(taken.row, said(f"{reason}{words}; {doubt}", taken), taken.distance, taken.nearest)
