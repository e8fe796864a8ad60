"""Queries over all journals of a project, for what the annotation cost. None of them reads a mask."""

from __future__ import annotations

from typing import Any

from alapp.storage.db import Store


def stamp(store: Store) -> tuple[int, int]:
    """Changes whenever an event of any journal is written or removed: the newest id and the number of events."""
    row = store.row("SELECT coalesce(max(id), 0) AS newest, count(*) AS n FROM annotation_event")
    return (row["newest"], row["n"]) if row else (0, 0)


def work(store: Store, project_id: int) -> list[dict[str, Any]]:
    """`patch_id, session, kind, payload (JSON), at` of every event on the patches of a project, in the order in which
    they were written: a clock may be set back."""
    return store.rows(
        """SELECT e.patch_id, e.session, e.kind, e.at, e.payload
           FROM annotation_event AS e JOIN patch ON patch.id = e.patch_id JOIN image ON image.id = patch.image_id
           WHERE image.project_id = ? ORDER BY e.id""",
        (project_id,),
    )


def unaided(store: Store, project_id: int) -> list[int]:
    """Patches that were opened from nothing only, into which no labels were imported, and that no other patch
    repeats, by id; repeats are left out."""
    rows = store.rows(
        """SELECT patch.id FROM patch JOIN image ON image.id = patch.image_id
           WHERE image.project_id = ? AND image.deleted IS NULL AND patch.repeats IS NULL
             AND NOT EXISTS (SELECT 1 FROM patch AS other WHERE other.repeats = patch.id)
             AND EXISTS (SELECT 1 FROM annotation_event AS e WHERE e.patch_id = patch.id AND e.kind = 'open')
             AND NOT EXISTS (
                 SELECT 1 FROM annotation_event AS e WHERE e.patch_id = patch.id
                 AND (e.kind = 'submit' OR (e.kind = 'open' AND json_extract(e.payload, '$.start') <> 'nothing')))
           ORDER BY patch.id""",
        (project_id,),
    )
    return [row["id"] for row in rows]


def pairs(store: Store, project_id: int) -> list[tuple[int, int, int]]:
    """(original patch, its newest human label map from before it was repeated, the repeat's newest human label map)
    for each repeat that was annotated by hand and without suggestions."""
    rows = store.rows(
        """WITH done AS (
               SELECT patch.id, patch.repeats, min(label_map.id) AS earliest, max(label_map.id) AS newest
               FROM patch JOIN image ON image.id = patch.image_id
               JOIN label_map ON label_map.patch_id = patch.id AND label_map.kind = 'human'
               WHERE image.project_id = ? AND image.deleted IS NULL AND patch.repeats IS NOT NULL
                 AND NOT EXISTS (
                     SELECT 1 FROM annotation_event AS e WHERE e.patch_id = patch.id
                     AND (e.kind = 'submit' OR (e.kind = 'open' AND json_extract(e.payload, '$.start') <> 'nothing')))
               GROUP BY patch.id)
           SELECT done.repeats AS original, max(label_map.id) AS first, done.newest AS second
           FROM done JOIN label_map
             ON label_map.patch_id = done.repeats AND label_map.kind = 'human' AND label_map.id < done.earliest
           GROUP BY done.id ORDER BY done.id""",
        (project_id,),
    )
    return [(row["original"], row["first"], row["second"]) for row in rows]
