from __future__ import annotations

import errno
import importlib.metadata
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlite_utils import Database

from alapp import doctor, doctor_database, jobs
from alapp.doctor import Level, diagnose
from alapp.domain import Status
from alapp.storage import catalogue, processes
from alapp.storage import jobs as rows
from alapp.storage.db import DATABASE, Store
from alapp.storage.schema import migrations
from alapp.ui.launch import CACHE
from tests.job_kinds import KINDS


def by_title(state: Store | Path, **options: bool) -> dict[str, doctor.Finding]:
    return {
        finding.title: finding
        for finding in doctor._state(state.root if isinstance(state, Store) else state, **options)
    }


def image_file(store: Store, project_id: int, name: str) -> Path:
    """A project with a stored image; returns its file."""
    stored = store.files.write_array(store.files.project(project_id) / "images" / f"{name}.npy", np.zeros((1, 4, 4, 1)))
    values = {
        "project_id": project_id, "name": name, "role": "train", "source": name, "source_sha256": "", "axes": "YX",
        "path": stored.path, "sha256": stored.sha256, "shape": "[1,4,4,1]", "is_3d": 0, "dtype": "float64",
        "axes_source": "assumed", "voxel_size": "{}", "warnings": "[]",
    }  # fmt: skip
    catalogue.add_image(store, values, [])
    return store.root / stored.path


def test_a_state_folder_in_good_order(store: Store) -> None:
    image_file(store, catalogue.create_project(store, "cells").id, "a")
    found = by_title(store, hashes=True)
    assert doctor.worst(found.values()) is Level.OK
    assert migrations._migrations[-1].name in found["Database"].detail
    assert found["Stored files"].detail == "1, all there and unchanged"


def test_damage_is_named_and_nothing_is_changed(store: Store) -> None:
    project = catalogue.create_project(store, "cells").id
    missing, damaged = image_file(store, project, "gone"), image_file(store, project, "bad")
    missing.unlink()
    damaged.write_bytes(b"bad")
    (damaged.parent / "orphan.npy").write_bytes(b"x" * 2_000_000)
    (damaged.parent / ".tmp-123").write_bytes(b"x")
    before = sorted(path for path in store.root.rglob("*"))
    found = by_title(store, hashes=True)
    assert found["Missing files"].level is Level.ERROR
    assert found["Missing files"].detail == missing.relative_to(store.root).as_posix()
    assert found["Damaged files"].detail == damaged.relative_to(store.root).as_posix()
    assert "orphan.npy (2.0 MB" in found["Orphan files"].detail
    assert ".tmp-123" in found["Temporary files"].detail
    assert "Stored files" not in found
    assert sorted(path for path in store.root.rglob("*")) == before
    assert "Damaged files" not in by_title(store, hashes=False)


def test_slices_of_a_paused_job_are_not_left_over(store: Store) -> None:
    project = catalogue.create_project(store, "cells").id
    part = store.files.project(project) / "labels" / ".tmp-parts-1" / "z0.tif"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x")
    assert "z0.tif" in by_title(store, hashes=False)["Temporary files"].detail
    job = jobs.enqueue(store, "pseudo_label", project)
    jobs.pause(store, job.id)
    assert "Temporary files" not in by_title(store, hashes=False)
    jobs.cancel(store, job.id)
    assert "Temporary files" in by_title(store, hashes=False)


def test_every_table_with_a_hash_is_checked(store: Store) -> None:
    with store.connect() as db:
        hashed = {
            (table, column.name)
            for table in db.table_names()
            for column in db[table].columns
            if column.name.endswith("sha256") and column.name != "source_sha256"
        }
    assert {(table, sha256) for table, _, sha256 in doctor.STORED_FILES} == hashed


