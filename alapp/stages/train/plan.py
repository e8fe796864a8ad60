"""nnU-Net's plan for a project: fingerprint and plan by nnU-Net, then scaled to the machine.

A GPU keeps nnU-Net's own plan, made for its memory. A CPU gets a smaller U-Net (`plan_network`), and as many
iterations as it has time for (`plan_time`). An expert may fix values (`plan_overrides`); `plan_text` says what was
chosen and why.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from alapp.domain import Machine, Preset, Report, VoxelSize
from alapp.errors import InputError, NotReadyError, OutOfMemoryError
from alapp.stages.train import plan_overrides, plan_text
from alapp.stages.train.base import Case, Fact, Overrides, PlanSummary
from alapp.stages.train.cases import fingerprint, fingerprint_part, load_case
from alapp.stages.train.plan_network import (
    DEEP,
    FLAT,
    Shape,
    choose_downsampling,
    deep_for_cpu,
    flat_for_cpu,
    read_shape,
    within_memory,
    write_shape,
)
from alapp.stages.train.plan_time import Timing, choose_iterations
from alapp.stages.train.reduction import release_memory
from alapp.stages.train.targets import BORDER_CORE, SCHEMES, ObjectSize, border_width, object_sizes, typical_size
from alapp.stages.train.targets import DEFAULT as TARGETS
from alapp.stages.train.workspace import DATASET, Layout, nnunet_environment, quiet, resources, write_json

_log = logging.getLogger(__name__)

ANISOTROPIC = 3.0
"""nnU-Net's own threshold: a stack is anisotropic when its slices are this much thicker than its pixels."""

_SLICES_FOR_3D = 8
_PLANNED_FOR_GB, _GPU_SHARE = 8.0, 0.8
"""nnU-Net plans for 8 GB of GPU memory; a smaller GPU gets a plan for this share of its own."""


def make_plan(
    layout: Layout,
    cases: Sequence[Case],
    preset: Preset,
    machine: Machine,
    report: Report,
    overrides: Overrides | None = None,
    timing: Timing | None = None,
) -> PlanSummary:
    """The plan of the workspace; made at the first call, read at later ones.

    `timing` tells the seconds of an iteration on a CPU; without it the number of iterations is the usual one. Raises
    `NotReadyError` when no case holds an object, `InputError` when cases do not go together, the workspace belongs to
    another preset or `overrides` cannot be.
    """
    if layout.plan.exists():
        return _existing(layout, preset)
    if not cases:
        raise NotReadyError("nnU-Net has nothing to learn from: make pseudo-labels or labels first.")
    overrides = overrides or Overrides()
    plan_overrides.check(overrides)
    parts, sizes, kind = _measure(cases, report)
    plan_overrides.check_dimensions(overrides, kind[0])
    if not sizes:
        raise NotReadyError(
            f"None of the {len(cases)} labelled patches holds an object, so nnU-Net cannot be configured. "
            "Make pseudo-labels with another setting, or mark some objects first."
        )
    report(len(cases), len(cases) + 1, "Configuring nnU-Net")
    size, spacing = typical_size(sizes), spacing_of(cases, kind[0])
    plan = _configured(layout, fingerprint(parts, spacing), size, kind, spacing, len(cases), preset, machine, overrides)
    asked = timing is not None and machine.device == "cpu"
    seconds = _seconds(timing, layout, plan, cases, report) if asked else None
    plan["iterations"] = choose_iterations(machine.device, preset, seconds)
    if overrides.iterations is not None:
        plan["iterations"]["round"] = overrides.iterations
    summary = _summary(plan, size, machine, preset, seconds, overrides)
    write_json(layout.plan, {**plan, "summary": asdict(summary)})
    report(len(cases) + 1, len(cases) + 1, "nnU-Net is configured")
    return summary


def _seconds(
    timing: Timing, layout: Layout, plan: Mapping[str, Any], cases: Sequence[Case], report: Report
) -> float | None:
    """What `timing` tells; None where memory runs out. That does not end a training either: it goes on in smaller
    portions, and needs a plan for that."""
    try:
        with resources(layout.root, "measuring how fast this computer trains"):
            return timing(layout, plan, cases, report)
    except OutOfMemoryError as error:
        _log.warning("%s The plan has the usual number of iterations.", error)
    # Outside of the handler: an exception that is handled keeps what its frames hold.
    release_memory()
    return None


