"""Images into the project: confirmed axes and voxel size, canonical arrays, a patch grid.

Each file is read, written and inserted on its own: a bad one is reported and the others are imported.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alapp import jobs
from alapp.domain import Box, ImageInfo, ImageRole, LabelKind, Report, VoxelSize
from alapp.errors import AlappError, Cancelled, ImageError, InputError
from alapp.rounds import references
from alapp.rounds.references import add_reference
from alapp.stages import images as image_files
from alapp.stages import patches as patch_grid
from alapp.stages.display import thumbnail
from alapp.stages.sample import SAMPLES
from alapp.stages.sample import load as load_sample
from alapp.storage import catalogue, labels, removed
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image, Project
from alapp.storage.db import Store, to_json
from alapp.storage.files import sha256_of
from alapp.wording import counted

USES_PATCHES = frozenset({"import", "sample", "select", "pretrain", "preview"})
"""Jobs that, before the first round, read or make patches and write what belongs to them later."""

PREVIEW_SIDE = 1024
"""Pixels of the longer side of the picture that shows the grid."""


@dataclass(frozen=True)
class Found:
    """A file that could be imported: what it says of itself, or why it cannot be used."""

    path: Path
    info: ImageInfo | None
    problem: str = ""

    @property
    def must_confirm(self) -> bool:
        """True when the axes were assumed and the user has to look at them."""
        return self.info is not None and self.info.axes_source == "assumed"


def inspect(text: str) -> list[Found]:
    """Look at a file, a folder or a glob without importing. Raises `InputError` when it names no image."""
    return [inspect_file(path) for path in image_files.discover(text)]


def inspect_file(path: Path) -> Found:
    """Look at one file without importing it."""
    try:
        return Found(path, image_files.inspect(path))
    except ImageError as error:
        return Found(path, None, image_files.printable(str(error)))


def misfits(store: Store, project_id: int | None, found: Sequence[Found]) -> list[str]:
    """Of each file why it would not fit the project, or the files before it, if its axes are as it says; "" where it
    does, or cannot be used anyway."""
    kinds = _kinds(catalogue.images(store, project_id)) if project_id is not None else []
    told = []
    for item in found:
        problem = ""
        if item.info is not None:
            try:
                kind = _Kind(image_files.stem(item.path), image_files.is_3d(item.info), image_files.channels(item.info))
                _check_fits(kinds, kind)
                kinds.append(kind)
            except (ImageError, InputError) as error:
                problem = image_files.printable(str(error))
        told.append(problem)
    return told


def run_import(
    store: Store,
    project_id: int,
    report: Report,
    files: Sequence[Mapping[str, Any]],
    role: str = ImageRole.TRAIN,
    discard: str | None = None,
    since: str | None = None,
    masks: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Import files. Each of `files` has "path", and optionally "axes" (confirmed by the user), "name" and
    "voxel_size" ({z, y, x} in micrometres). `discard`: a folder of uploads inside the state folder to remove
    afterwards, also when the user cancels. `since`: when the user asked for it (`db.now`); a file that became an image
    after that was imported before this job was interrupted, and is not read again. `masks`: files with the masks of
    images to test on, those that are imported here or others; see `references.add_files`.
    Returns {"imported": [names], "problems": [{"file", "problem"}]}, and with `masks` also "masks", those added."""
    imported: list[str] = []
    problems: list[dict[str, str]] = []
    before = catalogue.sources_since(store, project_id, since) if since else set()
    try:
        for index, file in enumerate(files):
            path = Path(file["path"])
            report(index, len(files), f"Importing {image_files.title(path)}")
            known = _name_of(path, file), image_files.printable(str(path))
            if known in before:
                before.remove(known)  # others may have this name, but for bytes that are no UTF-8
                imported.append(_name_of(path, file))
                continue
            try:
                imported.append(_import_file(store, project_id, path, file, ImageRole(role)).name)
            except AlappError as error:
                problem = image_files.printable(str(error))
                problems.append({"file": image_files.title(path), "problem": problem})
        if files or not masks:
            report(len(files), len(files), f"Imported {len(imported)} of {counted(len(files), 'image')}")
        given = references.add_files(store, project_id, masks, report) if masks else None
    except Cancelled as end:
        # Its subclasses mean that the job goes on later, and then it needs the uploads.
        if discard and type(end) is Cancelled:
            jobs.remove_uploads(store, discard)
        raise
    if discard:
        jobs.remove_uploads(store, discard)
    if given is None:
        return {"imported": imported, "problems": problems}
    return {"imported": imported, "problems": problems + given["problems"], "masks": given["masks"]}


