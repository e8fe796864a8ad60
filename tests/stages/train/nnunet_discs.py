"""Tiny labelled images for nnU-Net's tests, and a training that a test can kill. Not a test itself."""

import json
import sys
from pathlib import Path

import numpy as np

from alapp.domain import Machine, Preset, VoxelSize, silent
from alapp.stages.train.base import Case
from alapp.stages.train.nnunet import NnUNet

CPU = Machine(cores=2, ram_gb=8)
GPU = Machine(cores=8, ram_gb=32, gpu_gb=24, gpu_name="test")


def discs(seed: int, size: int = 64, channels: int = 1, radius: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc per cell of a 3 x 3 grid on noise: image (Y, X, C) float32 and labels (Y, X)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    step = size / 3
    for index in range(9):
        centre = (np.array(divmod(index, 3)) + 0.5) * step + rng.uniform(-2, 2, 2)
        labels[np.hypot(y - centre[0], x - centre[1]) < rng.uniform(radius - 1, radius + 1)] = index + 1
    shades = 100 * (1 + np.arange(channels))
    image = 20 + (labels > 0)[..., None] * shades + rng.normal(0, 8, (size, size, channels))
    return image.astype(np.float32), labels


def stack(seed: int, slices: int = 4, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The same discs through all slices: (Z, Y, X, 1) and (Z, Y, X)."""
    image, labels = discs(seed, size)
    noise = np.random.default_rng(seed).normal(0, 5, (slices, size, size, 1))
    return (image[None] + noise).astype(np.float32), np.repeat(labels[None], slices, 0)


def case(key: str, image: np.ndarray, labels: np.ndarray, version: str = "1", voxel: VoxelSize | None = None) -> Case:
    return Case(key, version, lambda: (image, labels), voxel or VoxelSize())


def disc_cases(count: int = 3, **options: int) -> list[Case]:
    return [case(f"gt_{seed}", *discs(seed, **options)) for seed in range(count)]


def plan_small(workspace: Path, cases: list[Case], preset: Preset = Preset.QUICK, machine: Machine = CPU):
    """A plan made for `cases`, then with the smallest batch and epochs of 4 iterations, for speed."""
    summary = NnUNet("cpu", timing=None).plan(workspace, cases, preset, machine, silent)
    path = workspace / "plan.json"
    plan = json.loads(path.read_text())
    plan["nnunet"]["configurations"][plan["configuration"]]["batch_size"] = 2
    plan["iterations_per_epoch"] = 4
    path.write_text(json.dumps(plan))
    return summary


if __name__ == "__main__":
    NnUNet("cpu").train(
        Path(sys.argv[1]), disc_cases(), Path(sys.argv[2]), int(sys.argv[3]), 0, None, silent, lambda entry: None
    )