def _configured(
    layout: Layout,
    prints: dict[str, Any],
    size: ObjectSize,
    kind: tuple[int, int],
    spacing: list[float],
    n_cases: int,
    preset: Preset,
    machine: Machine,
    overrides: Overrides,
) -> dict[str, Any]:
    """The plan without its iterations. `kind` is (dimensions, channels)."""
    dataset = {
        "channel_names": {str(i): f"channel {i}" for i in range(kind[1])},
        "labels": dict(SCHEMES[TARGETS]),
        "numTraining": n_cases,
        "file_ending": ".tif",
    }
    nnunet = _nnunet_plan(layout, dataset, prints, machine)
    three_d = _three_d(nnunet, machine, overrides)
    shape, schedule = (
        _for_gpu(nnunet, three_d, preset)
        if machine.gpu_gb
        else _for_cpu(nnunet, three_d, size, machine, spacing, overrides)
    )
    wanted = plan_overrides.apply(overrides, shape, spacing[0], machine) if overrides.chosen else shape
    if wanted != read_shape(nnunet, shape.configuration):
        write_shape(nnunet, wanted)
    downsampling = float(wanted.spacing[-1])
    thick = spacing[0] >= ANISOTROPIC
    return {
        "preset": str(preset),
        "image_dimensions": kind[0],
        "channels": kind[1],
        "spacing": spacing,
        "targets": TARGETS,
        "dataset": dataset,
        "nnunet": nnunet,
        "configuration": wanted.configuration,
        "downsampling": downsampling,
        **schedule,
        "learning_rate": overrides.learning_rate or schedule["learning_rate"],
        # On a GPU the plan is nnU-Net's own, which mirrors along all axes.
        "mirror_axes": [1, 2] if three_d and thick and not machine.gpu_gb else None,
        "border_in_plane": not three_d or thick,
        "border_px": border_width(size, downsampling),
    }


def border_widths(plan: Mapping[str, Any]) -> list[float] | None:
    """Width of the borders in pixels of the network, ((z,) y, x); None where the targets have none."""
    if plan.get("targets", BORDER_CORE) != BORDER_CORE:
        return None
    spacing = read_shape(plan["nnunet"], plan["configuration"]).spacing
    widths = [plan["border_px"] / step for step in spacing[-2:]]
    if len(spacing) == 2:
        return widths
    return [0.0 if plan["border_in_plane"] else plan["border_px"] * plan["spacing"][0] / spacing[0], *widths]


def _three_d(nnunet: Mapping[str, Any], machine: Machine, overrides: Overrides) -> bool:
    """Whether the network looks at stacks in 3D: on a GPU where there are slices enough, on a CPU when it is asked."""
    if overrides.three_d is not None or DEEP not in nnunet["configurations"]:
        return bool(overrides.three_d)
    return machine.device == "cuda" and nnunet["original_median_shape_after_transp"][0] >= _SLICES_FOR_3D


def _existing(layout: Layout, preset: Preset) -> PlanSummary:
    plan = layout.read_plan()
    if plan["preset"] != preset:
        raise InputError(
            f"The folder {layout.root} is configured for the preset {plan['preset']!r}, not {str(preset)!r}: "
            "give each preset its own folder."
        )
    stored = plan["summary"]
    tuples: dict[str, Any] = {name: tuple(stored[name]) for name in ("patch_size", "features")}
    tuples["facts"] = tuple(Fact(**fact) for fact in stored.get("facts", ()))
    return PlanSummary(**{**stored, **tuples})


def _measure(cases: Sequence[Case], report: Report) -> tuple[list[dict[str, Any]], list, tuple[int, int]]:
    """Fingerprint parts, object sizes and (dimensions, channels) of the cases."""
    parts: list[dict[str, Any]] = []
    sizes: list[tuple[float, float, bool]] = []
    kind: tuple[int, int] | None = None
    for position, case in enumerate(cases):
        report(position, len(cases) + 1, f"Measuring objects in patch {position + 1} of {len(cases)}")
        image, labels = load_case(case)
        if kind is None:
            kind = (image.ndim - 1, image.shape[-1])
        if (image.ndim - 1, image.shape[-1]) != kind:
            raise InputError(
                f"Case {case.key} is {image.ndim - 1}D with {image.shape[-1]} channels, but the others are "
                f"{kind[0]}D with {kind[1]}: a project's images must agree."
            )
        parts.append(fingerprint_part(image, labels, len(cases)))
        sizes.extend(object_sizes(labels))
    assert kind is not None
    return parts, sizes, kind


