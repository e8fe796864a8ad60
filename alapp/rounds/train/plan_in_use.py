"""The plan of a project's network: made once, and made anew where people mark objects of another size.

A network sees objects at the resolution of its plan. One that was planned on pseudo-labels sees them too small or too
large where these mark only parts of the objects, or several as one.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alapp.domain import Report, part
from alapp.environment import machine
from alapp.rounds.timing import content_hash, timed
from alapp.stages.train.base import NETWORK, TRAINERS, Case, Overrides
from alapp.storage import models
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.models import Plan


def ensure_plan(
    store: Store,
    project: Project,
    cases: Iterable[Case],
    report: Report,
    round_number: int | None = None,
    killed: int = 0,
) -> Plan:
    """The project's plan for its preset; made on `cases` the first time and then kept. `round_number` and `killed`: see
    `make_plan`."""
    known = models.find_plan(store, project.id, project.preset)
    return known or make_plan(store, project, cases, report, round_number=round_number, killed=killed)


def make_plan(
    store: Store,
    project: Project,
    cases: Iterable[Case],
    report: Report,
    overrides: Overrides | None = None,
    round_number: int | None = None,
    killed: int = 0,
) -> Plan:
    """A new plan of the project for its preset, in a folder of its own; from now on it is the one in use.
    `round_number`: the round whose time it takes; without, the newest. `killed`: how often the system ended this job
    because memory ran out. Then it is not measured how fast the computer trains, which takes as much memory as
    training in full portions: that may be what did it, and the training itself goes on in smaller ones."""
    cases = tuple(cases)
    earlier = models.plans(store, project.id, project.preset)
    name = f"{project.preset}-{len(earlier) + 1}" if earlier else str(project.preset)
    workspace = store.files.project(project.id) / "nnunet" / name
    # No plan has this folder: what is in it was left by a planning that did not end, perhaps with other overrides.
    shutil.rmtree(workspace, ignore_errors=True)
    with timed(store, project.id, "plan", round_number):
        network = TRAINERS.create(NETWORK, timing=None) if killed else TRAINERS.create(NETWORK)
        summary = network.plan(workspace, cases, project.preset, machine(), report, overrides)
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


def fitted(
    store: Store,
    project: Project,
    cases: Sequence[Case],
    earlier: Collection[str],
    report: Report,
    round_number: int | None = None,
    killed: int = 0,
) -> Plan:
    """The plan for a round that learns from `cases`, which people labelled; `earlier` are the keys of those that rounds
    before it brought. `round_number` and `killed`: see `make_plan`.

    It is the one in use. Only in the first round whose labels show enough objects to tell their size, where nobody
    fixed anything in the plan and it has another resolution than they ask for, a new one is made.
    """
    known = models.plans(store, project.id, project.preset)
    if len(known) != 1 or known[0].summary.get("overrides"):
        return ensure_plan(store, project, cases, report, round_number, killed)
    report(0, 1, "Measuring the objects that you marked")
    before = [case for case in cases if case.key in earlier]
    if ask_for_another(store.root / known[0].workspace, cases, before):
        return make_plan(store, project, cases, part(report, 0.5, 1.0), round_number=round_number, killed=killed)
    return known[0]


def ask_for_another(workspace: Path, cases: Sequence[Case], before: Sequence[Case]) -> bool:
    """Whether `cases` ask for another plan than the workspace has, and `before`, those of the rounds before, showed too
    few objects to ask for any."""
    network = TRAINERS.create(NETWORK)
    if before and network.plan_suits(workspace, before, machine()) is not None:
        return False
    return network.plan_suits(workspace, cases, machine()) is False


def same_spacing(store: Store, plan: Plan, cases: Sequence[Case]) -> bool:
    """Whether a plan takes slices to be as thick as those of `cases` are; a person may have corrected them."""
    return TRAINERS.create(NETWORK).same_spacing(store.root / plan.workspace, cases)


def same_network(store: Store, plan_id: int, other_id: int) -> bool:
    """Whether a model of the plan `other_id` can be trained further with the plan `plan_id`."""
    one, two = (store.root / models.plan(store, each).workspace for each in (plan_id, other_id))
    return plan_id == other_id or TRAINERS.create(NETWORK).same_network(one, two)
