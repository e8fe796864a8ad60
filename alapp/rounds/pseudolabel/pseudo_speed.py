"""How fast each pseudo-label method is on this computer, as its previews took."""

from __future__ import annotations

from alapp.storage import jobs
from alapp.storage.db import Store

LOOKED_AT = 100
"""Previews; older ones may have been made on another computer or with another version."""


def measured(store: Store) -> dict[str, float]:
    """Seconds a patch by method, from the newest preview of each, of any project; the loading of a model is in it."""
    found: dict[str, float] = {}
    for job in jobs.newest_done(store, "preview", LOOKED_AT):
        result = job.result or {}
        patches = len(result.get("patches", ()))
        if patches and job.seconds is not None:
            found.setdefault(result["method"], job.seconds / patches)
    return found