def test_files_of_nnunet_and_derived_maps_are_no_orphans(store: Store) -> None:
    project = catalogue.create_project(store, "cells").id
    folder = store.files.project(project)
    plan = {"project_id": project, "preset": "quick", "input_hash": "", "summary": "{}", "created": ""}
    store.insert("plan", {**plan, "workspace": f"projects/{project}/nnunet"})
    for name in ("nnunet/case.b2nd", "embeddings/map-3.npy"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    assert "Orphan files" not in by_title(store, hashes=True)


def test_a_damaged_database(store: Store) -> None:
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(store.database.read_bytes())
    content[4096 : 4096 * 3] = b"\xff" * 8192
    store.database.write_bytes(bytes(content))
    found = by_title(store, hashes=True)
    assert found["Database"].level is Level.ERROR
    assert "damaged" in found["Database"].detail
    remedy = found["Database"].remedy
    assert "backups" in remedy
    # SQLite would play what it finds beside the copy into it
    assert "Move alapp.sqlite, alapp.sqlite-wal and alapp.sqlite-shm away together" in remedy
    assert "before updates of the app" in remedy


def read_only_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite reads a database only where nobody else has it open, as in a folder that may not be written in."""
    read = doctor_database._read

    def refuse(database: Path, how: str) -> tuple[str, list[str]]:
        if how == "mode=ro":
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return read(database, how)

    monkeypatch.setattr(doctor_database, "_read", refuse)


def test_an_intact_database_that_cannot_be_written_beside_is_intact(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only_by_itself(monkeypatch)
    assert doctor.worst(by_title(store, hashes=True).values()) is Level.OK

    def refused(db: Database) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(migrations, "applied", refused)
    found = by_title(store, hashes=True)
    assert found["Database"].level is Level.OK
    assert "cannot be used: attempt to write a readonly database" in found["State folder"].detail


@pytest.mark.parametrize(
    ("free", "remedy"),
    [(0, "The disk is full. Free some space"), (10**9, "Stop the app and its worker, then run the doctor again")],
)
def test_a_database_that_cannot_be_read_now_is_not_called_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch, free: int, remedy: str
) -> None:
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.database.with_name(f"{DATABASE}-wal").mkdir()  # in place of one that cannot be read
    monkeypatch.setattr(doctor_database.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    found = by_title(store, hashes=True)
    assert "cannot be checked: unable to open database file" in found["Database"].detail
    assert found["Database"].remedy.startswith(remedy)
    assert list(found) == ["Database"]


def test_a_damaged_database_that_cannot_be_written_beside_is_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only_by_itself(monkeypatch)
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(store.database.read_bytes())
    content[4096 : 4096 * 3] = b"\xff" * 8192
    store.database.write_bytes(bytes(content))
    found = by_title(store, hashes=True)
    assert "is damaged" in found["Database"].detail
    assert "backups" in found["Database"].remedy


@pytest.mark.parametrize("content", [b"", b"this is no database, but long enough to be read as one" * 20])
def test_a_file_without_the_tables_of_the_app_is_damaged(store: Store, content: bytes) -> None:
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.database.write_bytes(content)
    assert "is damaged" in by_title(store, hashes=True)["Database"].detail


def test_a_folder_that_may_not_be_looked_into(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(real: Callable[..., object], path: Path | str, *given: object, **named: object) -> object:
        if Path(path).is_relative_to(store.root):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *given, **named)

    stat, disk_usage = Path.stat, doctor.shutil.disk_usage
    monkeypatch.setattr(Path, "stat", lambda path, **named: refuse(stat, path, **named))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: refuse(disk_usage, folder))
    found = by_title(store, hashes=True)["State folder"]
    assert found.level is Level.ERROR
    assert found.detail == f"{store.database} cannot be looked into: Permission denied."
    disk = next(finding for finding in doctor._machine(store.root) if finding.title == "Disk")
    assert disk.detail.endswith(f"free at {store.root.parent}")


def test_what_the_browser_sent_is_no_orphan(store: Store) -> None:
    sent = store.root / CACHE / "0123" / "cells.tif"
    sent.parent.mkdir(parents=True)
    sent.touch()
    assert {"Orphan files", "Temporary files"}.isdisjoint(by_title(store, hashes=True))


def test_a_dangling_row(store: Store) -> None:
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("INSERT INTO patch (image_id, z, y, x, depth, height, width) VALUES (7, 0, 0, 0, 1, 1, 1)")
        connection.commit()
    assert "misses its image" in by_title(store, hashes=True)["Database"].detail


def test_an_older_database_is_not_migrated(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        migrations.apply(Database(connection), stop_before="m004_models")
    found = by_title(tmp_path, hashes=True)
    assert "m004_models" in found["Database"].detail
    assert list(tmp_path.iterdir()) == [tmp_path / DATABASE]


def test_a_newer_or_absent_state(store: Store, tmp_path: Path) -> None:
    store.insert("_sqlite_migrations", {"migration_set": "alapp", "name": "m999_future", "applied_at": ""})
    assert "newer version" in by_title(store, hashes=True)["State folder"].detail
    absent = tmp_path / "absent"
    assert by_title(absent, hashes=True)["State folder"].level is Level.NOTE
    assert not absent.exists()


def test_the_worker_and_its_jobs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KINDS", KINDS)
    assert by_title(store, hashes=True)["Worker"].level is Level.OK
    job = jobs.enqueue(store, "count")
    assert "1 jobs wait" in by_title(store, hashes=True)["Worker"].detail
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    rows.claim(store, f"{processes.hostname()}:{process.pid}:t")
    assert f"count (job {job.id})" in by_title(store, hashes=True)["Worker"].detail


def test_pins_are_read() -> None:
    text = (
        "# torch==1\n-r other.txt\ntorch==2.13.0\numap-learn==0.5.12  # map\nuvicorn[standard]==1.0 ; os_name == 'x'\n"
    )
    assert doctor.pinned(text) == {"torch": "2.13.0", "umap-learn": "0.5.12", "uvicorn": "1.0"}


def test_every_requirement_is_pinned_and_installed() -> None:
    lines = doctor.REQUIREMENTS.read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert len(doctor.pinned("\n".join(wanted))) == len(wanted)
    assert [finding.detail for finding in doctor._packages() if finding.level is not Level.OK] == []


def test_missing_and_other_versions_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("no-such-package-here==1.0\nnumpy==0.1\n")
    monkeypatch.setattr(doctor, "REQUIREMENTS", requirements)
    missing, other = doctor._packages()
    assert (missing.level, missing.title) == (Level.ERROR, "no-such-package-here")
    assert other.level is Level.WARNING
    assert "0.1" in other.detail


def test_torchvision_is_tried_in_a_process_of_its_own() -> None:
    assert doctor._torchvision().level in (Level.OK, Level.NOTE)


def test_a_broken_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE", "raise RuntimeError('no kernel')")
    broken = doctor._torchvision()
    assert broken.level is Level.ERROR
    assert "no kernel" in broken.detail


@pytest.mark.parametrize(
    ("owners", "level"),
    [([], Level.OK), (["segment_anything_py"], Level.OK), (["segment-anything-py", "segment-anything"], Level.ERROR)],
)
def test_owners_of_segment_anything(owners: list[str], level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"segment_anything": owners})
    assert doctor._segment_anything().level is level


def test_low_disk_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "LOW_RAM_GB", 1e9)
    found = {finding.title: finding for finding in doctor._machine(tmp_path / "not" / "there")}
    assert found["Disk"].level is found["Memory"].level is Level.WARNING
    assert "--state" in found["Disk"].remedy


def test_the_whole_report(store: Store) -> None:
    findings = diagnose(store, hashes=False)
    titles = [finding.title for finding in findings]
    assert titles[0] == "Python"
    assert titles[-1] == "Worker"
    for finding in findings:
        assert finding.detail
        assert isinstance(finding.detail, str)
    backends = [finding for finding in findings if finding.title.startswith("click method")]
    assert len(backends) >= 2


def test_a_backend_that_cannot_be_loaded_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from alapp.registry import Registry
    from alapp.stages.pseudolabel import base

    class Ready:
        @staticmethod
        def status() -> Status:
            raise ImportError("libGL.so.1")

    registry = Registry("pseudo-label method", {"broken": "x:Y"})
    monkeypatch.setattr(registry, "load", lambda _: Ready)
    monkeypatch.setattr(base, "PSEUDO_LABELLERS", registry)
    found = next(finding for finding in doctor._backends() if finding.title == "pseudo-label method broken")
    assert found.level is Level.WARNING
    assert "libGL.so.1" in found.detail
