"""What benchmarks.evidence makes of stored runs; the runs themselves are tested in tests/experiments."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import numpy as np
import pytest

from alapp.domain import InstanceScores
from alapp.experiments.study import ALL, CHAIN, SINGLE, Run
from alapp.stages.foundation import folders
from alapp.stages.select.base import LIKENESS, SELECTORS
from alapp.storage import experiments
from alapp.storage.experiments import RunState
from benchmarks import evidence, evidence_page, evidence_words

FOUND = {"foreground_random": 60, "random": 70, "coreset": 75, "auto": 80, ALL: 90}
"""Of 100 objects, how many a strategy finds with seed 0; with the next seed it is one more."""


def told(run: Run, rows: tuple[int, ...] = (), found: int | None = None, **more) -> dict:
    """A finished run as `exchange.portable` tells it, which found so many objects with seed 0."""
    tp = (FOUND.get(run.strategy, 20) if found is None else found) + run.seed
    f1 = 2 * tp / (100 + tp)
    scores = InstanceScores(f1, tp / 100, tp / 100, f1, f1, n_true=100, n_pred=tp, tp_50=tp, fp_50=0, fn_50=100 - tp)
    return {
        "key": run.key, "run": asdict(run), "rows": list(rows), "patches": 135, "iterations": 500, "seconds": 1.0,
        "objects": 7, "scores": asdict(scores), **more,
    }  # fmt: skip


def everything(seeds: int) -> list[dict]:
    """A start, four strategies at 12.5% and all labels."""
    made = []
    for seed in range(seeds):
        chosen = ("foreground_random", "random", "coreset", "auto")
        made += [told(Run("auto", seed)), *(told(Run("auto", seed, name, CHAIN, 0.125)) for name in chosen)]
        made.append(told(Run("auto", seed, ALL, SINGLE, None)))
    return made


def test_figures_are_of_the_default_strategy_and_paired_by_seed(store, tmp_path):
    figures = evidence.write(store, [], tmp_path, {"hela": everything(3)})["figures"]
    f1 = {name: [2 * (tp + seed) / (100 + tp + seed) for seed in range(3)] for name, tp in FOUND.items()}
    percent = [100 * one / full for one, full in zip(f1[evidence_page.DEFAULT], f1[ALL], strict=True)]
    assert figures["percent_of_full_at_12_5.hela"] == round(sum(percent) / 3, 1)
    assert figures["percent_of_full_coreset_at_12_5.hela"] < figures["percent_of_full_at_12_5.hela"]
    gain = [100 * (one - other) for one, other in zip(f1["auto"], f1["foreground_random"], strict=True)]
    assert figures["auto_minus_fg_random_at_12_5.hela"] == round(sum(gain) / 3, 2)
    low, high = (figures[f"auto_minus_fg_random_at_12_5_{end}.hela"] for end in ("low", "high"))
    assert low < min(gain) < max(gain) < high
    assert figures["full_f1.hela"] == round(sum(f1[ALL]) / 3, 3)
    assert not any("6_25" in name for name in figures)
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    assert "auto minus foreground_random at 12.5%: +13.7 F1 points" in text
    assert "(95% interval" in text
    assert json.loads((tmp_path / "evidence.json").read_text(encoding="utf-8"))["figures"] == figures


def test_strategies_are_compared_over_all_data_sets(store, tmp_path):
    known = {"hela": everything(2), "bacteria": everything(2)}
    figures = evidence.write(store, [], tmp_path, known)["figures"]
    key = "auto_minus_fg_random_at_12_5"
    assert figures[f"{key}.everything"] == figures[f"{key}.hela"] == figures[f"{key}.bacteria"]
    low, high = (figures[f"{key}_high.{name}"] - figures[f"{key}_low.{name}"] for name in ("everything", "hela"))
    assert 0 < low < high  # four pairs tell more than two
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    assert "4 pairs: hela, bacteria" in text.split("## All data sets together")[1]


def test_starts_and_schedules_are_compared_with_the_same_strategy(store, tmp_path):
    base = (evidence_page.BASELINE, CHAIN, 0.125)
    made = [told(Run(start, seed, *base), found=tp) for seed in range(3)
            for start, tp in (("none", 50), ("auto", 60), ("reference:merge=0.5", 40))]  # fmt: skip
    made += [told(Run("auto", seed, evidence_page.BASELINE, SINGLE, 0.125), found=70) for seed in range(3)]
    figures = evidence.write(store, [], tmp_path, {"hela": made, "bacteria": made})["figures"]
    f1 = {tp: [2 * (tp + seed) / (100 + tp + seed) for seed in range(3)] for tp in (40, 50, 60, 70)}
    for key, one, other in (
        ("pretrained_minus_scratch", 60, 50),
        ("reference_merge_0.5_minus_scratch", 40, 50),
        ("chain_minus_single", 60, 70),
    ):
        expected = round(100 * sum(a - b for a, b in zip(f1[one], f1[other], strict=True)) / 3, 2)
        assert figures[f"{key}_at_12_5.hela"] == figures[f"{key}_at_12_5.everything"] == expected
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    gain = f"{figures['pretrained_minus_scratch_at_12_5.hela']:+.1f} points"
    assert f"| Pre-training minus scratch, 12.5% | +2 to 4% | {gain} | {gain} |" in text
    assert "pre-training on labels with half of the objects joined to a neighbour minus scratch at 12.5%: -9" in text
    mean = sum(f1[40]) / 3
    row = f"| labels with half of the objects joined to a neighbour | - / - / {mean:.3f} | - / - / {mean:.3f} |"
    assert row in text.split("## What bad pseudo-labels cost")[1]
    assert {one.one[0] for one in evidence_page.COMPARISONS} <= {"auto", *evidence.parts("hela")["corrupted"].starts}


def test_starts_are_compared_on_the_same_patches():
    baseline = SELECTORS.load(evidence_page.BASELINE)
    assert baseline.needs <= LIKENESS  # what the pixels tell, and no start changes
    assert not baseline.uses_embeddings


def test_one_data_set_is_not_all_of_them(store, tmp_path):
    evidence.write(store, [], tmp_path, {"hela": everything(3)})
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    assert "All data sets together" not in text
    assert "What bad pseudo-labels cost" not in text  # none was spoilt


def test_the_papers_table_stands_beside_ours(store, tmp_path):
    evidence.write(store, [], tmp_path, {"hela": everything(1), "bacteria": []})
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    table = text.split("## The paper's table beside ours")[1].split("##")[0]
    rows = {cells[0]: cells[1:] for line in table.splitlines() if line.startswith("|")
            for cells in [[cell.strip() for cell in line.strip("|").split("|")]]}  # fmt: skip
    f1 = {name: 2 * tp / (100 + tp) for name, tp in FOUND.items()}
    assert rows[""] == ["Paper, MitoEM in 3D", "hela"]  # no column for a data set without runs
    assert rows["Pseudo-labels alone"] == ["0.4025", f"{2 * 20 / 120:.3f} ({100 * 2 * 20 / 120 / f1[ALL]:.0f}%)"]
    full = 100 * f1["coreset"] / f1[ALL]
    assert rows["12.5%, core-set"] == ["0.600 (about 90%)", f"{f1['coreset']:.3f} ({full:.0f}%)"]
    assert rows["All labels"] == ["", f"{f1[ALL]:.3f}"]
    assert not any(words.startswith("6.25%") for words in rows)  # nobody has a value
    assert rows["Iterations of a round"] == rows["Iterations with all labels"] == ["nnU-Net's schedule", "500"]
    assert rows["Hardware"] == ["a GPU", "one CPU core"]


def test_one_seed_has_no_interval(store, tmp_path):
    figures = evidence.write(store, [], tmp_path, {"hela": everything(1)})["figures"]
    assert "auto_minus_random_at_12_5.hela" in figures
    assert "auto_minus_random_at_12_5_low.hela" not in figures
    assert "minus" not in (tmp_path / "evidence.md").read_text(encoding="utf-8").split("## hela")[1]


def test_runs_are_kept_and_read_back(store, tmp_path):
    before = {"hela": everything(1), "bacteria": everything(2), "of another day": everything(1)}
    evidence.write(store, ["hela"], tmp_path, before)
    assert evidence.read_runs(tmp_path / evidence.KNOWN.name) == before
    assert evidence.read_runs(None) == evidence.read_runs(tmp_path / "absent.json") == {}


def test_objects_of_older_runs_are_counted(store, tmp_path):
    older = told(Run("auto", 0, "random", CHAIN, 0.125), rows=(0, 1, 2))
    del older["objects"]
    evidence.write(store, ["hela"], tmp_path, {"hela": [older]})
    [kept] = evidence.read_runs(tmp_path / evidence.KNOWN.name)["hela"]
    images = evidence.experiment_sources.load(evidence.sources()["hela"], None)
    assert kept["objects"] == images.objects([0, 1, 2]) > 0


def test_what_is_known_is_not_defined_to_be_run(store, capsys):
    known = {"bacteria": [told(Run("auto", 0, ALL, SINGLE, None))]}
    evidence.define(store, ["bacteria"], "first", known)
    runs = experiments.runs(store, experiments.by_name(store, "bacteria").id)
    assert [run.key for run in runs if run.state is RunState.DONE] == ["auto/single/all/all/0"]
    assert {Run(**run.run).strategy for run in runs} == {"", "auto", "foreground_random", ALL}
    evidence.define(store, ["bacteria"], "main", known)
    later = experiments.runs(store, experiments.by_name(store, "bacteria").id)
    assert [run.key for run in later][: len(runs)] == [run.key for run in runs]  # what was worth most stays first
    assert {Run(**run.run).strategy for run in later} == {
        *evidence.parts("bacteria")["main"].strategies,
        "",
        ALL,
    }
    assert "bacteria, first: created" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(evidence.sources()))
def test_what_the_page_says_of_a_data_set_is_so(name):
    images = evidence.experiment_sources.load(evidence.sources()[name], None)
    holding = sum(images.objects([row]) > 0 for row in range(len(images.patches)))
    assert evidence_words.WITH_OBJECTS[name] == f"{holding} of {len(images.patches)}"
    test = sum(np.count_nonzero(np.unique(image.labels)) for image in images.test)
    assert evidence_words.TEST_OBJECTS[name] == str(test)


def test_weights_of_this_computer_are_hidden(monkeypatch, tmp_path):
    monkeypatch.setenv(folders.MICROSAM_VARIABLE, str(tmp_path / "given"))
    monkeypatch.delenv(folders.DEEPCELL_VARIABLE)
    with evidence.without_weights():
        assert folders.microsam() not in (tmp_path / "given" / "models", None)
        assert not any(folders.deepcell().iterdir())
    assert folders.microsam() == tmp_path / "given" / "models"
    assert folders.DEEPCELL_VARIABLE not in os.environ


@pytest.mark.parametrize("name", ["hela", "bacteria", "cho"])
def test_parts_compare_with_the_first(name):
    parts = evidence.parts(name)
    assert parts["first"].budgets == (0.0625, 0.125)  # of which the method promises something
    for part, study in parts.items():
        assert part == "first" or study.budgets == evidence.BUDGETS
        assert len(study.seeds) >= 3
        assert "foreground_random" in study.strategies or study.strategies == (evidence_page.BASELINE,)
