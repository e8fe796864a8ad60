"""What the person may have measured about their own work, and the patches that this takes.

Control patches are training patches of a batch that start without suggestions: what suggestions save is known only
from work without them. Repeats are patches that are shown a second time: two annotations by one person are the
ceiling of what a model can agree with. Both are off unless the person asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alapp.domain import PatchRole
from alapp.errors import InputError
from alapp.rounds.annotate import annotation_batch
from alapp.stages.annotate.journal import DONE
from alapp.storage import catalogue, ledger
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store

SHARES = (0.0, 0.1, 0.2)


def set_shares(store: Store, project_id: int, control: float, repeat: float) -> Project:
    """Remember the shares for the batches to come. Raises `InputError` unless both are of `SHARES`."""
    if control not in SHARES or repeat not in SHARES:
        raise InputError("These shares are 0, 10 or 20 percent of a batch.")
    return catalogue.update_project(store, project_id, control_share=control, repeat_share=repeat)


def share_count(total: int, share: float) -> int:
    """How many of `total` patches a share is: none if it is 0, else the nearest number, but at least one."""
    if share <= 0 or total < 1:
        return 0
    return min(max(int(np.floor(total * share + 0.5)), 1), total)


def draw_controls(project: Project, number: int, patch_ids: Sequence[int]) -> list[int]:
    """Which training patches of round `number` start without suggestions, at random."""
    rng = np.random.default_rng([project.seed, number, 3])
    n = share_count(len(patch_ids), project.control_share)
    return sorted(int(patch_id) for patch_id in rng.permutation(patch_ids)[:n])


def draw_repeats(store: Store, project: Project, number: int, roles: Sequence[PatchRole]) -> dict[int, int]:
    """Patches of earlier rounds that round `number` shows again, at random, each with its rank among all patches of
    the batch. `roles` are those of the batch's own picks, in order. Fewer than the share, or none, where not enough
    patches may be repeated (see `repeatable`).

    A repeat stands at random among the picks of its own role: elsewhere its place would give it away.
    """
    n = share_count(len(roles), project.repeat_share)
    if not n:
        return {}
    rng = np.random.default_rng([project.seed, number, 4])
    chosen = round_rows.selected_in_project(store, project.id)
    order: list[tuple[PatchRole, int | None]] = [(role, None) for role in roles]
    for original in rng.permutation(repeatable(store, project.id))[:n].tolist():
        role = chosen[original].role
        block = [rank for rank, (other, _) in enumerate(order) if other is role]
        rank = int(rng.integers(block[0], block[-1] + 2)) if block else len(order)
        order.insert(rank, (role, original))
    return {original: rank for rank, (_, original) in enumerate(order) if original is not None}


def repeatable(store: Store, project_id: int) -> list[int]:
    """Ids of patches that may be shown again: finished by hand, never shown with suggestions, not repeated yet.

    A suggestion would come from a network that learnt from the first annotation, and would make the person agree
    with themselves.
    """
    unaided = ledger.unaided(store, project_id)
    chosen = round_rows.selected_in_project(store, project_id)
    states = annotation_batch.patch_states(store, list(chosen))
    return sorted(patch_id for patch_id in unaided if patch_id in chosen and states[patch_id] == DONE)
