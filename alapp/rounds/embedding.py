"""Embeddings of every patch: trained once on the project's images, extended when images are added."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from alapp.domain import Report
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


def aligned(store: Store, row: Embedding, patches: list[Patch]) -> np.ndarray:
    """Vectors float32 (N, D) in the order of `patches`. Raises `NotReadyError` if one has none yet."""
    ids, vectors = read(store, row)
    if len(ids) == len(patches) and all(a == b.id for a, b in zip(ids, patches, strict=True)):
        return vectors
    where = {int(patch_id): index for index, patch_id in enumerate(ids)}
    if missing := [patch.name for patch in patches if patch.id not in where]:
        raise NotReadyError(f"{len(missing)} patches are not embedded yet, {missing[0]} among them. Select a batch.")
    return np.asarray(vectors[[where[patch.id] for patch in patches]])


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
    known = set(ids.tolist())
    new = [patch for patch in patches if patch.id not in known]
    if not new:
        return last
    with timed(store, project_id, "embed", round_number):
        embedder = _load(store, project, last)
        added = embedder.embed(PatchPixels(store, new), report)
        merged_ids = np.concatenate([ids, [patch.id for patch in new]]).astype(np.int64)
        return _save(store, project_id, last, merged_ids, np.concatenate([vectors, added]))


def _fit(store: Store, project: Project, patches: list[Patch], report: Report, backend: str) -> Embedding:
    embedder = EMBEDDERS.create(backend, seed=project.seed)
    pixels = PatchPixels(store, patches)
    embedder.fit(pixels, lambda done, total, message: report(0.9 * done / max(total, 1), 1, message))
    vectors = embedder.embed(pixels, lambda done, total, message: report(0.9 + 0.1 * done / max(total, 1), 1, message))
    folder = store.files.project(project.id) / "embeddings"
    model = folder / f"{backend}-{uuid.uuid4().hex[:12]}.pt"
    partial = model.with_suffix(".partial")
    folder.mkdir(parents=True, exist_ok=True)
    embedder.save(partial)
    partial.replace(model)
    stored = store.files.register(model)
    row = Embedding(
        id=0,
        project_id=project.id,
        backend=backend,
        params={"fitted_on": len(patches), "seed": project.seed},
        model_path=stored.path,
        model_sha256=stored.sha256,
        path="",
        sha256="",
        patch_ids_path="",
        patch_ids_sha256="",
        created="",
    )
    return _save(store, project.id, row, np.array([patch.id for patch in patches], dtype=np.int64), vectors)


def _load(store: Store, project: Project, row: Embedding) -> Embedder:
    embedder = EMBEDDERS.create(row.backend, seed=project.seed)
    if row.model_path and row.model_sha256:
        store.files.verify(row.model_path, row.model_sha256)
        embedder.load(store.files.resolve(row.model_path))
    return embedder


def _save(store: Store, project_id: int, like: Embedding, ids: np.ndarray, vectors: np.ndarray) -> Embedding:
    folder = store.files.project(project_id) / "embeddings"
    name = uuid.uuid4().hex[:12]
    matrix = store.files.write_array(folder / f"vectors-{name}.npy", vectors.astype(np.float32, copy=False))
    rows = store.files.write_array(folder / f"patches-{name}.npy", ids)
    values: dict[str, Any] = {
        "project_id": project_id,
        "backend": like.backend,
        "params": like.params,
        "model_path": like.model_path,
        "model_sha256": like.model_sha256,
        "path": matrix.path,
        "sha256": matrix.sha256,
        "patch_ids_path": rows.path,
        "patch_ids_sha256": rows.sha256,
    }
    return models.add_embedding(store, values)
