"""Which exports the page offers."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from alapp import jobs
from alapp.domain import PatchRole, silent
from alapp.rounds.annotate import annotation
from alapp.rounds.export import export
from alapp.running import run_inline
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.ui.parts import downloads
from alapp.ui.results import results


@pytest.fixture
def write(store, opened, tmp_path, monkeypatch):
    """A function that writes exports by their names, and gives the names that are offered then."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    folder = export.exports_folder(store, opened.id)

    def made(*names):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text(name, encoding="utf-8")
        return [Path(path).read_text(encoding="utf-8") for path in downloads.newest(store, opened.id)]

    return made


def test_the_newest_is_offered_whatever_the_project_was_called(write):
    assert write("zebra_labels_2026-01-01T000000Z.zip", "ant_labels_2026-01-02T000000Z.zip") == [
        "ant_labels_2026-01-02T000000Z.zip"
    ]
    assert write("bee_labels_2025-12-31T235959Z.zip") == ["ant_labels_2026-01-02T000000Z.zip"]


def test_a_format_in_the_name_of_a_project_is_not_the_format_of_the_export(write):
    assert write("my_labels_2026_coco_2026-01-01T000000Z.zip") == ["my_labels_2026_coco_2026-01-01T000000Z.zip"]
    other = "x_labels_2026-01-01T000000Z_scores_2026-01-03T000000Z.zip"
    assert write("old_labels_2026-01-02T000000Z.zip", other) == [
        other,
        "old_labels_2026-01-02T000000Z.zip",
        "my_labels_2026_coco_2026-01-01T000000Z.zip",
    ]


def test_of_several_exports_of_one_second_the_last_is_offered(write):
    stem = "a_effort_2026-01-01T000000Z"
    assert write(f"{stem}.csv", f"{stem}_2.csv", f"{stem}_10.csv", f"{stem}_9.csv") == [f"{stem}_10.csv"]


def test_other_files_are_not_offered(write):
    assert write("a_labels_2026-01-01T000000Z.zip.part", "notes.txt", "a_labels_today.zip", ".tmp-1234") == []


def test_names_are_those_that_the_export_gives(store, opened):
    catalogue.update_project(store, opened.id, name="mine_coco_")
    patch = catalogue.patches(store, opened.id)[0]
    round_rows.add(store, opened.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    annotation.submit_labels(store, patch.id, np.eye(64, dtype=np.int32), "oracle")
    made = [export.run_export(store, opened.id, silent, "labels")["path"] for _ in range(2)]  # within a second, maybe
    (offered,) = downloads.newest(store, opened.id)
    assert Path(offered).name == Path(made[-1]).name


@pytest.fixture
def no_room(monkeypatch):
    """A temporary folder that takes no file."""

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "save_file_to_cache", full)


def test_an_export_that_the_temporary_folder_does_not_take_is_told_with_its_place(store, opened, no_room):
    patch = catalogue.patches(store, opened.id)[0]
    round_rows.add(store, opened.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    annotation.submit_labels(store, patch.id, np.eye(64, dtype=np.int32), "oracle")
    run_inline(store, jobs.enqueue(store, "export", opened.id, {"what": "labels"}))
    assert downloads.newest(store, opened.id) == []
    text = downloads.export_text(store, opened.id)
    assert f"is in {export.exports_folder(store, opened.id)}. It cannot be downloaded here" in text
    assert "(No space left on device)" in text
    assert results.refresh(store, opened.id)  # the tab is shown all the same
