"""One image by a model: whole where it is small, block by block where it is large."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alapp.disk import new_array, releasing
from alapp.domain import Report, VoxelSize, part
from alapp.rounds.predict import decoding
from alapp.stages import segment
from alapp.stages.segment import Decoding, Found
from alapp.stages.train.base import ImageSource, Trainer
from alapp.stages.train.plan import anisotropy
from alapp.storage import models
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint


@dataclass(frozen=True)
class Segmented:
    """Objects of an image, and `foreground` uint8 (Z, Y, X): 255 times the probability not to be background; None
    when it was not asked for. Both may be mapped from files in the working folder."""

    found: Found
    foreground: np.ndarray | None

    def close(self) -> None:
        """Release the files, so that the working folder can be removed; the arrays must not be used any more."""
        self.found.close()
        if isinstance(self.foreground, np.memmap):
            self.foreground._mmap.close()


def decoding_of(store: Store, checkpoint: Checkpoint, voxel_size: VoxelSize) -> Decoding:
    """How the probabilities of a model become objects: by the parameters that were fitted in its round, if any."""
    return segment.decoding_for(
        voxel_size,
        parameters=decoding.used(store, checkpoint).decoding,
        learned_slices=decoding.learned_slices(models.plan(store, checkpoint.plan_id)),
    )


def segment_image(
    store: Store,
    network: Trainer,
    checkpoint: Checkpoint,
    source: ImageSource,
    is_3d: bool,
    voxel_size: VoxelSize,
    folder: Path,
    report: Report,
    with_foreground: bool = False,
) -> Segmented:
    """Segment an image (Z, Y, X, C). Large ones need `folder`, which is empty and the caller's to remove.

    Raises `InputError` when the image does not fit the model, `ResourceError` when memory or disk run out.
    """
    plan = models.plan(store, checkpoint.plan_id)
    workspace, weights = store.root / plan.workspace, store.files.resolve(checkpoint.path)
    how = decoding_of(store, checkpoint, voxel_size)
    shape = tuple(source.shape[:3])
    if int(np.prod(shape, dtype=np.int64)) <= segment.WHOLE_VOXELS:
        pixels = np.asarray(source[tuple(slice(0, n) for n in shape)])
        probabilities = network.predict(workspace, weights, pixels if is_3d else pixels[0], part(report, 0, 0.95))
        report(0.95, 1, "Separating objects")
        found = segment.found_in(segment.whole(probabilities, how))
        return Segmented(found, _to_bytes(probabilities[0]).reshape(shape) if with_foreground else None)
    foreground = None
    if with_foreground:
        foreground = new_array(folder / "foreground.npy", np.uint8, shape)
    halo = segment.halo(plan.summary["object_diameter_px"], is_3d, how.by_slices, anisotropy(voxel_size) or 1.0)
    started = network.blocks(workspace, weights, source, is_3d, part(report, 0, 0.1))
    with releasing(foreground), started as predict:
        found = segment.segment(
            predict, shape, how, halo, folder, part(report, 0.1, 1), not is_3d, segment.WHOLE_VOXELS, foreground
        )
    return Segmented(found, foreground)


def _to_bytes(background: np.ndarray) -> np.ndarray:
    return np.round(np.clip(1 - background, 0, 1) * 255).astype(np.uint8)
