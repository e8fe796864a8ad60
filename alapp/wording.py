"""Numbers in the sentences that the app says."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 image", "1,200 images"; `plural` where that does not end in one s more."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def is_or_are(n: int) -> str:
    """The verb that goes with so many."""
    return "is" if n == 1 else "are"
