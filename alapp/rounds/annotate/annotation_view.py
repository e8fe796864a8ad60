"""A patch as the canvas takes it: JSON with run-length masks."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from alapp.errors import AlappError
from alapp.rounds.annotate import annotation, annotation_classes, clicks
from alapp.rounds.annotate.annotation import Change
from alapp.stages.annotate import journal, masks
from alapp.stages.annotate.journal import Draft, Instance, State
from alapp.stages.annotate.masks import Mask
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store

logger = logging.getLogger(__name__)

KEPT_BYTES = 128 * 2**20  # of run lengths: those of a large object in a stack take 0.1 MB, and each edit makes new ones
ENTRY_BYTES = 500  # of Python's own for each mask


def open_patch(store: Store, patch_id: int, session: str, start: str | None = None) -> dict[str, Any]:
    """Everything the canvas needs to show a patch and go on with it, except its pixels (`annotation_pictures`)."""
    patch = catalogue.patch(store, patch_id)
    now = annotation.begin(store, patch_id, session, start)
    depth, height, width = clicks.shape(patch)
    return {
        "id": patch_id,
        "name": patch.name,
        "width": width,
        "height": height,
        "depth": depth,
        "voxel_size": asdict(patch.voxel_size),
        "starts": annotation.starts(store, patch),
        "start": now.start,
        "draft": _draft(store, patch, now),
        "items": [
            *(item_json(key, item, False) for key, item in now.objects.items()),
            *(item_json(key, item, True) for key, item in now.suggestions.items()),
        ],
        **region_json(now),
        **_head(now),
    }


def batch(store: Store, project_id: int) -> dict[str, Any]:
    """The newest round's patches with their states, which one comes next, the project's classes if there are several,
    and what was chosen to answer clicks."""
    latest = round_rows.latest(store, project_id)
    if latest is None:
        return {"title": "", "patches": [], "next": None}
    patches = annotation.batch(store, latest.id)
    project = catalogue.project(store, project_id)
    kinds = annotation_classes.names(project)
    return {
        "clicks": project.click_method,
        "kinds": [{"kind": kind, "name": name} for kind, name in kinds.items()] if len(kinds) > 1 else [],
        "title": f"Round {latest.number}",
        "next": annotation.next_patch(store, project_id),
        "patches": [
            {
                "id": item.patch_id,
                "name": item.name,
                "role": item.role,
                "state": item.state,
                "n_objects": item.n_objects,
                "empty": item.empty,
                "not_annotated": item.not_annotated,
                "reason": item.reason,
                "note": item.note,
                "control": item.control,
            }
            for item in patches
        ],
    }


def changes(change: Change) -> dict[str, Any]:
    """What the canvas must repaint after an act: only objects that are new or differ, and ids that are gone."""
    before, after = change.before, change.after
    items = [
        *_differing(before.objects, after.objects, False),
        *_differing(before.suggestions, after.suggestions, True),
    ]
    gone = {*before.objects, *before.suggestions} - {*after.objects, *after.suggestions}
    region = region_json(after)
    if before.content.ignored == after.content.ignored:
        del region["region"]
    return {"items": items, "removed": sorted(gone), "n_objects": len(after.objects), **region, **_head(after)}


def region_json(now: State) -> dict[str, Any]:
    """The region that was marked as not annotated, or None, and how many voxels of it lie under no object."""
    marked, left = now.content.ignored, journal.not_annotated(now)
    return {"region": mask_json(marked) if marked else None, "not_annotated": _size(left) if left else 0}


def item_json(identity: int, item: Instance, suggestion: bool) -> dict[str, Any]:
    """An object or suggestion with its mask."""
    about = {"id": identity, "source": item.source, "corrected": item.corrected, "suggestion": suggestion}
    about |= {"kind": item.kind, "propagated": item.propagated}
    doubt = {"confidence": item.confidence, "flag": item.flag} if suggestion else {}
    return {**about, **doubt, **mask_json(item.mask)}


@lru_cache(maxsize=64)
def _size(mask: Mask) -> int:
    return int(np.count_nonzero(mask.array()))


class RunLengths:
    """The run lengths of masks. Those that were asked for last are kept, up to `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.n_bytes = most_bytes, 0
        self._kept: OrderedDict[Mask, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, mask: Mask) -> list[int]:
        """See `masks.runs`."""
        with self._lock:
            if mask in self._kept:
                self._kept.move_to_end(mask)
                return self._kept[mask].tolist()
        runs = masks.runs(mask)
        self._keep(mask, np.array(runs, np.uint32))
        return runs

    def _keep(self, mask: Mask, runs: np.ndarray) -> None:
        with self._lock:
            if mask not in self._kept and self._size(mask, runs) <= self.most_bytes:
                self._kept[mask] = runs
                self.n_bytes += self._size(mask, runs)
            while self.n_bytes > self.most_bytes:
                self.n_bytes -= self._size(*self._kept.popitem(last=False))

    @staticmethod
    def _size(mask: Mask, runs: np.ndarray) -> int:
        return ENTRY_BYTES + len(mask.blob) + runs.nbytes


_runs = RunLengths(KEPT_BYTES)


def mask_json(mask: Mask) -> dict[str, Any]:
    """A mask as box (z0, y0, x0, z1, y1, x1), run lengths in it (background first), and its size in voxels."""
    runs = _runs.of(mask)
    return {"box": list(mask.box), "runs": runs, "size": sum(runs[1::2])}


def _head(now: State) -> dict[str, Any]:
    return {
        "revision": now.revision,
        "status": now.status,
        "can_undo": bool(now.past),
        "can_redo": bool(now.future),
        "last_id": now.last_id,
    }


def _draft(store: Store, patch: Patch, now: State) -> dict[str, Any] | None:
    """The unfinished object, its mask made anew from its points; without a mask where that fails."""
    draft = now.draft
    if draft is None or now.closed:
        return None
    mask = _draft_mask(store, patch, now, draft)
    return {
        "z": draft.z,
        "positive": draft.positive,
        "negative": draft.negative,
        "box": draft.box,
        "object": draft.object,
        "tuning": asdict(draft.tuning),
        "mask": mask_json(mask) if mask else None,
    }


def _draft_mask(store: Store, patch: Patch, now: State, draft: Draft) -> Mask | None:
    """The mask of the unfinished object; None if it is empty, and where the click method cannot make it.

    What is the matter then is told by `clicks.prepare`, which the page asks for next, or by the next click: the patch
    itself must open, so that everything that needs no clicks can go on.
    """
    prompts = {"box": draft.box, "tuning": draft.tuning}
    try:
        return annotation.preview(store, patch, now, draft.z, draft.positive, draft.negative, draft.object, **prompts)
    except AlappError:
        return None
    except Exception:  # a plugin, or a package behind a method, may raise anything
        logger.exception("The click method failed on the unfinished object of patch %d", patch.id)
        return None


def _differing(before: Mapping[int, Instance], after: Mapping[int, Instance], suggestion: bool) -> list[dict[str, Any]]:
    return [item_json(key, item, suggestion) for key, item in after.items() if before.get(key) != item]
