"""Opening the database: short-lived connections, migration after a backup, refusal of newer states."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlite_utils import Database

from alapp.disk import is_full, telling_full
from alapp.errors import DiskFullError, NewerStateError, NotReadyError, StorageError
from alapp.storage.files import Files
from alapp.storage.schema import migrations

DATABASE = "alapp.sqlite"
TIMEOUT_SECONDS = 30
MIGRATION_SECONDS = 600  # a backup of a large database takes a while


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def to_json(value: object) -> str:
    """Canonical JSON: the same value gives the same text, so it can be hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


_held: ContextVar[tuple[Path, Database] | None] = ContextVar("held", default=None)


class Store:
    """A state folder: its database and its files. Holds no open connection, so it may be shared by threads.

    Opening creates or migrates the database. Raises `NewerStateError` if a newer version of the app wrote
    it, `DiskFullError` if the disk is full, `StorageError` if the folder cannot be used for another reason.
    """

    def __init__(self, root: Path | str):
        try:
            self.root = Path(root).expanduser().resolve()
        except RuntimeError as error:
            raise StorageError(f"There is no home folder for {root}. Choose another folder with --state.") from error
        self.files = Files(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._migrate()
        except (OSError, sqlite3.DatabaseError) as error:
            if is_full(error):
                raise DiskFullError(
                    f"The disk of the state folder {self.root} is full. Free some space and try again."
                ) from error
            raise StorageError(
                f"The state folder {self.root} cannot be used: {error}. Choose another one with --state."
            ) from error

    @property
    def database(self) -> Path:
        """The file of the SQLite database."""
        return self.root / DATABASE

    @contextmanager
    def held(self) -> Iterator[None]:
        """One connection for all statements of this thread (or task) inside of the block.

        For a request that asks for a dozen small things: opening a connection takes longer than most of them.
        """
        with self.connect() as db:
            token = _held.set((self.root, db))
            try:
                yield
            finally:
                _held.reset(token)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """One idle connection of this process inside of the block.

        SQLite moves the write-ahead log into the database, and waits for the disk, whenever the last connection
        closes. In the app that would be after every click.
        """
        with closing(sqlite3.connect(self.database, timeout=TIMEOUT_SECONDS)) as connection:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # opens the log
            yield

    @contextmanager
    def connect(self) -> Iterator[Database]:
        """A connection for a few statements, each of its own transaction unless in `atomic()`."""
        held = _held.get()
        if held is not None and held[0] == self.root:
            yield held[1]
            return
        with (
            telling_full(self.root),
            closing(sqlite3.connect(self.database, timeout=TIMEOUT_SECONDS)) as connection,
        ):
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            yield Database(connection, execute_plugins=False)

    @contextmanager
    def atomic(self) -> Iterator[Database]:
        """A connection in one write transaction (BEGIN IMMEDIATE): everything happens or nothing does."""
        with self.connect() as db:
            before, db.conn.isolation_level = db.conn.isolation_level, None
            db.conn.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.conn.in_transaction:  # SQLite rolls back by itself after some errors, as of a full disk
                    db.conn.execute("ROLLBACK")
                raise
            else:
                db.conn.execute("COMMIT")
            finally:
                db.conn.isolation_level = before

    def rows(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """All rows of a SELECT."""
        with self.connect() as db:
            return list(db.query(sql, params))

    def row(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> dict[str, Any] | None:
        """The first row of a SELECT, or None."""
        rows = self.rows(sql, params)
        return rows[0] if rows else None

    def insert(self, table: str, values: Mapping[str, Any]) -> int:
        """Add one row; returns its id."""
        with self.atomic() as db:
            return insert(db, table, values)

    def execute(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """One UPDATE or DELETE in its own transaction; returns the number of rows changed."""
        with self.atomic() as db:
            return db.conn.execute(sql, params).rowcount

    def _migrate(self) -> None:
        if not self._pending():
            return
        # Two processes that open a fresh or an old folder together must not both migrate it.
        with FileLock(self.root / ".migrate.lock", timeout=MIGRATION_SECONDS):
            if not self._pending():
                return
            with self.connect() as db:
                done = migrations.applied(db)
                if done:
                    self._backup(db, done[-1].name)
                db.conn.execute("PRAGMA journal_mode = WAL")
                # A migration that builds a table anew drops the old one: with foreign keys on, that would delete
                # every row that refers to it.
                db.conn.execute("PRAGMA foreign_keys = OFF")
                migrations.apply(db)

    def _pending(self) -> bool:
        """Whether migrations are missing. Raises `NewerStateError` if there are some that we do not know."""
        with self.connect() as db:
            known = [m.name for m in migrations._migrations]
            unknown = [m.name for m in migrations.applied(db) if m.name not in known]
            if unknown:
                raise NewerStateError(
                    f"The state folder {self.root} was written by a newer version of this app (it has {unknown[-1]}, "
                    f"this version knows up to {known[-1]}). Update the app, or use another folder with --state."
                )
            return bool(migrations.pending(db))

    def _backup(self, db: Database, version: str) -> None:
        folder = self.root / "backups"
        folder.mkdir(exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        unfinished = folder / f".tmp-{stamp}-{version}.sqlite"
        with closing(sqlite3.connect(unfinished)) as copy:
            db.conn.backup(copy)
        os.replace(unfinished, folder / f"{stamp}-{version}.sqlite")


def insert(db: Database, table: str, values: Mapping[str, Any]) -> int:
    """Add one row on an open connection; returns its id."""
    columns = ", ".join(values)
    marks = ", ".join("?" for _ in values)
    return int(db.conn.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values())).lastrowid)


def required(row: dict[str, Any] | None, what: str) -> dict[str, Any]:
    """The row, or a `NotReadyError` that names what is missing."""
    if row is None:
        raise NotReadyError(f"{what} does not exist (any more). Reload the page.")
    return row
