"""What a strategy needs to know in an experiment: what a person's project would know at that time.

The same measures as `rounds.select.informing`, of images that are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Report
from alapp.experiments.lab import Lab
from alapp.experiments.study import Run
from alapp.stages import segment
from alapp.stages.select import measures
from alapp.stages.select.base import Need

PIXELS = {Need.CONTRAST, Need.CONTENT}
LABELS = {Need.FOREGROUND, Need.COST}
DOUBT = {Need.UNCERTAINTY, Need.MUTUAL_INFORMATION, Need.CLASS_ENTROPY}


def inform(
    lab: Lab, run: Run, start: Path | None, number: int, needs: Collection[Need], report: Report
) -> dict[str, Any]:
    """Fields of `Context` that are needed. `start`: the model so far, None before the first; `number` of the round.

    Raises what prediction raises, and `Cancelled` from `report`.
    """
    found: dict[str, Any] = {Need.ROUND_NUMBER: number}
    if PIXELS & set(needs):
        pixels = [lab.images.pixels(patch) for patch in lab.images.patches]
        contrast, noise = (np.array([of(patch) for patch in pixels]) for of in (measures.contrast, measures.noise))
        found[Need.CONTRAST] = measures.evened(contrast, noise, np.array([it.image for it in lab.images.patches]))
        found[Need.CONTENT] = np.array([measures.content(patch) for patch in pixels], dtype=np.int64)
    if Need.PLACE in needs:
        found[Need.PLACE] = np.array([measures.place(patch.image, patch.box) for patch in lab.images.patches])
    if LABELS & set(needs):
        found |= _from_labels(lab, run, start, Need.COST in needs, report)
    if DOUBT & set(needs) and start is not None:
        found |= _from_doubt(lab, run, start, report)
    return {str(need): found[need] for need in needs if need in found}


def _from_labels(lab: Lab, run: Run, start: Path | None, with_cost: bool, report: Report) -> dict[Need, Any]:
    """Foreground and cost of each patch: by the model so far, else by pseudo-labels. Objects are told apart only for
    the cost."""
    if start is None:
        maps = lab.pseudo("auto", run.seed, report)
        foreground = [labels > 0 for labels in maps]
    else:
        workspace = lab.workspace(run, start, report)
        predicted = [lab.scout.predict(workspace, start, image.pixels, report) for image in lab.images.train]
        foreground = [probabilities[0] < 0.5 for probabilities in predicted]
        how = segment.decoding_for(lab.images.voxel_size)
        maps = [segment.whole(probabilities, how) for probabilities in predicted] if with_cost else foreground
    objects = _of_patches(lab, maps, lambda part: np.count_nonzero(np.unique(part)))
    return {
        Need.FOREGROUND: _of_patches(lab, foreground, np.mean),
        Need.COST: measures.cost(objects),
    }


def _from_doubt(lab: Lab, run: Run, start: Path, report: Report) -> dict[Need, Any]:
    """Image by image, so that the probabilities of one are in memory."""
    workspace = lab.workspace(run, start, report)
    rows: dict[int, measures.PatchDoubt] = {}
    for index, image in enumerate(lab.images.train):
        report(index, len(lab.images.train), f"Asking the model where it is in doubt: {image.name}")
        doubt = measures.doubt(lab.scout.mirrored(workspace, start, image.pixels, lambda *_: None))
        rows |= {row: doubt.of(patch.of) for row, patch in enumerate(lab.images.patches) if patch.image == index}
    ordered = [rows[row] for row in range(len(lab.images.patches))]
    return {
        Need.UNCERTAINTY: np.array([each.uncertainty for each in ordered]),
        Need.MUTUAL_INFORMATION: np.array([each.mutual_information for each in ordered]),
        Need.CLASS_ENTROPY: np.array([each.class_entropy for each in ordered]),
    }


def _of_patches(lab: Lab, arrays: list[np.ndarray], measure: Callable[[np.ndarray], float]) -> np.ndarray:
    return np.array([measure(patch.of(arrays[patch.image])) for patch in lab.images.patches], dtype=np.float64)
