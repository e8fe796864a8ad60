"""The model on images outside the project: a folder, or uploaded files. Masks, tables and pictures into a folder.

Every image is worked on alone: one that cannot be used is named in the end and the others go on. What an earlier run
finished with the same model, file and options is not done again, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Report, VoxelSize, part
from alapp.errors import AlappError, Cancelled, ImageError, InputError, NotReadyError
from alapp.rounds.apply import apply_files
from alapp.rounds.apply.apply_record import MASKS, PICTURE, TABLE, Options, Record, Row, fingerprint, made_of, names_of
from alapp.rounds.export.export import exports_folder
from alapp.rounds.export.export_source import slug
from alapp.rounds.export.export_tables import to_csv
from alapp.rounds.predict import decoding, segmenting
from alapp.stages import images as image_files
from alapp.stages.instances import Decoding
from alapp.stages.lazy_images import LazyImage, open_lazily
from alapp.stages.train.base import NETWORK, TRAINERS, Trainer
from alapp.storage import catalogue, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image, Project
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from alapp.storage.models import Checkpoint

SUMMARY = "summary.csv"
_WORK = ".tmp-apply-"


@dataclass(frozen=True)
class _Run:
    """What all images of a run share."""

    store: Store
    project: Project
    checkpoint: Checkpoint
    network: Trainer
    options: Options
    target: Path
    like: Image
    uploaded: bool


def model_name(store: Store, project_id: int) -> str | None:
    """How the pages call the model that is applied; None before the first training."""
    model = verdicts.current_checkpoint(store, project_id)
    if model is None:
        return None
    return f"round {round_rows.round_by_id(store, model.round_id).number}" if model.round_id else "pre-training"


def default_target(store: Store, project_id: int, paths: Sequence[Path]) -> Path:
    """Where the results of some files go unless a folder is named: below the project's exports, the same folder
    whenever files of their folder come again."""
    origin = paths[0].resolve().parent
    digest = hashlib.sha256(str(origin).encode()).hexdigest()[:6]
    return exports_folder(store, project_id) / "applied" / f"{slug(origin.name)}-{digest}"


def run_apply(
    store: Store,
    project_id: int,
    report: Report,
    source: str | None = None,
    files: Sequence[str] = (),
    target: str | None = None,
    options: dict[str, Any] | None = None,
    discard: str | None = None,
) -> dict[str, Any]:
    """Segment the images that `source` names (a folder, a file or a pattern) or `files`, with the project's model.

    Results go into the folder `target`, by default `default_target`. `options`: see `Options`. `discard`: a folder of
    uploads of this project, relative to the state folder, to remove afterwards; results are then packed into one
    archive, too. Returns {"target", "rows" (see `Row`), "problems" [{"file", "problem"}], "archive"}; problems are
    files that could not be used. Raises `NotReadyError` before the first training, `InputError` when no image is
    found or the folder cannot be used.
    """
    project, wanted = catalogue.project(store, project_id), Options(**(options or {}))
    model = verdicts.current_checkpoint(store, project_id)
    images = catalogue.images(store, project_id)
    if model is None or not images:
        raise NotReadyError("Train a model first, then it can be applied to new images.")
    paths = [Path(file) for file in files] or image_files.discover(source or "")
    folder = prepare_target(Path(target).expanduser() if target else default_target(store, project_id, paths), paths)
    network = TRAINERS.create(NETWORK, mirroring=wanted.mirroring)
    run = _Run(store, project, model, network, wanted, folder, images[0], bool(discard))
    rows, problems = _all(run, paths, report)
    if rows:
        with atomic_write(folder / SUMMARY) as handle:
            handle.write(to_csv([_summary_row(row) for row in rows]))
    archive = _pack(run, rows) if discard and rows else None
    if discard:
        _remove_uploads(store, project_id, discard)
    report(1, 1, f"Applied the model to {len(rows)} of {len(paths)} images")
    return {
        "target": str(folder),
        "rows": [asdict(row) for row in rows],
        "problems": problems,
        "archive": archive.relative_to(store.root).as_posix() if archive else None,
    }


def prepare_target(folder: Path, paths: Sequence[Path]) -> Path:
    """The folder of results, made if it is missing, without what a killed run left behind.

    Raises `InputError` when it cannot be written to, or holds the images themselves.
    """
    folder = folder.resolve()
    if any(path.resolve().parent == folder for path in paths):
        raise InputError(f"The folder {folder} holds the images themselves. Choose another folder for the results.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"Nothing can be written into {folder} ({error.strerror}). Choose another folder.") from error
    for left in folder.glob(f"{_WORK}*"):
        shutil.rmtree(left, ignore_errors=True)
    return folder


def _all(run: _Run, paths: Sequence[Path], report: Report) -> tuple[list[Row], list[dict[str, str]]]:
    """Rows of the images that were segmented now or before, and why the others were not."""
    rows: list[Row] = []
    problems: list[dict[str, str]] = []
    record = Record(run.target)
    how = decoding.used(run.store, run.checkpoint).decoding or Decoding()
    for index, (path, name) in enumerate(zip(paths, names_of(paths), strict=True)):
        here = part(report, index / len(paths), (index + 1) / len(paths))
        label = f"{path.name} ({index + 1} of {len(paths)})"
        here(0, 1, label)
        try:
            of = fingerprint(path, run.uploaded, run.checkpoint.sha256, how, run.options)
            if done := record.done(name, of, run.options):
                rows.append(done)
                continue
            record.check_free(name, of)
            row = _one(run, path, name, lambda done, total, text, here=here, label=label: here(
                done, total, f"{label}: {text[:1].lower()}{text[1:]}"
            ))  # fmt: skip
            record.add(name, of, row)
            rows.append(row)
        except Cancelled:
            raise
        except AlappError as error:
            problems.append({"file": path.name, "problem": str(error)})
    return rows, problems


def _one(run: _Run, path: Path, name: str, report: Report) -> Row:
    """Segment one image and put its files in place, the masks last."""
    begin = time.monotonic()
    with open_lazily(path, _axes(run, path)) as source, _work_folder(run.target) as work:
        _check_fits(run, source)
        size = _voxel_size(run, source)
        segmented = segmenting.segment_image(
            run.store, run.network, run.checkpoint, source, source.is_3d, size, work, part(report, 0, 0.85)
        )
        found = segmented.found
        made = [MASKS]
        apply_files.write_masks(work / MASKS, found, source.is_3d, run.options.bits, size, part(report, 0.85, 0.9))
        if run.options.table:
            table = work / TABLE
            apply_files.write_table(table, name, found, source.is_3d, source, size, part(report, 0.9, 0.99))
            made.insert(0, TABLE)
        if run.options.pictures:
            report(0.99, 1, "Drawing the outlines")
            apply_files.write_picture(work / PICTURE, found, source)
            made.insert(0, PICTURE)
        typical = float(np.median(found.sizes)) if len(found.sizes) else None
        voxel = _voxel(size, source.is_3d)
        row = Row(
            image=path.name,
            objects=len(found.boxes),
            size=typical,
            size_um=None if typical is None or voxel is None else round(typical * voxel, 4),
            shape=tuple(source.shape[:3] if source.is_3d else source.shape[1:3]),
            seconds=round(time.monotonic() - begin, 1),
            remark=_remark(run.options.bits, len(found.boxes)),
        )
        segmented.close()
        for ending in made:
            _put(work / ending, run.target / f"{name}{ending}")
    return row


def _put(made: Path, target: Path) -> None:
    """Moves a finished file to its place. Raises `InputError` when another program holds the old one."""
    try:
        os.replace(made, target)
    except PermissionError as error:
        raise InputError(
            f"{target.name} cannot be replaced: another program has it open. Close it there, then press Apply again."
        ) from error


def _voxel_size(run: _Run, source: LazyImage) -> VoxelSize:
    """That of the file, or, where it does not tell, that of the project's images if they agree."""
    own = source.info.voxel_size
    if own.known:
        return own
    known = {image.voxel_size for image in catalogue.images(run.store, run.project.id)}
    return known.pop() if len(known) == 1 else own


