"""COCO instance segmentation (Lin et al. 2014, https://cocodataset.org/#format-data) with run-length masks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from skimage.measure import regionprops

from alapp.domain import Report, VoxelSize
from alapp.errors import NotReadyError
from alapp.rounds import annotation_classes, export_source
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Project
from alapp.storage.db import Store

README = """COCO instance segmentation. Boxes are [x, y, width, height] in pixels, masks uncompressed run-length
encodings, which pycocotools and detectron2 read. The slices of a stack are images of their own.

human_train.json, human_validation.json   labels that a person finished; their images are patches
predicted.json                            what the newest model found on whole images
images/                                   the pixels, as TIFF
"""
SEVERAL_README = """
The categories are the kinds of objects of the project. The network finds all kinds together: predicted.json has one
category for all of them.
"""


def members(store: Store, project: Project, report: Report) -> Iterator[tuple[str, bytes]]:
    """Files of the export, one at a time. Raises `NotReadyError` when there are neither labels nor predictions."""
    people = export_source.finished(store, project)
    machine = export_source.predictions(store, project)
    if not people and not machine:
        raise NotReadyError("There is nothing to export as COCO yet. Annotate a patch, or train a model first.")
    total = len(people) + len(machine)
    yield "README.txt", (README + SEVERAL_README * annotation_classes.several(project)).encode()
    kinds = annotation_classes.names(project)
    sets = {name: Coco(project, kinds) for name in ("human_train", "human_validation")}
    sets["predicted"] = Coco(project, kinds if len(kinds) == 1 else {1: project.target})
    for index, item in enumerate(people):
        report(index, total, f"Encoding {item.patch.name}")
        found = sets[f"human_{item.role}"]
        pixels, masks = catalogue.read_patch(store, item.patch), labels.read(store, item.labels)
        classes = annotation_classes.of_objects(item.labels)
        yield from found.add(item.file_name, pixels, masks, item.patch.voxel_size, classes)
    for index, (image, predicted) in enumerate(machine, start=len(people)):
        report(index, total, f"Encoding {image.name}")
        pixels, masks = np.asarray(catalogue.read_image(store, image)), labels.read(store, predicted)
        yield from sets["predicted"].add(export_source.slug(image.name), pixels, masks, image.voxel_size)
    for name, made in sets.items():
        if made.content["images"]:
            yield f"{name}.json", json.dumps(made.content).encode()


class Coco:
    """A COCO data set that grows image by image; `content` is its JSON. Its categories are `kinds`, names by class."""

    def __init__(self, project: Project, kinds: Mapping[int, str]):
        self.content: dict[str, Any] = {
            "info": {"description": project.name},
            "images": [],
            "annotations": [],
            "categories": [{"id": kind, "name": name, "supercategory": ""} for kind, name in kinds.items()],
        }

    def add(
        self,
        name: str,
        pixels: np.ndarray,
        masks: np.ndarray,
        voxel_size: VoxelSize,
        classes: Mapping[int, int] | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """Add an image (Y, X, C), or each slice of a stack (Z, Y, X, C), with its instance map; gives its files.
        `classes` is the class of each object by id, 1 where nothing is said."""
        if masks.ndim == 2:
            planes = [(name, pixels, masks)]
        else:
            planes = [(f"{name}_slice{z:03d}", pixels[z], masks[z]) for z in range(len(masks))]
        for plane_name, plane, instances in planes:
            self._add_plane(f"images/{plane_name}.tif", instances, classes or {})
            yield f"images/{plane_name}.tif", export_source.tiff(plane, voxel_size, channels=True)

    def _add_plane(self, file_name: str, instances: np.ndarray, classes: Mapping[int, int]) -> None:
        height, width = instances.shape
        image_id = len(self.content["images"]) + 1
        self.content["images"].append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for region in regionprops(instances):
            top, left, bottom, right = (int(edge) for edge in region.bbox)
            self.content["annotations"].append(
                {
                    "id": len(self.content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": classes.get(region.label, 1),
                    "segmentation": run_lengths(region.image, (top, left), instances.shape),
                    "area": int(region.area),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )


def run_lengths(mask: np.ndarray, corner: tuple[int, int], shape: tuple[int, int]) -> dict[str, Any]:
    """Uncompressed COCO run lengths of a mask bool (h, w) at `corner` (y, x) in an image of `shape` (Y, X).

    Runs go down the columns and alternate, beginning with background; "size" is [height, width].
    """
    height, width = shape
    before = corner[1] * height
    columns = np.zeros((mask.shape[1], height), dtype=bool)
    columns[:, corner[0] : corner[0] + mask.shape[0]] = mask.T
    flat = columns.ravel()
    changes = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0, append=0)) + before
    counts = np.diff(np.concatenate([[0], changes, [height * width]])).tolist()
    return {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}
