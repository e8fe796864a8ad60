"""Exports as tables (CSV, UTF-8, decimal points): measurements of objects, scores, rounds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from skimage.measure import regionprops

from alapp.domain import Report, VoxelSize
from alapp.errors import NotReadyError
from alapp.rounds.annotate import annotation_batch, annotation_classes, ledger
from alapp.rounds.annotate.ledger import PatchWork
from alapp.rounds.export import export_source
from alapp.rounds.results import results
from alapp.storage import annotations, catalogue, labels, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.rounds import Selected


def measurements(store: Store, project: Project, report: Report) -> Iterator[tuple[str, bytes]]:
    """One table of all objects: the current model's predictions of whole images; before the first model, the finished
    patches. Raises `NotReadyError` without either.

    In a project with several classes the finished patches follow the predictions, because only the objects of a
    person have a class; the column `class` is empty for those of the network, which finds all classes together.
    """
    rows: list[dict[str, Any]] = []
    machine = export_source.predictions(store, project)
    several = annotation_classes.several(project)
    kinds = annotation_classes.names(project)
    people = export_source.finished_patches(store, project) if several or not machine else []
    if not machine and not people:
        raise NotReadyError("There is nothing to measure yet. Annotate a patch, or train a model first.")
    notes = annotations.notes(store, [item.patch.id for item in people])
    for index, (image, predicted) in enumerate(machine):
        report(index, len(machine), f"Measuring {image.name}")
        pixels = np.asarray(catalogue.read_image(store, image))
        classes = {} if several else None
        found = measured(image.name, "predicted", labels.read(store, predicted), pixels, image.voxel_size, classes)
        rows += [row | {"note": ""} for row in found] if people else found
    for index, item in enumerate(people):
        report(index, len(people), f"Measuring {item.patch.name}")
        pixels = catalogue.read_patch(store, item.patch)
        known, masks = annotation_classes.of_objects(item.labels), labels.read(store, item.labels)
        classes = {int(key): kinds.get(known.get(int(key), 1), "") for key in np.unique(masks)} if several else None
        found = measured(item.patch.name, "human", masks, pixels, item.patch.voxel_size, classes)
        rows += [row | {"note": notes.get(item.patch.id, "")} for row in found]
    if not rows:
        raise NotReadyError("No object was found in any image, so there is nothing to measure.")
    yield "measurements.csv", to_csv(rows)


def measured(
    name: str,
    source: str,
    instances: np.ndarray,
    pixels: np.ndarray,
    size: VoxelSize,
    classes: Mapping[int, str] | None = None,
) -> list[dict[str, Any]]:
    """A row for each object of `instances` int32 (Y, X) or (Z, Y, X) in `pixels`, which has channels last.

    Lengths are in pixels and, where the voxel size is known, in micrometres ("" where it is not). Axis lengths,
    eccentricity and perimeter exist in 2D only. Positions are (z, y, x) from 0. With `classes`, names by object, a
    column tells the class ("" where nothing is said).

    Two columns are 1 for an object that may be cut, so that its size is a lower bound, else 0: `touches_edge` in y or
    x, and, of stacks only, `touches_first_or_last_slice` in z. The edges are those of `instances`.
    """
    describe = _flat if instances.ndim == 2 else _solid
    rows = []
    for region in regionprops(instances):
        # float32 would be summed pixel by pixel, and of a large object the last ones would hardly count
        means = pixels[region.slice][region.image].mean(axis=0, dtype=np.float64)
        rows.append(
            {"image": name, "source": source, "object": int(region.label)}
            | ({} if classes is None else {"class": classes.get(int(region.label), "")})
            | describe(region, size)
            | {f"mean_intensity_channel_{c}": rounded(mean) for c, mean in enumerate(means)}
            | cut(region.slice, instances.shape)
        )
    return rows


def cut(box: Sequence[slice], shape: Sequence[int]) -> dict[str, int]:
    """The columns that tell whether an object is cut, see `measured`, of its bounding `box` in an image of `shape`,
    both (y, x) or (z, y, x)."""
    touches = [part.start == 0 or part.stop == n for part, n in zip(box, shape, strict=True)]
    found = {"touches_edge": int(any(touches[-2:]))}
    return found | {"touches_first_or_last_slice": int(touches[0])} if len(shape) == 3 else found


def scores(store: Store, project: Project, report: Report) -> Iterator[tuple[str, bytes]]:
    """Learning curve, scores of images by the current model (none before it has predicted one), rounds with effort.
    Raises `NotReadyError` before the first model."""
    points = results.learning_curve(store, project.id)
    if not points:
        raise NotReadyError("There are no scores yet. Train a model first.")
    report(0, 2, "Collecting scores")
    yield "learning_curve.csv", to_csv([_curve_row(point) for point in points])
    report(1, 2, "Collecting scores of images")
    current = verdicts.current_checkpoint(store, project.id)
    if images := results.image_table(store, current.id if current else points[-1].checkpoint_id):
        yield "images.csv", to_csv(images)
    if rounds := _round_rows(store, project):
        yield "rounds.csv", to_csv(rounds)
    if notes := _note_rows(store, project):
        yield "notes.csv", to_csv(notes)


def effort(store: Store, project: Project, report: Report) -> Iterator[tuple[str, bytes]]:
    """One row for each object that a person accepted, edited, drew or rejected; what they are:
    `rounds.annotate.ledger`. Raises `NotReadyError` before the first."""
    report(0, 1, "Collecting the effort")
    known = ledger.patches(store, project.id)
    rows: list[dict[str, Any]] = []
    for this in round_rows.rounds(store, project.id):
        for pick in round_rows.selected(store, this.id):
            if pick.patch_id in known:
                rows += _object_rows(store, this.number, pick, known[pick.patch_id])
    if not rows:
        raise NotReadyError("No object was made by hand yet. Annotate a patch first.")
    yield "effort.csv", to_csv(rows)


def _object_rows(store: Store, number: int, pick: Selected, work: PatchWork) -> list[dict[str, Any]]:
    about = {
        "round": number,
        "patch": catalogue.patch(store, pick.patch_id).name,
        "role": str(pick.role),
        "started_from": " ".join(sorted(work.starts)),
        "control": int(pick.control),
        "annotated_again": int(pick.repeats is not None),
    }
    return [
        about
        | {"object": item.object_id, "outcome": item.outcome, "seconds": round(item.seconds, 2), "clicks": item.clicks}
        for item in work.objects
    ]


def to_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows with the same keys as CSV; None is empty. Starts with a byte order mark, which Excel needs for UTF-8.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows({key: harmless(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8-sig")


def harmless(value: Any) -> Any:
    """A value for a CSV file that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def rounded(value: float) -> float:
    """`value` with at least 4 decimals and 6 significant digits, so that a small unit leaves more than 0."""
    number = float(value)
    if not number or not math.isfinite(number):
        return number
    return round(number, max(4, 5 - math.floor(math.log10(abs(number)))))


