"""The model on images outside the project: a folder, or uploaded files. Masks, tables and pictures into a folder.

Every image is worked on alone: one that cannot be used is named in the end and the others go on. What an earlier run
finished with the same model, file and options is not done again, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import time
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Report, VoxelSize, part
from alapp.errors import AlappError, Cancelled, InputError, NotReadyError
from alapp.rounds.apply import apply_files, apply_reading
from alapp.rounds.apply.apply_names import names_of, origin
from alapp.rounds.apply.apply_reading import Reading
from alapp.rounds.apply.apply_record import (
    MASKS,
    PICTURE,
    RECORD,
    SUMMARY,
    TABLE,
    Options,
    Record,
    Row,
    fingerprint,
    made_of,
    originals,
)
from alapp.rounds.export.export import exports_folder
from alapp.rounds.export.export_names import slug
from alapp.rounds.export.export_tables import rounded, to_csv
from alapp.rounds.predict import decoding, segmenting
from alapp.stages import images as image_files
from alapp.stages.instances import Decoding
from alapp.stages.lazy_images import LazyImage, open_lazily
from alapp.stages.segment import Found
from alapp.stages.train.base import NETWORK, TRAINERS, Trainer
from alapp.storage import catalogue, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image, Project
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from alapp.storage.models import Checkpoint
from alapp.storage.scratch import remove_dead, work_folder
from alapp.wording import counted

_OLD_WORK = ".tmp-apply-*"
"""Working folders of earlier versions, which do not tell whose they are."""
_DAY = 24 * 3600.0


@dataclass(frozen=True)
class _Run:
    """What all images of a run share."""

    store: Store
    project: Project
    checkpoint: Checkpoint
    network: Trainer
    options: Options
    target: Path
    images: Sequence[Image]
    uploaded: bool
    pixel_size: float | None
    record: Record


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


def images_named(source: str) -> list[Path]:
    """The images that a folder, a file or a pattern names, without the results of earlier runs. Raises `InputError`
    when there are none."""
    found = image_files.discover(source)
    if images := originals(found):
        return images
    raise InputError(f"{source} names no image, only what applying a model made of some. Choose the images themselves.")


def run_apply(
    store: Store,
    project_id: int,
    report: Report,
    source: str | None = None,
    files: Sequence[str] = (),
    target: str | None = None,
    options: dict[str, Any] | None = None,
    discard: str | None = None,
    pixel_size: float | None = None,
) -> dict[str, Any]:
    """Segment the images that `source` names (a folder, a file or a pattern) or `files`, with the project's model.

    Results go into the folder `target`, by default `default_target`. `options`: see `Options`. `discard`: a folder of
    uploads of this project, relative to the state folder, to remove afterwards; results are then packed into one
    archive, too. `pixel_size`: that of all images, in micrometres; by default that of each file, else that of the
    project, which the row's remark says. Returns {"target", "rows" (see `Row`), "problems" [{"file", "problem"}],
    "archive"}; problems are files that could not be used or written. Raises `NotReadyError` before the first training,
    `InputError` when no image is found or the folder cannot be used.
    """
    project, wanted = catalogue.project(store, project_id), Options(**(options or {}))
    model = verdicts.current_checkpoint(store, project_id)
    images = catalogue.images(store, project_id)
    if model is None or not images:
        raise NotReadyError("Train a model first, then it can be applied to new images.")
    paths = [Path(file) for file in files] or images_named(source or "")
    folder = prepare_target(Path(target).expanduser() if target else default_target(store, project_id, paths), paths)
    network = TRAINERS.create(NETWORK, mirroring=wanted.mirroring)
    run = _Run(store, project, model, network, wanted, folder, images, bool(discard), pixel_size, Record(folder))
    made, problems = _all(run, paths, report)
    if made:
        problems += _write_summary(run)
    archive = _pack(run, made) if discard and made else None
    if discard:
        _remove_uploads(store, project_id, discard)
    report(1, 1, f"Applied the model to {len(made)} of {counted(len(paths), 'image')}")
    return {
        "target": str(folder),
        "rows": [asdict(row) for row in made.values()],
        "problems": problems,
        "archive": archive.relative_to(store.root).as_posix() if archive else None,
    }


def prepare_target(folder: Path, paths: Sequence[Path]) -> Path:
    """The folder of results, made if it is missing, without what a killed run left behind.

    Raises `InputError` when it cannot be written to, holds the images themselves, or a summary that was not made here.
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
    if (folder / SUMMARY).exists() and not (folder / RECORD).exists():
        raise InputError(
            f"{SUMMARY} is already in the folder {folder} and was not made here. Move it, or choose another folder for "
            "the results."
        )
    remove_dead(folder)
    for left in folder.glob(_OLD_WORK):
        with contextlib.suppress(OSError):  # another run may just have removed it
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)
    return folder


