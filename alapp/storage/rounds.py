"""Rounds and the patches that each selected."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlite_utils import Database

from alapp.domain import PatchRole
from alapp.errors import ConflictError, InputError
from alapp.storage.annotations import CLOSING, WORK
from alapp.storage.db import Store, insert, now, required, to_json


@dataclass(frozen=True)
class Round:
    """A row of `round`. Round 0, the model from pseudo-labels alone, has no row."""

    id: int
    project_id: int
    number: int
    strategy: str
    budget: int
    seed: int
    created: str


@dataclass(frozen=True)
class Selected:
    """A row of `selection`. `reason` has "sentence" and, where known, "distance" and "nearest_patch".

    `control`: the patch starts without suggestions, to measure what they save. `repeats`: the patch that is shown
    again as this one, to measure how well the person agrees with themselves; None for all others.
    """

    id: int
    round_id: int
    patch_id: int
    role: PatchRole
    rank: int
    reason: dict[str, Any]
    control: bool = False
    repeats: int | None = None


def add(
    store: Store,
    project_id: int,
    strategy: str,
    budget: int,
    seed: int,
    picks: Iterable[tuple[int, PatchRole, Mapping[str, Any]]],
    control: Collection[int] = (),
    repeats: Mapping[int, int] | None = None,
) -> Round:
    """Add the next round with its picks (patch id, role, reason), in one transaction.

    `control`: ids of picks that start without suggestions. `repeats`: patches of earlier rounds that are shown
    again, each with its rank in the batch.
    """
    with store.atomic() as db:
        last = next(db.query("SELECT max(number) AS n FROM round WHERE project_id = ?", (project_id,)))["n"]
        row = {
            "project_id": project_id,
            "number": (last or 0) + 1,
            "strategy": strategy,
            "budget": budget,
            "seed": seed,
            "created": now(),
        }
        round_id = insert(db, "round", row)
        taken = {rank: original for original, rank in (repeats or {}).items()}
        ranks = (rank for rank in itertools.count() if rank not in taken)
        for rank, (patch_id, role, reason) in zip(ranks, picks, strict=False):
            values = {"round_id": round_id, "patch_id": patch_id, "role": role, "rank": rank}
            insert(
                db, "selection", {**values, "reason": to_json(dict(reason)), "control": int(patch_id in set(control))}
            )
        for rank, original in taken.items():
            _repeat(db, round_id, original, rank)
    return Round(id=round_id, **row)


def _repeat(db: Database, round_id: int, original: int, rank: int) -> None:
    """Show a patch again: a new patch with its box, picked with its role and reason, so that nothing tells them
    apart."""
    made = db.conn.execute(
        """INSERT INTO patch (image_id, z, y, x, depth, height, width, repeats)
           SELECT image_id, z, y, x, depth, height, width, id FROM patch WHERE id = ? AND repeats IS NULL""",
        (original,),
    ).lastrowid
    db.conn.execute(
        """INSERT INTO selection (round_id, patch_id, role, rank, reason, control)
           SELECT ?, ?, role, ?, reason, control FROM selection WHERE patch_id = ? ORDER BY round_id DESC LIMIT 1""",
        (round_id, made, rank, original),
    )


def swap(store: Store, round_id: int, old_patch: int, new_patch: int, reason: Mapping[str, Any]) -> None:
    """Put another patch in the place of a pick, which is vetoed. Raises `ConflictError` if that pick is gone."""
    with store.atomic() as db:
        changed = db.conn.execute(
            "UPDATE selection SET patch_id = ?, reason = ? WHERE round_id = ? AND patch_id = ?",
            (new_patch, to_json(dict(reason)), round_id, old_patch),
        ).rowcount
        if not changed:
            raise ConflictError("This pick was already changed in another tab. Reload the page.")
        db.conn.execute("UPDATE patch SET vetoed = ? WHERE id = ?", (now(), old_patch))


def vetoed(store: Store, project_id: int) -> set[int]:
    """Ids of patches that the person vetoed and no round has, those of removed images left out."""
    rows = store.rows(
        """SELECT patch.id FROM patch JOIN image ON image.id = patch.image_id
           WHERE image.project_id = ? AND image.deleted IS NULL AND vetoed IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM selection WHERE selection.patch_id = patch.id)""",
        (project_id,),
    )
    return {row["id"] for row in rows}


def lift_vetoes(store: Store, project_id: int) -> int:
    """Offer all vetoed patches again, those of removed images too; returns how many."""
    return store.execute(
        """UPDATE patch SET vetoed = NULL
           WHERE vetoed IS NOT NULL AND image_id IN (SELECT id FROM image WHERE project_id = ?)""",
        (project_id,),
    )


_WORKED_ON_REMOVED = f"""SELECT image.name FROM selection JOIN patch ON patch.id = selection.patch_id
    JOIN image ON image.id = patch.image_id
    WHERE selection.round_id = ? AND image.deleted IS NOT NULL AND EXISTS (
        SELECT 1 FROM annotation_event AS event WHERE event.patch_id = patch.id
        AND event.kind IN {(*CLOSING, *WORK)}) LIMIT 1"""


def remove(store: Store, round_id: int) -> None:
    """Remove a round with its picks. The caller makes sure that nothing of what it `selected` was annotated; raises
    `InputError` where somebody annotated an image that was removed since, whose labels would lose their round."""
    with store.atomic() as db:
        # That was looked for outside of this transaction, and among the images that are there.
        worked = next(db.query(_WORKED_ON_REMOVED, (round_id,)), None)
        if worked:
            raise InputError(
                f"This batch has annotations already, of the removed image {worked['name']}, so it stays. Finish or "
                "skip the patches that are left instead."
            )
        db.conn.execute(
            """DELETE FROM patch WHERE repeats IS NOT NULL
               AND id IN (SELECT patch_id FROM selection WHERE round_id = ?)""",
            (round_id,),
        )
        db.conn.execute("DELETE FROM round WHERE id = ?", (round_id,))


def rounds(store: Store, project_id: int) -> list[Round]:
    """Rounds of a project, first to last."""
    return [
        Round(**row) for row in store.rows("SELECT * FROM round WHERE project_id = ? ORDER BY number", (project_id,))
    ]


def round_by_id(store: Store, round_id: int) -> Round:
    """The round with this id. Raises `NotReadyError` if there is none."""
    return Round(**required(store.row("SELECT * FROM round WHERE id = ?", (round_id,)), "This round"))


def latest(store: Store, project_id: int) -> Round | None:
    """The newest round, or None before the first."""
    row = store.row("SELECT * FROM round WHERE project_id = ? ORDER BY number DESC LIMIT 1", (project_id,))
    return Round(**row) if row else None


def selected(store: Store, round_id: int) -> list[Selected]:
    """Picks of a round, in order, patches that repeat another one among them. Those of removed images are left out, as
    nobody can annotate them; they are here again, with their rank, when the image is brought back."""
    rows = store.rows(
        """SELECT selection.*, patch.repeats FROM selection JOIN patch ON patch.id = selection.patch_id
           JOIN image ON image.id = patch.image_id
           WHERE round_id = ? AND image.deleted IS NULL ORDER BY rank""",
        (round_id,),
    )
    return [_selected(row) for row in rows]


def pick_of(store: Store, patch_id: int) -> Selected | None:
    """How the newest round that selected the patch did so; None if no round did."""
    row = store.row(
        """SELECT selection.*, patch.repeats FROM selection JOIN patch ON patch.id = selection.patch_id
           WHERE patch_id = ? ORDER BY round_id DESC LIMIT 1""",
        (patch_id,),
    )
    return _selected(row) if row else None


def picked(store: Store, round_id: int) -> list[Selected]:
    """The picks that the strategy and chance made, in order: those of `selected` without the repeats. Ranks are
    counted anew, so that no gap tells where a repeat stands."""
    kept = [pick for pick in selected(store, round_id) if pick.repeats is None]
    return [replace(pick, rank=rank) for rank, pick in enumerate(kept)]


def selected_in_project(store: Store, project_id: int) -> dict[int, Selected]:
    """Every pick of a project, by patch id; patches that repeat another one are left out."""
    rows = store.rows(
        """SELECT selection.*, patch.repeats FROM selection JOIN round ON round.id = selection.round_id
           JOIN patch ON patch.id = selection.patch_id JOIN image ON image.id = patch.image_id
           WHERE round.project_id = ? AND image.deleted IS NULL AND patch.repeats IS NULL
           ORDER BY round.number, rank""",
        (project_id,),
    )
    return {row["patch_id"]: _selected(row) for row in rows}


def _selected(row: dict[str, Any]) -> Selected:
    values = {"role": PatchRole(row["role"]), "reason": json.loads(row["reason"]), "control": bool(row["control"])}
    return Selected(**row | values)
