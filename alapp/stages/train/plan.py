"""nnU-Net's plan for a project: fingerprint and plan by nnU-Net, then scaled to the machine.

A GPU keeps nnU-Net's own plan. A CPU gets a smaller U-Net that looks at the images at the resolution where
the objects are about 27 pixels wide, which trains 15 times faster per iteration.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from alapp.domain import Machine, Preset, Report, VoxelSize
from alapp.errors import InputError, NotReadyError
from alapp.stages.train.base import Case, PlanSummary
from alapp.stages.train.cases import fingerprint, fingerprint_part, load_case
from alapp.stages.train.targets import DEFAULT as TARGETS
from alapp.stages.train.targets import SCHEMES, ObjectSize, border_width, object_sizes, typical_size
from alapp.stages.train.workspace import DATASET, Layout, nnunet_environment, quiet, write_json

TARGET_DIAMETER_PX = 27.0
TARGET_WIDTH_PX = 14.0
ANISOTROPIC = 3.0
"""nnU-Net's own threshold: a stack is anisotropic when its slices are this much thicker than its pixels."""

_CPU_PATCH = 128
_CPU_BATCH_PIXELS = 4 * _CPU_PATCH**2
_CPU_FEATURES = (16, 32, 64, 128, 128)
_SLICES_FOR_3D = 8

_ITERATIONS = {
    ("cpu", Preset.QUICK): {"round": 500, "pretrain": 300},
    ("cpu", Preset.STANDARD): {"round": 2000, "pretrain": 800},
    ("cpu", Preset.FULL): {"round": 6000, "pretrain": 1500},
    ("cuda", Preset.QUICK): {"round": 1000, "pretrain": 500},
    ("cuda", Preset.STANDARD): {"round": 12_500, "pretrain": 5_000},
    ("cuda", Preset.FULL): {"round": 250_000, "pretrain": 62_500},
}


def make_plan(layout: Layout, cases: Sequence[Case], preset: Preset, machine: Machine, report: Report) -> PlanSummary:
    """The plan of the workspace; made at the first call, read at later ones.

    Raises `NotReadyError` when no case holds an object, `InputError` when cases do not go together or the
    workspace belongs to another preset.
    """
    if layout.plan.exists():
        return _existing(layout, preset)
    if not cases:
        raise NotReadyError("nnU-Net has nothing to learn from: make pseudo-labels or labels first.")
    parts, sizes, kind = _measure(cases, report)
    if not sizes:
        raise NotReadyError(
            f"None of the {len(cases)} labelled patches holds an object, so nnU-Net cannot be configured. "
            "Make pseudo-labels with another setting, or mark some objects first."
        )
    report(len(cases), len(cases) + 1, "Configuring nnU-Net")
    size = typical_size(sizes)
    spacing = _spacing(cases, kind[0])
    dataset = {
        "channel_names": {str(i): f"channel {i}" for i in range(kind[1])},
        "labels": dict(SCHEMES[TARGETS]),
        "numTraining": len(cases),
        "file_ending": ".tif",
    }
    nnunet = _nnunet_plan(layout, dataset, fingerprint(parts, spacing))
    plan = {
        "preset": str(preset),
        "image_dimensions": kind[0],
        "channels": kind[1],
        "spacing": spacing,
        "targets": TARGETS,
        "dataset": dataset,
        "nnunet": nnunet,
        "iterations": dict(_ITERATIONS[machine.device, preset]),
        **(_for_gpu(nnunet, size, preset) if machine.device == "cuda" else _for_cpu(nnunet, size)),
    }
    plan["border_in_plane"] = plan["configuration"] == "2d" or spacing[0] >= ANISOTROPIC
    plan["border_px"] = border_width(size, plan["downsampling"])
    summary = _summary(plan, size, machine, preset)
    write_json(layout.plan, {**plan, "summary": asdict(summary)})
    report(len(cases) + 1, len(cases) + 1, "nnU-Net is configured")
    return summary


def _existing(layout: Layout, preset: Preset) -> PlanSummary:
    plan = layout.read_plan()
    if plan["preset"] != preset:
        raise InputError(
            f"The folder {layout.root} is configured for the preset {plan['preset']!r}, not {str(preset)!r}: "
            "give each preset its own folder."
        )
    stored = plan["summary"]
    tuples = {name: tuple(stored[name]) for name in ("patch_size", "features")}
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


def _spacing(cases: Sequence[Case], dimensions: int) -> list[float]:
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


def _nnunet_plan(layout: Layout, dataset: dict[str, Any], prints: dict[str, Any]) -> dict[str, Any]:
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
        planner = Planner(DATASET, suppress_transpose=True)
        planner.plan_experiment()
    stored = layout.preprocessed / DATASET / f"{planner.plans_identifier}.json"
    return json.loads(stored.read_text(encoding="utf-8"))