def run_sample(store: Store, project_id: int, report: Report, sample: str) -> dict[str, Any]:
    """Fill a project with a sample data set and its reference masks."""
    total = SAMPLES[sample].n_images
    have = {image.name: image for image in catalogue.images(store, project_id)}
    answered = labels.latest_by_image(store, project_id, LabelKind.REFERENCE)
    for index, (name, pixels, reference, voxel_size) in enumerate(load_sample(sample)):
        report(index, total, f"Copying {name}")
        image = have.get(name) or add_array(
            store, project_id, name, pixels, voxel_size=voxel_size, source=f"sample {sample}"
        )
        if image.id not in answered:  # a kill may have come between the two
            add_reference(store, image, reference)
    report(total, total, f"Copied {counted(total, 'image')}")
    return {"imported": total}


def create_sample_project(store: Store, sample: str, visitor: str | None = None, expires: str | None = None) -> Project:
    """A new project with a sample's settings and a free name; `run_sample` fills it."""
    info = SAMPLES[sample]
    taken = {project.name for project in catalogue.projects(store, visitor)}
    number = next(n for n in range(1, len(taken) + 2) if _numbered(info.title, n) not in taken)
    return catalogue.create_project(
        store,
        _numbered(info.title, number),
        modality=info.modality,
        target=info.target,
        patch_size=info.patch_size,
        patch_depth=info.patch_depth,
        sample=sample,
        visitor=visitor,
        expires=expires,
    )


def add_array(
    store: Store,
    project_id: int,
    name: str,
    pixels: np.ndarray,
    *,
    role: ImageRole = ImageRole.TRAIN,
    info: ImageInfo | None = None,
    axes: str | None = None,
    voxel_size: VoxelSize | None = None,
    source: str = "",
    source_sha256: str = "",
) -> Image:
    """Add an image (Y, X, C) or (Z, Y, X, C) with its patches. Raises `InputError` when its name is taken or
    it does not fit the images that are there (2D with 3D, other number of channels)."""
    project = catalogue.project(store, project_id)
    is_3d = pixels.ndim == 4
    stack = pixels if is_3d else pixels[None]
    _check_fits(_kinds(catalogue.images(store, project_id)), _Kind(name, is_3d, stack.shape[3]))
    boxes = _boxes(project, stack.shape, is_3d) if role is ImageRole.TRAIN else []
    target = store.files.project(project_id) / "images" / f"{uuid.uuid4().hex}.npy"
    stored = store.files.write_array(target, np.ascontiguousarray(stack))
    size = voxel_size or (info.voxel_size if info else VoxelSize())
    image_id = catalogue.add_image(
        store,
        {
            "project_id": project_id,
            "name": name,
            "role": role,
            "source": source,
            "source_sha256": source_sha256 or stored.sha256,
            "path": stored.path,
            "sha256": stored.sha256,
            "shape": to_json(stack.shape),
            "is_3d": int(is_3d),
            "dtype": str(stack.dtype),
            "axes": axes or (info.axes if info else ("ZYXC" if is_3d else "YXC")),
            "axes_source": "confirmed" if axes else (info.axes_source if info else "known"),
            "voxel_size": to_json(asdict(size)),
            "warnings": to_json(list(info.warnings if info else ())),
        },
        boxes,
    )
    return catalogue.image(store, image_id)


def restore_image(store: Store, image_id: int) -> Image:
    """Bring a removed image back, and cut it anew if the grid was changed in the meantime. Raises `InputError` when it
    does not fit any more: its name was taken, or the images there are of another kind, or patches of its old grid are
    in use."""
    image = catalogue.image(store, image_id)
    project = catalogue.project(store, image.project_id)
    others = [item for item in catalogue.images(store, project.id) if item.id != image.id]
    if any(item.name == image.name for item in others):
        raise InputError(f"There is now another image called {image.name!r}. Remove that one first.")
    _check_fits(_kinds(others), *_kinds([image]))
    wanted = _boxes(project, image.shape, image.is_3d) if image.role is ImageRole.TRAIN else []
    if removed.boxes(store, image.id) == set(wanted):
        catalogue.set_image_deleted(store, image.id, False)
    elif removed.is_used(store, image.id):
        raise InputError(
            f"{image.name} cannot come back as it was: the project is now cut into patches of {project.patch_size} "
            "pixels, and patches of another size were selected in this image. Import its file again instead."
        )
    else:
        removed.bring_back(store, image.id, wanted)
    return catalogue.image(store, image.id)


