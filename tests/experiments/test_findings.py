from __future__ import annotations

from alapp.experiments import findings
from alapp.experiments.findings import Line


def line(start, schedule, strategy, budget):
    condition = (start, schedule, strategy, budget)
    return Line(condition=condition, patches=4, of=60, f1={0: 0.5}, percent={}, seconds=10.0)


def test_the_table_is_in_reading_order_and_leaves_out_the_untrained_network():
    known = [
        line("none", "", "", 0),
        line("none", "chain", "random", 0.25),
        line("auto", "single", "all", None),
        line("auto", "chain", "random", 0.25),
        line("auto", "", "", 0),
        line("auto", "chain", "auto", 0.125),
    ]
    _, _, *rows = findings.as_text(known).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")[:3]] for row in rows]
    assert cells == [
        ["auto", "-", "pre-trained only"],
        ["auto", "chain", "auto"],
        ["auto", "chain", "random"],
        ["auto", "single", "all"],
        ["none", "chain", "random"],
    ]
