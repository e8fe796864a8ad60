"""Label maps: a row with its provenance, and the file behind it; beside predictions, their probabilities."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from alapp.domain import LabelKind
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store, now, to_json

_AT_ONCE = 2**22
"""Pixels that `read_at` unpacks at a time."""


@dataclass(frozen=True)
class LabelMap:
    """A row of `label_map`. `patch_id` is None for a map of the whole image."""

    id: int
    project_id: int
    image_id: int
    patch_id: int | None
    kind: LabelKind
    round_id: int | None
    checkpoint_id: int | None
    backend: str
    params: dict[str, Any]
    input_hash: str
    path: str
    sha256: str
    n_objects: int
    created: str


def add(
    store: Store,
    kind: LabelKind,
    labels: np.ndarray,
    *,
    project_id: int,
    image_id: int,
    patch_id: int | None = None,
    round_id: int | None = None,
    checkpoint_id: int | None = None,
    backend: str,
    params: Mapping[str, Any] | None = None,
    input_hash: str,
) -> LabelMap:
    """Write a label map (Y, X) or (Z, Y, X) and its row; returns the row."""
    owner = f"patch{patch_id}" if patch_id else f"image{image_id}"
    target = store.files.project(project_id) / "labels" / kind / f"{owner}-{uuid.uuid4().hex[:12]}.tif"
    stored = store.files.write_labels(target, labels)
    ids = np.unique(labels)
    row = {
        "project_id": project_id,
        "image_id": image_id,
        "patch_id": patch_id,
        "kind": kind,
        "round_id": round_id,
        "checkpoint_id": checkpoint_id,
        "backend": backend,
        "params": to_json(dict(params or {})),
        "input_hash": input_hash,
        "path": stored.path,
        "sha256": stored.sha256,
        "n_objects": int(np.count_nonzero(ids)),
        "created": now(),
    }
    return _label_map({"id": store.insert("label_map", row), **row})


def read(store: Store, item: LabelMap) -> np.ndarray:
    """The pixels, int32."""
    return store.files.read_labels(item.path)


def read_slice(store: Store, item: LabelMap, z: int) -> np.ndarray:
    """int32 (Y, X): one slice of a map (Z, Y, X)."""
    return store.files.read_labels(item.path, (slice(z, z + 1), slice(None), slice(None)))[0]


def read_at(store: Store, item: LabelMap, rows: np.ndarray, columns: np.ndarray, z: int | None = None) -> np.ndarray:
    """int32 (rows, columns): only these pixels of a map of a whole image, of slice `z` in 3D. Both are ascending.

    However large the map, only some rows of it are in memory at a time.
    """
    found = np.empty((len(rows), len(columns)), np.int32)
    high = max(1, _AT_ONCE // (int(columns[-1]) + 1))
    slices = () if z is None else (slice(z, z + 1),)
    for start in range(0, int(rows[-1]) + 1, high):
        first, end = np.searchsorted(rows, (start, start + high))
        if first == end:
            continue
        wanted = rows[first:end]
        window = (*slices, slice(int(wanted[0]), int(wanted[-1]) + 1), slice(0, int(columns[-1]) + 1))
        part = store.files.read_labels(item.path, window)
        found[first:end] = (part if z is None else part[0])[wanted - wanted[0]][:, columns]
    return found


def read_around(store: Store, item: LabelMap, patch: Patch) -> np.ndarray:
    """int32 (Z, Y, X): a whole image's map on the slices of a patch; Z is 1 for a 2D image."""
    if not patch.is_3d:
        return read(store, item)[None]
    return store.files.read_labels(item.path, (patch.box.slices[0], slice(None), slice(None)))


def read_patch(store: Store, item: LabelMap, patch: Patch, z: int | None = None) -> np.ndarray:
    """int32 (Y, X) or (Z, Y, X): a patch's part of a map of it or of its whole image; with `z`, only this slice of the
    patch, (Y, X)."""
    first, (_, rows, columns) = patch.box.z, patch.box.slices
    if item.patch_id:
        first, rows, columns = 0, slice(None), slice(None)
    if not patch.is_3d:
        return store.files.read_labels(item.path, (rows, columns))
    if z is None:
        return store.files.read_labels(item.path, (slice(first, first + patch.box.depth), rows, columns))
    return store.files.read_labels(item.path, (slice(first + z, first + z + 1), rows, columns))[0]


