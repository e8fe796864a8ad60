"""What suggestions save, measured on the person's own work: control patches against the others of the same rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alapp.domain import PatchRole
from alapp.rounds.annotate import annotation_batch, ledger
from alapp.rounds.annotate.ledger import PatchWork
from alapp.stages import within_rounds
from alapp.stages.annotate.journal import DONE
from alapp.stages.jackknife import combined
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store

MIN_PATCHES = 5  # of each kind: with fewer, nobody can say how patches vary


@dataclass(frozen=True)
class TimeSaved:
    """Working time for each object that was kept, in seconds, `aided` by suggestions and `unaided`, over so many
    patches, averaged over their rounds; None without a patch. `saving` is the fraction of the unaided time that
    suggestions save (negative where they cost time) and `interval` its 95% interval; both None with fewer than
    `MIN_PATCHES` of a kind."""

    n_aided: int
    n_unaided: int
    aided: float | None
    unaided: float | None
    saving: float | None = None
    interval: tuple[float, float] | None = None


def time_saved(store: Store, project_id: int) -> TimeSaved:
    """Finished training patches that started from nothing because they were drawn for it, against those that started
    from suggestions, in rounds that have both.

    Left out: validation patches and repeats, which are picked in another way; patches into which labels were
    imported; patches whose start the person changed, or that have no object.
    """
    known = ledger.patches(store, project_id)
    chosen = round_rows.selected_in_project(store, project_id)
    states = annotation_batch.patch_states(store, list(chosen))
    by_round: dict[int, tuple[list[PatchWork], list[PatchWork]]] = {}
    for patch_id, pick in chosen.items():
        work = known.get(patch_id)
        if work is None or states[patch_id] != DONE or pick.role is not PatchRole.TRAIN:
            continue
        if work.imported or not work.kept or (work.starts <= {"nothing"}) is not pick.control:
            continue
        by_round.setdefault(pick.round_id, ([], []))[int(pick.control)].append(work)
    return compare([arms for arms in by_round.values() if all(arms)])


def compare(rounds: Sequence[tuple[Sequence[PatchWork], Sequence[PatchWork]]]) -> TimeSaved:
    """Seconds for each object with and without suggestions, and the saving with its 95% interval: Student's t on the
    logarithm of the ratio, with the jackknife over patches. `rounds`: patches with and without them of each round, all
    with objects, neither empty.

    Suggestions and people get better from round to round, so the kinds are compared within each round, and averaged
    over rounds that count alike for both.
    """
    n_aided, n_unaided = (sum(len(arms[kind]) for arms in rounds) for kind in (0, 1))
    if not rounds:
        return TimeSaved(0, 0, None, None)
    weight = within_rounds.weights([(len(aided), len(unaided)) for aided, unaided in rounds])
    tables = [[_table(arms[kind]) for arms in rounds] for kind in (0, 1)]
    aided, unaided = rates = [within_rounds.average(arms, weight, _rate) for arms in tables]
    if min(n_aided, n_unaided) < MIN_PATCHES or not (aided and unaided):
        return TimeSaved(n_aided, n_unaided, aided, unaided)
    # Of the ratio, the logarithm: it is a difference, and as uncertain as both rates are in proportion.
    parts = [within_rounds.spread(arms, weight, _rate) for arms in tables]
    half = combined(
        [replace(each, variance=each.variance / rate**2) for each, rate in zip(parts, rates, strict=True)]
    ).half
    ratio = aided / unaided
    interval = (1 - ratio * math.exp(half), 1 - ratio * math.exp(-half))
    return TimeSaved(n_aided, n_unaided, aided, unaided, 1 - ratio, interval)


def _table(arm: Sequence[PatchWork]) -> np.ndarray:
    """float (patches, 2): seconds, and objects that were kept."""
    return np.array([(work.seconds, work.kept) for work in arm], float)


def _rate(sums: np.ndarray) -> np.ndarray:
    """Seconds for each object."""
    return sums[..., 0] / sums[..., 1]
