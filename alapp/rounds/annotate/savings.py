"""What suggestions save, measured on the person's own work: control patches against the others of the same rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alapp.domain import PatchRole
from alapp.rounds.annotate import annotation_batch, ledger
from alapp.rounds.annotate.ledger import PatchWork
from alapp.stages.annotate.journal import DONE
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store

MIN_PATCHES = 5  # of each kind: with fewer, an interval by resampling them is too narrow to be honest
RESAMPLES = 2000


@dataclass(frozen=True)
class TimeSaved:
    """Working time for each object that was kept, in seconds, `aided` by suggestions and `unaided`, over so many
    patches; None without an object. `saving` is the fraction of the unaided time that suggestions save (negative
    where they cost time) and `interval` its 95% interval; both None with fewer than `MIN_PATCHES` of a kind."""

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
    both = [arms for arms in by_round.values() if all(arms)]
    return compare([work for arms in both for work in arms[0]], [work for arms in both for work in arms[1]])


def compare(
    aided: Sequence[PatchWork], unaided: Sequence[PatchWork], rng: np.random.Generator | None = None
) -> TimeSaved:
    """Seconds for each object with and without suggestions, and the saving with its percentile bootstrap interval,
    resampling the patches of each kind (Efron 1979)."""
    found = TimeSaved(len(aided), len(unaided), _rate(aided), _rate(unaided))
    if min(len(aided), len(unaided)) < MIN_PATCHES or not found.unaided or found.aided is None:
        return found
    rng = rng or np.random.default_rng(0)
    rates = [_resampled(arm, rng) for arm in (aided, unaided)]
    valid = rates[1] > 0
    low, high = np.quantile(1 - rates[0][valid] / rates[1][valid], (0.025, 0.975))
    saving = 1 - found.aided / found.unaided
    return TimeSaved(found.n_aided, found.n_unaided, found.aided, found.unaided, saving, (float(low), float(high)))


def _rate(arm: Sequence[PatchWork]) -> float | None:
    objects = sum(work.kept for work in arm)
    return sum(work.seconds for work in arm) / objects if objects else None


def _resampled(arm: Sequence[PatchWork], rng: np.random.Generator) -> np.ndarray:
    """float64 (RESAMPLES,): seconds for each object in resamples of the patches."""
    table = np.array([(work.seconds, work.kept) for work in arm], float)
    seconds, objects = table[rng.integers(0, len(arm), (RESAMPLES, len(arm)))].sum(axis=1).T
    return seconds / objects
