"""An experiment from its definition to its findings, with stand-ins for the networks."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from alapp.domain import Preset, silent
from alapp.errors import Cancelled, InputError
from alapp.experiments import findings, runner
from alapp.experiments.runs import Result, count
from alapp.experiments.study import ALL, CHAIN, NONE, SINGLE, Study
from alapp.rounds.train import rehearsal
from alapp.storage import experiments
from alapp.storage.experiments import RunState
from tests.rounds.fakes import ThresholdTrainer

pytestmark = pytest.mark.usefixtures("fast")


@pytest.fixture
def study(source):
    return Study(source, budgets=(2, 4), strategies=("coreset", "foreground_random"), seeds=(0, 1), starts=("auto",))


def test_every_run_is_done_once(store, study):
    made = runner.create(store, "discs", study)
    ThresholdTrainer.seen.clear()
    assert runner.run(store, made.id, silent) == {"done": 12, "failed": 0}
    assert len(ThresholdTrainer.seen) == 12
    assert runner.run(store, made.id, silent) == {"done": 12, "failed": 0}
    assert len(ThresholdTrainer.seen) == 12


def test_few_objects_are_rehearsed_with_the_pseudo_labels_of_the_start(store, source, monkeypatch):
    monkeypatch.setattr(rehearsal, "FEW_OBJECTS", 1000)
    made = runner.create(store, "discs", Study(source, (2,), ("random",), ("auto", NONE), seeds=(0,), full=False))
    ThresholdTrainer.seen.clear()
    runner.run(store, made.id, silent)
    _, pretrained, scratch = ThresholdTrainer.seen  # after the pre-training itself
    rows = Result.of(experiments.runs(store, made.id)[1].result).rows
    assert {key for key in pretrained["keys"] if key.startswith("gt_")} == {f"gt_{row}" for row in rows}
    assert {key for key in pretrained["keys"] if key.startswith("pl_")} == {
        f"pl_{row}" for row in range(12) if row not in rows
    }
    assert sum(pretrained["weights"].values()) == pytest.approx(10)
    assert all(key.startswith("gt_") for key in scratch["keys"])
    assert scratch["weights"] is None


def test_runs_see_what_their_condition_says(store, study):
    made = runner.create(store, "discs", study)
    runner.run(store, made.id, silent)
    results = {row.key: Result.of(row.result) for row in experiments.runs(store, made.id)}
    first, second = results["auto/chain/coreset/2/0"], results["auto/chain/coreset/4/0"]
    assert second.rows[:2] == first.rows
    assert len(set(second.rows)) == 4
    assert results["auto/single/all/all/0"].rows == tuple(range(first.patches))
    assert results["auto/-/-/0/0"].rows == ()
    # a round's iterations, and those of two rounds for every label at once
    assert (first.iterations, results["auto/single/all/all/0"].iterations) == (6, 12)
    folder = runner.folder(store, made)
    assert all((folder / result.checkpoint).is_file() for result in results.values())
    assert not list((folder / "runs").iterdir()), "the preprocessed patches are removed"


def test_a_cancelled_experiment_goes_on(store, study):
    made = runner.create(store, "discs", study)

    def cancel(done, total, message=""):
        if done >= 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        runner.run(store, made.id, cancel)
    states = [row.state for row in experiments.runs(store, made.id)]
    assert states.count(RunState.DONE) == 3
    assert states.count(RunState.WAITING) == 9
    assert runner.run(store, made.id, silent)["done"] == 12


def test_a_run_that_fails_is_told_and_can_be_repeated(store, study, monkeypatch):
    made = runner.create(store, "discs", study)
    train = ThresholdTrainer.train

    def broken(self, workspace, cases, *rest, **options):
        if len(cases) == 4:
            raise InputError("Four patches are too many.")
        return train(self, workspace, cases, *rest, **options)

    monkeypatch.setattr(ThresholdTrainer, "train", broken)
    assert runner.run(store, made.id, silent) == {"done": 8, "failed": 4}
    assert {row.error for row in experiments.runs(store, made.id) if row.error} == {"Four patches are too many."}
    monkeypatch.setattr(ThresholdTrainer, "train", train)
    assert experiments.retry(store, made.id) == 4
    assert runner.run(store, made.id, silent) == {"done": 12, "failed": 0}


def test_an_experiment_can_be_extended(store, study, source):
    made = runner.create(store, "discs", study)
    runner.run(store, made.id, silent)
    more = Study(source, budgets=(2, 4), strategies=("coreset", "random"), seeds=(0, 1, 2), schedules=(CHAIN, SINGLE))
    added = runner.extend(store, made, more)
    assert added == 3 * (1 + 8 + 1) - 2 * (1 + 2 + 1)
    assert runner.run(store, made.id, silent)["done"] == 12 + added


class TestBudgetsThatChangeWhatIsThere:
    """Repetitions of other lengths must not be averaged, nor compared with each other."""

    @pytest.fixture
    def first(self, source):
        return Study(source, budgets=(2, 8), strategies=("random",), seeds=(0,))

    @pytest.fixture
    def made(self, store, first):
        return runner.create(store, "discs", first)

    def refused(self, store, made, study):
        before = experiments.by_id(store, made.id).study, experiments.runs(store, made.id)
        with pytest.raises(InputError) as told:
            runner.extend(store, made, study)
        assert (experiments.by_id(store, made.id).study, experiments.runs(store, made.id)) == before
        return str(told.value)

    @pytest.mark.parametrize("changed", [{}, {"seeds": (1,)}, {"strategies": ("coreset",)}, {"starts": (NONE,)}])
    def test_between_those_that_are_there_are_refused(self, store, made, first, changed):
        told = self.refused(store, made, replace(first, budgets=(2, 4, 8), full=False, **changed))
        assert told == (
            "Round after round, this experiment trains with the budgets 2, 8; with 2, 4, 8 the rounds would be others, "
            "which could not be compared. Repeat its budgets (larger ones may follow), or define another experiment."
        )

    @pytest.mark.parametrize("budgets", [(8,), (16,), (1, 2), (4, 8)])
    def test_without_the_smaller_ones_are_refused(self, store, made, first, budgets):
        assert "the budgets 2, 8" in self.refused(store, made, replace(first, budgets=budgets, full=False))

    def test_above_those_that_are_there_are_added(self, store, made, first):
        assert runner.extend(store, made, replace(first, budgets=(2, 8, 10))) == 1
        assert runner.run(store, made.id, silent)["failed"] == 0
        runs = {row.key: row for row in experiments.runs(store, made.id)}
        assert runs["auto/chain/random/10/0"].after == "auto/chain/random/8/0"
        assert Result.of(runs["auto/single/all/all/0"].result).iterations == 12  # as it was defined

    def test_must_not_make_every_patch_longer_for_some_repetitions(self, store, made, first):
        told = self.refused(store, made, replace(first, budgets=(2, 8, 10), seeds=(0, 1)))
        assert "as long as 2 rounds in this experiment, and as long as 3 with the budgets 2, 8, 10" in told
        assert "(--no-full)" in told
        assert runner.extend(store, made, replace(first, budgets=(2, 8, 10), seeds=(0, 1), full=False)) == 1 + 4

    def test_of_another_start_have_every_patch_of_their_own_length(self, store, made, first):
        added = runner.extend(store, made, replace(first, budgets=(2, 8, 10), starts=("auto", NONE)))
        assert added == 1 + 1 + 3 + 1
        assert runner.run(store, made.id, silent)["failed"] == 0
        results = {row.key: Result.of(row.result) for row in experiments.runs(store, made.id)}
        full = [results[f"{start}/single/all/all/0"].iterations for start in ("auto", NONE)]
        assert full == [12, 18]

    def test_are_refused_for_trainings_at_once(self, store, made, first):
        at_once = replace(first, schedules=(SINGLE,), full=False)
        assert runner.extend(store, made, at_once) == 2
        told = self.refused(store, made, replace(at_once, budgets=(8,), seeds=(1,)))
        assert "The budget 8 is trained as long as 2 rounds in this experiment, and as long as 1" in told
        assert runner.extend(store, made, replace(at_once, seeds=(0, 1))) == 3


def test_what_waits_is_carried_out_as_it_was_defined(store, source):
    first = Study(source, budgets=(2, 4), strategies=("random",), seeds=(0,))
    made = runner.create(store, "discs", first)
    runner.extend(store, made, replace(first, budgets=(2, 3, 8), strategies=("coreset",), full=False))
    assert runner.run(store, made.id, silent)["failed"] == 0
    results = {row.key: Result.of(row.result) for row in experiments.runs(store, made.id)}
    assert (results["auto/chain/coreset/8/0"].iterations, results["auto/single/all/all/0"].iterations) == (6, 12)
    whole = Study.of(experiments.by_id(store, made.id).study)
    assert (whole.budgets, whole.strategies, whole.full) == ((2, 3, 4, 8), ("random", "coreset"), True)


def test_a_process_that_began_before_carries_out_what_was_added(store, source):
    first = Study(source, budgets=(2,), strategies=("random",), seeds=(0,), full=False)
    made = runner.create(store, "discs", first)
    added = False

    def report(done, total, message=""):
        nonlocal added
        if not added:
            added = True
            runner.extend(store, made, replace(first, budgets=(2, 4)))

    assert runner.run(store, made.id, report) == {"done": 3, "failed": 0}


def test_runs_of_older_versions_have_the_round_that_their_study_gives_them(store, study):
    made = runner.create(store, "discs", study)
    store.execute("UPDATE experiment_run SET run = json_remove(run, '$.round')")
    assert runner.run(store, made.id, silent)["failed"] == 0
    results = {row.key: Result.of(row.result) for row in experiments.runs(store, made.id)}
    assert results["auto/single/all/all/0"].iterations == 12


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"preset": Preset.STANDARD}, "the same preset: this one has quick, not standard"),
        ({"iterations": 7}, "the same iterations: this one has none given, not 7"),
        ({"source": {"patch": 32}}, "the same patch: this one has 64, not 32"),
        ({"source": {"test_images": "a", "test_labels": "b"}}, "the same test images: this one has none given, not a"),
    ],
)
def test_runs_that_cannot_be_compared_are_not_added(store, study, changed, words):
    made = runner.create(store, "discs", study)
    if "source" in changed:
        changed = {"source": replace(study.source, **changed["source"])}
    with pytest.raises(InputError, match=words):
        runner.extend(store, made, replace(study, seeds=(0, 1, 2), **changed))
    assert len(experiments.runs(store, made.id)) == 12


def test_images_may_move(store, study, tmp_path):
    made = runner.create(store, "discs", study)
    moved = shutil.copytree(study.source.images, tmp_path / "elsewhere")
    assert runner.extend(store, made, replace(study, source=replace(study.source, images=str(moved)), seeds=(2,))) == 6
    assert runner.run(store, made.id, silent) == {"done": 18, "failed": 0}


def test_two_experiments_cannot_share_a_name(store, study):
    runner.create(store, "discs", study)
    with pytest.raises(InputError, match="already"):
        runner.create(store, "discs", study)


def test_findings_compare_seed_by_seed(store, study):
    made = runner.create(store, "discs", study)
    runner.run(store, made.id, silent)
    known = findings.lines(experiments.runs(store, made.id))
    full = findings.line(known, "auto", SINGLE, ALL, None)
    assert full.percent == {0: 100.0, 1: 100.0}
    assert full.patches == full.of
    one, other = (findings.line(known, "auto", CHAIN, name, 4) for name in ("coreset", "foreground_random"))
    compared = findings.paired(one, other)
    assert compared.n == 2
    assert compared.difference == pytest.approx(one.mean - other.mean)
    assert compared.interval is None  # the stand-ins score the same in both repetitions
    assert findings.paired(one, None) is None
    text = findings.as_text(known)
    assert "| auto | chain | coreset | 4 of 12 (33.3%) |" in text


def test_only_what_is_more_than_chance_is_called_better():
    assert findings.Paired(3, 0.05, (0.01, 0.09)).told == "better"
    assert findings.Paired(3, -0.05, (-0.09, -0.01)).told == "worse"
    assert "chance" in findings.Paired(3, 0.05, (-0.01, 0.09)).told
    assert "one seed" in findings.Paired(1, 0.05, None).told


@pytest.mark.parametrize(("budget", "expected"), [(0.0625, 9), (0.001, 1), (16, 16), (500, 144), (None, 144)])
def test_budgets_are_shares_or_numbers(budget, expected):
    assert count(budget, 144) == expected


def test_a_process_whose_run_was_taken_up_goes_on_with_the_next(store, source, monkeypatch):
    """As after the computer slept so long that another process thought this one dead."""
    made = runner.create(store, "one", Study(source, budgets=(2,), strategies=("random",), seeds=(0,), full=False))
    beat, lost = experiments.beat, []

    def lose_once(store, run_id, worker):
        if not lost:
            lost.append(run_id)
            experiments.release(store, run_id, worker)
        return beat(store, run_id, worker)

    monkeypatch.setattr(experiments, "beat", lose_once)
    monkeypatch.setattr(runner, "BEAT_SECONDS", -1)
    assert runner.run(store, made.id, silent) == {"done": 2, "failed": 0}
    assert lost
