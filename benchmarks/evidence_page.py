"""What benchmarks.evidence tells of stored runs: figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alapp.experiments import findings
from alapp.experiments.study import ALL, CHAIN, NONE, SINGLE
from benchmarks import evidence_words as words_of

SHOWN = {0.0625: "6_25", 0.125: "12_5", 0.25: "25"}
DEFAULT = "auto"
"""The strategy that a new project has."""
BASELINE = "random"
"""The strategy with which starts and schedules are compared: it alone picks the same patches whatever the start, as it
looks at nothing. One that looks for objects sees those of the pseudo-labels or of the pre-trained model."""
EVERYTHING = "everything"
"""In place of a data set's name: over all of them."""
REFERENCE_STARTS = {
    "reference": "perfect labels",
    "reference:drop=0.5": "labels with half of the objects missing",
    "reference:merge=0.5": "labels with half of the objects joined to a neighbour",
    "reference:shift=0.5": "labels with every object half a diameter aside",
    "reference:wrong=0.5": "labels with half of the objects put where there are none",
}
"""Pseudo-labels that are perfect, or wrong in a known way (`alapp.experiments.corruption`), and what that is."""


@dataclass(frozen=True)
class Comparison:
    """`one` minus `other`, each (start, schedule, strategy), at every budget. `key` of its figures; `words` on the
    page."""

    key: str
    words: str
    one: tuple[str, str, str]
    other: tuple[str, str, str]


def _strategies(one: str, other: str, short: str) -> Comparison:
    return Comparison(f"{one}_minus_{short}", f"{one} minus {other}", ("auto", CHAIN, one), ("auto", CHAIN, other))


def _minus_scratch(start: str, key: str, words: str) -> Comparison:
    scratch = (NONE, CHAIN, BASELINE)
    return Comparison(f"{key}_minus_scratch", f"{words} minus scratch", (start, CHAIN, BASELINE), scratch)


PRETRAINING = _minus_scratch("auto", "pretrained", "pre-training on pseudo-labels")
COMPARISONS = (
    _strategies("auto", "foreground_random", "fg_random"),
    _strategies("auto", "random", "random"),
    _strategies("auto", "coreset", "coreset"),
    _strategies("coreset", "foreground_random", "fg_random"),
    _strategies("coreset", "random", "random"),
    PRETRAINING,
    *(
        _minus_scratch(start, start.replace(":", "_").replace("=", "_"), f"pre-training on {words}")
        for start, words in REFERENCE_STARTS.items()
    ),
    Comparison(
        "chain_minus_single", "rounds chained minus trained at once",
        ("auto", CHAIN, BASELINE), ("auto", SINGLE, BASELINE),
    ),
)  # fmt: skip

Lines = Mapping[str, Sequence[findings.Line]]
"""What is known of each data set."""


def figures(name: str, known: Sequence[findings.Line]) -> dict[str, float]:
    """The figures of one data set, as far as its runs are finished."""
    found: dict[str, float] = {}
    for budget, text in SHOWN.items():
        for strategy, key in ((DEFAULT, "percent_of_full"), ("coreset", "percent_of_full_coreset")):
            line = findings.line(known, "auto", CHAIN, strategy, budget)
            if line is not None and line.mean_percent is not None:
                found[f"{key}_at_{text}.{name}"] = round(line.mean_percent, 1)
        for each in COMPARISONS:
            found |= _figures_of(f"{each.key}_at_{text}", name, _compared([known], each, budget))
    full = findings.line(known, "auto", SINGLE, ALL, None)
    if full is not None:
        found[f"full_f1.{name}"] = round(full.mean, 3)
    return found


def figures_of_everything(known: Lines) -> dict[str, float]:
    """The comparisons over all data sets that have both conditions."""
    found: dict[str, float] = {}
    for budget, text in SHOWN.items():
        for each in COMPARISONS:
            found |= _figures_of(f"{each.key}_at_{text}", EVERYTHING, _compared(known.values(), each, budget))
    return found


def told(name: str, known: Sequence[findings.Line]) -> str:
    """One data set in Markdown: the table, and in words what is more than chance."""
    lines = [f"## {name}", "", findings.as_text(known), ""]
    for budget, text in SHOWN.items():
        for each in COMPARISONS:
            compared = _compared([known], each, budget)
            if compared is not None and compared.n > 1:
                lines.append(_sentence(each, text, compared, f"{compared.n} seeds"))
    return "\n".join(lines)


def told_of_everything(known: Lines) -> str:
    """The comparisons over all data sets in Markdown; empty where fewer than two can be compared."""
    lines = []
    for budget, text in SHOWN.items():
        for each in COMPARISONS:
            names = [name for name, found in known.items() if _compared([found], each, budget) is not None]
            if len(names) > 1:
                compared = _compared(known.values(), each, budget)
                lines.append(_sentence(each, text, compared, f"{compared.n} pairs: {', '.join(names)}"))
    return "\n".join(["## All data sets together", "", words_of.TOGETHER, "", *lines]) if lines else ""


