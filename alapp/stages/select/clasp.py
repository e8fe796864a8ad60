"""The model's doubt about each class in turn, with noise that fades from round to round."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alapp.stages.select.avoid import in_order
from alapp.stages.select.base import LIKENESS, Context, Need, Pick, Selection, candidate_rows
from alapp.stages.select.coreset import instead, said
from alapp.stages.select.entropy import NO_MODEL

FIRST_POWER, DOUBLED_EVERY = 1.0, 2
"""The noise has the scale 1 / power; the power is 1 in the first round and doubles every second one."""

STRATIFIED = 2 / 3
"""Share of the picks that are made class by class; the others follow the doubt about the whole patch."""

WORDS = {0: "the background"}


class Clasp:
    """Class-stratified predictive entropy with power noise that decays.

    ClaSP PE (arXiv 2601.13677), which is the only method there that is generally better than improved random
    selection. Class-stratified: picks are divided among the classes, and for each class the doubt counts only over the
    pixels that the model gives to it, so that a rare class is not drowned. Noise: Gumbel noise of scale 1 / power
    on the logarithm of the doubt, which draws patches with a probability proportional to doubt ** power (Kirsch
    et al. 2021, "Stochastic Batch Acquisition", PowerBALD); it makes early batches varied and fades later. The shares
    and the schedule are ours.
    """

    title: ClassVar[str] = "Doubt by class"
    suits: ClassVar[str] = "Later rounds: where the model doubts objects and borders, with some chance for variety."
    needs: ClassVar[frozenset[Need]] = LIKENESS | {Need.UNCERTAINTY, Need.CLASS_ENTROPY, Need.ROUND_NUMBER}
    uses_embeddings: ClassVar[bool] = True

    def __call__(
        self, embeddings: np.ndarray, labelled: np.ndarray, k: int, rng: np.random.Generator, context: Context
    ) -> Selection:
        """At most `k` rows. Core-set before there is a model; a round that is not known is taken for the first."""
        if context.uncertainty is None or context.class_entropy is None:
            return instead(NO_MODEL, embeddings, labelled, k, rng, context)
        candidates = candidate_rows(embeddings, labelled, k, context)
        orders = _orders(context, candidates, rng)
        words: dict[int, str] = {}
        order: list[int] = []
        for name in _turns(len(orders) - 1, min(k, len(candidates))):
            row = next((row for row in orders[name] if row not in words), None)
            if row is not None:
                words[row] = _reason(context, row, name)
                order.append(row)
        for row in orders[-1]:  # in case some are passed over
            if row not in words:
                words[row] = _reason(context, row, len(orders) - 1)
                order.append(row)
        found = in_order(order, k, embeddings, np.flatnonzero(labelled), context)
        return Selection(tuple(Pick(t.row, said(words[t.row], t), t.distance, t.nearest) for t in found))


def power(round_number: int | None) -> float:
    """Of the doubt in the probability to be drawn."""
    return FIRST_POWER * 2 ** (((round_number or 1) - 1) / DOUBLED_EVERY)


def _orders(context: Context, candidates: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
    """Candidates by noisy doubt, best first: for each class, and last for the whole patch. A class has only those in
    which the model sees it."""
    scale = 1 / power(context.round_number)
    columns = [*np.asarray(context.class_entropy, dtype=np.float64).T, np.asarray(context.uncertainty, np.float64)]
    orders = []
    for column in columns:
        noise = rng.gumbel(scale=scale, size=len(candidates))
        values = column[candidates]
        known = np.flatnonzero(~np.isnan(values))
        noisy = np.log(np.maximum(values[known], 1e-12)) + noise[known]
        orders.append(candidates[known[np.argsort(-noisy, kind="stable")]].tolist())
    return orders


def _turns(classes: int, k: int) -> list[int]:
    """Which order each of `k` picks follows: `STRATIFIED` of them class after class, objects before the background,
    the others that of the whole patch, which has the number `classes`."""
    by_class = round(k * STRATIFIED)
    cycle = [*range(1, classes), 0]
    return [cycle[number % classes] for number in range(by_class)] + [classes] * (k - by_class)


def _reason(context: Context, row: int, name: int) -> str:
    if name == context.class_entropy.shape[1]:
        return f"drawn by the model's doubt about the whole patch: {context.uncertainty[row]:.3f} of at most 1"
    what = WORDS.get(name, f"the objects, class {name} of the network")
    return f"drawn by the model's doubt about {what}: {context.class_entropy[row, name]:.3f} of at most 1"