def preview_grid(
    store: Store, project_id: int, image_id: int, patch_size: int, patch_depth: int, overlap: int
) -> np.ndarray:
    """An image with the grid drawn on it, uint8 (Y, X, 3) with the longer side at most `PREVIEW_SIDE` pixels, without
    changing anything."""
    image = catalogue.image(store, image_id)
    boxes = patch_grid.grid(image.shape[:3], patch_size, patch_depth, overlap, image.is_3d)
    middle = image.shape[0] // 2
    small = thumbnail(catalogue.read_image(store, image), PREVIEW_SIDE)
    scale = small.shape[0] / image.shape[1], small.shape[1] / image.shape[2]
    here = [_scaled(box, scale) for box in boxes if box.z <= middle < box.z + box.depth]
    return patch_grid.draw_grid(small, here)


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    """A box in a picture that is smaller than the image by `scale` (y, x); no side becomes 0."""
    top, bottom = (round(y * scale[0]) for y in (box.y, box.y + box.height))
    left, right = (round(x * scale[1]) for x in (box.x, box.x + box.width))
    return replace(box, y=top, x=left, height=max(1, bottom - top), width=max(1, right - left))


def regrid(store: Store, project_id: int, patch_size: int, patch_depth: int, overlap: int) -> Project:
    """Cut all images anew. Raises `InputError` once a round selected patches, whose labels belong to the grid, and
    while a job uses the patches that are there."""
    if round_rows.rounds(store, project_id):
        raise InputError("The patch size is fixed once the first batch was selected, because labels belong to patches.")
    if busy := next((job for job in jobs.active(store, project_id) if job.kind in USES_PATCHES), None):
        raise InputError(
            f"The images cannot be cut anew now: “{jobs.kind(busy.kind).title}” uses their patches. Wait until it has "
            "ended, or cancel it, then try again."
        )
    images = catalogue.images(store, project_id, ImageRole.TRAIN)
    grids = {
        image.id: patch_grid.grid(image.shape[:3], patch_size, patch_depth, overlap, image.is_3d) for image in images
    }
    settings = {"patch_size": patch_size, "patch_depth": patch_depth, "patch_overlap": overlap}
    return catalogue.regrid(store, project_id, settings, grids)


def _import_file(store: Store, project_id: int, path: Path, file: Mapping[str, Any], role: ImageRole) -> Image:
    info = image_files.inspect(path)
    axes = file.get("axes") or None
    if info.axes_source == "assumed" and axes is None:
        raise ImageError(f"{path.name}: its axes are not in the file. Confirm them (for example {info.axes}) first.")
    if axes == info.axes and info.axes_source != "assumed":
        axes = None  # nobody had to confirm what the file says
    pixels = image_files.read(path, axes)
    info = replace(info, warnings=info.warnings + image_files.pixel_warnings(pixels))
    is_3d = image_files.is_3d(info, axes)
    size = VoxelSize(**file["voxel_size"]) if file.get("voxel_size") else None
    return add_array(
        store,
        project_id,
        _name_of(path, file),
        pixels if is_3d else pixels[0],
        role=role,
        info=info,
        axes=axes,
        voxel_size=size,
        source=image_files.printable(str(path)),
        source_sha256="" if path.is_dir() else sha256_of(path),
    )


def _name_of(path: Path, file: Mapping[str, Any]) -> str:
    return file.get("name") or image_files.stem(path)


@dataclass(frozen=True)
class _Kind:
    """What must agree between the images of a project, but for their names, which must not."""

    name: str
    is_3d: bool
    channels: int


def _kinds(images: Iterable[Image]) -> list[_Kind]:
    return [_Kind(image.name, image.is_3d, image.shape[3]) for image in images]


def _check_fits(existing: Iterable[_Kind], new: _Kind) -> None:
    name = new.name
    for image in existing:
        if image.name == name:
            raise InputError(f"{name}: there is already an image with this name. Rename the file, or remove the other.")
        if image.is_3d != new.is_3d:
            here, there = ("3D", "2D") if new.is_3d else ("2D", "3D")
            raise InputError(f"{name} is {here}, but {image.name} in this project is {there}. Use a project for each.")
        if image.channels != new.channels:
            raise InputError(
                f"{name} has {counted(new.channels, 'channel')}, but {image.name} in this project has "
                f"{image.channels}. All images of a project need the same channels."
            )


def _boxes(project: Project, shape: Sequence[int], is_3d: bool) -> list[Any]:
    return patch_grid.grid(tuple(shape[:3]), project.patch_size, project.patch_depth, project.patch_overlap, is_3d)


def _numbered(title: str, number: int) -> str:
    return title if number == 1 else f"{title} {number}"
