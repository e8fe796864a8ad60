"""Reference masks that were taken away from an image: they stay, and can be brought back."""

from __future__ import annotations

from alapp.domain import LabelKind
from alapp.storage.db import Store


def remove(store: Store, image_id: int) -> int:
    """Take the reference masks of an image away, with the scores against them; returns how many maps there were."""
    with store.atomic() as db:
        gone = db.conn.execute(
            "UPDATE label_map SET kind = ? WHERE image_id = ? AND kind = ? AND patch_id IS NULL",
            (LabelKind.WITHDRAWN, image_id, LabelKind.REFERENCE),
        ).rowcount
        # Made again when they come back. Without them, they would count as if the masks were there.
        db.conn.execute("DELETE FROM score WHERE image_id = ? AND patch_id IS NULL AND split = 'test'", (image_id,))
    return int(gone)


def bring_back(store: Store, image_id: int) -> bool:
    """Undo `remove`; the newest of several counts again. Returns whether there were any."""
    newest = """SELECT max(id) FROM label_map WHERE image_id = ? AND kind = ? AND patch_id IS NULL"""
    sql = f"UPDATE label_map SET kind = ? WHERE id = ({newest})"
    return bool(store.execute(sql, (LabelKind.REFERENCE, image_id, LabelKind.WITHDRAWN)))


def removed_from(store: Store, project_id: int) -> set[int]:
    """Ids of the images whose masks were taken away and not replaced."""
    rows = store.rows(
        """SELECT DISTINCT image_id FROM label_map AS gone
           WHERE project_id = ? AND kind = ? AND NOT EXISTS (
               SELECT 1 FROM label_map WHERE image_id = gone.image_id AND kind = ? AND patch_id IS NULL)""",
        (project_id, LabelKind.WITHDRAWN, LabelKind.REFERENCE),
    )
    return {row["image_id"] for row in rows}
