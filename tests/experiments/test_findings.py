from __future__ import annotations

import pytest

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


def test_an_interval_is_students():
    # of 3 values, mean 0.2 and standard deviation 0.1: 4.303 standard errors to each side
    assert findings.interval([0.1, 0.2, 0.3]) == pytest.approx((0.2 - 0.2484, 0.2 + 0.2484), abs=1e-4)
    assert findings.interval([0.1]) is None


@pytest.mark.parametrize("n", [2, 3])
def test_values_without_a_spread_have_no_interval(n):
    assert findings.interval([0.25] * n) is None
    # 0.65 - 0.4 and 0.35 - 0.1 are not the same to a computer
    one, other = ((0.65, 0.35, 0.65)[:n], (0.4, 0.1, 0.4)[:n])
    made = [
        findings.Line(condition=("auto", "chain", name, 4.0), patches=4, of=60, f1=dict(enumerate(f1)), percent={},
                      seconds=1.0)
        for name, f1 in (("coreset", one), ("random", other))
    ]  # fmt: skip
    compared = findings.paired(*made)
    assert compared.interval is None
    assert compared.difference == pytest.approx(0.25)
    assert "better" not in compared.told
    assert f"each of {n} repetitions" in compared.told
