"""Names of files that are made of the names of images and projects: valid, and no two alike, on every system."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MOST_BYTES = 150
"""Of a name in UTF-8. File systems allow 255 (some encrypted ones 143 characters); endings are added to it."""

_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³")}
"""What Windows takes for a device, with any ending and in any case."""

_FORBIDDEN = set('<>:"/\\|?*')
"""What Windows allows in no name."""


def slug(name: str) -> str:
    """A name for files on every system, in Unicode's composed form (NFC): letters (with their marks) and digits of any
    script, '.', '-' and '_'."""
    letters = "".join(c if _kept(c) else " " for c in unicodedata.normalize("NFC", name))
    made = _shortened("-".join(letters.split())).strip("-.") or "unnamed"
    return f"_{made}" if made.split(".")[0].upper() in _RESERVED else made


def is_valid(name: str) -> bool:
    """Whether files may be called `name` with an ending as "_masks.tif" behind it on every system."""
    try:
        short = len(name.encode()) <= MOST_BYTES
    except UnicodeEncodeError:  # bytes of another encoding in a name on Linux
        return False
    plain = not any(c in _FORBIDDEN or unicodedata.category(c) == "Cc" for c in name)
    device = name.split(".")[0].rstrip().upper() if "." in name else ""
    return short and plain and device not in _RESERVED


def distinct(wanted: Iterable[str]) -> list[str]:
    """`wanted` with "_2", "_3" … behind those that are taken by an earlier one. Windows and macOS tell neither cases
    nor Unicode's composed and decomposed forms apart, so names that differ in them only are alike."""
    taken: set[str] = set()
    made = []
    for stem in wanted:
        name, number = stem, 2
        while folded(name) in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(folded(name))
        made.append(name)
    return made


def folded(name: str) -> str:
    """What two names share that are one file on Windows or macOS."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _kept(character: str) -> bool:
    return character in "._-" or unicodedata.category(character)[0] in "LMN"


def _shortened(name: str) -> str:
    return name.encode()[:MOST_BYTES].decode(errors="ignore")