def _for_gpu(nnunet: dict[str, Any], size: ObjectSize, preset: Preset) -> dict[str, Any]:
    """nnU-Net's plan as it is; its own optimiser too for the full schedule."""
    deep = nnunet["configurations"].get("3d_fullres")
    is_3d = deep is not None and nnunet["original_median_shape_after_transp"][0] >= _SLICES_FOR_3D
    full = preset is Preset.FULL
    return {
        "configuration": "3d_fullres" if is_3d else "2d",
        "downsampling": 1.0,
        "optimizer": "sgd" if full else "adamw",
        "learning_rate": 1e-2 if full else 1e-3,
        "iterations_per_epoch": 250 if preset is not Preset.QUICK else 50,
    }


def choose_downsampling(size: ObjectSize) -> float:
    """By how much the network's pixels are larger than the image's, in steps of a half; never below 1."""
    wanted = min(size.diameter / TARGET_DIAMETER_PX, size.width / TARGET_WIDTH_PX)
    return float(np.clip(round(2 * wanted - 0.1) / 2, 1.0, 16.0))


def _for_cpu(nnunet: dict[str, Any], size: ObjectSize) -> dict[str, Any]:
    """Edits the plan's 2D configuration in place for a CPU; stacks are learned slice by slice."""
    downsampling = choose_downsampling(size)
    configuration = nnunet["configurations"]["2d"]
    shape = np.asarray(nnunet["original_median_shape_after_transp"][1:]) / downsampling
    patch = [int(np.clip(32 * math.ceil(n / 32), 32, _CPU_PATCH)) for n in shape]
    stages = int(np.clip(math.log2(min(patch) / 4), 4, 5))
    configuration["patch_size"] = patch
    configuration["batch_size"] = int(np.clip(_CPU_BATCH_PIXELS // math.prod(patch), 4, 16))
    configuration["spacing"] = [downsampling, downsampling]
    configuration["architecture"]["arch_kwargs"].update(
        n_stages=stages,
        features_per_stage=list(_CPU_FEATURES[:stages]),
        kernel_sizes=[[3, 3]] * stages,
        strides=[[1, 1]] + [[2, 2]] * (stages - 1),
        n_conv_per_stage=[2] * stages,
        n_conv_per_stage_decoder=[2] * (stages - 1),
    )
    return {
        "configuration": "2d",
        "downsampling": downsampling,
        "optimizer": "adamw",
        "learning_rate": 3e-3,
        "iterations_per_epoch": 25,
    }


def _summary(plan: dict[str, Any], size: ObjectSize, machine: Machine, preset: Preset) -> PlanSummary:
    configuration = plan["nnunet"]["configurations"][plan["configuration"]]
    network = copy.deepcopy(configuration["architecture"]["arch_kwargs"])
    patch = tuple(int(n) for n in configuration["patch_size"])
    return PlanSummary(
        configuration=plan["configuration"],
        patch_size=patch,
        batch_size=int(configuration["batch_size"]),
        n_stages=int(network["n_stages"]),
        features=tuple(int(n) for n in network["features_per_stage"]),
        downsampling=plan["downsampling"],
        object_diameter_px=round(size.diameter, 1),
        border_px=plan["border_px"],
        iterations=plan["iterations"],
        sentence=_sentence(plan, patch, size, machine, preset),
    )


def _sentence(plan: dict[str, Any], patch: tuple[int, ...], size: ObjectSize, machine: Machine, preset: Preset) -> str:
    """What the network looks at, and why, for a biologist."""
    window = " × ".join(str(n) for n in patch)
    objects = f"Objects are about {size.diameter:.0f} pixels wide"
    factor = plan["downsampling"]
    if machine.device == "cuda":
        view = f"nnU-Net looks at windows of {window} pixels at full resolution, as it planned itself for this data"
    elif factor > 1:
        view = (
            f"nnU-Net looks at the images {factor:g} times smaller, where they are about {size.diameter / factor:.0f} "
            f"pixels wide, in windows of {window}: enough to see them, and fast on this computer"
        )
    else:
        view = f"nnU-Net looks at the images at full resolution, in windows of {window} pixels"
    parts = [f"{objects}; {view}."]
    if plan["image_dimensions"] == 3:
        how = "slice by slice, and joins the slices afterwards" if plan["configuration"] == "2d" else "in 3D"
        parts.append(f"It learns {how}.")
    parts.append(f"A round trains for {plan['iterations']['round']:,} iterations.")
    if machine.device == "cpu" and preset is Preset.FULL:
        parts.append("nnU-Net's own full schedule would take days without a GPU, so this is a longer version of it.")
    return " ".join(parts)
