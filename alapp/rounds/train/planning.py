"""A plan before the first training, and another one where an expert wants it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alapp.domain import Report, part
from alapp.errors import NotReadyError
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import plan_in_use, training_cases
from alapp.stages.train import plan_overrides
from alapp.stages.train.base import Overrides
from alapp.storage import catalogue, models
from alapp.storage.db import Store
from alapp.storage.models import Plan


def run_plan(
    store: Store, project_id: int, report: Report, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Plan on what is labelled, by hand or else automatically, with what an expert fixed (`Overrides.chosen`).

    The plan in use stays where it has these overrides already and was made on the labels that there are, or when
    planning fails. Raises `InputError` for overrides that cannot be, `NotReadyError` when there is nothing to plan on.
    """
    wanted = Overrides.of(overrides or {})
    project = catalogue.project(store, project_id)
    if (current := same_plan(store, project_id, wanted)) is not None:
        return {"plan": current.id}
    check(store, project_id, wanted)
    cases = training_cases.human_cases(store, project)
    if not cases:
        pseudo.run_all(store, project_id, part(report, 0.0, 0.5), retry=False)
        cases = training_cases.pseudo_cases(store, project)
    plan = plan_in_use.make_plan(store, project, cases, part(report, 0.5, 1.0), wanted)
    return {"plan": plan.id}


def same_plan(store: Store, project_id: int, overrides: Overrides) -> Plan | None:
    """The plan in use, if it has these overrides, nothing was labelled or unlabelled since it was made, and slices are
    as thick as they were then."""
    project = catalogue.project(store, project_id)
    plans = models.plans(store, project_id, project.preset)
    if not plans or plans[-1].summary.get("overrides", {}) != overrides.chosen:
        return None
    cases = training_cases.human_cases(store, project) or training_cases.pseudo_cases(store, project)
    made_from = plan_in_use.plan_hash(project.preset, cases, len(plans) - 1, overrides.chosen)
    same = plans[-1].input_hash == made_from
    return plans[-1] if same and plan_in_use.same_spacing(store, plans[-1], cases) else None


def check(store: Store, project_id: int, overrides: Overrides) -> None:
    """Raises what can be known before planning: `InputError` for values that no plan of this project can have,
    `NotReadyError` while nothing is labelled."""
    plan_overrides.check(overrides)
    images = catalogue.images(store, project_id)
    if images:
        plan_overrides.check_dimensions(overrides, 3 if any(image.is_3d for image in images) else 2)
    project = catalogue.project(store, project_id)
    if project.pseudo_method in (None, pseudo.NONE) and not training_cases.human_cases(store, project):
        raise NotReadyError(
            "nnU-Net measures your objects to make its plan, and there are none yet: choose a method on the "
            "Pseudo-labels tab, or annotate a first patch."
        )


def models_of_plan(store: Store, project_id: int) -> int:
    """How many models the network of the plan in use has: with another plan, none of them can be continued from."""
    plan = models.find_plan(store, project_id, catalogue.project(store, project_id).preset)
    return sum(item.plan_id == plan.id for item in models.checkpoints(store, project_id)) if plan else 0
