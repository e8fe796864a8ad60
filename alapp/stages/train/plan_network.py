"""The shape of a U-Net: its window, batch, features and resolution, written into nnU-Net's plan.

A CPU gets a small U-Net that looks at the images at the resolution where the objects are about 27 pixels wide,
which trains 15 times faster per iteration than nnU-Net's own. Strides and kernels follow nnU-Net's rules
(`get_pool_and_conv_props`): thick slices are neither pooled nor convolved across until the spacing in the plane
has come within a factor of two of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alapp.domain import Machine
from alapp.stages.train.targets import ObjectSize

FLAT, DEEP = "2d", "3d_fullres"
TARGET_DIAMETER_PX = 27.0
TARGET_WIDTH_PX = 14.0
SMALLEST_MAP = 4
"""The deepest feature map is at least this many pixels wide, as in nnU-Net."""

_CPU_PATCH = 128
_CPU_BATCH_PIXELS = 4 * _CPU_PATCH**2
_CPU_FEATURES = (16, 32, 64, 128, 128)
_CPU_3D_VOXELS = 8 * 96 * 96
_CPU_3D_SLICES = 32
_LEAST_BATCH, _LEAST_SIDE = 2, 32

_BYTES_A_VALUE = 20
"""Of each value in a feature map, the outputs of the convolution and of its normalisation are kept and have a
gradient; buffers of the convolutions, which are larger in 3D, bring it to five float32 (measured)."""
_PROCESS_GB = 0.7
"""Memory of the process before it trains: Python, torch and nnU-Net."""
_RAM_SHARE = 0.5


@dataclass(frozen=True)
class Shape:
    """What a configuration decides. `patch` is the window in the network's pixels, ((z,) y, x); `spacing` the size
    of these in the image's pixels, in the same order; `features` has one number a stage."""

    patch: tuple[int, ...]
    batch: int
    features: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def configuration(self) -> str:
        """nnU-Net's name of the configuration."""
        return FLAT if len(self.patch) == 2 else DEEP


def choose_downsampling(size: ObjectSize) -> float:
    """By how much the network's pixels are larger than the image's, in steps of a half; never below 1."""
    wanted = min(size.diameter / TARGET_DIAMETER_PX, size.width / TARGET_WIDTH_PX)
    return float(np.clip(round(2 * wanted - 0.1) / 2, 1.0, 16.0))


def deep_spacing(thickness: float, downsampling: float) -> tuple[float, float, float]:
    """Spacing (z, y, x) of a network in 3D: slices are kept, or put together while they are thinner than its pixels."""
    return max(thickness, downsampling), downsampling, downsampling


def flat_for_cpu(image: Sequence[float], downsampling: float) -> Shape:
    """A network in 2D for images of the median shape `image` (y, x) in pixels."""
    patch = tuple(int(np.clip(32 * math.ceil(n / downsampling / 32), 32, _CPU_PATCH)) for n in image)
    stages = int(np.clip(math.log2(min(patch) / SMALLEST_MAP), 4, 5))
    batch = int(np.clip(_CPU_BATCH_PIXELS // math.prod(patch), 4, 16))
    return Shape(patch, batch, _CPU_FEATURES[:stages], (downsampling, downsampling))


def deep_for_cpu(image: Sequence[float], thickness: float, downsampling: float) -> Shape:
    """A network in 3D for stacks of the median shape `image` (z, y, x) in voxels, with about as many voxels in a
    window whatever the number of slices."""
    spacing = deep_spacing(thickness, downsampling)
    slices = int(np.clip(round(image[0] * thickness / spacing[0]), 1, _CPU_3D_SLICES))
    side = int(math.sqrt(_CPU_3D_VOXELS / slices)) // 16 * 16
    plane = [int(np.clip(16 * math.ceil(n / downsampling / 16), 32, min(side, _CPU_PATCH))) for n in image[1:]]
    return fitted(Shape((slices, *plane), 2, _CPU_FEATURES, spacing))


def topology(shape: Shape) -> tuple[list[list[int]], list[list[int]], tuple[int, ...]]:
    """Strides and kernel sizes of each stage, and the window padded so that it can be halved that often."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, strides, kernels, patch, _ = get_pool_and_conv_props(
        shape.spacing, shape.patch, SMALLEST_MAP, len(shape.features) - 1
    )
    return [list(s) for s in strides], [list(k) for k in kernels], tuple(int(n) for n in patch)


def fitted(shape: Shape) -> Shape:
    """`shape` with as many stages as its window allows, and the window padded to be halved that often."""
    strides, _, patch = topology(shape)
    return replace(shape, patch=patch, features=shape.features[: len(strides)])


def write_shape(nnunet: dict[str, Any], shape: Shape) -> None:
    """Edits the configuration of `shape` in nnU-Net's plan in place."""
    strides, kernels, patch = topology(shape)
    stages = len(strides)
    configuration = nnunet["configurations"][shape.configuration]
    configuration["patch_size"] = list(patch)
    configuration["batch_size"] = shape.batch
    configuration["spacing"] = list(shape.spacing)
    configuration["architecture"]["arch_kwargs"].update(
        n_stages=stages,
        features_per_stage=list(shape.features[:stages]),
        kernel_sizes=kernels,
        strides=strides,
        n_conv_per_stage=[2] * stages,
        n_conv_per_stage_decoder=[2] * (stages - 1),
    )


def read_shape(nnunet: dict[str, Any], configuration: str) -> Shape:
    """The shape of a configuration in nnU-Net's plan."""
    found = nnunet["configurations"][configuration]
    return Shape(
        tuple(int(n) for n in found["patch_size"]),
        int(found["batch_size"]),
        tuple(int(n) for n in found["architecture"]["arch_kwargs"]["features_per_stage"]),
        tuple(float(s) for s in found["spacing"]),
    )


def memory_gb(shape: Shape) -> float:
    """An estimate, rather high, of the memory that a training takes: the feature maps of all convolutions (two a
    stage, down and up again), the weights with their gradients and AdamW's two moments, and the process itself."""
    strides, _, patch = topology(shape)
    steps = np.cumprod(np.asarray(strides), axis=0)
    voxels = [math.prod(-(-n // int(step)) for n, step in zip(patch, at, strict=True)) for at in steps]
    maps = sum(4 * count * width for count, width in zip(voxels, shape.features, strict=False))
    kernel = 3 ** len(patch)
    weights = sum(6 * kernel * width * width for width in shape.features)
    return _PROCESS_GB + (shape.batch * maps * _BYTES_A_VALUE + weights * 16) / 2**30


def within_memory(shape: Shape, machine: Machine) -> Shape:
    """`shape` with a smaller batch, and then a smaller window, where the machine has too little memory for it."""
    while memory_gb(shape) > _RAM_SHARE * machine.ram_gb:
        if shape.batch > _LEAST_BATCH:
            shape = replace(shape, batch=max(_LEAST_BATCH, shape.batch // 2))
            continue
        smaller = tuple(max(_LEAST_SIDE, n // 2) for n in shape.patch[-2:])
        if smaller == shape.patch[-2:]:
            break
        shape = fitted(replace(shape, patch=(*shape.patch[:-2], *smaller)))
    return shape


def memory_limit_gb(machine: Machine) -> float:
    """What a training may take: half of the computer's memory, or the GPU's own with a tenth to spare."""
    return 0.9 * machine.gpu_gb if machine.gpu_gb else _RAM_SHARE * machine.ram_gb