def _remark(bits: int, count: int) -> str:
    wide = bits == 16 and apply_files.mask_type(count, bits).itemsize == 4
    return "saved with 32 bits, because it has more than 65,535 objects" if wide else ""


def _voxel(size: VoxelSize, is_3d: bool) -> float | None:
    """Area or volume of a voxel in µm² or µm³."""
    if not size.known or (is_3d and size.z is None):
        return None
    return size.y * size.x * (size.z if is_3d else 1.0)


def _axes(run: _Run, path: Path) -> str | None:
    """Axes to read a file with: None for its own; where it does not tell, those that a person confirmed for an image
    of this project with as many dimensions."""
    info = image_files.inspect(path)
    if info.axes_source != "assumed":
        return None
    for image in catalogue.images(run.store, run.project.id):
        if image.axes_source == "confirmed" and len(image.axes) == len(info.axes):
            return image.axes
    raise ImageError(
        f"{path.name} does not say what its {len(info.axes)} dimensions are, and no image of the project tells either. "
        "Save it from Fiji, or as OME-TIFF, with its slices or channels."
    )


def _check_fits(run: _Run, source: LazyImage) -> None:
    """Raises `ImageError` for an image that the model cannot work on."""
    name, channels, known = source.path.name, source.shape[3], run.like.shape[3]
    if source.is_3d != run.like.is_3d:
        here, there = ("a stack", "single images") if source.is_3d else ("a single image", "stacks")
        raise ImageError(f"{name} is {here}, but the model was trained on {there}.")
    if channels != known:
        raise ImageError(f"{name} has {channels} channels, but the model was trained on images with {known}.")


@contextlib.contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """A folder on the disk of the results, so that finished files are only renamed; gone in the end."""
    folder = Path(tempfile.mkdtemp(prefix=_WORK, dir=target))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _summary_row(row: Row) -> dict[str, Any]:
    return {
        "image": row.image,
        "size": " x ".join(str(n) for n in row.shape),
        "objects": row.objects,
        "median_size_px": row.size,
        "median_size_um": row.size_um,
        "seconds": row.seconds,
        "remark": row.remark,
    }


def _pack(run: _Run, rows: Sequence[Row]) -> Path:
    """The results of this run in one archive among the project's exports, to be downloaded."""
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
    path = exports_folder(run.store, run.project.id) / f"{slug(run.project.name)}_applied_{stamp}.zip"
    names = Record(run.target).uploaded([row.image for row in rows])
    with atomic_write(path) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(run.target / SUMMARY, SUMMARY)
        for file in (file for name in names for file in made_of(name, run.options)):
            archive.write(run.target / file, file)
    return path


def _remove_uploads(store: Store, project_id: int, folder: str) -> None:
    path = store.files.resolve(folder)
    if path.parent == (store.files.project(project_id) / "uploads").resolve():
        shutil.rmtree(path, ignore_errors=True)
