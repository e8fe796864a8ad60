"""The next batch: validation patches at random, at least one with objects where they are seen, the rest by the
strategy. Training and validation patches that share pixels are avoided while there are others.

Where the person wants their work measured, some of the picks start without suggestions, and some patches of earlier
rounds are shown again (`measuring`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from alapp import jobs
from alapp.domain import PatchRole, Report, part
from alapp.errors import InputError, NotReadyError
from alapp.rounds.annotate import annotation, measuring
from alapp.rounds.select import embedding, informing, lane, overlaps
from alapp.rounds.timing import timed
from alapp.stages.select import measures
from alapp.stages.select.base import SELECTORS, Context, Need, Pick
from alapp.storage import catalogue, models
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch, Project
from alapp.storage.db import Store
from alapp.storage.rounds import Round, Selected
from alapp.wording import counted

DEFAULT_BUDGET = 8
ALWAYS = (Need.FOREGROUND, Need.CONTENT)
"""What every selection has to know, whatever the strategy: where objects are, and which patches are the same."""
FOR_VALIDATION = "drawn at random, for validation"
FOR_VALIDATION_WITH_OBJECTS = "drawn at random among patches in which objects are seen, for validation"


def validation_count(budget: int, share: float) -> int:
    """How many patches of a batch are set aside for validation; never all of them."""
    return min(int(np.floor(budget * share + 0.5)), budget - 1)


def run_select(
    store: Store, project_id: int, report: Report, budget: int = DEFAULT_BUDGET, strategy: str | None = None
) -> dict[str, Any]:
    """Start the next round: re-embed what is new, find out what the strategy needs to know, draw the validation
    patches, pick the rest.

    `budget` counts patches, validation included. Raises `NotReadyError` while the last batch is open or its training
    is unfinished, and `InputError` for a budget below 1. Returns {"round", "patches"}, patches that are shown again
    left out.
    """
    project = catalogue.project(store, project_id)
    strategy = strategy or project.strategy
    selector = SELECTORS.create(strategy)
    if budget < 1:
        raise InputError(f"A batch needs at least one patch; the budget is {budget}.")
    if waiting := open_patches(store, project_id):
        raise NotReadyError(
            f"The last batch still has {counted(len(waiting), 'patch', 'patches')} to annotate. Finish or skip "
            f"{'it' if len(waiting) == 1 else 'them'} first."
        )
    jobs.check_apart(store, "select", project_id)
    number = _next_number(store, project_id)
    embedding.update(store, project_id, part(report, 0.0, 0.6), round_number=number)
    with timed(store, project_id, "select", number):
        patches, vectors = embedding.embedded(store, project_id)
        pool = _Pool(store, project, patches, vectors)
        if pool.n_free == 0:
            raise NotReadyError(none_left(len(round_rows.vetoed(store, project_id))))
        needs = {*selector.needs, *ALWAYS}
        known = informing.inform(store, project_id, patches, needs, pool.free, part(report, 0.6, 1.0))
        report(1, 1, "Picking patches")
        rng = np.random.default_rng([project.seed, number, 1])
        n_validation = validation_count(min(budget, pool.n_free), project.validation_share)
        pool.content = known.get(Need.CONTENT)
        unseen = pool.draw_validation(n_validation, rng, known)
        drawn = [pick.row for pick in unseen]
        n_training = min(budget, pool.n_free) - n_validation
        n_control = lane.count(project, strategy, n_training)
        pool.keep_apart(drawn, n_training)
        control = pool.draw_lane(project, number, n_control, known) if n_control else []
        asked = {name: value for name, value in known.items() if name in selector.needs}
        context = pool.context(number, asked, excluding=[pick.row for pick in control])
        chosen = selector(pool.vectors, pool.labelled, budget - n_validation - len(control), rng, context).picks
        picks = [
            *((patches[pick.row].id, PatchRole.TRAIN, _reason(pick, patches)) for pick in chosen),
            *((patches[pick.row].id, PatchRole.TRAIN, _of_lane(pick, patches)) for pick in control),
            *((patches[pick.row].id, PatchRole.VALIDATION, _reason(pick, patches)) for pick in unseen),
        ]
        training = [patch_id for patch_id, role, _ in picks if role is PatchRole.TRAIN]
        unaided = measuring.draw_controls(project, number, training)
        again = measuring.draw_repeats(store, project, number, [role for _, role, _ in picks])
        made = round_rows.add(store, project_id, strategy, budget, project.seed, picks, unaided, again)
    return {"round": made.number, "patches": [patch_id for patch_id, _, _ in picks]}


def swap_pick(store: Store, round_id: int, patch_id: int) -> int:
    """Veto a pick: the strategy's next best takes its place, the vetoed patch is not offered again.

    Only among patches that are embedded already, and with what was found out for the selection, so that it is quick:
    images added since wait for the next selection. Returns the new patch's id. Raises `InputError` when work on the
    patch has begun, `NotReadyError` when no patch is left.
    """
    this = round_rows.round_by_id(store, round_id)
    project = catalogue.project(store, this.project_id)
    old = next((item for item in round_rows.picked(store, round_id) if item.patch_id == patch_id), None)
    if old is None:
        raise NotReadyError("This pick was already changed in another tab. Reload the page.")
    if annotation.patch_states(store, [patch_id]).get(patch_id, "open") != "open":
        raise InputError("This patch has annotations already. Skip it on the Annotate tab instead.")
    selector = SELECTORS.create(this.strategy)
    patches, vectors = embedding.embedded(store, this.project_id)
    pool = _Pool(store, project, patches, vectors)
    vetoed = [*old.reason.get("vetoed", []), patch_id]
    rng = np.random.default_rng([project.seed, this.number, 2, *vetoed])
    known = informing.recall(store, project.id, patches, {*selector.needs, *ALWAYS})
    pool.content = known.get(Need.CONTENT)
    if old.role is PatchRole.VALIDATION:
        found = pool.draw_validation(1, rng, known, beside=_others_for_validation(store, old))
        pick = found[0] if found else None
    elif lane.is_control(old):
        pool.keep_apart([], 1)
        found = pool.draw_lane(project, this.number, 1, known, again=vetoed)
        pick = found[0] if found else None
    else:
        pool.keep_apart([], 1)
        asked = {name: value for name, value in known.items() if name in selector.needs}
        found = selector(pool.vectors, pool.labelled, 1, rng, pool.context(this.number, asked)).picks
        pick = found[0] if found else None
    if pick is None:
        raise NotReadyError("No other patch is left to take its place.")
    reason = _of_lane(pick, patches) if lane.is_control(old) else _reason(pick, patches)
    round_rows.swap(store, round_id, patch_id, patches[pick.row].id, {**reason, "vetoed": vetoed})
    return patches[pick.row].id


def none_left(n_vetoed: int) -> str:
    """Why no patch can be selected, and what to do."""
    if not n_vetoed:
        return "Every patch is labelled already. Import more images to go on."
    left = "The one patch that is left was vetoed" if n_vetoed == 1 else f"The {n_vetoed} patches left were vetoed"
    return f"{left}. Offer {'it' if n_vetoed == 1 else 'them'} again on the Rounds tab, or import more images."


def open_patches(store: Store, project_id: int) -> list[Selected]:
    """Picks of the newest round that are neither done nor skipped."""
    latest = round_rows.latest(store, project_id)
    return _open(store, latest) if latest else []


def discard_round(store: Store, project_id: int) -> None:
    """Undo a selection nothing of which was annotated and no model came of. Raises `InputError` otherwise."""
    latest = round_rows.latest(store, project_id)
    if latest is None:
        raise NotReadyError("There is no round to discard.")
    if _has_model(store, latest):
        raise InputError("A model was trained in this round already, so it stays.")
    if not is_untouched(store, latest.id):
        raise InputError("This batch has annotations already, so it stays.")
    round_rows.remove(store, latest.id)


def is_untouched(store: Store, round_id: int) -> bool:
    """Whether no patch of the round has annotations, and no model came of it."""
    if _has_model(store, round_rows.round_by_id(store, round_id)):
        return False
    picks = round_rows.selected(store, round_id)
    return set(annotation.patch_states(store, [pick.patch_id for pick in picks]).values()) <= {annotation.OPEN}


def _has_model(store: Store, this: Round) -> bool:
    """Whether a model was trained in the round; it would be deleted together with it."""
    return any(item.round_id == this.id for item in models.checkpoints(store, this.project_id))


class _Pool:
    """Rows that may be picked, and those that are labelled."""

    def __init__(self, store: Store, project: Project, patches: list[Patch], vectors: np.ndarray):
        chosen = round_rows.selected_in_project(store, project.id)
        states = annotation.patch_states(store, list(chosen))
        vetoed = round_rows.vetoed(store, project.id)
        taken = np.array([patch.id in chosen for patch in patches])
        used = {key: item.role for key, item in chosen.items() if states.get(key) != annotation.SKIPPED}
        self.patches, self.vectors = patches, vectors
        self.labelled, self.validated = (
            np.array([used.get(patch.id) is role for patch in patches])
            for role in (PatchRole.TRAIN, PatchRole.VALIDATION)
        )
        self.excluded = (taken & ~self.labelled) | np.array([patch.id in vetoed for patch in patches])
        self.free = ~taken & ~self.excluded
        self.content: np.ndarray | None = None
        """As `Context.content`, where it is known."""

    @property
    def n_free(self) -> int:
        return int(self.free.sum())

    def keep_apart(self, drawn: Sequence[int], wanted: int) -> None:
        """Exclude the rows `drawn` for validation, and from training what shares pixels with validation patches, as far
        as `wanted` others are left."""
        self.excluded[drawn] = True
        self.validated[drawn] = True
        free = self.free & ~self.excluded
        self.excluded |= free & ~overlaps.apart(free, self._shared_with(self.validated), wanted)

    def _shared_with(self, rows: np.ndarray) -> np.ndarray:
        """How much of each patch (N) others show as well, 0 to 1: all of it where their pixels are equal, as in an
        image that was imported twice."""
        share = overlaps.shared(self.patches, [self.patches[row] for row in np.flatnonzero(rows)])
        if self.content is not None:
            share[np.isin(self.content, self.content[rows]) & ~rows] = 1
        return share

    def context(self, number: int, known: Mapping[str, Any], excluding: list[int] | None = None) -> Context:
        excluded = self.excluded.copy()
        excluded[excluding or []] = True
        return Context(excluded=excluded, round_number=number, **known)

    def draw_validation(
        self, n: int, rng: np.random.Generator, known: Mapping[str, Any], beside: Collection[int] = ()
    ) -> list[Pick]:
        """`n` free rows at random, those that share pixels with training patches last. Where objects are seen in none
        of them nor in the patches `beside` (ids), the last gives way to one in which they are: patches without objects
        tell nothing of how well objects are found, and most are such where objects are rare."""
        order = rng.permutation(np.flatnonzero(self.free))
        order = order[np.argsort(self._shared_with(self.labelled)[order], kind="stable")]
        picks = [Pick(int(row), FOR_VALIDATION) for row in order[:n]]
        foreground = known.get(Need.FOREGROUND)
        if not picks or foreground is None:
            return picks
        holding = measures.holds_objects(foreground)
        instead = order[holding[order]]
        seen = any(holding[row] for row, patch in enumerate(self.patches) if patch.id in beside)
        if len(instead) and not seen and not any(holding[pick.row] for pick in picks):
            picks[-1] = Pick(int(instead[0]), FOR_VALIDATION_WITH_OBJECTS)
        return picks

    def draw_lane(
        self,
        project: Project,
        number: int,
        n: int,
        known: Mapping[str, Any],
        again: Sequence[int] = (),
    ) -> list[Pick]:
        context = self.context(number, {"foreground": known.get(Need.FOREGROUND)})
        return lane.draw(project, number, n, self.vectors, self.labelled, context, again)


def _open(store: Store, this: Round) -> list[Selected]:
    picks = round_rows.selected(store, this.id)
    states = annotation.patch_states(store, [pick.patch_id for pick in picks])
    closed = (annotation.DONE, annotation.SKIPPED)
    return [pick for pick in picks if states.get(pick.patch_id) not in closed]


def _others_for_validation(store: Store, old: Selected) -> set[int]:
    """Ids of the validation patches that were picked together with one."""
    picks = round_rows.picked(store, old.round_id)
    return {pick.patch_id for pick in picks if pick.role is PatchRole.VALIDATION} - {old.patch_id}


def _reason(pick: Pick, patches: list[Patch]) -> Mapping[str, Any]:
    reason: dict[str, Any] = {"sentence": pick.reason}
    if pick.distance is not None:
        reason["distance"] = round(float(pick.distance), 6)
    if pick.nearest is not None:
        reason["nearest_patch"] = patches[pick.nearest].id
    return reason


def _of_lane(pick: Pick, patches: list[Patch]) -> dict[str, Any]:
    return {**_reason(pick, patches), lane.KEY: lane.CONTROL}


def _next_number(store: Store, project_id: int) -> int:
    latest = round_rows.latest(store, project_id)
    return latest.number + 1 if latest else 1
