"""Which state folder a command works on, with and without `--state`."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from alapp.errors import InputError

BESIDE_APP = (Path(__file__).resolve().parent.parent / "state").resolve()
"""The state folder of somebody who names none, wherever the app is started from."""

_HELP = "Folder of the database and the arrays; by default the folder state beside app.py."


def wanted(state: Path | None) -> Path:
    """The state folder that was asked for, which need not exist yet; without one the usual one. Raises `InputError` for
    the home folder of somebody unknown."""
    if state is None:
        return usual()
    try:
        return state.expanduser().resolve()
    except RuntimeError as error:
        raise InputError(f"There is no home folder for {state}. Give --state a folder.") from error


def existing(state: Path | None) -> Path:
    """The same for commands that only work on what is there: nothing is created for them. Raises `InputError` where
    there is no state folder."""
    from alapp.storage.db import DATABASE

    root = wanted(state)
    try:
        found = (root / DATABASE).is_file()
    except OSError as error:
        raise InputError(f"The state folder {root} cannot be looked into ({error.strerror}).") from error
    if not found:
        raise InputError(f"There is no state folder {root}. Give the one of your projects with --state.")
    return root


def usual() -> Path:
    """The folder `state` beside app.py, unless that of the current folder holds projects, as earlier versions kept them
    wherever they were started. Which of two it is, is said on stderr."""
    here = Path("state").resolve()
    if here == BESIDE_APP or not _holds_projects(here):
        return BESIDE_APP
    other = f", not those in {BESIDE_APP}" if _holds_projects(BESIDE_APP) else ""
    print(f"The projects of the current folder are used ({here}){other}. Choose others with --state.", file=sys.stderr)
    return here


def _holds_projects(root: Path) -> bool:
    """Whether a folder is a state folder with work in it; where its database does not tell, that is supposed."""
    from alapp.storage.db import DATABASE

    database = root / DATABASE
    try:
        if not database.is_file():
            return False
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM project)").fetchone()[0])
    except sqlite3.Error:
        return True
    except OSError:
        return False


StateOption = Annotated[Path | None, typer.Option("--state", help=_HELP, callback=wanted)]
"""Becomes the `wanted` folder."""

ExistingStateOption = Annotated[Path | None, typer.Option("--state", help=_HELP, callback=existing)]
"""Becomes the `existing` folder."""