def spacing_of(cases: Sequence[Case], dimensions: int) -> list[float]:
    """nnU-Net's spacing (z, y, x) in pixels: z is how many pixels a slice is thick (999 in 2D, as in nnU-Net).

    One value for the project: what the network sees must not depend on metadata that some files lack.
    """
    if dimensions == 2:
        return [999.0, 1.0, 1.0]
    ratios = [anisotropy(case.voxel_size) for case in cases]
    known = [ratio for ratio in ratios if ratio is not None]
    return [float(np.median(known)) if known else 1.0, 1.0, 1.0]


def anisotropy(voxel_size: VoxelSize) -> float | None:
    """Slice thickness in pixels, or None when the file does not tell."""
    if voxel_size.z is None or voxel_size.y is None or voxel_size.x is None:
        return None
    return voxel_size.z / math.sqrt(voxel_size.y * voxel_size.x)


def _nnunet_plan(layout: Layout, dataset: dict[str, Any], prints: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """nnU-Net's own plan, from its `ExperimentPlanner`."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

    class Planner(ExperimentPlanner):
        """Plans for arrays in memory: there are no files to find a reader for."""

        def determine_reader_writer(self) -> type:
            return Tiff3DIO

    # An explicit list of files, none of which is opened, keeps nnU-Net from searching with 12 processes.
    listed = {**dataset, "dataset": {"memory": {"images": ["memory.tif"], "label": "memory.tif"}}}
    write_json(layout.raw / DATASET / "dataset.json", listed)
    write_json(layout.preprocessed / DATASET / "dataset_fingerprint.json", prints)
    with nnunet_environment(layout), quiet():
        memory = min(_PLANNED_FOR_GB, _GPU_SHARE * (machine.gpu_gb or _PLANNED_FOR_GB / _GPU_SHARE))
        planner = Planner(DATASET, gpu_memory_target_in_gb=memory, suppress_transpose=True)
        planner.plan_experiment()
    stored = layout.preprocessed / DATASET / f"{planner.plans_identifier}.json"
    return json.loads(stored.read_text(encoding="utf-8"))


def _for_gpu(nnunet: dict[str, Any], three_d: bool, preset: Preset) -> tuple[Shape, dict[str, Any]]:
    """nnU-Net's plan as it is; its own optimiser too for the full schedule."""
    full = preset is Preset.FULL
    return read_shape(nnunet, DEEP if three_d else FLAT), {
        "optimizer": "sgd" if full else "adamw",
        "learning_rate": 1e-2 if full else 1e-3,
        "iterations_per_epoch": 250 if preset is not Preset.QUICK else 50,
    }


def _for_cpu(
    nnunet: Mapping[str, Any],
    three_d: bool,
    size: ObjectSize,
    machine: Machine,
    spacing: Sequence[float],
    overrides: Overrides,
) -> tuple[Shape, dict[str, Any]]:
    """A network that a CPU can train, at the resolution that suits the objects or that the expert wants."""
    image = nnunet["original_median_shape_after_transp"]
    downsampling = overrides.downsampling or choose_downsampling(size)
    shape = deep_for_cpu(image, spacing[0], downsampling) if three_d else flat_for_cpu(image[1:], downsampling)
    return within_memory(shape, machine), {"optimizer": "adamw", "learning_rate": 3e-3, "iterations_per_epoch": 25}


def _summary(
    plan: dict[str, Any],
    size: ObjectSize,
    machine: Machine,
    preset: Preset,
    seconds: float | None,
    overrides: Overrides,
) -> PlanSummary:
    shape = read_shape(plan["nnunet"], plan["configuration"])
    return PlanSummary(
        configuration=plan["configuration"],
        patch_size=shape.patch,
        batch_size=shape.batch,
        n_stages=len(shape.features),
        features=shape.features,
        downsampling=plan["downsampling"],
        object_diameter_px=round(size.diameter, 1),
        border_px=plan["border_px"],
        iterations=plan["iterations"],
        sentence=plan_text.sentence(plan, shape, size, machine, preset),
        seconds_per_iteration=None if seconds is None else round(seconds, 4),
        facts=plan_text.facts(plan, shape, size, machine, seconds, overrides),
        overrides=overrides.chosen,
    )
