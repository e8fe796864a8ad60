"""COCO instance segmentation (Lin et al. 2014, https://cocodataset.org/#format-data) with run-length masks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from skimage.measure import regionprops

from alapp.domain import Report, VoxelSize
from alapp.errors import NotReadyError
from alapp.rounds.annotate import annotation_classes
from alapp.rounds.export import export_source, export_tiff
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Project
from alapp.storage.db import Store

README = """COCO instance segmentation. Boxes are [x, y, width, height] in pixels, masks uncompressed run-length
encodings, which pycocotools and detectron2 read. The slices of a stack are images of their own.

human_train.json, human_validation.json   labels that a person finished; their images are patches
predicted.json                            what the current model found on whole images
images/human/, images/predicted/          the pixels, as TIFF

The files of images/ hold the numbers of the image, channels last. One channel is gray and three are RGB, which PIL
opens; two are red and green, with an empty blue. Mind that PIL has no colours of more than 8 bits: of 16 bits it keeps
the upper 8, so that an image which uses a part of the range gets dark. Colours that are real numbers, and more than
three channels, it refuses. tifffile and scikit-image read them all as they are.

A part of a patch that nobody annotated is one annotation with "iscrowd": 1, which COCO's evaluation leaves out and
trainers skip; it has the attribute "not_annotated". The "state" of a patch, or of every slice of a stack, is
"annotated", or "empty, checked": a person looked, and there is no object. "image" is the image as the project calls it.
"""
SEVERAL_README = """
The categories are the kinds of objects of the project. The network finds all kinds together: predicted.json has one
category for all of them. COCO's evaluation compares each category with its own annotations, so a part that nobody
annotated is there once for each category.
"""


def members(store: Store, project: Project, report: Report) -> Iterator[tuple[str, bytes]]:
    """Files of the export, one at a time. Raises `NotReadyError` when there are neither labels nor predictions."""
    people = export_source.finished_patches(store, project)
    machine = export_source.predictions(store, project)
    if not people and not machine:
        raise NotReadyError("There is nothing to export as COCO yet. Annotate a patch, or train a model first.")
    total = len(people) + len(machine)
    yield "README.txt", (README + SEVERAL_README * annotation_classes.several(project)).encode()
    kinds = annotation_classes.names(project)
    names = export_source.file_names(store, project)
    sets = {name: Coco(project, kinds) for name in ("human_train", "human_validation")}
    sets["predicted"] = Coco(project, kinds if len(kinds) == 1 else {1: project.target})
    for index, item in enumerate(people):
        report(index, total, f"Encoding {item.patch.name}")
        found = sets[f"human_{item.role}"]
        pixels, masks = catalogue.read_patch(store, item.patch), labels.read(store, item.labels)
        ignored = labels.read(store, item.ignored) > 0 if item.ignored else None
        classes = annotation_classes.of_objects(item.labels)
        about = {"image": item.patch.image_name, "state": item.state}
        name = f"human/{item.file_name}"
        yield from found.add(name, pixels, masks, item.patch.voxel_size, classes, ignored, **about)
    for index, (image, predicted) in enumerate(machine, start=len(people)):
        report(index, total, f"Encoding {image.name}")
        pixels, masks = np.asarray(catalogue.read_image(store, image)), labels.read(store, predicted)
        name = f"predicted/{names[image.id]}"
        yield from sets["predicted"].add(name, pixels, masks, image.voxel_size, image=image.name)
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
        ignored: np.ndarray | None = None,
        **about: str,
    ) -> Iterator[tuple[str, bytes]]:
        """Add an image (Y, X, C), or each slice of a stack (Z, Y, X, C), with its instance map and the region that
        nobody annotated (bool, of the shape of `masks`), which is a crowd of every category; gives its files. `classes`
        is the class of each object by id, 1 where nothing is said; `about` goes into the image's entry."""
        if masks.ndim == 2:
            planes = [(name, pixels, masks, ignored)]
        else:
            planes = [
                (f"{name}_slice{z:03d}", pixels[z], masks[z], None if ignored is None else ignored[z])
                for z in range(len(masks))
            ]
        for plane_name, plane, instances, region in planes:
            image_id = self._add_image(f"images/{plane_name}.tif", instances.shape, about)
            for found in regionprops(instances):
                self._add_annotation(image_id, found, instances.shape, (classes or {}).get(found.label, 1))
            for found in regionprops(region.astype(np.uint8)) if region is not None else ():
                # a crowd excuses detections of its own category only
                for kind in self.content["categories"]:
                    about_crowd = {"iscrowd": 1, "attributes": {"not_annotated": True}}
                    self._add_annotation(image_id, found, instances.shape, kind["id"], **about_crowd)
            yield f"images/{plane_name}.tif", export_tiff.picture(plane, voxel_size)

    def _add_image(self, file_name: str, shape: tuple[int, int], about: Mapping[str, str]) -> int:
        height, width = shape
        image_id = len(self.content["images"]) + 1
        image = {"id": image_id, "file_name": file_name, "height": height, "width": width}
        self.content["images"].append(image | about)
        return image_id

    def _add_annotation(self, image_id: int, region: Any, shape: tuple[int, int], category: int, **about: Any) -> None:
        top, left, bottom, right = (int(edge) for edge in region.bbox)
        annotation = {
            "id": len(self.content["annotations"]) + 1,
            "image_id": image_id,
            "category_id": category,
            "segmentation": run_lengths(region.image, (top, left), shape),
            "area": int(region.area),
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }
        self.content["annotations"].append(annotation | about)


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
