"""The plan of a project's network: made once, and made anew where people mark objects of another size.

A network sees objects at the resolution of its plan. One that was planned on pseudo-labels sees them too small or too
large where these mark only parts of the objects, or several as one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from alapp.domain import Report, part
from alapp.environment import machine
from alapp.rounds.timing import content_hash, timed
from alapp.stages.train.base import NETWORK, TRAINERS, Case, Overrides
from alapp.storage import models
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.models import Plan


def ensure_plan(store: Store, project: Project, cases: Iterable[Case], report: Report) -> Plan:
    """The project's plan for its preset; made on `cases` the first time and then kept."""
    return models.find_plan(store, project.id, project.preset) or make_plan(store, project, cases, report)


def make_plan(
    store: Store, project: Project, cases: Iterable[Case], report: Report, overrides: Overrides | None = None
) -> Plan:
    """A new plan of the project for its preset, in a folder of its own; from now on it is the one in use."""
    cases = tuple(cases)
    earlier = models.plans(store, project.id, project.preset)
    name = f"{project.preset}-{len(earlier) + 1}" if earlier else str(project.preset)
    workspace = store.files.project(project.id) / "nnunet" / name
    # No plan has this folder: what is in it was left by a planning that did not end, perhaps with other overrides.
    shutil.rmtree(workspace, ignore_errors=True)
    with timed(store, project.id, "plan"):
        summary = TRAINERS.create(NETWORK).plan(workspace, cases, project.preset, machine(), report, overrides)
    return models.add_plan(
        store,
        {
            "project_id": project.id,
            "preset": project.preset,
            "input_hash": plan_hash(project.preset, cases, len(earlier), summary.overrides),
            "workspace": workspace.relative_to(store.root).as_posix(),
            "summary": asdict(summary),
        },
    )


def plan_hash(preset: str, cases: Iterable[Case], number: int, overrides: Mapping[str, Any]) -> str:
    """Names a plan by what it was made from: the labels, how many plans were there, what an expert fixed."""
    content = sorted((case.key, case.hash) for case in cases)
    return content_hash("plan", preset, content, *((number, overrides) if number or overrides else ()))


def fitted(store: Store, project: Project, cases: Sequence[Case], report: Report) -> Plan:
    """The plan for a round that learns from `cases`, which people labelled.

    It is the one in use. Only where no round was trained with it and nobody fixed anything in it, and it has another
    resolution than the objects of `cases` ask for, a new one is made; once in the life of a project.
    """
    known = models.plans(store, project.id, project.preset)
    network = TRAINERS.create(NETWORK)
    if len(known) != 1 or known[0].summary.get("overrides") or _has_rounds(store, project, known[0]):
        return ensure_plan(store, project, cases, report)
    report(0, 1, "Measuring the objects that you marked")
    if network.plan_suits(store.root / known[0].workspace, cases, machine()):
        return known[0]
    return make_plan(store, project, cases, part(report, 0.5, 1.0))


def _has_rounds(store: Store, project: Project, plan: Plan) -> bool:
    return any(item.plan_id == plan.id and item.round_id for item in models.checkpoints(store, project.id))


def same_network(store: Store, plan_id: int, other_id: int) -> bool:
    """Whether a model of the plan `other_id` can be trained further with the plan `plan_id`."""
    one, two = (store.root / models.plan(store, each).workspace for each in (plan_id, other_id))
    return plan_id == other_id or TRAINERS.create(NETWORK).same_network(one, two)
