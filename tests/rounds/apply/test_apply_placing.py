"""The model on images outside the project: how results get into their folder, and what is said where they cannot."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tifffile

from alapp.domain import silent
from alapp.rounds.apply import apply, apply_files, apply_record
from alapp.storage import files, processes, scratch
from tests.rounds.apply.conftest import table
from tests.rounds.conftest import discs


def test_what_killed_runs_left_behind_is_removed_and_other_runs_keep_theirs(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = [f".tmp-work-{processes.hostname()}-{ended.pid}-x", ".tmp-apply-old"]
    for name in (*gone, ".tmp-apply-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.npy").touch()
    days_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / ".tmp-apply-old", (days_ago, days_ago))
    with scratch.work_folder(tmp_path) as used:
        apply.prepare_target(tmp_path, [])
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".tmp-apply-new", used.name])


def test_two_runs_into_one_folder_leave_each_other_alone(store, trained, folder, tmp_path):
    out = str(tmp_path / "out")
    other: list[dict] = []

    def meanwhile(done, total, message=""):
        if "writing the masks" in message and not other:
            other.append({})
            other[0] = apply.run_apply(store, trained.id, silent, str(folder / "b.tif"), target=out)

    made = apply.run_apply(store, trained.id, meanwhile, str(folder / "a.tif"), target=out)
    assert [made["problems"], other[0]["problems"]] == [[], []]
    assert [row["image"] for row in table(tmp_path / "out" / "summary.csv")] == ["a.tif", "b.tif"]


def refusing(monkeypatch, module, part, error):
    """`os.replace` as `module` sees it raises `error` for targets with `part` in their names."""

    def replace(source, target):
        if part in str(target):
            raise error
        return os.rename(source, target)

    monkeypatch.setattr(module, "os", SimpleNamespace(**{**vars(os), "replace": replace}))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long"), r"could not be written into .*File name too long"),
        (OSError(errno.ENOSPC, "No space left on device"), r"disk is full: What was found in a\.tif could not"),
        (PermissionError(errno.EACCES, "Permission denied"), r"a_masks\.tif cannot be replaced: another program"),
    ],
    ids=["name", "disk", "open"],
)
def test_results_that_cannot_be_placed_are_the_problem_of_their_image(
    store, trained, folder, tmp_path, monkeypatch, error, words
):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        refusing(patched, apply_files, "a_masks", error)
        made = apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    assert [row["image"] for row in made["rows"]] == ["b.tif"]
    (problem,) = made["problems"]
    assert problem["file"] == "a.tif"
    assert re.search(words, problem["problem"])
    assert not list(out.glob("a_*"))
    assert apply.run_apply(store, trained.id, silent, str(folder), target=str(out))["problems"] == []


def test_results_that_cannot_be_written_down_are_not_left_behind(store, trained, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        refusing(patched, files, apply_record.RECORD, OSError(errno.EIO, "Input/output error"))
        made = apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    assert ["Input/output error" in row["problem"] for row in made["problems"]] == [True, True]
    assert list(out.iterdir()) == []


def test_results_that_are_in_place_but_cannot_be_written_down_are_removed(
    store, trained, folder, tmp_path, monkeypatch
):
    def add(record, name, of, row):
        raise OSError(errno.EIO, "Input/output error")

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(apply_record.Record, "add", add)
        made = apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    assert ["Input/output error" in row["problem"] for row in made["problems"]] == [True, True]
    assert [path.name for path in out.iterdir()] == [apply_record.RECORD]
    assert apply.run_apply(store, trained.id, silent, str(folder), target=str(out))["problems"] == []


def test_a_run_that_was_killed_before_it_wrote_down_what_is_in_place_goes_on(
    store, trained, folder, tmp_path, monkeypatch
):
    (folder / "b.tif").rename(folder / "a.TIFF")  # which needs a name that is not its own
    out, real, calls = tmp_path / "out", apply_record.Record.add, []

    def killed_at_the_second(record, name, of, row):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(record, name, of, row)

    with monkeypatch.context() as patched:
        patched.setattr(apply_record.Record, "add", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    left = sorted(path.name for path in out.iterdir())
    assert len(left) == 5
    made = apply.run_apply(store, trained.id, silent, str(folder), target=str(out))
    assert made["problems"] == []
    assert sorted(row["remark"] for row in made["rows"]) == ["", "done before"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*left, "summary.csv"])
    assert sorted(row["results"] for row in table(out / "summary.csv")) == sorted(calls)


def test_earlier_results_that_could_not_be_replaced_are_still_known(store, trained, folder, tmp_path, monkeypatch):
    where = {"source": str(folder / "a.tif"), "target": str(tmp_path / "out")}
    apply.run_apply(store, trained.id, silent, **where, options={"table": False})
    with monkeypatch.context() as patched:
        refusing(patched, apply_files, "a_masks", PermissionError(errno.EACCES, "Permission denied"))
        wide = apply.run_apply(store, trained.id, silent, **where, options={"table": False, "bits": 32})
    assert "cannot be replaced" in wide["problems"][0]["problem"]
    (row,) = apply.run_apply(store, trained.id, silent, **where, options={"table": False})["rows"]
    assert row["remark"] == "done before"


def test_a_summary_that_is_open_elsewhere_is_a_problem_of_a_run_that_succeeds(store, trained, tmp_path, monkeypatch):
    upload = store.files.project(trained.id) / "uploads" / "x" / "c.tif"
    upload.parent.mkdir(parents=True)
    tifffile.imwrite(upload, discs(23)[0][..., 0])
    discard = upload.parent.relative_to(store.root).as_posix()
    refusing(monkeypatch, files, "summary.csv", PermissionError(errno.EACCES, "Permission denied"))
    out = str(tmp_path / "out")
    made = apply.run_apply(store, trained.id, silent, files=[str(upload)], target=out, discard=discard)
    assert [row["image"] for row in made["rows"]] == ["c.tif"]
    (problem,) = made["problems"]
    assert problem["file"] == "summary.csv"
    assert "another program has it open" in problem["problem"]
    assert (store.root / made["archive"]).is_file()
    assert not upload.parent.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode only")
def test_names_that_are_no_unicode_or_not_valid_everywhere_are_mended(store, trained, folder, tmp_path):
    (folder / "a.tif").rename(folder / "a\udcfcb.tif")
    (folder / "b.tif").rename(folder / "b: 1.tif")
    made = apply.run_apply(store, trained.id, silent, str(folder), target=str(tmp_path / "out"))
    assert made["problems"] == []
    assert [row["image"] for row in made["rows"]] == ["a?b.tif", "b: 1.tif"]
    assert [row["results"] for row in table(tmp_path / "out" / "summary.csv")] == ["a-b", "b-1"]
