"""What benchmarks.evidence tells of stored runs: figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alapp.experiments import findings
from alapp.experiments.study import ALL, CHAIN, NONE, SINGLE

SHOWN = {0.0625: "6_25", 0.125: "12_5", 0.25: "25"}
COMPARED = (
    ("auto", "foreground_random"),
    ("auto", "random"),
    ("auto", "coreset"),
    ("coreset", "foreground_random"),
    ("coreset", "random"),
)
SHORT = {"foreground_random": "fg_random"}
DEFAULT = "auto"
"""The strategy that a new project has."""
EVERYTHING = "everything"
"""In place of a data set's name: over all of them."""

Lines = Mapping[str, Sequence[findings.Line]]
"""What is known of each data set."""


def figures(name: str, known: Sequence[findings.Line]) -> dict[str, float]:
    """The figures of one data set, as far as its runs are finished."""
    found: dict[str, float] = {}
    for budget, text in SHOWN.items():
        by = {
            each.condition[2]: each
            for each in known
            if each.condition[:2] == ("auto", CHAIN) and each.condition[3] == budget
        }
        for strategy, key in ((DEFAULT, "percent_of_full"), ("coreset", "percent_of_full_coreset")):
            if strategy in by and by[strategy].mean_percent is not None:
                found[f"{key}_at_{text}.{name}"] = round(by[strategy].mean_percent, 1)
        for one, other in COMPARED:
            key = f"{one}_minus_{SHORT.get(other, other)}_at_{text}"
            found |= _figures_of(key, name, findings.paired(by.get(one), by.get(other)))
        base = by.get("foreground_random")
        scratch = findings.line(known, NONE, CHAIN, "foreground_random", budget)
        single = findings.line(known, "auto", SINGLE, "foreground_random", budget)
        found |= _figures_of(f"pretrained_minus_scratch_at_{text}", name, findings.paired(base, scratch))
        found |= _figures_of(f"chain_minus_single_at_{text}", name, findings.paired(base, single))
        for start in sorted({each.condition[0] for each in known if each.condition[0].startswith("reference")}):
            line = findings.line(known, start, CHAIN, "foreground_random", budget)
            key = f"{start.replace(':', '_').replace('=', '_')}_minus_scratch_at_{text}"
            found |= _figures_of(key, name, findings.paired(line, scratch))
    full = findings.line(known, "auto", SINGLE, ALL, None)
    if full is not None:
        found[f"full_f1.{name}"] = round(full.mean, 3)
    return found


def figures_of_everything(known: Lines) -> dict[str, float]:
    """The comparisons of strategies over all data sets that have both."""
    found: dict[str, float] = {}
    for budget, text in SHOWN.items():
        for one, other in COMPARED:
            key = f"{one}_minus_{SHORT.get(other, other)}_at_{text}"
            found |= _figures_of(key, EVERYTHING, _over_all(known, one, other, budget)[0])
    return found


def told(name: str, known: Sequence[findings.Line]) -> str:
    """One data set in Markdown: the table, and in words what is more than chance."""
    lines = [f"## {name}", "", findings.as_text(known), ""]
    for budget, text in SHOWN.items():
        for one, other in COMPARED:
            compared = findings.paired(*(findings.line(known, "auto", CHAIN, each, budget) for each in (one, other)))
            if compared is not None and compared.interval is not None:
                lines.append(_sentence(one, other, text, compared, f"{compared.n} seeds"))
    return "\n".join(lines)


def told_of_everything(known: Lines) -> str:
    """The strategies over all data sets in Markdown; empty where fewer than two can be compared."""
    lines = []
    for budget, text in SHOWN.items():
        for one, other in COMPARED:
            compared, names = _over_all(known, one, other, budget)
            if compared is not None and compared.interval is not None and len(names) > 1:
                lines.append(_sentence(one, other, text, compared, f"{compared.n} pairs: {', '.join(names)}"))
    return "\n".join(["## All data sets together", "", TOGETHER, "", *lines]) if lines else ""


def beside_the_paper(known: Lines) -> str:
    """The paper's table and ours in Markdown; empty where nothing is known."""
    names = [name for name, lines in known.items() if lines]
    if not names:
        return ""
    rows = [["", "Paper, MitoEM in 3D", *names], ["---"] * (len(names) + 2)]
    for words, paper, schedule, strategy, budget in PAPER_ROWS:
        cells = []
        for name in names:
            line = findings.line(known[name], "auto", schedule, strategy, budget)
            cells.append("" if line is None else _score(line))
        if paper or any(cells):
            rows.append([words, paper, *cells])
    rows.append(["Iterations of a round", "nnU-Net's schedule", *(_iterations(known[name]) for name in names)])
    for words, paper, ours in PAPER_DIFFERS:
        rows.append([words, paper, *(ours.get(name, ours.get("", "")) for name in names)])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(["## The paper's table beside ours", "", PAPER, "", table])