def _flat(region: Any, size: VoxelSize) -> dict[str, Any]:
    area, (y, x) = int(region.area), region.centroid
    pixel = size.y * size.x if size.known else None
    return {
        "area_px": area,
        "area_um2": _times(area, pixel),
        "z": 0,
        "y": round(float(y), 3),
        "x": round(float(x), 3),
        "equivalent_diameter_px": round(float(region.equivalent_diameter_area), 3),
        "equivalent_diameter_um": _times(region.equivalent_diameter_area, pixel**0.5 if pixel else None),
        "major_axis_px": round(float(region.axis_major_length), 3),
        "minor_axis_px": round(float(region.axis_minor_length), 3),
        "eccentricity": round(float(region.eccentricity), 4),
        "perimeter_px": round(float(region.perimeter), 3),
    }


def _solid(region: Any, size: VoxelSize) -> dict[str, Any]:
    volume, (z, y, x) = int(region.area), region.centroid
    voxel = size.z * size.y * size.x if size.known and size.z is not None else None
    bottom, _, _, top, _, _ = region.bbox
    return {
        "volume_voxels": volume,
        "volume_um3": _times(volume, voxel),
        "z": round(float(z), 3),
        "y": round(float(y), 3),
        "x": round(float(x), 3),
        "equivalent_diameter_um": _times(region.equivalent_diameter_area, voxel ** (1 / 3) if voxel else None),
        "slices": int(top - bottom),
    }


def _times(value: float, unit: float | None) -> float | str:
    return rounded(float(value) * unit) if unit else ""


def _curve_row(point: results.CurvePoint) -> dict[str, Any]:
    row: dict[str, Any] = {
        "round": point.round_number,
        "labelled_patches": point.labelled,
        "fraction_labelled": "" if math.isnan(point.fraction) else round(point.fraction, 4),
    }
    for split, found in (("validation", point.validation), ("test", point.test)):
        low, high = (found.interval if found else None) or (None, None)
        row |= {f"{split}_{name}": None for name in ("n", "f1_50", "f1_50_low", "f1_50_high", "ap_50", "pq", "dice")}
        if found:
            values = (found.n, found.scores.f1_50, low, high, found.scores.ap_50, found.scores.pq, found.scores.dice)
            names = [name for name in row if name.startswith(f"{split}_")]
            row |= dict(zip(names, values, strict=True))
    return row


def _note_rows(store: Store, project: Project) -> list[dict[str, Any]]:
    """The notes that people made on patches of any round."""
    picks = round_rows.selected_in_project(store, project.id)
    states = annotation_batch.patch_states(store, list(picks))
    return [
        {
            "patch": catalogue.patch(store, patch_id).name,
            "role": picks[patch_id].role,
            "state": states[patch_id],
            "note": text,
        }
        for patch_id, text in sorted(annotations.notes(store, list(picks)).items())
    ]


def _round_rows(store: Store, project: Project) -> list[dict[str, Any]]:
    efforts = ledger.by_round(store, project.id)
    return [
        {
            "round": row.number,
            "strategy": row.strategy,
            "created": row.created,
            "selected": row.selected,
            "done": row.done,
            "skipped": row.skipped,
            "iterations": row.iterations,
            "f1_50": row.f1_50,
            "annotate_seconds": round(row.annotate_seconds, 1),
            "train_seconds": None if row.train_seconds is None else round(row.train_seconds, 1),
            "clicks": efforts[row.number].clicks,
            "drawn": efforts[row.number].drawn,
            "accepted": efforts[row.number].accepted,
            "corrected": efforts[row.number].corrected,
            "rejected": efforts[row.number].rejected,
        }
        for row in results.history(store, project.id)
    ]
