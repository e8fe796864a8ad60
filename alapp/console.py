"""What a command prints, and what it prints while it works."""

from __future__ import annotations

import io
import sys
import time

from alapp.domain import Report


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
