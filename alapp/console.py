"""How a command ends, what it prints, and what it prints while it works."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable

from alapp.domain import Report
from alapp.errors import AlappError

INTERRUPTED = 130
"""Exit code of a command that Ctrl+C ended, as shells know it."""


def exit_code(command: Callable[[], None]) -> int:
    """Run a command; returns its exit code. An error made for the user, a package that is not installed (code 2 both)
    and Ctrl+C (`INTERRUPTED`) end without a traceback."""
    print_anything()
    try:
        command()
    except AlappError as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "alapp").partition(".")[0]
        if package == "alapp":  # a bug, of which the traceback tells more
            raise
        python = ".venv\\Scripts\\python" if os.name == "nt" else ".venv/bin/python"
        print(
            f"The package {package} is not installed in {sys.executable}. Start with {python} app.py, or install "
            "requirements.txt.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def print_anything(encoding: str | None = None) -> None:
    """From now on, what is printed is in `encoding` (by default that of the output, which on Windows is no Unicode when
    it goes to a file), and a character that it lacks is escaped: a name with one must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def printer(every: float = 5.0) -> Report:
    """A `Report` that prints a line to stderr at most every few seconds."""
    last = -every

    def report(done: float, total: float, message: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every:
            last = now
            share = f"{100 * done / total:3.0f}% " if total else ""
            print(f"{share}{message}", file=sys.stderr, flush=True)

    return report
