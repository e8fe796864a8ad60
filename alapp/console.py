"""What a command prints while it works."""

from __future__ import annotations

import sys
import time

from alapp.domain import Report


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
