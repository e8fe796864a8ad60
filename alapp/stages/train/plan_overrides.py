"""What an expert fixes in a plan: checked with a sentence for each mistake, then applied to the plan's own choice."""

from __future__ import annotations

import math
from dataclasses import replace

from alapp.domain import Machine
from alapp.errors import InputError
from alapp.stages.train.base import Overrides
from alapp.stages.train.plan_network import Shape, deep_spacing, fitted, memory_gb, memory_limit_gb, topology

DOWNSAMPLING = (1.0, 16.0)
SIDE, SLICES = (32, 1024), (1, 128)
BATCH = (2, 64)
STAGES, FEATURES = (3, 8), (4, 512)
ITERATIONS = (50, 250_000)
LEARNING_RATE = (1e-5, 1e-1)


def check(overrides: Overrides) -> None:
    """Raises `InputError` for a value that no plan can have, whatever the images are."""
    _between("The resolution factor", overrides.downsampling, DOWNSAMPLING)
    _between("The batch", overrides.batch_size, BATCH)
    _between("The iterations of a round", overrides.iterations, ITERATIONS)
    _between("The learning rate", overrides.learning_rate, LEARNING_RATE)
    if overrides.patch_size is not None:
        if len(overrides.patch_size) not in (2, 3):
            raise InputError("The window needs two numbers (128 x 128), or three in 3D (8 x 96 x 96).")
        for side in overrides.patch_size[-2:]:
            _between("Each side of the window", side, SIDE)
        if len(overrides.patch_size) == 3:
            _between("The number of slices of the window", overrides.patch_size[0], SLICES)
    if overrides.features is not None:
        _between("The number of stages", len(overrides.features), STAGES)
        for width in overrides.features:
            _between("The features of a stage", width, FEATURES)


def check_dimensions(overrides: Overrides, image_dimensions: int) -> None:
    """Raises `InputError` when a network in 3D is wanted for flat images."""
    if overrides.three_d and image_dimensions == 2:
        raise InputError("The project's images are flat, so the network cannot look at them in 3D.")


def apply(overrides: Overrides, chosen: Shape, thickness: float, machine: Machine) -> Shape:
    """`chosen`, which is flat or deep as wanted, with what the expert fixed.

    `thickness` is that of a slice in pixels. Raises `InputError` when the values do not go together or the machine's
    memory is too small for them.
    """
    if all(value is None for value in (overrides.downsampling, overrides.patch_size, overrides.features)):
        return _affordable(replace(chosen, batch=overrides.batch_size or chosen.batch), machine)
    shape = replace(
        chosen,
        patch=overrides.patch_size or chosen.patch,
        batch=overrides.batch_size or chosen.batch,
        features=overrides.features or chosen.features,
        spacing=_spacing(chosen, overrides.downsampling, thickness),
    )
    if len(shape.patch) != len(chosen.patch):
        raise InputError(
            "A network in 3D needs a window with three numbers, such as 8 x 96 x 96."
            if len(chosen.patch) == 3
            else "A network in 2D needs a window with two numbers, such as 128 x 128."
        )
    stages = len(topology(shape)[0])
    if overrides.features is not None and stages < len(overrides.features):
        raise InputError(
            f"The window of {_window(shape.patch)} can be halved only {stages - 1} times, which makes at most {stages} "
            f"stages, not {len(overrides.features)}: choose a larger window or fewer stages."
        )
    result = fitted(shape)
    if overrides.patch_size is not None and result.patch != overrides.patch_size:
        raise InputError(
            f"The window of {_window(overrides.patch_size)} leaves a remainder when it is halved for each stage after "
            f"the first: choose {_window(result.patch)}, or fewer stages than {stages}."
        )
    return _affordable(result, machine)


def _spacing(chosen: Shape, downsampling: float | None, thickness: float) -> tuple[float, ...]:
    if downsampling is None:
        return chosen.spacing
    return (downsampling, downsampling) if len(chosen.spacing) == 2 else deep_spacing(thickness, downsampling)


def _affordable(shape: Shape, machine: Machine) -> Shape:
    needed, limit = memory_gb(shape), memory_limit_gb(machine)
    if needed > limit:
        raise InputError(
            f"A training with a window of {_window(shape.patch)}, batches of {shape.batch} and up to "
            f"{max(shape.features)} features takes about {needed:.1f} GB of memory, and this computer can give it "
            f"{limit:.1f} GB: choose a smaller window, smaller batches or fewer features."
        )
    return shape


def _window(patch: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in patch)


def _between(name: str, value: float | None, limits: tuple[float, float]) -> None:
    if value is not None and not (math.isfinite(value) and limits[0] <= value <= limits[1]):
        raise InputError(f"{name} must be between {limits[0]:,} and {limits[1]:,}, not {value:,}.")
