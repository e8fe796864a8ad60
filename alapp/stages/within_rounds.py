"""Two kinds of patches compared within each round, and averaged over rounds.

Models and people get better from round to round, and the shares of the kinds differ between rounds. Pooled over all
rounds, the kind with more patches in the later ones would look better for that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from alapp.stages.paired import RESAMPLES

Value = Callable[[np.ndarray], np.ndarray]
"""Makes one number of the sums over patches, float (..., 2) -> (...)."""


def weights(sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """float (rounds,), sum 1: how much each round counts, for both kinds alike, by its number of patches of each.

    It is the inverse of the variance of the difference, if patches vary alike in all rounds: a round with a single
    patch of a kind counts little, however many there are of the other.
    """
    found = np.array([first * second / (first + second) for first, second in sizes])
    return found / found.sum()


def average(rounds: Sequence[np.ndarray], weight: np.ndarray, value: Value) -> float:
    """The average over rounds of the `value` of one kind. `rounds`: float (patches, 2) of each round, none empty."""
    return float(weight @ [value(part.sum(axis=0)) for part in rounds])


def resampled(rounds: Sequence[np.ndarray], weight: np.ndarray, value: Value, rng: np.random.Generator) -> np.ndarray:
    """float (RESAMPLES,): `average` of resamples of the patches, each drawn within its round (Efron 1979).

    Where a round has a single patch of the kind, nothing could vary: it is drawn together with its neighbours. What
    resamples differ by is centred, as neighbours differ, and made larger by sqrt(n / (n - 1)), by which n patches vary
    less among themselves than those they stand for. Raises `ValueError` for fewer than two patches.
    """
    found = np.full(RESAMPLES, average(rounds, weight, value))
    for group in _groups([len(part) for part in rounds]):
        known = np.concatenate([rounds[number] for number in group])
        drawn = np.zeros(RESAMPLES)
        for number in group:
            rows = rng.integers(0, len(known), (RESAMPLES, len(rounds[number])))
            drawn += weight[number] * value(known[rows].sum(axis=1))
        found += (drawn - drawn.mean()) * np.sqrt(len(known) / (len(known) - 1))
    return found


def _groups(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of rounds that are drawn together, in order: as few as have two patches."""
    if sum(sizes) < 2:
        raise ValueError("It takes two patches to resample them.")
    group: list[int] = []
    for number in range(len(sizes)):
        group.append(number)
        # A single patch in the last round stays with those before.
        if sum(sizes[each] for each in group) >= 2 and sum(sizes[number + 1 :]) != 1:
            yield group
            group = []
