"""How often the 95% intervals of the pages hold the truth, beside the percentile bootstrap, on made patches.

Patches differ in how many objects they have and in how hard they are; two models differ from patch to patch, too, and
find the same objects more often than by chance. `paired`: two models on the same patches. `lane`: two kinds of
patches in three rounds, half as many of the second. `saving`: seconds for each object with and without suggestions, in
three rounds. Held shares are over all cases, and of the worst one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from alapp.domain import InstanceScores
from alapp.rounds.annotate import savings
from alapp.rounds.annotate.ledger import KEPT, ObjectWork, PatchWork
from alapp.rounds.select import lane
from alapp.stages.paired import counts, f1_of_sums, paired_difference
from benchmarks import cli

PATCHES = (5, 8, 20)
RESAMPLES = 1000
MANY = 40_000
"""So many patches stand for all that could be drawn."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """A share `missed` of the objects of a patch, `uneven` times as much (standard deviation); the second model finds
    `gain` more, `apart` (standard deviation) from patch to patch; patches have `few` to `many` objects."""

    missed: float
    uneven: float
    gain: float
    apart: float
    few: int
    many: int


CASES = {
    "even": Case(0.3, 0.1, 0.0, 0.0, 5, 40),
    "uneven": Case(0.3, 0.5, 0.0, 0.1, 5, 40),
    "good": Case(0.08, 0.5, 0.0, 0.03, 5, 40),
    "few_objects": Case(0.3, 0.5, 0.05, 0.1, 1, 8),
    "better": Case(0.5, 0.5, 0.1, 0.1, 5, 40),
    "bad": Case(0.8, 0.3, 0.05, 0.1, 5, 40),
    "sizes": Case(0.3, 0.5, 0.0, 0.1, 1, 100),
}


def scored(found: int, objects: int, invented: int) -> InstanceScores:
    """`found` of `objects` are right, and `invented` more are predicted."""
    f1 = float(f1_of_sums(np.array([found, objects - found + invented])))
    return InstanceScores(f1, f1, f1, f1, f1, objects, found + invented, found, invented, objects - found)


def patches(case: Case, n: int, rng: np.random.Generator) -> tuple[list[InstanceScores], list[InstanceScores]]:
    """`n` patches by both models."""
    objects = rng.integers(case.few, case.many, n)
    right = np.clip(1 - case.missed * np.clip(rng.normal(1, case.uneven, n), 0.05, 3), 0.01, 0.99)
    other = np.clip(right + case.gain + rng.normal(0, case.apart, n), 0.01, 0.99)
    made: tuple[list[InstanceScores], list[InstanceScores]] = ([], [])
    for k, *chances in zip(objects, right, other, strict=True):
        shared = rng.normal(size=k)
        for scores, chance in zip(made, chances, strict=True):
            luck = ndtr(np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.normal(size=k))
            scores.append(scored(int((luck < chance).sum()), int(k), int(rng.poisson(0.5 * k * (1 - chance)))))
    return made


def f1(scores: Sequence[InstanceScores]) -> float:
    """Pooled."""
    return float(f1_of_sums(counts(scores).sum(axis=0)))


def drawn(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(RESAMPLES, ...): sums over resamples of the patches."""
    return table[rng.integers(0, len(table), (RESAMPLES, len(table)))].sum(axis=1)


def paired(case: Case, n: int, rng: np.random.Generator) -> tuple[Interval, Interval]:
    """The interval of the app and that of the percentile bootstrap, of the difference of two models."""
    before, after = patches(case, n, rng)
    sums = drawn(np.hstack([counts(before), counts(after)]), rng)
    low, high = np.quantile(f1_of_sums(sums[:, 2:]) - f1_of_sums(sums[:, :2]), (0.025, 0.975))
    return paired_difference(before, after).interval, (low, high)


def of_lane(case: Case, n: int, rng: np.random.Generator) -> tuple[Interval, Interval]:
    """The same for the control lane: in three rounds `2 n` patches of the strategy's, as hard as all are for the second
    model, and `n` of the lane's, as hard as all are for the first."""
    sizes = zip(*([len(part) for part in np.array_split(np.arange(k), 3)] for k in (2 * n, n)), strict=True)
    rounds = [(patches(case, strategy, rng)[1], patches(case, control, rng)[0]) for strategy, control in sizes]
    of = [np.concatenate([counts(pair[kind]) for pair in rounds]) for kind in (0, 1)]
    low, high = np.quantile(f1_of_sums(drawn(of[0], rng)) - f1_of_sums(drawn(of[1], rng)), (0.025, 0.975))
    return lane.comparison(rounds).interval, (low, high)


def saving(case: Case, n: int, rng: np.random.Generator) -> tuple[Interval, Interval]:
    """The same for the time that suggestions save: an object takes 5 seconds without and 3.5 with them."""

    def works(size: int, seconds: float) -> list[PatchWork]:
        kept = rng.integers(case.few, case.many, size)
        spent = kept * seconds * rng.lognormal(-(case.uneven**2) / 2, case.uneven, size)
        return [
            PatchWork(0, float(each), objects=(ObjectWork(1, KEPT[0], 0, 0),) * int(k))
            for each, k in zip(spent, kept, strict=True)
        ]

    rounds = [(works(n, 3.5), works(max(n // 3, 2), 5.0)) for _ in range(3)]
    of = [np.array([(w.seconds, w.kept) for pair in rounds for w in pair[kind]]) for kind in (0, 1)]
    rate = [sums[:, 0] / sums[:, 1] for sums in (drawn(table, rng) for table in of)]
    low, high = np.quantile(1 - rate[0] / rate[1], (0.025, 0.975))
    return savings.compare(rounds).interval, (low, high)


def main() -> None:
    """Run from the command line."""
    options = cli.parser(__doc__).parse_args()
    trials = 40 if options.quick else 400
    figures: dict[str, float] = {}
    many = {name: patches(case, MANY, np.random.default_rng(1)) for name, case in CASES.items()}
    better = {name: f1(after) - f1(before) for name, (before, after) in many.items()}
    kinds: dict[str, tuple[Callable[..., tuple[Interval, Interval]], dict[str, float]]] = {
        "paired": (paired, better),
        "lane": (of_lane, better),
        "saving": (saving, dict.fromkeys(CASES, 0.3)),
    }
    for kind, (make, truth) in kinds.items():
        for n in PATCHES:
            held = np.zeros((len(CASES), 2))
            for row, (name, case) in enumerate(CASES.items()):
                for trial in range(trials):
                    both = make(case, n, np.random.default_rng([n, row, trial]))
                    held[row] += [low <= truth[name] <= high for low, high in both]
            for column, which in enumerate(("app", "bootstrap")):
                figures[f"held_{kind}_{n}_{which}"] = held[:, column].mean() / trials
                figures[f"held_{kind}_{n}_{which}_worst"] = held[:, column].min() / trials
    settings = {"trials": trials, "cases": list(CASES), "resamples": RESAMPLES}
    cli.write(options.json, {key: float(value) for key, value in figures.items()}, settings | cli.machine("numpy"))


if __name__ == "__main__":
    main()