def _all(run: _Run, paths: Sequence[Path], report: Report) -> tuple[dict[str, Row], list[dict[str, str]]]:
    """Rows of the images that were segmented now or before, by the names of `names_of`, and why the others were not."""
    made: dict[str, Row] = {}
    problems: list[dict[str, str]] = []
    origins = [origin(path, run.uploaded) for path in paths]
    names = names_of(paths, origins, run.record.known())
    how = decoding.used(run.store, run.checkpoint).decoding or Decoding()
    for index, (path, name) in enumerate(zip(paths, names, strict=True)):
        here = part(report, index / len(paths), (index + 1) / len(paths))
        file = image_files.title(path)
        label = f"{file} ({index + 1} of {len(paths)})"
        here(0, 1, label)
        try:
            look = apply_reading.reading(run.images, path, run.pixel_size)
            of = fingerprint(path, origins[index], run.checkpoint.sha256, how, run.options, look)
            if done := run.record.done(name, of, run.options):
                made.setdefault(name, done)  # the same upload may come twice
                continue
            run.record.check_free(name, of)
            made[name] = _one(run, path, name, of, look, lambda done, total, text, here=here, label=label: here(
                done, total, f"{label}: {text[:1].lower()}{text[1:]}"
            ))  # fmt: skip
        except Cancelled:
            raise
        except AlappError as error:
            problems.append({"file": file, "problem": image_files.printable(str(error))})
        except OSError as error:  # what is read raises `ImageError`
            why = apply_files.unwritten(f"What was found in {file}", run.target, error)
            problems.append({"file": file, "problem": why})
    return made, problems


def _one(run: _Run, path: Path, name: str, of: dict[str, Any], look: Reading, report: Report) -> Row:
    """Segment one image, put its files in place, the masks last, and write that down."""
    begin = time.monotonic()
    with open_lazily(path, look.axes) as source, work_folder(run.target) as work:
        apply_reading.check_fits(run.images[0], source)
        size = look.voxel_size
        segmented = segmenting.segment_image(
            run.store, run.network, run.checkpoint, source, source.is_3d, size, work, part(report, 0, 0.85)
        )
        with contextlib.closing(segmented):
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
            row = _row(run.options.bits, source, found, look, time.monotonic() - begin)
        run.record.check_free(name, of)  # another run into this folder may have been faster
        _place(run, work, made, name, of, row)
    return row


def _place(run: _Run, work: Path, made: Sequence[str], name: str, of: dict[str, Any], row: Row) -> None:
    """Put finished files in place. They are written down before, too: else a run that is killed in between would take
    them for those of another image when it goes on."""
    before = run.record.begin(name, of)
    try:
        apply_files.place(work, made, run.target, name)
    except (AlappError, OSError):
        run.record.put_back(name, before)
        raise
    try:
        run.record.add(name, of, row)
    except (AlappError, OSError):
        apply_files.discard(run.target, [f"{name}{ending}" for ending in made])
        raise


def _row(bits: int, source: LazyImage, found: Found, look: Reading, seconds: float) -> Row:
    """What the summary tells of an image whose label map was wanted with `bits`."""
    typical = float(np.median(found.sizes)) if len(found.sizes) else None
    voxel = _voxel(look.voxel_size, source.is_3d)
    remarks = (_remark(bits, len(found.boxes)), look.remark(source.is_3d))
    return Row(
        image=image_files.title(source.path),
        objects=len(found.boxes),
        size=typical,
        size_um=None if typical is None or voxel is None else rounded(typical * voxel),
        shape=tuple(source.shape[:3] if source.is_3d else source.shape[1:3]),
        seconds=round(seconds, 1),
        remark="; ".join(filter(None, remarks)),
    )


def _write_summary(run: _Run) -> list[dict[str, str]]:
    """A line for each image whose results are in the folder. What keeps it from being written is no reason to fail: the
    results are in place, and the next run writes it."""
    try:
        with atomic_write(run.target / SUMMARY) as handle:
            handle.write(to_csv(run.record.summary(run.checkpoint.sha256)))
    except PermissionError:
        why = (
            "It cannot be replaced: another program has it open. Close it there, then press Apply again. All else is "
            "in place."
        )
    except AlappError as error:
        why = str(error)
    except OSError as error:
        why = apply_files.unwritten("It", run.target, error)
    else:
        return []
    return [{"file": SUMMARY, "problem": why}]


def _remark(bits: int, count: int) -> str:
    wide = bits == 16 and apply_files.mask_type(count, bits).itemsize == 4
    return "saved with 32 bits, because it has more than 65,535 objects" if wide else ""


def _voxel(size: VoxelSize, is_3d: bool) -> float | None:
    """Area or volume of a voxel in µm² or µm³."""
    if not size.known or (is_3d and size.z is None):
        return None
    return size.y * size.x * (size.z if is_3d else 1.0)


def _pack(run: _Run, names: Collection[str]) -> Path:
    """The results of this run, by their `names`, in one archive among the project's exports, to be downloaded."""
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
    path = exports_folder(run.store, run.project.id) / f"{slug(run.project.name)}_applied_{stamp}.zip"
    with atomic_write(path) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SUMMARY, to_csv(run.record.summary(run.checkpoint.sha256, names)))
        for file in (file for name in names for file in made_of(name, run.options)):
            archive.write(run.target / file, file)
    return path


def _remove_uploads(store: Store, project_id: int, folder: str) -> None:
    path = store.files.resolve(folder)
    if path.parent == (store.files.project(project_id) / "uploads").resolve():
        shutil.rmtree(path, ignore_errors=True)
