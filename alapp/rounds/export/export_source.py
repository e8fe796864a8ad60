"""What exports are made of: finished patches with human labels, and the current model's predictions of whole images."""

from __future__ import annotations

from dataclasses import dataclass

from alapp.domain import PatchRole
from alapp.rounds.annotate import annotation_region, finished
from alapp.rounds.export import export_names
from alapp.storage import catalogue, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image, Patch, Project
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap


@dataclass(frozen=True)
class Finished:
    """A patch that a person finished, with its newest labels. `image_file` is the name of files of its image, see
    `file_names`; `role` tells training from validation; `ignored` is the map of the region that nobody annotated, 1
    there and 0 elsewhere, if there is one."""

    patch: Patch
    image_file: str
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
        return f"{self.image_file}{z}_y{box.y}_x{box.x}"


def finished_patches(store: Store, project: Project) -> list[Finished]:
    """Every patch whose annotation is done, by patch id."""
    chosen = round_rows.selected_in_project(store, project.id)
    maps = finished.maps(store, project.id)
    names = file_names(store, project)
    return [
        Finished(
            patch,
            names[patch.image_id],
            chosen[patch.id].role,
            maps[patch.id],
            annotation_region.map_of(store, maps[patch.id]),
        )
        for patch in (catalogue.patch(store, key) for key in sorted(maps))
    ]


def predictions(store: Store, project: Project) -> list[tuple[Image, LabelMap]]:
    """The current model's prediction of each image that has one, in the order of import."""
    maps = verdicts.predictions(store, project.id)
    return [(image, maps[image.id]) for image in catalogue.images(store, project.id) if image.id in maps]


def file_names(store: Store, project: Project) -> dict[int, str]:
    """The name of files of each image by its id, without a suffix; no two are alike on any system. They go by the order
    of import, so that every export of a project names them alike, and new images leave the names of old ones."""
    images = catalogue.images(store, project.id)
    names = export_names.distinct(export_names.slug(image.name) for image in images)
    return {image.id: name for image, name in zip(images, names, strict=True)}
