"""The slices of a batch made ready for clicks before its user gets to them, where the click method needs seconds a
slice (`annotate.base.Embeds`): a job of the worker, which fills the cache on disk that the app reads.

It works with the middle slices first, on which stacks open, and gives way to any other job.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alapp import jobs
from alapp.domain import Report
from alapp.errors import BackendError, InputError
from alapp.jobs import Job
from alapp.rounds.annotate import click_methods, clicks
from alapp.rounds.select import selection
from alapp.stages.annotate.base import Embeds
from alapp.stages.annotate.embedding_cache import ROOM
from alapp.stages.foundation.residency import RESIDENTS
from alapp.storage import catalogue
from alapp.storage import jobs as rows
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store

KIND = "embed_clicks"


def run_select(store: Store, project_id: int, report: Report, **params: Any) -> dict[str, Any]:
    """The job that selects a batch (`selection.run_select`); making it ready is queued behind it."""
    made = selection.run_select(store, project_id, report, **params)
    queue(store, project_id)
    return made


def queue(store: Store, project_id: int) -> Job | None:
    """Queue the job if the project's click method needs it and patches are left to annotate."""
    if not _needed(store, project_id) or not selection.open_patches(store, project_id):
        return None
    return jobs.enqueue(store, KIND, project_id)


def go_on(store: Store, project_id: int) -> Job | None:
    """Queue the job when the batch is opened and was not made ready yet for the method that answers clicks now (its
    weights arrived later), or the last job gave way to another one; one that was cancelled stays so. Cheap."""
    latest = round_rows.latest(store, project_id)
    if latest is None or not _needed(store, project_id):
        return None
    last = next((job for job in jobs.history(store, project_id) if job.kind == KIND), None)
    if last is not None and last.created >= latest.created:
        ended = last.result or {}
        method = clicks.click_method(store, project_id)
        if not ended.get("gave_way") and ended.get("method", method) == method:
            return None
    busy = any(job.kind not in jobs.beside() for job in jobs.active(store))
    return None if busy else queue(store, project_id)


def _needed(store: Store, project_id: int) -> bool:
    """Whether a method that computes for seconds answers the project's clicks, and can."""
    method, modality = clicks.click_method(store, project_id), catalogue.project(store, project_id).modality
    try:
        ready = click_methods.choice(method, modality).status.ready
        return ready and isinstance(clicks.segmenter(store, project_id), Embeds)
    except InputError:  # a method of an earlier version of the app
        return False


def run_embed(store: Store, project_id: int, report: Report) -> dict[str, Any]:
    """Embed the slices of the batch's patches that are neither done nor skipped. What is embedded already costs a
    look. Returns {"embedded", "left", "gave_way", "method"}; `left` slices were not looked at: another job waits, or
    no more fit in the space on disk."""
    method, backend = clicks.click_method(store, project_id), clicks.segmenter(store, project_id)
    result = {"embedded": 0, "left": 0, "gave_way": False, "method": method}
    if not isinstance(backend, Embeds):
        return result
    opened = [catalogue.patch(store, pick.patch_id) for pick in selection.open_patches(store, project_id)]
    todo = list(in_order(opened))
    cache, at = clicks.embedding_cache(store), 0
    try:
        for at, (patch, z) in enumerate(todo):
            report(at, len(todo), f"{patch.name}, slice {z + 1}" if patch.is_3d else patch.name)
            result["gave_way"] = rows.any_queued(store, without=jobs.beside())
            if result["gave_way"] or (at + 1) * cache.entry_bytes > ROOM * cache.max_bytes:
                return {**result, "left": len(todo) - at}
            result["embedded"] += backend.embed(clicks.slice_pixels(store, patch, z))
    except BackendError as error:
        if catalogue.project(store, project_id).click_method != "auto":
            raise
        # The first click will say so, and be answered by the built-in method.
        return {**result, "left": len(todo) - at, "note": str(error)}
    finally:
        RESIDENTS.release()
    report(len(todo), len(todo), "Ready")
    return result


def in_order(patches: list[Patch]) -> Iterator[tuple[Patch, int]]:
    """Every slice of the patches: first the middle one of each, then the others of each from the middle outwards."""
    middles = {patch.id: clicks.shape(patch)[0] // 2 for patch in patches}
    yield from ((patch, middles[patch.id]) for patch in patches)
    for patch in patches:
        middle = middles[patch.id]
        others = sorted(range(clicks.shape(patch)[0]), key=lambda z, middle=middle: abs(z - middle))
        yield from ((patch, z) for z in others[1:])
