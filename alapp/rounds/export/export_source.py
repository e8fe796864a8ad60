"""What exports are made of: finished patches with human labels, and the current model's predictions of whole images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import tifffile

from alapp.domain import LabelKind, PatchRole, VoxelSize
from alapp.rounds.annotate import annotation, annotation_region
from alapp.storage import catalogue, labels, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image, Patch, Project
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap

MICROMETRES_IN_CENTIMETRE = 1e4


@dataclass(frozen=True)
class Finished:
    """A patch that a person finished, with its newest labels. `role` tells training from validation; `ignored` is
    the map of the region that nobody annotated, 1 there and 0 elsewhere, if there is one."""

    patch: Patch
    role: PatchRole
    labels: LabelMap
    ignored: LabelMap | None = None

    @property
    def state(self) -> str:
        """What the person said of the patch, in words."""
        return "annotated" if self.labels.n_objects else "empty, checked"

    @property
    def not_annotated(self) -> float:
        """The share of the patch that nobody annotated, in [0, 1]."""
        return self.labels.params.get(annotation_region.NOT_ANNOTATED, 0.0)

    @property
    def file_name(self) -> str:
        """Its name in an archive, without a suffix: the image and the corner of the patch."""
        box = self.patch.box
        z = f"_z{box.z}" if self.patch.is_3d else ""
        return f"{slug(self.patch.image_name)}{z}_y{box.y}_x{box.x}"


def finished(store: Store, project: Project) -> list[Finished]:
    """Every patch whose annotation is done, by patch id."""
    chosen = round_rows.selected_in_project(store, project.id)
    states = annotation.patch_states(store, list(chosen))
    maps = labels.latest_by_patch(store, project.id, LabelKind.HUMAN)
    return [
        Finished(
            catalogue.patch(store, patch_id),
            item.role,
            maps[patch_id],
            annotation_region.map_of(store, maps[patch_id]),
        )
        for patch_id, item in sorted(chosen.items())
        if states.get(patch_id) == annotation.DONE and patch_id in maps
    ]


def predictions(store: Store, project: Project) -> list[tuple[Image, LabelMap]]:
    """The current model's prediction of each image that has one, in the order of import."""
    maps = verdicts.predictions(store, project.id)
    return [(image, maps[image.id]) for image in catalogue.images(store, project.id) if image.id in maps]


def slug(name: str) -> str:
    """A name for files on every system: letters, digits, '.', '-' and '_'."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.") or "unnamed"


def tiff(array: np.ndarray, voxel_size: VoxelSize, channels: bool = False) -> bytes:
    """`array` (Y, X) or (Z, Y, X), with `channels` (Y, X, C) or (Z, Y, X, C), as a compressed TIFF.

    Pixels per centimetre are stored where the size is known, so that Fiji measures in real units. Several channels are
    stored before (y, x), as Fiji expects them; one alone gets no axis.
    """
    axes = "ZYX"[-(array.ndim - channels) :]
    if channels and array.shape[-1] == 1:
        array = array[..., 0]
    elif channels:
        array, axes = np.moveaxis(array, -1, -3), axes[:-2] + "C" + axes[-2:]
    options: dict[str, object] = {"metadata": {"axes": axes}}
    if voxel_size.known:
        per_centimetre = tuple(MICROMETRES_IN_CENTIMETRE / size for size in (voxel_size.x, voxel_size.y))
        options |= {"resolution": per_centimetre, "resolutionunit": "CENTIMETER"}
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.ascontiguousarray(array), compression="zlib", photometric="minisblack", **options)
    return buffer.getvalue()
