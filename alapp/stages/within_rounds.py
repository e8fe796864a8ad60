"""Two kinds of patches compared within each round, and averaged over rounds.

Models and people get better from round to round, and the shares of the kinds differ between rounds. Pooled over all
rounds, the kind with more patches in the later ones would look better for that alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from alapp.stages.jackknife import Spread, Value, combined, influences


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


def spread(rounds: Sequence[np.ndarray], weight: np.ndarray, value: Value) -> Spread:
    """That of `average`, by the jackknife over the patches of each round.

    Where a round has a single patch of the kind, nothing could vary: how patches vary there is taken from its
    neighbours and itself. Raises `ValueError` for fewer than two patches.
    """
    parts = []
    for group in _groups([len(part) for part in rounds]):
        known = np.concatenate([rounds[number] for number in group])
        n = len(known)
        of_a_patch = np.sum(influences(known, value) ** 2) / (n - 1)
        share = sum(weight[number] ** 2 / len(rounds[number]) for number in group)
        parts.append(Spread(float(of_a_patch * share), n - 1))
    return combined(parts)


def _groups(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of rounds that are taken together, in order: as few as have two patches."""
    if sum(sizes) < 2:
        raise ValueError("It takes two patches to tell how they vary.")
    group: list[int] = []
    for number in range(len(sizes)):
        group.append(number)
        # A single patch in the last round stays with those before.
        if sum(sizes[each] for each in group) >= 2 and sum(sizes[number + 1 :]) != 1:
            yield group
            group = []
