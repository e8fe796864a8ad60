"""Embeddings of every patch: trained once on the project's images, extended when images are added."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Report, part
from alapp.errors import NotReadyError
from alapp.rounds.timing import timed
from alapp.stages.embed.base import EMBEDDERS, Embedder
from alapp.storage import catalogue, models
from alapp.storage.catalogue import Patch, PatchPixels, Project
from alapp.storage.db import Store
from alapp.storage.models import Embedding

BACKEND = "mae"
REFIT_GROWTH = 2.0
"""The embedder is trained anew when the project has this many times the patches it was trained on."""


def read(store: Store, row: Embedding) -> tuple[np.ndarray, np.ndarray]:
    """(patch ids int64 (N,), vectors float32 (N, D)), memory-mapped."""
    return store.files.read_array(row.patch_ids_path), store.files.read_array(row.path)


def embedded(store: Store, project_id: int) -> tuple[list[Patch], np.ndarray]:
    """Patches that can be selected and have vectors, with their vectors float32 (N, D).

    Raises `NotReadyError` before the first selection.
    """
    row = models.latest_embedding(store, project_id)
    if row is None:
        raise NotReadyError("The patches are not embedded yet. Select a batch first.")
    ids, vectors = read(store, row)
    where = {int(patch_id): index for index, patch_id in enumerate(ids)}
    patches = [patch for patch in catalogue.patches(store, project_id) if patch.id in where]
    if [patch.id for patch in patches] == ids.tolist():
        return patches, vectors  # memory-mapped, which matters with a million patches
    return patches, np.asarray(vectors[[where[patch.id] for patch in patches]])


def update(
    store: Store, project_id: int, report: Report, backend: str = BACKEND, round_number: int | None = None
) -> Embedding:
    """Embed every patch that can be selected; what was embedded by the same model is kept.

    The time is booked on `round_number`, by default the newest round.

    Raises `NotReadyError` without images, `Cancelled` from `report`.
    """
    project = catalogue.project(store, project_id)
    patches = catalogue.patches(store, project_id)
    if not patches:
        raise NotReadyError("Import images first: there are no patches to select from.")
    last = models.latest_embedding(store, project_id)
    if last is None or last.backend != backend or len(patches) >= REFIT_GROWTH * last.params["fitted_on"]:
        with timed(store, project_id, "embed", round_number):
            return _fit(store, project, patches, report, backend)
    ids, vectors = read(store, last)
    here, known = {patch.id for patch in patches}, set(ids.tolist())
    new = [patch for patch in patches if patch.id not in known]
    if not new:
        return last
    with timed(store, project_id, "embed", round_number):
        added = _load(store, project, last).embed(PatchPixels(store, new), report)
        kept = np.array([patch_id in here for patch_id in ids.tolist()], dtype=bool)
        merged = np.concatenate([ids[kept], [patch.id for patch in new]]).astype(np.int64)
        values = {name: getattr(last, name) for name in ("backend", "params", "model_path", "model_sha256")}
        return _save(store, project_id, values, merged, np.concatenate([vectors[kept], added]))


def _fit(store: Store, project: Project, patches: list[Patch], report: Report, backend: str) -> Embedding:
    embedder = EMBEDDERS.create(backend, seed=project.seed)
    pixels = PatchPixels(store, patches)
    embedder.fit(pixels, part(report, 0.0, 0.9))
    vectors = embedder.embed(pixels, part(report, 0.9, 1.0))
    model = _folder(store, project.id) / f"{backend}-{uuid.uuid4().hex[:12]}.pt"
    partial = model.with_suffix(".partial")
    embedder.save(partial)
    partial.replace(model)
    stored = store.files.register(model)
    values = {
        "backend": backend,
        "params": {"fitted_on": len(patches), "seed": project.seed},
        "model_path": stored.path,
        "model_sha256": stored.sha256,
    }
    return _save(store, project.id, values, np.array([patch.id for patch in patches], dtype=np.int64), vectors)


def _load(store: Store, project: Project, row: Embedding) -> Embedder:
    embedder = EMBEDDERS.create(row.backend, seed=project.seed)
    if row.model_path and row.model_sha256:
        store.files.verify(row.model_path, row.model_sha256)
        embedder.load(store.files.resolve(row.model_path))
    return embedder


def _save(store: Store, project_id: int, values: Mapping[str, Any], ids: np.ndarray, vectors: np.ndarray) -> Embedding:
    name = uuid.uuid4().hex[:12]
    folder = _folder(store, project_id)
    matrix = store.files.write_array(folder / f"vectors-{name}.npy", vectors.astype(np.float32, copy=False))
    rows = store.files.write_array(folder / f"patches-{name}.npy", ids)
    paths = {
        "path": matrix.path,
        "sha256": matrix.sha256,
        "patch_ids_path": rows.path,
        "patch_ids_sha256": rows.sha256,
    }
    return models.add_embedding(store, {"project_id": project_id, **values, **paths})


def _folder(store: Store, project_id: int) -> Path:
    folder = store.files.project(project_id) / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
