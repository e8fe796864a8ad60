"""The journal of every patch: rows of `annotation_event`, and queries over them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from alapp.errors import ConflictError
from alapp.storage.db import Store, insert, now, to_json

CLOSING = ("done", "skip", "reopen")
WORK = ("click", "accept", "edit", "take", "delete", "classify", "ignore", "submit")


@dataclass(frozen=True)
class EventRow:
    """A row of `annotation_event`; kinds and payloads are described in `stages/annotate/journal.py`."""

    revision: int
    kind: str
    payload: dict[str, Any]
    mask: bytes | None


def append(
    store: Store,
    patch_id: int,
    revision: int,
    kind: str,
    payload: Mapping[str, Any],
    mask: bytes | None,
    session: str,
) -> int:
    """Write the event that follows `revision`, the last one the writer knows; returns the new revision.

    Raises `ConflictError` when someone else wrote it first.
    """
    row = {
        "patch_id": patch_id,
        "revision": revision + 1,
        "kind": kind,
        "payload": to_json(dict(payload)),
        "mask": mask,
        "session": session,
        "created": now(),
        "at": time(),
    }
    with store.atomic() as db:
        last = db.conn.execute(
            "SELECT coalesce(max(revision), 0) FROM annotation_event WHERE patch_id = ?", (patch_id,)
        ).fetchone()[0]
        if last < revision:
            raise ConflictError("This page is ahead of the stored annotation of this patch. Reload it and go on.")
        try:
            insert(db, "annotation_event", row)
        except sqlite3.IntegrityError as error:
            raise ConflictError(
                "This patch was changed in another tab. Reload it to see the change, then go on."
            ) from error
    return revision + 1


def written(store: Store, patch_id: int, revision: int, session: str, token: str) -> bool:
    """Whether the event after `revision` is the one that this session sent with `token`: its answer got lost on
    the way, and the page asks again."""
    row = store.row(
        "SELECT session, payload FROM annotation_event WHERE patch_id = ? AND revision = ?", (patch_id, revision + 1)
    )
    return row is not None and row["session"] == session and json.loads(row["payload"]).get("token") == token


def events(store: Store, patch_id: int, after: int = 0) -> list[EventRow]:
    """Events of a patch with a revision above `after`, in order."""
    rows = store.rows(
        "SELECT revision, kind, payload, mask FROM annotation_event WHERE patch_id = ? AND revision > ? "
        "ORDER BY revision",
        (patch_id, after),
    )
    return [EventRow(**row | {"payload": json.loads(row["payload"])}) for row in rows]


def head(store: Store, patch_id: int) -> tuple[int, float]:
    """The newest revision of a patch and the time of its first event; (0, 0) if it was never opened.

    The time tells a patch from an earlier, erased one to which SQLite had given the same id.
    """
    row = store.row(
        "SELECT coalesce(max(revision), 0) AS head, coalesce(min(at), 0) AS born FROM annotation_event "
        "WHERE patch_id = ?",
        (patch_id,),
    )
    return (row["head"], row["born"]) if row else (0, 0.0)


@dataclass(frozen=True)
class LastEvent:
    """The newest event of a patch: who wrote it, and how long ago."""

    revision: int
    session: str
    seconds_ago: float


def last(store: Store, patch_id: int) -> LastEvent | None:
    """The newest event of a patch; None if it was never opened. Asked every few seconds by every page."""
    row = store.row(
        "SELECT revision, session, at FROM annotation_event WHERE patch_id = ? ORDER BY revision DESC LIMIT 1",
        (patch_id,),
    )
    return LastEvent(row["revision"], row["session"], max(0.0, time() - row["at"])) if row else None


def notes(store: Store, patch_ids: Sequence[int]) -> dict[int, str]:
    """The notes of patches that have one."""
    rows = store.rows(
        "SELECT patch_id, text FROM note WHERE patch_id IN (SELECT value FROM json_each(?))",
        (json.dumps([int(identity) for identity in patch_ids]),),
    )
    return {row["patch_id"]: row["text"] for row in rows}


def set_note(store: Store, patch_id: int, text: str) -> None:
    """Keep the note of a patch; an empty one is removed."""
    if not text:
        store.execute("DELETE FROM note WHERE patch_id = ?", (patch_id,))
        return
    store.execute(
        "INSERT INTO note (patch_id, text) VALUES (?, ?) ON CONFLICT (patch_id) DO UPDATE SET text = excluded.text",
        (patch_id, text),
    )


def states(store: Store, patch_ids: Sequence[int]) -> dict[int, str]:
    """ "open" | "started" | "done" | "skipped" of each patch; asked once a second, so no journal is folded."""
    rows = store.rows(
        f"""SELECT asked.value AS patch_id,
               (SELECT kind FROM annotation_event WHERE patch_id = asked.value AND kind IN {CLOSING}
                ORDER BY revision DESC LIMIT 1) AS closing,
               EXISTS (SELECT 1 FROM annotation_event WHERE patch_id = asked.value AND kind IN {WORK}) AS worked
            FROM json_each(?) AS asked""",
        (json.dumps([int(identity) for identity in patch_ids]),),
    )
    words = {"done": "done", "skip": "skipped", "reopen": "started"}
    return {row["patch_id"]: words.get(row["closing"], "started" if row["worked"] else "open") for row in rows}


def done_objects(store: Store, patch_ids: Sequence[int]) -> dict[int, int]:
    """Number of objects in the newest human label map of each patch that has one."""
    rows = store.rows(
        """SELECT patch_id, n_objects, max(id) FROM label_map
           WHERE kind = 'human' AND patch_id IN (SELECT value FROM json_each(?)) GROUP BY patch_id""",
        (json.dumps([int(identity) for identity in patch_ids]),),
    )
    return {row["patch_id"]: row["n_objects"] for row in rows}


def not_annotated(store: Store, patch_ids: Sequence[int]) -> dict[int, float]:
    """The share that the newest human label map of each patch leaves out as not annotated, where it does."""
    rows = store.rows(
        """SELECT patch_id, json_extract(params, '$.not_annotated') AS share, max(id) FROM label_map
           WHERE kind = 'human' AND patch_id IN (SELECT value FROM json_each(?)) GROUP BY patch_id""",
        (json.dumps([int(identity) for identity in patch_ids]),),
    )
    return {row["patch_id"]: row["share"] for row in rows if row["share"]}


def used_classes(store: Store, project_id: int) -> set[int]:
    """The classes of all objects that the journals of a project ever had, undone and deleted ones too: undo and
    redo can bring those back."""
    rows = store.rows(
        """WITH event AS (
               SELECT e.kind, e.payload FROM annotation_event AS e JOIN patch ON patch.id = e.patch_id
               JOIN image ON image.id = patch.image_id WHERE image.project_id = ?)
           SELECT coalesce(json_extract(payload, '$.class'), 1) AS class FROM event
           WHERE kind IN ('accept', 'take', 'submit', 'classify')
           UNION SELECT coalesce(json_extract(entry.value, '$.class'), 1)
           FROM event, json_each(event.payload, '$.set') AS entry WHERE event.kind = 'edit'""",
        (project_id,),
    )
    return {row["class"] for row in rows}
