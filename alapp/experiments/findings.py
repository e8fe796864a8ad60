"""What the finished runs of an experiment show: means over seeds, percent of full annotation, paired differences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from alapp.experiments.runs import Result
from alapp.experiments.study import ALL, NONE, SINGLE, Run
from alapp.storage.experiments import ExperimentRun, RunState

ROUNDING = 1e-12
"""Differences of F1 that are closer are the same."""

Condition = tuple[str, str, str, float | None]
"""(start, schedule, strategy, budget) of runs that differ by their seeds only."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One condition: F1 at IoU 0.5 on the test images, pooled over their objects, by seed. `patches` that were
    labelled, of `of`; `percent` of what every label gives with the same start, by seed where both are known;
    `objects`: how many the labelled patches showed, by seed where it is known; `iterations` of the
    training."""

    condition: Condition
    patches: int
    of: int
    f1: dict[int, float]
    percent: dict[int, float]
    seconds: float
    objects: dict[int, int] = field(default_factory=dict)
    iterations: int = 0

    @property
    def mean(self) -> float:
        """Mean F1 over the seeds."""
        return float(np.mean(list(self.f1.values())))

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for one."""
        return float(np.std(list(self.f1.values()), ddof=1)) if len(self.f1) > 1 else None

    @property
    def mean_percent(self) -> float | None:
        """Mean percent of the F1 with all labels; None where no seed has that one."""
        return float(np.mean(list(self.percent.values()))) if self.percent else None

    @property
    def mean_objects(self) -> float | None:
        """What the labels cost: a person's time goes to objects, not to patches."""
        return float(np.mean(list(self.objects.values()))) if self.objects else None


@dataclass(frozen=True)
class Paired:
    """Mean difference in F1 of one condition minus another over the `n` seeds that both have; `interval`: its 95%
    interval, see `interval`."""

    n: int
    difference: float
    interval: tuple[float, float] | None

    @property
    def told(self) -> str:
        """In words: whether it is more than chance."""
        if self.interval is None:
            if self.n > 1:
                return f"the same difference in each of {self.n} repetitions, which does not tell how far chance goes"
            return "one seed says nothing"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "no difference that could be told from chance"


def finished(runs: Sequence[ExperimentRun]) -> list[tuple[Run, Result]]:
    """The runs that have a result, in their order."""
    return [
        (Run(**row.run), Result.of(row.result)) for row in runs if row.state is RunState.DONE and row.result is not None
    ]


def lines(runs: Sequence[ExperimentRun]) -> list[Line]:
    """A line for every condition that has a finished run, in the order of the runs."""
    return tabulated(finished(runs))


def tabulated(runs: Sequence[tuple[Run, Result]]) -> list[Line]:
    """`lines` of runs whose results are at hand."""
    found: dict[Condition, dict[int, Result]] = defaultdict(dict)
    for run, result in runs:
        found[run.start, run.schedule, run.strategy, run.budget][run.seed] = result
    full = {
        (start, seed): result.pooled.f1_50
        for (start, schedule, strategy, _), results in found.items()
        if strategy == ALL and schedule == SINGLE
        for seed, result in results.items()
    }
    made = []
    for condition, results in found.items():
        f1 = {seed: result.pooled.f1_50 for seed, result in sorted(results.items())}
        percent = {
            seed: 100 * value / full[condition[0], seed] for seed, value in f1.items() if full.get((condition[0], seed))
        }
        any_result = next(iter(results.values()))
        seconds = float(np.mean([result.seconds for result in results.values()]))
        objects = {seed: result.objects for seed, result in sorted(results.items()) if result.objects is not None}
        made.append(
            Line(
                condition=condition,
                patches=len(any_result.rows),
                of=any_result.patches,
                f1=f1,
                percent=percent,
                seconds=seconds,
                objects=objects,
                iterations=any_result.iterations,
            )
        )
    return made


def line(known: Sequence[Line], *condition: str | float | None) -> Line | None:
    """The line of a condition, if it has a finished run."""
    return next((each for each in known if each.condition == condition), None)


def paired(one: Line | None, other: Line | None) -> Paired | None:
    """`one` minus `other`, seed by seed; None without a common seed."""
    return paired_over([(one, other)])


def paired_over(pairs: Iterable[tuple[Line | None, Line | None]]) -> Paired | None:
    """The first of each pair minus the second, seed by seed, of several data sets: every seed of each one counts
    alike. None without a common seed."""
    differences = np.array(
        [
            one.f1[seed] - other.f1[seed]
            for one, other in pairs
            if one is not None and other is not None
            for seed in sorted(one.f1.keys() & other.f1.keys())
        ]
    )
    if not len(differences):
        return None
    return Paired(len(differences), float(differences.mean()), interval(differences))


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """95% interval of the mean by Student's t. None below two values, and where all are the same: it judges by their
    spread how far the next ones may lie, and from none it would be sure of anything."""
    if len(values) < 2 or np.ptp(values) < ROUNDING:
        return None
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return float(low), float(high)


def _reading_order(each: Line) -> tuple[bool, str, float, str, str]:
    start, schedule, strategy, budget = each.condition
    return start != "auto", start, math.inf if budget is None else budget, schedule, strategy


def as_text(known: Sequence[Line]) -> str:
    """A table for the terminal and for Markdown: by start, then by budget. That a network which was never trained finds
    nothing is left out."""
    head = [
        "start", "schedule", "strategy", "labelled", "objects", "F1 (mean ± sd)", "% of all labels", "seeds",
        "training s",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for each in sorted(known, key=_reading_order):
        start, schedule, strategy, budget = each.condition
        if start == NONE and budget == 0:
            continue
        spread = "" if each.sd is None else f" ± {each.sd:.3f}"
        percent = "" if each.mean_percent is None else f"{each.mean_percent:.0f}"
        share = f"{each.patches} of {each.of} ({100 * each.patches / each.of:.1f}%)"
        objects = "" if each.mean_objects is None else f"{each.mean_objects:.0f}"
        rows.append(
            [start, schedule or "-", strategy or "pre-trained only", share, objects, f"{each.mean:.3f}{spread}",
             percent, str(len(each.f1)), f"{each.seconds:.0f}"]
        )  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
