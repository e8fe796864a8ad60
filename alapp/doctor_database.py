"""Whether the database is intact, as far as SQLite can tell. Changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from alapp.disk import is_full, sqlite_code
from alapp.finding import Finding, Level
from alapp.storage.db import DATABASE

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LITTLE = 1_000_000
"""Bytes: a disk with less counts as full."""


def check(root: Path) -> tuple[Finding | None, list[str]]:
    """What is wrong with the database of the state folder `root`, None if it is intact, and the names of the migrations
    that it has. Only one that is damaged is to be replaced; one that cannot be read here and now may well be intact.
    Raises `OSError` where the folder may not be looked into."""
    database = root / DATABASE
    try:
        damage, applied = _inspect(database)
    except sqlite3.Error as error:
        detail = f"{database} cannot be checked: {error}. That does not mean that it is damaged."
        return Finding(Level.ERROR, "Database", detail, _to_check_it(root, error)), []
    if not damage:
        return None, applied
    remedy = (
        f"Stop the app and its worker. Move {DATABASE}, {DATABASE}-wal and {DATABASE}-shm away together, as far as "
        f"they are there: what stays of them would damage the copy. Then put the newest copy from "
        f"{root / 'backups'} there as {DATABASE}. Copies are only made before updates of the app: what was done "
        "after the last one is missing from it."
    )
    return Finding(Level.ERROR, "Database", f"{database} is damaged: {damage}", remedy), []


def _inspect(database: Path) -> tuple[str, list[str]]:
    """The damage, "" when all is well, and the applied migrations. Raises `sqlite3.Error` where that cannot be told."""
    try:
        return _read(database, "mode=ro")
    except sqlite3.Error as error:
        if sqlite_code(error) in _DAMAGED:
            return str(error), []
        # SQLite writes beside a database to read it while others may write, which a full disk or the folder may not
        # allow. Where nobody has it open, it can be read without.
        if _is_open(database):
            raise
    try:
        found = _read(database, "immutable=1")
    except sqlite3.Error as error:
        if sqlite_code(error) not in _DAMAGED:
            raise
        found = str(error), []
    if found[0] and _is_open(database):
        raise sqlite3.OperationalError("it was opened in this moment")
    return found


def _read(database: Path, how: str) -> tuple[str, list[str]]:
    with closing(sqlite3.connect(f"{database.as_uri()}?{how}", uri=True, timeout=30)) as connection:
        answers = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
            answers.append(f"row {row} of {table} misses its {parent}")
        if answers != ["ok"]:
            return "; ".join(answers), []
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchone():
            return "it does not hold the tables of this app", []
        return "", [row[0] for row in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]


def _is_open(database: Path) -> bool:
    """Whether somebody has the database open, or left something that is not in the database itself yet."""
    log = database.with_name(f"{database.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _to_check_it(root: Path, error: sqlite3.Error) -> str:
    with suppress(OSError):
        if not os.access(root, os.W_OK):
            return f"Let this user write in {root}, then run the doctor again."
        if is_full(error) or shutil.disk_usage(root).free < _LITTLE:
            return "The disk is full. Free some space, then run the doctor again."
    return "Stop the app and its worker, then run the doctor again."
