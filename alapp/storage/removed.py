"""Images that were removed: what is still there of them, and how they come back."""

from __future__ import annotations

from collections.abc import Iterable

from alapp.domain import Box
from alapp.storage import catalogue
from alapp.storage.catalogue import Image
from alapp.storage.db import Store


def images(store: Store, project_id: int) -> list[Image]:
    """Removed images of a project, the one that was removed last first."""
    rows = store.rows(
        "SELECT id FROM image WHERE project_id = ? AND deleted IS NOT NULL ORDER BY deleted DESC, id DESC",
        (project_id,),
    )
    return [catalogue.image(store, row["id"]) for row in rows]


def changed_since(store: Store, project_id: int, since: str) -> bool:
    """Whether an image of a project was added, or removed, after `since` (as `db.now` tells it). When one came back is
    not kept."""
    sql = "SELECT 1 FROM image WHERE project_id = :p AND (created > :since OR deleted > :since) LIMIT 1"
    return store.row(sql, {"p": project_id, "since": since}) is not None


def boxes(store: Store, image_id: int) -> set[Box]:
    """The grid that an image is cut into, also of a removed one; repeats are no part of it."""
    rows = store.rows(
        "SELECT z, y, x, depth, height, width FROM patch WHERE image_id = ? AND repeats IS NULL", (image_id,)
    )
    return {Box(**row) for row in rows}


def is_used(store: Store, image_id: int) -> bool:
    """Whether a patch of an image, also of a removed one, was ever picked or annotated and still is."""
    sql = """SELECT 1 FROM patch WHERE image_id = ? AND (
        EXISTS (SELECT 1 FROM selection WHERE patch_id = patch.id)
        OR EXISTS (SELECT 1 FROM annotation_event WHERE patch_id = patch.id)) LIMIT 1"""
    return store.row(sql, (image_id,)) is not None


def bring_back(store: Store, image_id: int, boxes: Iterable[Box]) -> None:
    """Bring an image back that is cut anew into `boxes`, all or nothing. The caller makes sure that it is not used."""
    with store.atomic() as db:
        db.conn.execute("UPDATE image SET deleted = NULL WHERE id = ?", (image_id,))
        db.conn.execute("DELETE FROM patch WHERE image_id = ?", (image_id,))
        catalogue.insert_patches(db, image_id, boxes)
