"""The map of patches: where each patch lies, what was done with it, and how unsure the model is of it.

Coordinates and doubt are computed by the worker and kept in files whose names hold a hash of what they were made from:
a file with the right name is right, and one that is missing is made again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alapp.domain import PatchRole, Report, part
from alapp.rounds.annotate import annotation
from alapp.rounds.select import embedding
from alapp.rounds.timing import content_hash
from alapp.stages.annotate.doubt import mean_doubt
from alapp.stages.select.projection import pca_2d, project_2d
from alapp.storage import catalogue, labels, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.storage.models import Embedding

STATUSES = ("unlabelled", "labelled", "validation", "skipped", "selected")


@dataclass(frozen=True)
class MapPoint:
    """A patch on the 2D map. `status` is one of `STATUSES`; `round_number` is None for a patch that was never picked;
    `doubt` of the model in use, in [0, 1] (see `doubt.mean_doubt`), None where it is not known."""

    patch_id: int
    name: str
    x: float
    y: float
    status: str
    round_number: int | None
    doubt: float | None = None


def patch_map(store: Store, project_id: int) -> list[MapPoint]:
    """The 2D map of the newest embedding: as `run_map` drew it, else by principal components. Empty before the
    first selection."""
    row = models.latest_embedding(store, project_id)
    if row is None:
        return []
    ids, vectors = embedding.read(store, row)
    drawn = _points_file(store, row)
    points = _read(store, drawn) if drawn.exists() else pca_2d(np.asarray(vectors))
    unsure = _doubts(store, row, len(ids))
    patches = {patch.id: patch for patch in catalogue.patches(store, project_id)}
    chosen = round_rows.selected_in_project(store, project_id)
    states = annotation.patch_states(store, list(chosen))
    numbers = {item.id: item.number for item in round_rows.rounds(store, project_id)}
    result = []
    for patch_id, (x, y), doubt in zip(ids.tolist(), points.tolist(), unsure.tolist(), strict=True):
        if patch_id not in patches:
            continue
        pick = chosen.get(patch_id)
        status = status_of(pick.role, states.get(patch_id)) if pick else "unlabelled"
        number = numbers[pick.round_id] if pick else None
        known = None if np.isnan(doubt) else doubt
        result.append(MapPoint(patch_id, patches[patch_id].name, x, y, status, number, known))
    return result


def doubt_of(store: Store, patch: Patch) -> float | None:
    """The doubt of the model in use about one patch, as the map shows it; None where it is not known."""
    row = models.latest_embedding(store, patch.project_id)
    if row is None:
        return None
    ids = embedding.read(store, row)[0]
    (found,) = np.nonzero(ids == patch.id)
    doubt = float(_doubts(store, row, len(ids))[found[0]]) if len(found) else np.nan
    return None if np.isnan(doubt) else doubt


def status_of(role: PatchRole, state: str | None) -> str:
    """The status of a patch that was picked for `role`, by the state of its annotation."""
    if state == annotation.SKIPPED:
        return "skipped"
    if state != annotation.DONE:
        return "selected"
    return "validation" if role is PatchRole.VALIDATION else "labelled"


def missing(store: Store, project_id: int) -> str:
    """What `run_map` has to make, as a hash that stays the same until it is made; "" when the map is complete."""
    row = models.latest_embedding(store, project_id)
    wanted = [] if row is None else [_points_file(store, row), _doubts_file(store, row)]
    absent = [path.name for path in wanted if path is not None and not path.exists()]
    return content_hash("map", *absent) if absent else ""


def run_map(store: Store, project_id: int, report: Report, wanted: str = "") -> None:
    """Make what `missing` names: the coordinates of the newest embedding by UMAP, and the doubt of the model in use.

    A job, because UMAP takes most of a minute the first time and the probabilities are as large as the images.
    `wanted` is only kept with the job: it tells the pages what was tried. Raises `Cancelled` from `report`.
    """
    row = models.latest_embedding(store, project_id)
    if row is None:
        return
    drawn = _points_file(store, row)
    if not drawn.exists():
        report(0, 1, "Drawing the map of patches")
        points = project_2d(np.asarray(embedding.read(store, row)[1]), catalogue.project(store, project_id).seed)
        _replace(store, drawn, points, "map-2d-*.npy")
    target = _doubts_file(store, row)
    if target is not None and not target.exists():
        _replace(store, target, _measure(store, row, part(report, 0.6, 1.0)), "map-doubt-*.npy")
    report(1, 1, "The map of patches is drawn")


def _measure(store: Store, row: Embedding, report: Report) -> np.ndarray:
    """float32 (N,), in the order of the embedding's patches: the doubt of each, NaN where it is not known."""
    ids = embedding.read(store, row)[0].tolist()
    where = {patch_id: index for index, patch_id in enumerate(ids)}
    by_image: dict[int, list[Patch]] = {}
    for patch in catalogue.patches(store, row.project_id):
        if patch.id in where:
            by_image.setdefault(patch.image_id, []).append(patch)
    predicted = _predicted(store, row.project_id)
    found = np.full(len(ids), np.nan, np.float32)
    for index, (image_id, patches) in enumerate(by_image.items()):
        report(index, len(by_image), "Measuring how unsure the model is")
        item = predicted.get(image_id)
        foreground = labels.probability(store, item) if item else None
        if foreground is None:
            continue
        for patch in patches:
            found[where[patch.id]] = mean_doubt(catalogue.crop(foreground, patch))
    return found


def _predicted(store: Store, project_id: int) -> dict[int, LabelMap]:
    """The predictions of the model in use that have probabilities, by image id."""
    current = verdicts.current_checkpoint(store, project_id)
    if current is None:
        return {}
    bare = labels.without_probability(store, current.id)
    return {key: item for key, item in labels.of_checkpoint(store, current.id).items() if key not in bare}


def _points_file(store: Store, row: Embedding) -> Path:
    seed = catalogue.project(store, row.project_id).seed
    return _folder(store, row) / f"map-2d-{content_hash('umap', row.sha256, seed)[:16]}.npy"


def _doubts_file(store: Store, row: Embedding) -> Path | None:
    """None while no model has said how sure it is."""
    maps = sorted(item.id for item in _predicted(store, row.project_id).values())
    if not maps:
        return None
    return _folder(store, row) / f"map-doubt-{content_hash('entropy', row.patch_ids_sha256, maps)[:16]}.npy"


def _doubts(store: Store, row: Embedding, n: int) -> np.ndarray:
    path = _doubts_file(store, row)
    return _read(store, path) if path is not None and path.exists() else np.full(n, np.nan, np.float32)


def _folder(store: Store, row: Embedding) -> Path:
    return store.files.project(row.project_id) / "embeddings"


def _read(store: Store, path: Path) -> np.ndarray:
    return store.files.read_array(path.relative_to(store.root).as_posix())


def _replace(store: Store, target: Path, values: np.ndarray, pattern: str) -> None:
    """Write the file, and remove what it takes the place of."""
    store.files.write_array(target, values.astype(np.float32))
    for path in target.parent.glob(pattern):
        if path != target:
            # Windows keeps a file that a page is looking at; it is removed with the next one.
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