def _iterations(lines: Sequence[findings.Line]) -> str:
    """Of the trainings that were chained, all that there were."""
    return ", ".join(map(str, sorted({line.iterations for line in lines if line.condition[1] == CHAIN})))


def _score(line: findings.Line) -> str:
    percent = "" if line.mean_percent is None or line.condition[2] == ALL else f" ({line.mean_percent:.0f}%)"
    return f"{line.mean:.3f}{percent}"


def _over_all(known: Lines, one: str, other: str, budget: float) -> tuple[findings.Paired | None, list[str]]:
    """Two strategies over all data sets that have both, and which these are."""
    pairs = {
        name: (findings.line(lines, "auto", CHAIN, one, budget), findings.line(lines, "auto", CHAIN, other, budget))
        for name, lines in known.items()
    }
    both = {name: pair for name, pair in pairs.items() if findings.paired(*pair) is not None}
    return findings.paired_over(both.values()), list(both)


def _figures_of(key: str, name: str, compared: findings.Paired | None) -> dict[str, float]:
    """A difference in F1 points and the ends of its interval."""
    if compared is None:
        return {}
    found = {f"{key}.{name}": round(100 * compared.difference, 2)}
    if compared.interval:
        low, high = compared.interval
        found |= {f"{key}_low.{name}": round(100 * low, 2), f"{key}_high.{name}": round(100 * high, 2)}
    return found


def _sentence(one: str, other: str, text: str, compared: findings.Paired, of: str) -> str:
    low, high = (100 * value for value in compared.interval or ())
    return (
        f"- {one} minus {other} at {text.replace('_', '.')}%: {100 * compared.difference:+.1f} F1 points "
        f"(95% interval {low:+.1f} to {high:+.1f}, {of}): {compared.told}."
    )


INTRODUCTION = """# What the method is worth, measured

Made by `python -m benchmarks.evidence --write docs` from stored runs of `python -m alapp experiment`; do not edit.

Every run trains as the app does on a computer without a GPU (preset "quick"): nnU-Net plans and pre-trains itself on
the pseudo-labels that "auto" chooses without downloaded weights, then each budget is trained from the model of the
smaller one (schedule "chain"). All labels of a budget are trained on, none is kept for validation. Scores are F1 at
IoU 0.5 of all objects of the test images, which are the last quarter of each data set. nuclei_fluo was run before the
borders between objects that touch counted more. "all" trains on every patch, for as many iterations as all rounds
together. Percent are of the F1 of "all" with the same start and seed. With three seeds an interval is wide: a
difference is called better or worse only when its 95% interval (Student's t, paired by seed) leaves out zero, and of
twenty such comparisons one does by chance alone. A line of one seed says nothing yet. Training seconds are those of
computers that did other things too, and of runs that were paused.

A patch is not the same work everywhere: "objects" is how many the labelled patches showed on average, of which each has
to be outlined. A strategy that prefers crowded patches asks for more work."""

TOGETHER = """Each seed of each data set is one pair. What holds for all of them together need not hold for yours, and
the interval takes the pairs of one data set for independent."""

PAPER = """F1 at IoU 0.5, in brackets the percent of what all labels give; ours are means over the seeds named below.
The paper is arXiv 2511.04811. Scores must not be compared across columns, for the data differ; what can be compared is
how much of full annotation so many labels reach."""

PAPER_VALUES = (
    "arXiv 2511.04811, MitoEM, 3D: F1 0.4025 with pseudo-labels alone, 0.577 at random and 0.600 by core-set with 128 "
    "of 1,024 patches; 90% of full annotation with 6.25 to 12.5% of the labels; pre-training +2 to 4%."
)

PAPER_ROWS = (
    ("Pseudo-labels alone", "0.4025", "", "", 0),
    ("6.25%, random", "", CHAIN, "random", 0.0625),
    ("6.25%, random with objects", "", CHAIN, "foreground_random", 0.0625),
    ("6.25%, core-set", "", CHAIN, "coreset", 0.0625),
    ("6.25%, automatic", "", CHAIN, "auto", 0.0625),
    ("12.5%, random", "0.577", CHAIN, "random", 0.125),
    ("12.5%, random with objects", "", CHAIN, "foreground_random", 0.125),
    ("12.5%, core-set", "0.600 (about 90%)", CHAIN, "coreset", 0.125),
    ("12.5%, automatic", "", CHAIN, "auto", 0.125),
    ("All labels", "", SINGLE, ALL, None),
)
"""(words, the paper's value, schedule, strategy, budget)."""

PAPER_DIFFERS = (
    ("Patches", "1,024 of 32 x 512 x 512", {"": "2D, 256 x 256", "cho": "stacks, 5 x 256 x 256"}),
    ("Pseudo-labels by", "CellSAM", {"": "the app's built-in methods"}),
    ("Hardware", "a GPU", {"": "one CPU core"}),
)
"""(words, the paper's, ours by data set)."""
