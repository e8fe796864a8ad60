"""`experiment` on the command line: what is typed wrong is told in a sentence, with exit code 2."""

from __future__ import annotations

import pytest

from alapp import cli
from alapp.experiments.study import Study
from alapp.storage import experiments

pytestmark = pytest.mark.usefixtures("fast")


@pytest.fixture
def command(store, capsys, monkeypatch):
    """Runs `experiment` with arguments; gives (exit code, what it printed)."""

    def typed(*arguments):
        line = ["alapp", "experiment", *arguments, "--state", str(store.root)]
        monkeypatch.setattr("sys.argv", line)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, "".join(capsys.readouterr())

    return typed


@pytest.fixture
def folders(source):
    return ["--images", source.images, "--labels", source.labels, "--patch", "64", "--budgets", "2", "--seeds", "1"]


def test_what_is_named_twice_is_compared_once(command, store, folders):
    code, text = command("create", "my discs", *folders, "--strategies", "random, random", "--no-full")
    assert code == 0
    assert 'experiment run "my discs"' in text
    assert len(experiments.runs(store, experiments.by_name(store, "my discs").id)) == 2


def test_images_of_two_kinds_are_refused(command, store, folders):
    for also in (["--sample", "hela"], ["--project", "1"]):
        code, text = command("create", "discs", *also, *folders)
        assert (code, text.count("\n")) == (2, 1)
        assert "not several of them" in text
    assert experiments.every(store) == []


def test_the_share_of_test_images_holds_for_samples_too(command, store):
    assert command("create", "hela", "--sample", "hela", "--budgets", "2", "--test-share", "0.5")[0] == 0
    assert Study.of(experiments.by_name(store, "hela").study).source.test_share == 0.5
    code, text = command("create", "other", "--sample", "hela", "--test-share", "2")
    assert code == 2
    assert "between 0 and 1" in text


def test_a_report_and_a_file_of_results(command, folders, tmp_path):
    command("create", "discs", *folders, "--strategies", "random", "--starts", "none", "--no-full")
    code, text = command("report", "discs")
    assert code == 2
    assert "No run of 'discs' is done yet" in text
    assert "0 of 2 runs are done" in command("list")[1]
    assert "2 runs are done.\n" in command("run", "discs")[1]
    assert "| none | chain | random | 2 of 12" in command("report", "discs")[1]
    code, text = command("export", "discs", "csv", "--out", str(tmp_path))
    assert (code, text.strip()) == (0, str(tmp_path / "discs.csv"))
    (tmp_path / "file").write_text("mine")
    code, text = command("export", "discs", "csv", "--out", str(tmp_path / "file" / "a.csv"))
    assert (code, text.count("\n")) == (2, 1)
    assert "cannot be written" in text


def test_budgets_that_leave_no_choice_are_not_added_either(command, store, folders):
    for more in ("1", "2"):
        arguments = [*folders, "--strategies", "random", "--budgets", "4,8,16,32", "--seeds", more]
        code, text = command("create", "discs", *arguments, *(["--add"] if more == "2" else []))
        assert code == 0
        assert "Left out: 16, 32, because" in text
    assert "4 runs were added to 'discs'. Left out" in text
    runs = experiments.runs(store, experiments.by_name(store, "discs").id)
    assert {run.run["budget"] for run in runs} == {0, 4, 8, None}
    assert Study.of(experiments.by_name(store, "discs").study).budgets == (4, 8)
    code, text = command("create", "discs", *folders, "--budgets", "4,6,8", "--add")
    assert (code, text.count("\n")) == (2, 1)
    assert "or define another experiment" in text
    assert "no experiment called 'unknown'" in command("create", "unknown", *folders, "--add")[1]