def of_ids(store: Store, ids: Sequence[int]) -> list[LabelMap]:
    """The label maps with these ids that still exist, in the order of `ids`."""
    rows = store.rows("SELECT * FROM label_map WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))
    found = {row["id"]: _label_map(row) for row in rows}
    return [found[number] for number in ids if number in found]


def latest_of_image(store: Store, image_id: int, kind: LabelKind) -> LabelMap | None:
    """The newest map of a whole image."""
    return _optional(
        store.row(
            "SELECT * FROM label_map WHERE image_id = ? AND kind = ? AND patch_id IS NULL ORDER BY id DESC LIMIT 1",
            (image_id, kind),
        )
    )


def latest_of_patch(store: Store, patch_id: int, kind: LabelKind) -> LabelMap | None:
    """The newest map made for one patch."""
    return _optional(
        store.row("SELECT * FROM label_map WHERE patch_id = ? AND kind = ? ORDER BY id DESC LIMIT 1", (patch_id, kind))
    )


def of_images(store: Store, project_id: int, kind: LabelKind) -> list[LabelMap]:
    """All maps of whole images of a project, oldest first."""
    rows = store.rows(
        """SELECT label_map.* FROM label_map JOIN image ON image.id = label_map.image_id
           WHERE label_map.project_id = ? AND kind = ? AND patch_id IS NULL AND image.deleted IS NULL
           ORDER BY label_map.id""",
        (project_id, kind),
    )
    return [_label_map(row) for row in rows]


def latest_by_image(store: Store, project_id: int, kind: LabelKind) -> dict[int, LabelMap]:
    """The newest map of each whole image of a project, by image id."""
    rows = store.rows(
        """SELECT label_map.*, max(label_map.id) FROM label_map JOIN image ON image.id = label_map.image_id
           WHERE label_map.project_id = ? AND kind = ? AND patch_id IS NULL AND image.deleted IS NULL
           GROUP BY image_id""",
        (project_id, kind),
    )
    return {row["image_id"]: _label_map(row) for row in rows}


def latest_by_patch(store: Store, project_id: int, kind: LabelKind) -> dict[int, LabelMap]:
    """The newest map of each patch of a project, by patch id; patches that repeat another one are left out."""
    rows = store.rows(
        """SELECT label_map.*, max(label_map.id) FROM label_map JOIN image ON image.id = label_map.image_id
           JOIN patch ON patch.id = label_map.patch_id
           WHERE label_map.project_id = ? AND kind = ? AND image.deleted IS NULL AND patch.repeats IS NULL
           GROUP BY patch_id""",
        (project_id, kind),
    )
    return {row["patch_id"]: _label_map(row) for row in rows}


def of_checkpoint(store: Store, checkpoint_id: int) -> dict[int, LabelMap]:
    """Predictions of one checkpoint, by image id."""
    rows = store.rows(
        "SELECT * FROM label_map WHERE checkpoint_id = ? AND kind = 'predicted' AND patch_id IS NULL ORDER BY id",
        (checkpoint_id,),
    )
    return {row["image_id"]: _label_map(row) for row in rows}


def add_probability(store: Store, item: LabelMap, foreground: np.ndarray) -> None:
    """Keep the foreground probabilities, float in [0, 1] or uint8 in 1/255, of a predicted map of the same shape."""
    target = store.files.project(item.project_id) / "probabilities" / f"map{item.id}-{uuid.uuid4().hex[:12]}.npy"
    if foreground.dtype != np.uint8:
        foreground = np.round(np.clip(foreground, 0, 1) * 255).astype(np.uint8)
    stored = store.files.write_array(target, foreground)
    store.insert("probability", {"label_map_id": item.id, "path": stored.path, "sha256": stored.sha256})


def probability(store: Store, item: LabelMap) -> np.ndarray | None:
    """uint8 of the map's shape, memory-mapped; 255 is certain foreground. None where none are kept."""
    row = store.row("SELECT path FROM probability WHERE label_map_id = ?", (item.id,))
    return store.files.read_array(row["path"]) if row else None


def without_probability(store: Store, checkpoint_id: int) -> set[int]:
    """Ids of the images that the checkpoint predicted, but whose probabilities were removed."""
    rows = store.rows(
        """SELECT image_id FROM label_map WHERE checkpoint_id = ? AND kind = 'predicted' AND patch_id IS NULL
           AND id NOT IN (SELECT label_map_id FROM probability)""",
        (checkpoint_id,),
    )
    return {row["image_id"] for row in rows}


def drop_probabilities(store: Store, project_id: int, keep: Collection[int]) -> None:
    """Remove those of all checkpoints but the ids in `keep`: each is as large as the images."""
    superseded = """FROM probability WHERE label_map_id IN
        (SELECT id FROM label_map WHERE project_id = ?
         AND coalesce(checkpoint_id, 0) NOT IN (SELECT value FROM json_each(?)))"""
    key = (project_id, json.dumps(list(keep)))
    paths = [row["path"] for row in store.rows(f"SELECT path {superseded}", key)]
    store.execute(f"DELETE {superseded}", key)
    for path in paths:
        # Windows keeps a file that a page is looking at; `alapp doctor` finds it later.
        with suppress(PermissionError):
            store.files.resolve(path).unlink(missing_ok=True)


def _optional(row: dict[str, Any] | None) -> LabelMap | None:
    return _label_map(row) if row else None


def _label_map(row: dict[str, Any]) -> LabelMap:
    values = {name: row[name] for name in LabelMap.__dataclass_fields__}
    return LabelMap(**values | {"kind": LabelKind(row["kind"]), "params": json.loads(row["params"])})
