"""Embeddings of every patch by what the project compares patches by; only what changed is embedded again.

Vectors are kept by the id of their patch: the pixels behind an id never change. They are made anew when the embedder,
the weights behind it, or for some of them the project's network changed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alapp.disk import patiently
from alapp.domain import BackendState, Report, Status, part
from alapp.errors import AlappError, NotReadyError
from alapp.rounds.timing import timed
from alapp.stages.embed.base import EMBEDDERS, NEED_NETWORK, Embedder
from alapp.stages.embed.combined import WEIGHTS, combine
from alapp.stages.embed.network import TrainedNetwork
from alapp.storage import catalogue, models, verdicts
from alapp.storage.catalogue import Patch, PatchPixels, Project
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint, Embedding

BACKEND = "mae"
"""What patches are compared by while the project's choice cannot be used."""
COMBINED = "combined"
REFIT_GROWTH = 2.0
"""The embedder is trained further when the project has this many times the patches it was trained on, those of removed
images not counted."""


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


def status(store: Store, project_id: int, backend: str) -> Status:
    """Whether the patches of a project can be compared by `backend` now, and if not, what is missing."""
    found = EMBEDDERS.load(backend).status()
    if not found.ready or backend not in NEED_NETWORK or _current(store, project_id) is not None:
        return found
    return Status(
        BackendState.WEIGHTS_MISSING,
        "No network is trained yet.",
        "Pre-train one or train a round first.",
    )


def in_use(store: Store, project_id: int) -> str:
    """What the next selection compares patches by: the project's choice if it can be used, else `BACKEND`."""
    chosen = catalogue.project(store, project_id).embedder
    return chosen if status(store, project_id, chosen).ready else BACKEND


def choose(store: Store, project_id: int, backend: str) -> None:
    """Compare the project's patches by `backend` from the next selection on. Raises `InputError` for unknown ones."""
    EMBEDDERS.load(backend)
    catalogue.update_project(store, project_id, embedder=backend)


def update(
    store: Store, project_id: int, report: Report, backend: str | None = None, round_number: int | None = None
) -> Embedding:
    """Embed every patch that can be selected, by default by what is `in_use`; what is embedded already is kept.

    The result is the project's newest embedding. The time is booked on `round_number`, by default the newest round.

    Raises `NotReadyError` without images, `Cancelled` from `report`; a training that was stopped goes on next time.
    """
    project = catalogue.project(store, project_id)
    patches = catalogue.patches(store, project_id)
    if not patches:
        raise NotReadyError("Import images first: there are no patches to select from.")
    work = _Work(store, project, patches, round_number)
    row = work.update(backend or in_use(store, project_id), report)
    newest = models.latest_embedding(store, project_id)
    if newest is not None and newest.id == row.id:
        return row
    # The choice went back to an earlier one: the same files, as the newest row.
    names = ("backend", "params", "model_path", "model_sha256", "path", "sha256", "patch_ids_path", "patch_ids_sha256")
    return models.add_embedding(store, {"project_id": project_id} | {name: getattr(row, name) for name in names})


