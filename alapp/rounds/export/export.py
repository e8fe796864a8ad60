"""What a project gives away: label maps, measurements, COCO, scores, the model; one file for each.

Files are written under the project's `exports/` and appear only when they are complete. They are copies: nothing
in the database points to them, and they may be removed at any time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Report
from alapp.errors import InputError, NotReadyError
from alapp.rounds.annotate import annotation_classes
from alapp.rounds.export import export_coco, export_model, export_names, export_source, export_tables, export_tiff
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.files import atomic_write, smallest_unsigned

Members = Iterator[tuple[str, bytes]]
"""Files as (name, content), made one at a time so that memory stays small."""

_LABELS_README = """Instance label maps: 0 is background, every other value is one object.

human/      labels that a person finished, one file for each patch
patches/    the pixels of the same patches, under the same names
ignored/    regions of patches that nobody annotated: 1 there, 0 elsewhere. They are no background: leave them out
            when you train or score. A patch without such a file is annotated everywhere
patches.csv every patch of human/ with its role (validation patches are never trained on), its number of objects,
            its state ("empty, checked": a person looked, and there is no object) and the share not annotated
predicted/  what the model in use found on each whole image
predicted.csv  the image that each file of predicted/ belongs to
Names of patches end in the position of their corner in the image, in pixels. Axes are (y, x) or (z, y, x); several
channels of a patch come before (y, x). Where the voxel size is known the files have it, in micrometres. Stacks and
several channels are ImageJ TIFF; OME-TIFF where ImageJ's has no place for the numbers (of 32 bits) or for a z size that
nobody knows.
"""
_CLASSES_README = """
human/classes.csv   the kind of every object in the files of human/
"""


def _label_maps(store: Store, project: Project, report: Report) -> Members:
    people = export_source.finished_patches(store, project)
    machine = export_source.predictions(store, project)
    if not people and not machine:
        raise NotReadyError("There are no labels to export yet. Annotate a patch, or train a model first.")
    total = len(people) + len(machine)
    names = export_source.file_names(store, project)
    kinds = annotation_classes.names(project)
    rows: list[dict[str, Any]] = []
    several = len(kinds) > 1 and bool(people)
    yield "README.txt", (_LABELS_README + _CLASSES_README * several).encode()
    if people:
        yield "patches.csv", export_tables.to_csv([_patch_row(item) for item in people])
    if machine:
        rows_of_images = [{"file": f"{names[image.id]}.tif", "image": image.name} for image, _ in machine]
        yield "predicted.csv", export_tables.to_csv(rows_of_images)
    for index, item in enumerate(people):
        report(index, total, f"Packing {item.patch.name}")
        size = item.patch.voxel_size
        human = smallest_unsigned(labels.read(store, item.labels))
        found = annotation_classes.of_objects(item.labels)
        objects = [int(key) for key in np.unique(human) if key]
        rows += [
            {"file": f"{item.file_name}.tif", "object": key, "class": kinds.get(found.get(key, 1), "")}
            for key in objects
        ]
        yield f"human/{item.file_name}.tif", export_tiff.tiff(human, size)
        pixels = catalogue.read_patch(store, item.patch)
        yield f"patches/{item.file_name}.tif", export_tiff.tiff(pixels, size, channels=True)
        if item.ignored is not None:
            region = smallest_unsigned(labels.read(store, item.ignored))
            yield f"ignored/{item.file_name}_ignored.tif", export_tiff.tiff(region, size)
    if several and rows:
        yield "human/classes.csv", export_tables.to_csv(rows)
    for index, (image, predicted) in enumerate(machine, start=len(people)):
        report(index, total, f"Packing {image.name}")
        whole: np.ndarray = smallest_unsigned(labels.read(store, predicted))
        yield f"predicted/{names[image.id]}.tif", export_tiff.tiff(whole, image.voxel_size)


def _patch_row(item: export_source.Finished) -> dict[str, Any]:
    return {
        "file": f"{item.file_name}.tif",
        "image": item.patch.image_name,
        "role": str(item.role),
        "objects": item.labels.n_objects,
        "state": item.state,
        "not_annotated": round(item.not_annotated, 4),
    }


def _bundle(store: Store, project: Project, report: Report) -> Members:
    """Every format that has something to give, each in a folder of its own."""
    missing = []
    parts = [name for name in FORMATS if name != "bundle"]
    for index, name in enumerate(parts):

        def inner(done: float, total: float, message: str = "", index: int = index) -> None:
            report(index + (done / total if total else 0.0), len(parts), message)

        try:
            for member, content in FORMATS[name].members(store, project, inner):
                yield f"{name}/{member}", content
        except NotReadyError as error:
            missing.append(f"{FORMATS[name].title}: {error}")
    if len(missing) == len(parts):
        raise NotReadyError("There is nothing to export yet. Annotate a patch, or train a model first.")
    if missing:
        yield "missing.txt", "\n".join(missing).encode()


@dataclass(frozen=True)
class Format:
    """A kind of export. `suits` says in one sentence what it is for; `members` makes its files, which go into
    one zip archive, or are the export itself when `single`."""

    title: str
    suits: str
    members: Callable[[Store, Project, Report], Members]
    single: bool = False

    @property
    def suffix(self) -> str:
        """How the name of the exported file ends."""
        return ".csv" if self.single else ".zip"


FORMATS: dict[str, Format] = {
    "labels": Format(
        "Label maps",
        "Masks as TIFF for Fiji, napari, QuPath or CellProfiler: your labels with their patches, and what "
        "the model in use found on whole images.",
        _label_maps,
    ),
    "measurements": Format(
        "Measurements",
        "A table for statistics: size, position, shape and brightness of every object.",
        export_tables.measurements,
        single=True,
    ),
    "scores": Format(
        "Scores", "Tables for a paper or a report: learning curve, scores of images, rounds.", export_tables.scores
    ),
    "coco": Format("COCO", "The objects in the COCO format, to train or compare other networks.", export_coco.members),
    "model": Format(
        "Model", "The model in use as an nnU-Net folder, to predict elsewhere without this app.", export_model.members
    ),
    "effort": Format(
        "Effort",
        "A table of your own work: time, clicks and outcome (accepted, edited, drawn, rejected) of every object.",
        export_tables.effort,
        single=True,
    ),
    "bundle": Format("Everything", "All of the above in one archive, to keep with the paper.", _bundle),
}


def run_export(
    store: Store, project_id: int, report: Report, what: str = "labels", target: str | None = None
) -> dict[str, Any]:
    """Write an export of the format `what` (a key of `FORMATS`). Returns {"path", "what"}.

    Without `target` the file goes to the project's `exports/` and "path" is relative to the state folder; else
    it goes into the folder `target` (or is that file), and "path" is absolute. Raises `InputError` for an
    unknown format, `NotReadyError` when there is nothing to export yet, `ResourceError` when the disk is full.
    """
    if what not in FORMATS:
        raise InputError(f"There is no export called {what!r}. Choose one of: {', '.join(FORMATS)}.")
    project = catalogue.project(store, project_id)
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
    name = f"{export_names.slug(project.name)}_{what}_{stamp}{FORMATS[what].suffix}"
    path = _path(store, project, name, target)
    members = FORMATS[what].members(store, project, report)
    with atomic_write(path) as handle:
        if FORMATS[what].single:
            handle.writelines(content for _, content in members)
        else:
            with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
                for member, content in members:
                    archive.writestr(member, content)
    report(1, 1, f"Exported {path.name}")
    return {"path": str(path) if target else path.relative_to(store.root).as_posix(), "what": what}


def exports_folder(store: Store, project_id: int) -> Path:
    """Where the exports of a project are."""
    return store.files.project(project_id) / "exports"


def _path(store: Store, project: Project, name: str, target: str | None) -> Path:
    if target is None:
        return _free(exports_folder(store, project.id) / name)
    wanted = Path(target).expanduser().resolve()
    return _free(wanted / name) if wanted.is_dir() else wanted


def _free(path: Path) -> Path:
    """`path`, or with a number where an export of the same second, maybe of another project, has this name."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_name(f"{path.stem}_{number}{path.suffix}"), number + 1
    return free
