"""What a plan chose and why, for a biologist: a sentence, and a line for each choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alapp.domain import Machine, Preset
from alapp.stages.train.base import Fact, Overrides
from alapp.stages.train.plan_network import FLAT, Shape, memory_gb
from alapp.stages.train.targets import ObjectSize

YOURS = "Your choice."


def sentence(plan: Mapping[str, Any], shape: Shape, size: ObjectSize, machine: Machine, preset: Preset) -> str:
    """What the network looks at, and why."""
    objects = f"Objects are about {size.diameter:.0f} pixels wide"
    factor = plan["downsampling"]
    if machine.device == "cuda" and factor == 1:
        view = (
            f"nnU-Net looks at windows of {_window(shape.patch)} pixels at full resolution, as it planned itself for "
            "this data"
        )
    elif factor > 1:
        view = (
            f"nnU-Net looks at the images {factor:g} times smaller, where they are about {size.diameter / factor:.0f} "
            f"pixels wide, in windows of {_window(shape.patch)}: enough to see them, and fast on this computer"
        )
    else:
        view = f"nnU-Net looks at the images at full resolution, in windows of {_window(shape.patch)} pixels"
    parts = [f"{objects}; {view}."]
    if plan["image_dimensions"] == 3:
        how = "slice by slice, and joins the slices afterwards" if plan["configuration"] == FLAT else "in 3D"
        parts.append(f"It learns {how}.")
    parts.append(f"A round trains for {plan['iterations']['round']:,} iterations.")
    if machine.device == "cpu" and preset is Preset.FULL:
        parts.append("nnU-Net's own full schedule would take days without a GPU, so this is a longer version of it.")
    return " ".join(parts)


def facts(
    plan: Mapping[str, Any],
    shape: Shape,
    size: ObjectSize,
    machine: Machine,
    seconds: float | None,
    overrides: Overrides,
) -> tuple[Fact, ...]:
    """The plan line by line. `seconds` are those of an iteration on this computer, None where not measured."""
    lines = [
        *_view(plan, shape, size, machine),
        *_dimensions(plan, shape),
        _channels(plan["channels"]),
        *_network(shape, machine),
        _mirroring(plan),
        *_schedule(plan, machine, seconds),
    ]
    chosen = overrides.chosen
    return tuple(
        Fact(line.name, line.value, YOURS, line.help, line.override) if line.override in chosen else line
        for line in lines
    )


def _view(plan: Mapping[str, Any], shape: Shape, size: ObjectSize, machine: Machine) -> list[Fact]:
    factor = plan["downsampling"]
    if machine.device == "cuda":
        why = "nnU-Net's own choice for a GPU."
    elif factor > 1:
        why = f"Objects are still about {size.diameter / factor:.0f} pixels wide there, and training is much faster."
    else:
        why = "The objects are small, so the network needs every pixel."
    window = "nnU-Net's own choice for this GPU." if machine.gpu_gb else "As much as this computer trains quickly."
    share = f"{size.border_share:.0%} of the width of the objects"
    border = share if plan["border_px"] > factor else "The least the network can see"
    return [
        Fact(
            "Object size", f"{size.diameter:.0f} pixels wide",
            f"The median of {size.count:,} objects in what the network learns from.",
            "Diameter of a circle with the area of an object, within one slice.",
        ),
        Fact(
            "Resolution", f"{factor:g} times smaller" if factor > 1 else "full", why,
            "The images are made smaller before the network sees them. Its answers are enlarged again.",
            "downsampling",
        ),
        Fact(
            "Window", f"{_window(shape.patch)} pixels", window,
            "The network looks at one window at a time, in the pixels of the smaller image. It should hold a few "
            "objects. Large images are covered by overlapping windows.",
            "patch_size",
        ),
        Fact(
            "Border", "1 pixel" if plan["border_px"] == 1 else f"{plan['border_px']} pixels",
            f"{border}, so that objects that touch come apart.",
            "The network learns three things: background, the inside of objects, and a border along their outline.",
        ),
    ]  # fmt: skip


def _dimensions(plan: Mapping[str, Any], shape: Shape) -> list[Fact]:
    about = "Whether the network sees one slice at a time, or several slices together."
    if plan["image_dimensions"] == 2:
        return [Fact("2D or 3D", "2D", "The images are flat.", about)]
    thickness = plan["spacing"][0]
    slices = (
        f"Slices are {thickness:.1f} times as thick as pixels are wide."
        if thickness > 1
        else "Slices are taken to be as thick as pixels are wide."
    )
    if plan["configuration"] == FLAT:
        why = f"{slices} Slices are learned one by one and joined afterwards, which trains faster."
        return [Fact("2D or 3D", "2D, slice by slice", why, about, "three_d")]
    return [Fact("2D or 3D", f"3D, {shape.patch[0]} slices at a time", slices, about, "three_d")]


def _channels(count: int) -> Fact:
    about = "A channel is one stain or one colour. Every image of a project has the same channels."
    if count == 1:
        return Fact("Channels", "1", "The images are gray.", about)
    return Fact("Channels", str(count), "The network sees all of them together.", about)


def _network(shape: Shape, machine: Machine) -> list[Fact]:
    why = (
        "nnU-Net's own choice for this GPU."
        if machine.gpu_gb
        else f"Small enough for {machine.cores} cores; takes about {memory_gb(shape):.1f} of {machine.ram_gb:.0f} GB "
        "of memory."
    )
    return [
        Fact(
            "Network", f"{len(shape.features)} stages, {shape.features[0]} to {max(shape.features)} features", why,
            "Each stage looks at the window at half the resolution of the one before. Features are the patterns a "
            "stage can tell apart: more of them learn more, and take longer.",
            "features",
        ),
        Fact(
            "Batch", f"{shape.batch} windows", "", "So many windows are learned from in one iteration.", "batch_size"
        ),
    ]  # fmt: skip


def _mirroring(plan: Mapping[str, Any]) -> Fact:
    about = "Windows are flipped, turned and changed in brightness at random, so that few labels go further."
    if plan["configuration"] == FLAT:
        return Fact("Mirroring", "up-down and left-right", "", about)
    if plan["mirror_axes"] is None:
        return Fact("Mirroring", "in all three directions", "", about)
    return Fact("Mirroring", "up-down and left-right", "Not across the slices, which are thick.", about)


def _schedule(plan: Mapping[str, Any], machine: Machine, seconds: float | None) -> list[Fact]:
    iterations = plan["iterations"]["round"]
    measured = (
        f"One takes {seconds:.2g} s on this computer, measured while planning."
        if seconds is not None
        else f"The usual number on a {'GPU' if machine.gpu_gb else 'computer without a GPU'}."
    )
    lines = [
        Fact(
            "Iterations a round", f"{iterations:,}", measured,
            "One iteration is one step on one batch. More of them help as long as the loss falls.", "iterations",
        ),
        Fact(
            "Learning rate", f"{plan['learning_rate']:g}",
            "A third of it when the network goes on from an earlier model.",
            "How large a step the network takes. Too large, and the loss jumps; too small, and it falls slowly.",
            "learning_rate",
        ),
    ]  # fmt: skip
    if seconds is not None:
        lines.append(
            Fact(
                "Time a round", f"about {_duration(seconds * iterations)}", "Training only; predicting comes on top.",
                "With nothing else running on this computer.",
            )
        )  # fmt: skip
    return lines


def _window(patch: Sequence[int]) -> str:
    return " × ".join(str(n) for n in patch)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