class _Work:
    """The patches of a project, and how each backend's vectors of them are brought up to date."""

    def __init__(self, store: Store, project: Project, patches: list[Patch], round_number: int | None):
        self.store, self.project, self.patches, self.round_number = store, project, patches, round_number

    def update(self, backend: str, report: Report) -> Embedding:
        """The newest row of `backend`, with every patch."""
        if backend == COMBINED:
            return self._join(report)
        last = models.latest_embedding(self.store, self.project.id, backend)
        checkpoint = _current(self.store, self.project.id) if backend in NEED_NETWORK else None
        weights = checkpoint.sha256 if checkpoint else None
        if last is None or last.params.get("network") != weights or self._outgrown(backend, last):
            with timed(self.store, self.project.id, "embed", self.round_number):
                return self._fit(backend, last, checkpoint, report)
        ids, vectors = read(self.store, last)
        here, known = {patch.id for patch in self.patches}, set(ids.tolist())
        new = [patch for patch in self.patches if patch.id not in known]
        if not new:
            return last
        with timed(self.store, self.project.id, "embed", self.round_number):
            added = self._load(last, checkpoint).embed(PatchPixels(self.store, new), report)
            kept = np.array([patch_id in here for patch_id in ids.tolist()], dtype=bool)
            merged = np.concatenate([ids[kept], [patch.id for patch in new]]).astype(np.int64)
            values = {name: getattr(last, name) for name in ("backend", "params", "model_path", "model_sha256")}
            return _save(self.store, self.project.id, values, merged, np.concatenate([vectors[kept], added]))

    def _outgrown(self, backend: str, last: Embedding) -> bool:
        if not EMBEDDERS.load(backend).trains and backend not in NEED_NETWORK:
            return False
        known = last.params["fitted_on"]
        if (newest := last.params.get("newest_patch")) is not None:  # not kept by earlier versions
            # Ids grow and are never given twice, so that those of its time are the smaller ones.
            known = sum(patch.id <= newest for patch in self.patches)
        return len(self.patches) >= REFIT_GROWTH * known

    def _fit(self, backend: str, last: Embedding | None, checkpoint: Checkpoint | None, report: Report) -> Embedding:
        embedder = self._create(backend, checkpoint)
        if last is not None and embedder.trains:
            try:
                embedder = self._load(last, checkpoint)
            except AlappError:  # its file is gone or damaged: training begins anew
                embedder = self._create(backend, checkpoint)
        pixels = PatchPixels(self.store, self.patches)
        folder = _folder(self.store, self.project.id)
        embedder.fit(pixels, part(report, 0.0, 0.9), folder / f"training-{backend}.pt")
        vectors = embedder.embed(pixels, part(report, 0.9, 1.0))
        model = folder / f"{backend}-{uuid.uuid4().hex[:12]}.pt"
        partial = model.with_suffix(".partial")
        try:
            embedder.save(partial)
            patiently(os.replace, partial, model)
        finally:
            partial.unlink(missing_ok=True)
        stored = self.store.files.register(model)
        values = {
            "backend": backend,
            "params": {
                "fitted_on": len(self.patches),
                "newest_patch": max(patch.id for patch in self.patches),
                "seed": self.project.seed,
                "network": checkpoint.sha256 if checkpoint else None,
            },
            "model_path": stored.path,
            "model_sha256": stored.sha256,
        }
        ids = np.array([patch.id for patch in self.patches], dtype=np.int64)
        return _save(self.store, self.project.id, values, ids, vectors)

    def _join(self, report: Report) -> Embedding:
        """Vectors of both parts, put together; each part is kept up to date by itself."""
        share = 1 / len(WEIGHTS)
        rows = {
            name: self.update(name, part(report, number * share, (number + 1) * share))
            for number, name in enumerate(WEIGHTS)
        }
        made_from = {name: row.id for name, row in rows.items()}
        last = models.latest_embedding(self.store, self.project.id, COMBINED)
        if last is not None and last.params["parts"] == made_from:
            return last
        ids = np.array([patch.id for patch in self.patches], dtype=np.int64)
        vectors = {}
        for name, row in rows.items():
            known, found = read(self.store, row)
            where = {patch_id: index for index, patch_id in enumerate(known.tolist())}
            vectors[name] = np.asarray(found[[where[patch_id] for patch_id in ids.tolist()]])
        params = {"fitted_on": len(ids), "seed": self.project.seed, "parts": made_from}
        values = {"backend": COMBINED, "params": params, "model_path": None, "model_sha256": None}
        return _save(self.store, self.project.id, values, ids, combine(vectors))

    def _create(self, backend: str, checkpoint: Checkpoint | None) -> Embedder:
        options = {"network": _files(self.store, checkpoint)} if backend in NEED_NETWORK else {}
        return EMBEDDERS.create(backend, seed=self.project.seed, **options)

    def _load(self, row: Embedding, checkpoint: Checkpoint | None) -> Embedder:
        embedder = self._create(row.backend, checkpoint)
        if row.model_path and row.model_sha256:
            self.store.files.verify(row.model_path, row.model_sha256)
            embedder.load(self.store.files.resolve(row.model_path))
        return embedder


def _current(store: Store, project_id: int) -> Checkpoint | None:
    """The model that the project uses, if its file is there."""
    checkpoint = verdicts.current_checkpoint(store, project_id)
    if checkpoint is None or checkpoint.removed_at or not store.files.resolve(checkpoint.path).exists():
        return None
    return checkpoint


def _files(store: Store, checkpoint: Checkpoint | None) -> TrainedNetwork | None:
    if checkpoint is None:
        return None
    workspace = store.root / models.plan(store, checkpoint.plan_id).workspace
    return TrainedNetwork(workspace, store.files.resolve(checkpoint.path))


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
