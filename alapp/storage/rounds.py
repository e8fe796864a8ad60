"""Rounds and the patches that each selected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alapp.domain import PatchRole
from alapp.errors import ConflictError
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
    """A row of `selection`. `reason` has "sentence" and, where known, "distance" and "nearest_patch"."""

    id: int
    round_id: int
    patch_id: int
    role: PatchRole
    rank: int
    reason: dict[str, Any]


def add(
    store: Store,
    project_id: int,
    strategy: str,
    budget: int,
    seed: int,
    picks: Iterable[tuple[int, PatchRole, Mapping[str, Any]]],
) -> Round:
    """Add the next round with its picks (patch id, role, reason), in one transaction."""
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
        for rank, (patch_id, role, reason) in enumerate(picks):
            values = {"round_id": round_id, "patch_id": patch_id, "role": role, "rank": rank}
            insert(db, "selection", {**values, "reason": to_json(dict(reason))})
    return Round(id=round_id, **row)


def swap(store: Store, round_id: int, old_patch: int, new_patch: int, reason: Mapping[str, Any]) -> None:
    """Put another patch in the place of a pick. Raises `ConflictError` if that pick is gone already."""
    changed = store.execute(
        "UPDATE selection SET patch_id = ?, reason = ? WHERE round_id = ? AND patch_id = ?",
        (new_patch, to_json(dict(reason)), round_id, old_patch),
    )
    if not changed:
        raise ConflictError("This pick was already changed in another tab. Reload the page.")


def remove(store: Store, round_id: int) -> None:
    """Remove a round with its picks (nothing of it was annotated)."""
    store.execute("DELETE FROM round WHERE id = ?", (round_id,))


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
    """Picks of a round, in order."""
    return [
        _selected(row) for row in store.rows("SELECT * FROM selection WHERE round_id = ? ORDER BY rank", (round_id,))
    ]


def selected_in_project(store: Store, project_id: int) -> dict[int, Selected]:
    """Every pick of a project, by patch id."""
    rows = store.rows(
        """SELECT selection.* FROM selection JOIN round ON round.id = selection.round_id
           JOIN patch ON patch.id = selection.patch_id JOIN image ON image.id = patch.image_id
           WHERE round.project_id = ? AND image.deleted IS NULL ORDER BY round.number, rank""",
        (project_id,),
    )
    return {row["patch_id"]: _selected(row) for row in rows}


def _selected(row: dict[str, Any]) -> Selected:
    return Selected(**row | {"role": PatchRole(row["role"]), "reason": json.loads(row["reason"])})
