"""Voxel sizes that a person types: what they may be, and what depends on them once an image is there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from alapp import jobs
from alapp.domain import VoxelSize
from alapp.errors import InputError, NotReadyError
from alapp.stages.train.plan import anisotropy
from alapp.storage import catalogue, models
from alapp.storage.catalogue import Image
from alapp.storage.db import Store

READERS = ("plan", "pretrain", "train", "predict", "apply", "export", "import")
"""Jobs that read voxel sizes as they go on: a part of what they do would have another one."""


def typed(name: str, texts: Mapping[str, str]) -> tuple[VoxelSize, str]:
    """The voxel size in micrometres that was typed for the image or file `name`, by axis ("z", "y", "x"), and what was
    filled in, as a sentence or "". Empty texts are unknown; where only one of y and x is given, pixels are square.

    Raises `InputError` for what is no number, not finite or not above 0, and for a z without y and x.
    """
    z, y, x = (_number(name, axis, texts.get(axis, "")) for axis in "zyx")
    if z is not None and y is None and x is None:
        raise InputError(f"{name}: its voxel size has z but neither y nor x. Type these too, or leave z empty.")
    if (y is None) == (x is None):
        return VoxelSize(z, y, x), ""
    missing, given, value = ("y", "x", x) if y is None else ("x", "y", y)
    filled = f"{name}: {missing} was left empty and is taken to be {value:g} µm, like {given}."
    return VoxelSize(z, value, value), filled


def change(store: Store, project_id: int, images: Iterable[Image], size: VoxelSize) -> str:
    """Give images of a project another voxel size. Returns a sentence about what it takes effect on, and when.

    Raises `NotReadyError` while a job reads voxel sizes.
    """
    if busy := next((job for job in jobs.active(store, project_id) if job.kind in READERS), None):
        raise NotReadyError(
            f"The voxel size cannot be changed now: “{jobs.kind(busy.kind).title}” uses it. Wait until it has ended, "
            "or cancel it, then try again."
        )
    images = list(images)
    catalogue.set_voxel_size(store, [image.id for image in images], size)
    told = "Measurements and exports in micrometres use it from now on; what you exported before keeps the old one."
    if all(anisotropy(image.voxel_size) == anisotropy(size) for image in images if image.is_3d):
        return told
    told += " How thick slices are counts for predictions, too: those that are there stay, the next ones follow it."
    if models.find_plan(store, project_id, catalogue.project(store, project_id).preset) is None:
        return told
    return told + (
        " The plan of the network was made with the old size and stays: “Make the plan anew” on the Train tab (For "
        "experts) makes one with the new size."
    )


def _number(name: str, axis: str, text: str) -> float | None:
    text = text.strip().replace(",", ".")
    if not text or text == "nan":  # an empty cell of a table
        return None
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{name}: the voxel size {text!r} is not a number of micrometres.") from None
    if not math.isfinite(value):
        raise InputError(f"{name}: the voxel size in {axis} must be a number of micrometres; it is {text}.")
    if value <= 0:
        raise InputError(f"{name}: the voxel size in {axis} must be above 0; it is {text}.")
    return value
