"""Whether a plan still fits: its resolution the objects that people marked, its network the weights of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alapp.domain import Machine
from alapp.stages.train.base import Case
from alapp.stages.train.cases import load_case
from alapp.stages.train.plan import spacing_of
from alapp.stages.train.plan_network import choose_downsampling
from alapp.stages.train.targets import object_sizes, typical_size
from alapp.stages.train.workspace import Layout

FEW_OBJECTS = 10
"""Fewer do not tell their typical size."""

SAME_SIZE = 1.1
"""Diameters that differ by no more are the same: a size may lie between two resolutions."""

CHANCE = 0.1
"""Objects ask for a finer resolution only if so many of their resamples, or fewer, do not. Sizes are rather too small,
as large objects are cut by the edges of patches and left out; and of a dozen objects, a few small ones would decide."""

_RESAMPLES = 200


def suits(layout: Layout, cases: Sequence[Case], machine: Machine) -> bool | None:
    """Whether a plan that was made on `cases` would have the same resolution, or their objects the same size; None
    where they show too few objects to tell, by a bootstrap (Efron 1979) of their objects.

    A resolution that an expert chose suits, and so does that of a GPU, which is always the full one.
    """
    plan = layout.read_plan()
    if machine.gpu_gb or "downsampling" in plan["summary"].get("overrides", {}):
        return True
    sizes = [size for case in cases for size in object_sizes(load_case(case)[1])]
    if len(sizes) < FEW_OBJECTS:
        return None
    size, planned = typical_size(sizes), plan["summary"]["object_diameter_px"]
    if max(size.diameter, planned) <= SAME_SIZE * min(size.diameter, planned):
        return True
    planned_for, wanted = plan["downsampling"], choose_downsampling(size)
    if wanted >= planned_for:
        return wanted == planned_for
    rows = np.random.default_rng(0).integers(len(sizes), size=(_RESAMPLES, len(sizes)))
    asked = [choose_downsampling(typical_size([sizes[row] for row in drawn])) for drawn in rows]
    return False if np.mean(np.array(asked) >= planned_for) <= CHANCE else None


def same_spacing(layout: Layout, cases: Sequence[Case]) -> bool:
    """Whether a plan that was made on `cases` would take slices to be as thick; not if its file is lost."""
    if not layout.plan.exists():
        return False
    plan = layout.read_plan()
    return bool(plan["spacing"] == spacing_of(cases, plan["image_dimensions"]))


def same_network(layout: Layout, other: Layout) -> bool:
    """Whether both plans have the same network, so that the one can go on from weights of the other."""
    one, two = (
        (
            plan["channels"],
            plan["dataset"]["labels"],
            plan["nnunet"]["configurations"][plan["configuration"]]["architecture"],
        )
        for plan in (layout.read_plan(), other.read_plan())
    )
    return one == two
