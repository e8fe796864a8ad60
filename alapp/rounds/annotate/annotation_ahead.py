"""Patches made ready before they are asked for. Nothing here is written to the journal."""

from __future__ import annotations

from typing import Any

from alapp.rounds.annotate import annotation_journal, annotation_view, clicks
from alapp.storage import catalogue
from alapp.storage.db import Store


def look_ahead(store: Store, patch_id: int) -> dict[str, Any]:
    """Fold the journal of a patch that is likely to be opened next, or read what its suggestions will be, so that
    `open_patch` finds it in memory. Returns the slice `z` that it will open on."""
    depth, _, _ = clicks.shape(catalogue.patch(store, patch_id))
    now = annotation_journal.warm(store, patch_id)
    for item in (*now.objects.values(), *now.suggestions.values()):
        annotation_view.mask_json(item.mask)
    return {"z": now.draft.z if now.draft else depth // 2}
