"""Curves, comparisons and files of results that are known."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from alapp.errors import InputError, NotReadyError
from alapp.experiments import curves, export, runner
from alapp.experiments.findings import Line
from alapp.experiments.study import ALL, CHAIN, NONE, SINGLE, Study
from alapp.storage import experiments
from alapp.ui.experiments.experiment_results import curve_figure, differences, rows_of

BAD = "reference:drop=0.5"


def line(start, schedule, strategy, budget, *f1, patches=None):
    by_seed = dict(enumerate(f1))
    percent = {seed: 100 * value / 0.8 for seed, value in by_seed.items()}
    return Line(
        condition=(start, schedule, strategy, budget), patches=patches or int(budget or 100), of=100, f1=by_seed,
        percent=percent, seconds=10.0,
    )  # fmt: skip


def untrained(start, f1):
    return Line(condition=(start, "", "", 0), patches=0, of=100, f1={0: f1, 1: f1}, percent={}, seconds=5.0)


@pytest.fixture
def known():
    return [
        untrained("auto", 0.5),
        line("auto", CHAIN, "coreset", 4, 0.70, 0.71),
        line("auto", CHAIN, "coreset", 8, 0.75, 0.77),
        line("auto", CHAIN, "random", 4, 0.5995, 0.6105),
        line("auto", CHAIN, "random", 8, 0.74, 0.78),
        line("auto", SINGLE, ALL, None, 0.8, 0.8),
        untrained(NONE, 0.0),
        line(NONE, CHAIN, "random", 4, 0.70, 0.72),
    ]


def test_a_curve_starts_with_pretraining_alone(known):
    coreset, random = curves.of(known, "auto")
    assert (coreset.title, random.title) == ("Core-set", "Random")
    assert [point.patches for point in coreset.points] == [0, 4, 8]
    low, high = coreset.points[1].interval
    assert low < 0.705 < high
    assert coreset.points[0].interval is None  # two that are the same do not tell how far the next may lie
    assert coreset.look != random.look


def test_a_network_that_knows_nothing_is_no_point(known):
    by_start = curves.of(known, strategy="random")
    assert [curve.title for curve in by_start] == ["pre-trained on pseudo-labels", "not pre-trained"]
    assert [point.patches for point in by_start[1].points] == [4]


def test_differences_change_one_thing_only(known):
    found = curves.contrasts(known)
    assert [(each.one, each.other, each.labels) for each in found] == [
        ("Core-set", "Random", "4 labelled patches"),
        ("Core-set", "Random", "8 labelled patches"),
        ("Pre-trained on pseudo-labels", "not pre-trained", "4 labelled patches"),
    ]
    assert found[0].paired.told == "better"
    assert "chance" in found[1].told
    assert "+10.0 F1 points" in found[0].told
    assert found[2].paired.difference == pytest.approx(-0.105)
    assert curves.summary(found) == "Of 3 comparisons: 1 better, 1 worse; the others could be chance."


def test_errors_are_compared_with_the_same_labels_without_them():
    known = [line(start, CHAIN, "random", 4, 0.5, 0.6) for start in (NONE, "reference", BAD)]
    pairs = {(each.one, each.other) for each in curves.contrasts(known)}
    told = "Pre-trained on perfect labels, objects missing (50%)"
    assert {(told, "not pre-trained"), (told, "pre-trained on perfect labels")} < pairs


def test_rounds_are_compared_with_all_at_once():
    known = [line("auto", schedule, "random", 4, 0.5, 0.6) for schedule in (CHAIN, SINGLE)]
    (found,) = curves.contrasts(known)
    assert (found.one, found.other) == ("Round after round", "all at once")


def test_the_figure_has_the_lines_of_every_label(known):
    figure = curve_figure(known, "auto", None)
    assert [trace.name for trace in figure.data] == ["Core-set", "Random"]
    assert sorted(shape.y0 for shape in figure.layout.shapes) == pytest.approx([0.72, 0.8])
    assert not curve_figure(known[:5], "auto", None).layout.shapes


def test_one_repetition_has_no_interval(known):
    (once,) = curve_figure([line("auto", CHAIN, "random", 4, 0.5)], "auto", None).data
    assert [list(told) for told in once.customdata] == [["too few for an interval", "1 repetition"]]
    twice, _ = curve_figure(known, "auto", None).data
    assert twice.customdata[1][0].startswith("95% interval 0.")
    assert twice.customdata[1][1] == "2 repetitions"


def test_a_summary_says_only_what_is_there(known):
    better, chance, worse = curves.contrasts(known)
    assert curves.summary([better]) == "Of 1 comparison: 1 better, 0 worse."
    assert curves.summary([better, worse]) == "Of 2 comparisons: 1 better, 1 worse."
    assert curves.summary([chance]) == "Of 1 comparison: 0 better, 0 worse; it could be chance."
    assert curves.summary([chance] * 2) == "Of 2 comparisons: 0 better, 0 worse; all could be chance."
    single = [line("auto", CHAIN, name, 1, 0.5) for name in ("coreset", "random")]
    (found,) = curves.contrasts(single)
    assert found.labels == "1 labelled patch"
    assert found.told.endswith("+0.0 F1 points: one seed says nothing.")


def test_repetitions_that_are_all_the_same_are_no_verdict(known):
    lines = [line("auto", CHAIN, name, 4, f1, f1 + 0.1) for name, f1 in (("coreset", 0.75), ("random", 0.5))]
    (found,) = curves.contrasts(lines)
    assert found.told == (
        "Core-set against Random, 4 labelled patches (pre-trained on pseudo-labels, round after round): +25.0 F1 "
        "points: the same difference in each of 2 repetitions, which does not tell how far chance goes."
    )
    assert "does not tell what is more than chance" in curves.summary([found])
    better, *_ = curves.contrasts(known)
    assert curves.summary([found, better]) == "Of 1 comparison: 1 better, 0 worse."
    same = line("auto", CHAIN, "random", 4, 0.5, 0.5, 0.5)
    assert (curves.table([same])[0]["f1_50_low"], curves.table([same])[0]["f1_50_high"]) == (None, None)


def test_the_page_shows_what_is_more_than_chance_first(known):
    assert len(rows_of(known)) == len(known)
    text = differences(known)
    assert text.index("no difference") > text.rindex("worse.")
    assert differences([]) == ""


@pytest.mark.usefixtures("fast")
def test_exports_hold_the_results(store, source, tmp_path):
    study = Study(source, budgets=(2, 4), strategies=("coreset", "random"), seeds=(0, 1), starts=("auto", NONE))
    made = runner.create(store, "my discs/1", study)
    with pytest.raises(NotReadyError, match="No run"):
        export.export(store, made, "csv")
    runner.run(store, made.id, lambda *_: None)
    with pytest.raises(InputError, match="csv, json, png"):
        export.export(store, made, "pdf")
    table = list(csv.DictReader(io.StringIO(export.export(store, made, "csv").read_text())))
    assert len(table) == 2 * (1 + 4 + 1)
    assert {row["labelled_patches"] for row in table} == {"0", "2", "4", "12"}
    whole = json.loads(export.export(store, made, "json", tmp_path / "out" / "all.json").read_text())
    assert len(whole["runs"]) == len(experiments.runs(store, made.id))
    assert Study.of(whole["study"]) == study
    picture = np.asarray(Image.open(export.export(store, made, "png")).convert("RGB"))
    assert picture.shape[0] > 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
