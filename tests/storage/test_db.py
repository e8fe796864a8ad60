from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from alapp.disk import is_full
from alapp.errors import DiskFullError, NewerStateError, NotReadyError, StorageError
from alapp.storage import db as db_module
from alapp.storage.db import Store, required, to_json
from alapp.storage.schema import migrations


def _open(root: Path, barrier: object, results: object) -> None:
    barrier.wait()
    try:
        Store(root)
        results.put(None)
    except Exception as error:
        results.put(repr(error))


def test_processes_that_open_a_fresh_folder_together_migrate_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_open, args=(tmp_path / "s", barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=120) for _ in processes] == [None] * 4
    for process in processes:
        process.join()
    names = [row["name"] for row in Store(tmp_path / "s").rows("SELECT name FROM _sqlite_migrations ORDER BY id")]
    assert names == [migration.name for migration in migrations._migrations]
    assert not (tmp_path / "s" / "backups").exists()


def older(root: Path) -> Path:
    """A state folder as it was before there were models."""
    root.mkdir()
    database = root / db_module.DATABASE
    with closing(sqlite3.connect(database)) as connection:
        db = db_module.Database(connection)
        migrations.apply(db, stop_before="m004_models")
        db.conn.execute("""INSERT INTO job (kind, params, state, created) VALUES ('old', '{}', 'done', '2026-01-01')""")
        db.conn.commit()
    return database


def test_an_older_database_is_migrated_after_a_backup(tmp_path: Path) -> None:
    older(tmp_path / "s")
    store = Store(tmp_path / "s")
    assert store.row("SELECT kind FROM job")["kind"] == "old"
    assert store.rows("SELECT * FROM checkpoint") == []
    (backup,) = (store.root / "backups").iterdir()
    assert backup.name.endswith("-m003_rounds.sqlite")
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("SELECT kind FROM job").fetchall() == [("old",)]
        assert not copy.execute("SELECT 1 FROM pragma_table_info('patch') WHERE name = 'repeats'").fetchall()
    Store(tmp_path / "s")
    assert len(list((store.root / "backups").iterdir())) == 1


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = migrations._migrations[-1]

    def half(db: db_module.Database) -> None:
        last.fn(db)
        db.conn.execute("SELECT * FROM no_such_table")

    older(tmp_path / "s")
    broken = [*migrations._migrations[:-1], type(last)(last.name, half)]
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_migrations", broken)
        with pytest.raises(StorageError, match="no_such_table"):
            Store(tmp_path / "s")
    assert Store(tmp_path / "s").rows("SELECT * FROM checkpoint") == []


def test_a_newer_state_is_refused_untouched(store: Store) -> None:
    store.insert("_sqlite_migrations", {"migration_set": "alapp", "name": "m999_future", "applied_at": "2030"})
    before = store.database.read_bytes()
    with pytest.raises(NewerStateError, match=r"m999_future.*Update the app"):
        Store(store.root)
    assert store.database.read_bytes() == before


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file.*--state"):
        Store(tmp_path / "file")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / db_module.DATABASE).write_bytes(b"this is no database, but long enough to be read as one" * 20)
    with pytest.raises(StorageError, match="cannot be used"):
        Store(tmp_path / "s")


def test_the_home_of_somebody_unknown_is_named() -> None:
    with pytest.raises(StorageError, match=r"no home folder for ~nobody-of-this-name/state.*--state"):
        Store("~nobody-of-this-name/state")


def full_disk(*_: object) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    raise error


def test_a_full_disk_is_told_from_a_folder_that_cannot_be_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alapp.disk.shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(sqlite3.OperationalError) as told, store.atomic():
        full_disk()
    assert is_full(told.value)
    monkeypatch.setattr(migrations, "applied", full_disk)
    with pytest.raises(DiskFullError, match=r"The disk of the state folder .* is full. Free some space"):
        Store(store.root)


def rolled_back_by_sqlite(store: Store) -> None:
    with store.atomic() as db:
        db.conn.execute("ROLLBACK")
        full_disk()


def test_an_error_after_which_sqlite_rolled_back_by_itself_is_told(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        rolled_back_by_sqlite(store)


def insert_then_fail(store: Store, row: dict[str, str]) -> None:
    with store.atomic() as db:
        db_module.insert(db, "job", row)
        db.conn.execute("DELETE FROM no_such_table")


def insert_both(store: Store, *rows: dict[str, str | None]) -> None:
    with store.atomic() as db:
        for row in rows:
            db_module.insert(db, "job", row)


def test_atomic_is_all_or_nothing(store: Store) -> None:
    row = {"kind": "a", "params": "{}", "state": "queued", "created": "now"}
    with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
        insert_then_fail(store, row)
    assert store.rows("SELECT * FROM job") == []
    with pytest.raises(sqlite3.IntegrityError):
        insert_both(store, row, {**row, "state": None})
    assert store.rows("SELECT * FROM job") == []


def test_connections_enforce_foreign_keys_and_use_wal(store: Store) -> None:
    assert store.row("PRAGMA journal_mode")["journal_mode"] == "wal"
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        store.insert("job", {"project_id": 5, "kind": "a", "params": "{}", "state": "queued", "created": "now"})


def test_an_app_that_keeps_it_open_leaves_the_log_to_be_moved_later(store: Store) -> None:
    row = {"kind": "a", "params": "{}", "state": "queued", "created": "now"}
    log = store.database.with_name(f"{store.database.name}-wal")
    with store.kept_open():
        store.insert("job", row)
        assert log.stat().st_size > 0
        # Another process would see it, too.
        assert len(store.rows("SELECT * FROM job")) == 1
    assert not log.exists()
    assert len(store.rows("SELECT * FROM job")) == 1


def test_small_helpers(store: Store) -> None:
    assert to_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    with pytest.raises(NotReadyError, match="This image does not exist"):
        required(None, "This image")


def test_a_held_connection_serves_reads_and_transactions_and_ends(store: Store) -> None:
    with store.held():
        with store.connect() as first, store.connect() as second:
            assert first is second
        with pytest.raises(sqlite3.IntegrityError), store.atomic() as db:
            db.conn.execute(
                "INSERT INTO job (kind, params, state, created) VALUES ('a', '', 'done', ''), (NULL, '', '', '')"
            )
        assert store.rows("SELECT * FROM job") == []
        store.insert("job", {"kind": "b", "params": "{}", "state": "done", "created": "2026-01-01"})
        # Another connection sees it at once: nothing waits for the end of the block.
        with closing(sqlite3.connect(store.database)) as other:
            assert other.execute("SELECT kind FROM job").fetchall() == [("b",)]
    with store.connect() as fresh:
        assert fresh is not first
    with pytest.raises(sqlite3.ProgrammingError):
        first.conn.execute("SELECT 1")


def test_a_held_connection_belongs_to_its_own_folder(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    with store.held():
        other.insert("job", {"kind": "c", "params": "{}", "state": "done", "created": "2026-01-01"})
        assert store.rows("SELECT * FROM job") == []
    assert len(other.rows("SELECT * FROM job")) == 1