def beside_the_paper(known: Lines) -> str:
    """The paper's table and ours in Markdown; empty where nothing is known."""
    names = [name for name, lines in known.items() if lines]
    if not names:
        return ""
    rows = [["", "Paper, MitoEM in 3D", *names], ["---"] * (len(names) + 2)]
    for words, paper, schedule, strategy, budget in words_of.PAPER_ROWS:
        cells = []
        for name in names:
            line = findings.line(known[name], "auto", schedule, strategy, budget)
            cells.append("" if line is None else _score(line))
        if paper or any(cells):
            rows.append([words, paper, *cells])
    for budget, text in SHOWN.items():
        gains = [_gain(known[name], budget) for name in names]
        if any(gains):
            rows.append([f"Pre-training minus scratch, {text.replace('_', '.')}%", "+2 to 4%", *gains])
    for words, condition in (("Iterations of a round", (CHAIN,)), ("Iterations with all labels", (SINGLE, ALL))):
        rows.append([words, "nnU-Net's schedule", *(_iterations(known[name], *condition) for name in names)])
    for words, paper, ours in words_of.PAPER_DIFFERS:
        rows.append([words, paper, *(ours.get(name, ours.get("", "")) for name in names)])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(["## The paper's table beside ours", "", words_of.PAPER, "", table])


def by_start(known: Lines) -> str:
    """What labels the pre-training needs, in Markdown: a row for each kind; empty where none was spoilt."""
    names = [name for name, lines in known.items() if lines]
    starts = {NONE: "nothing", "auto": "what the app makes", **REFERENCE_STARTS}
    cells = {start: [_by_budget(known[name], start) for name in names] for start in starts}
    if not any(any(cells[start]) for start in REFERENCE_STARTS):
        return ""
    rows = [["Pre-trained on", *names], ["---"] * (len(names) + 1)]
    rows += [[words, *cells[start]] for start, words in starts.items() if any(cells[start])]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(["## What bad pseudo-labels cost", "", words_of.SPOILT, "", table])


def _by_budget(lines: Sequence[findings.Line], start: str) -> str:
    """F1 of the pre-trained model, and after each of the first two budgets; "" where nothing is known."""
    found = [None if start == NONE else findings.line(lines, start, "", "", 0)]
    found += [findings.line(lines, start, CHAIN, BASELINE, budget) for budget in (0.0625, 0.125)]
    return " / ".join("-" if line is None else f"{line.mean:.3f}" for line in found) if any(found) else ""


def _iterations(lines: Sequence[findings.Line], *condition: str) -> str:
    """Of the trainings with this schedule and, if given, strategy, all that there were; without those of labels that
    showed no object, of which there is nothing to learn."""
    found = {line.iterations for line in lines if line.condition[1 : 1 + len(condition)] == condition}
    return ", ".join(map(str, sorted(found - {0})))


def _gain(lines: Sequence[findings.Line], budget: float) -> str:
    """What pre-training on pseudo-labels is worth, in F1 points."""
    compared = _compared([lines], PRETRAINING, budget)
    return "" if compared is None else f"{100 * compared.difference:+.1f} points"


def _score(line: findings.Line) -> str:
    percent = "" if line.mean_percent is None or line.condition[2] == ALL else f" ({line.mean_percent:.0f}%)"
    return f"{line.mean:.3f}{percent}"


def _compared(known: Iterable[Sequence[findings.Line]], each: Comparison, budget: float) -> findings.Paired | None:
    """A comparison over these data sets, as far as they have both conditions."""
    return findings.paired_over(
        (findings.line(lines, *each.one, budget), findings.line(lines, *each.other, budget)) for lines in known
    )


def _figures_of(key: str, name: str, compared: findings.Paired | None) -> dict[str, float]:
    """A difference in F1 points and the ends of its interval."""
    if compared is None:
        return {}
    found = {f"{key}.{name}": round(100 * compared.difference, 2)}
    if compared.interval:
        low, high = compared.interval
        found |= {f"{key}_low.{name}": round(100 * low, 2), f"{key}_high.{name}": round(100 * high, 2)}
    return found


def _sentence(each: Comparison, text: str, compared: findings.Paired, of: str) -> str:
    interval = ""
    if compared.interval is not None:
        low, high = (100 * value for value in compared.interval)
        interval = f"95% interval {low:+.1f} to {high:+.1f}, "
    return (
        f"- {each.words} at {text.replace('_', '.')}%: {100 * compared.difference:+.1f} F1 points "
        f"({interval}{of}): {compared.told}."
    )
