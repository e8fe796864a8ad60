"""What an experiment shows, made ready to be drawn and written: curves, comparisons in words, a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alapp.experiments import corruption, findings, wording
from alapp.experiments.findings import Line, Paired
from alapp.experiments.study import ALL, CHAIN, NONE, SINGLE

ENOUGH = 0.9
"""Share of what every label gives that is enough for many uses; drawn as a line."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f98", "#b8a800")
"""Of Okabe & Ito (2008), black and yellow made to read on light and dark; colour-blind people can tell them apart."""
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star", "cross", "triangle-down", "pentagon", "hexagon")
"""Names as in plotly."""


@dataclass(frozen=True)
class Point:
    """Mean F1 with so many labelled `patches`, and its 95% interval over the repetitions, see `findings.interval`."""

    patches: int
    mean: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Curve:
    """F1 by labels of one way to go about it. `look`: which colour and symbol; `dashed` tells pre-trainings or
    trainings apart where strategies have the colours."""

    title: str
    look: int
    dashed: bool
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Contrast:
    """Two ways to go about it that differ in one thing, with the same labels: F1 of `one` minus `other`."""

    one: str
    other: str
    under: str
    labels: str
    paired: Paired

    @property
    def told(self) -> str:
        """In words."""
        found = self.paired
        spread = ""
        if found.interval is not None:
            low, high = (100 * value for value in found.interval)
            spread = f" (95% interval {low:+.1f} to {high:+.1f}, {found.n} repetitions)"
        return (
            f"{self.one} against {self.other}, {self.labels} ({self.under}): {100 * found.difference:+.1f} F1 "
            f"points{spread}: {found.told}."
        )


def of(known: Sequence[Line], start: str | None = None, strategy: str | None = None) -> list[Curve]:
    """The curves of one start (None: of all) and one strategy (None: of all)."""
    chosen = [
        each
        for each in known
        if each.condition[2] not in ("", ALL) and start in (None, each.condition[0])
        and strategy in (None, each.condition[2])
    ]  # fmt: skip
    ways = list(dict.fromkeys(each.condition[:3] for each in chosen))
    starts, schedules, strategies = (list(dict.fromkeys(way[part] for way in ways)) for part in range(3))
    made = []
    for way in ways:
        parts = [wording.strategy(way[2])] if len(strategies) > 1 else []
        parts += [wording.start(way[0])] if len(starts) > 1 else []
        parts += [wording.SCHEDULES[way[1]]] if len(schedules) > 1 else []
        look = strategies.index(way[2]) if len(strategies) > 1 else starts.index(way[0])
        dashed = (way[1] == SINGLE and len(schedules) > 1) or (len(strategies) > 1 and starts.index(way[0]) > 0)
        before = findings.line(known, way[0], "", "", 0)
        lines = ([before] if before is not None and way[0] != NONE else []) + [
            each for each in chosen if each.condition[:3] == way
        ]
        points = tuple(_point(each) for each in sorted(lines, key=lambda each: each.patches))
        made.append(Curve(", ".join(parts) or wording.strategy(way[2]), look, dashed, points))
    return made


def full(known: Sequence[Line], start: str | None = None) -> tuple[Point, str] | None:
    """What every label gives with this start, or the first one that has it, and the start in words."""
    for each in known:
        if each.condition[2] == ALL and start in (None, each.condition[0]):
            return _point(each), wording.start(each.condition[0])
    return None


def starts(known: Sequence[Line]) -> list[str]:
    """The starts that have results."""
    return list(dict.fromkeys(each.condition[0] for each in known))


def strategies(known: Sequence[Line]) -> list[str]:
    """The strategies that have results."""
    return [name for name in dict.fromkeys(each.condition[2] for each in known) if name not in ("", ALL)]


def contrasts(known: Sequence[Line]) -> list[Contrast]:
    """Everything that differs in one thing from what it is to be measured by, with the same number of labels:
    strategies from chance, pre-trainings from none, errors from the same labels without them, rounds from all at
    once."""
    found = []
    for each in known:
        start, schedule, strategy, budget = each.condition
        if strategy in ("", ALL):
            continue
        base = next((name for name in ("random", "foreground_random") if name in strategies(known)), None)
        where = f"{wording.start(start)}, {wording.SCHEDULES[schedule]}"
        if base not in (None, strategy):
            other = findings.line(known, start, schedule, base, budget)
            found.append(_contrast(each, other, wording.strategy(strategy), wording.strategy(base), where))
        where = f"{wording.strategy(strategy)}, {wording.SCHEDULES[schedule]}"
        for compared in dict.fromkeys((NONE, corruption.parse(start)[0])):  # errors also from the same without them
            if compared != start:
                other = findings.line(known, compared, schedule, strategy, budget)
                found.append(_contrast(each, other, wording.start(start), wording.start(compared), where))
        if schedule == CHAIN:
            other = findings.line(known, start, SINGLE, strategy, budget)
            where = f"{wording.strategy(strategy)}, {wording.start(start)}"
            found.append(_contrast(each, other, wording.SCHEDULES[CHAIN], wording.SCHEDULES[SINGLE], where))
    return [each for each in found if each is not None]


def summary(found: Sequence[Contrast]) -> str:
    """How many of the comparisons show more than chance, in a sentence; "" without any that could."""
    able = [each.paired.told for each in found if each.paired.interval is not None]
    if any(each.paired.n > 1 for each in found) and not able:
        return "The repetitions are all the same, which does not tell what is more than chance."
    if not able:
        return "With two or more repetitions it is told here what is more than chance." if found else ""
    better, worse = able.count("better"), able.count("worse")
    text = f"Of {len(able)} comparison{'s' * (len(able) > 1)}: {better} better, {worse} worse"
    if better + worse == 0:
        text += "; all could be chance" if len(able) > 1 else "; it could be chance"
    elif better + worse < len(able):
        text += "; the others could be chance"
    text += "."
    return text + (" Of many comparisons one in twenty differs by chance alone." if len(able) >= 10 else "")


def table(known: Sequence[Line]) -> list[dict[str, Any]]:
    """The lines as rows with plain values, None where there is none; the columns of `findings.as_text`."""
    made = []
    for each in known:
        start, schedule, strategy, budget = each.condition
        between = findings.interval(list(each.f1.values()))
        made.append(
            {
                "start": start, "schedule": schedule, "strategy": strategy, "budget": budget,
                "labelled_patches": each.patches, "patches": each.of,
                "labelled_percent": round(100 * each.patches / each.of, 2),
                "labelled_objects": None if each.mean_objects is None else round(each.mean_objects, 1),
                "f1_50": round(each.mean, 4), "sd": None if each.sd is None else round(each.sd, 4),
                "f1_50_low": None if between is None else round(between[0], 4),
                "f1_50_high": None if between is None else round(between[1], 4),
                "percent_of_all_labels": None if each.mean_percent is None else round(each.mean_percent, 1),
                "seeds": len(each.f1), "training_seconds": round(each.seconds, 1),
            }
        )  # fmt: skip
    return made


def _point(line: Line) -> Point:
    return Point(line.patches, line.mean, findings.interval(list(line.f1.values())), len(line.f1))


def _contrast(one: Line, other: Line | None, name: str, base: str, where: str) -> Contrast | None:
    paired = findings.paired(one, other)
    if paired is None:
        return None
    return Contrast(_upper(name), base, where, f"{one.patches} labelled patch{'es' * (one.patches != 1)}", paired)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
