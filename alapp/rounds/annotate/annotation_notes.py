"""What a person notes about a patch: a few lines of plain text."""

from __future__ import annotations

from alapp.errors import InputError
from alapp.storage import annotations, catalogue
from alapp.storage.db import Store

MAX_NOTE = 2000  # characters


def set_note(store: Store, patch_id: int, text: str) -> str:
    """Keep `text` as the note of a patch, without spaces around it; an empty one removes it. Returns what is kept.

    Raises `InputError` when it is longer than `MAX_NOTE` characters or has control characters in it.
    """
    patch = catalogue.patch(store, patch_id)
    kept = text.replace("\r\n", "\n").strip()
    if len(kept) > MAX_NOTE:
        raise InputError(f"The note on {patch.name} has {len(kept)} characters. Shorten it to {MAX_NOTE}.")
    if any(not sign.isprintable() and sign not in "\n\t" and ord(sign) < 160 for sign in kept):
        raise InputError(f"The note on {patch.name} has characters that are no text. Remove them.")
    annotations.set_note(store, patch_id, kept)
    return kept


def note(store: Store, patch_id: int) -> str:
    """The note of a patch, "" if there is none."""
    return annotations.notes(store, [patch_id]).get(patch_id, "")
