"""The public demo on Hugging Face Spaces: every visitor has a sample project of their own, for a while."""

from __future__ import annotations

import logging
import math
import shutil
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alapp import jobs
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.stages import images as image_files
from alapp.stages.sample import SAMPLES
from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.ui.errors import info
from alapp.ui.security import on_space

LIFETIME = timedelta(hours=6)
SWEEP_SECONDS = 600.0
UPLOAD_LIMIT = "4mb"
MAX_UPLOADS = 3
"""Images that a visitor may give the model at once."""

MAX_SIDE = 1024
"""Their longer side in pixels."""

MAX_WAITING = 12
"""With this many jobs waiting, visitors are asked to come back."""

MAX_PROJECTS = 200
"""With this many visitors' projects on the disk, of about 12 MB each before anything is trained, nobody gets another
one."""

MIN_FREE = 1_000_000_000
"""Bytes of the disk that new projects leave to those that are there."""

BUSY = "Many visitors use this demo right now. Please come back in a few minutes."
FULL = "All places of this demo are taken right now. Each is free again after a few hours: please come back later."

logger = logging.getLogger(__name__)
_one_by_one = threading.RLock()
"""Held while visitors' projects are counted, made and erased: several who come at once must not all be let in."""


def is_public(visitor: str | None) -> bool:
    """Whether the limits of the public demo apply. A request need not have passed through the page, so that on a Space
    nobody counts as being on a workstation for want of a `visitor`."""
    return visitor is not None or on_space()


def welcome(store: Store, visitor: str | None) -> str:
    """The visitor's id, known or new; a new visitor gets a sample project, or is told why there is none."""
    visitor = visitor if _is_id(visitor) else uuid.uuid4().hex
    if not catalogue.projects(store, visitor):
        try:
            create_sample(store, next(iter(SAMPLES)), visitor)
        except InputError as full:  # the page opens all the same, without a project
            info(str(full))
    return visitor


def create_sample(store: Store, name: str, visitor: str | None) -> catalogue.Project:
    """A sample project with its images on the way. A demo visitor's expires, and replaces the one before.

    Raises `InputError` while the demo has no room, and on a Space for somebody without an id.
    """
    if not is_public(visitor):
        return _sample(store, name, None, None)
    if visitor is None:
        raise InputError("This page was not loaded completely. Reload it, then try again.")
    with _one_by_one:
        mine = catalogue.projects(store, visitor)
        _check_room(store, len(mine))
        for old in mine:
            _erase(store, old.id)
        return _sample(store, name, visitor, (datetime.now(UTC) + LIFETIME).isoformat(timespec="milliseconds"))


def _sample(store: Store, name: str, visitor: str | None, expires: str | None) -> catalogue.Project:
    project = importing.create_sample_project(store, name, visitor, expires)
    jobs.enqueue(store, "sample", project.id, {"sample": name})
    return project


def _check_room(store: Store, replaced: int) -> None:
    """Raises `InputError` while too many wait, too many projects are there (but for `replaced` ones) or the disk is
    almost full."""
    if len(jobs.active(store)) >= MAX_WAITING:
        raise InputError(BUSY)
    if not _has_room(store, replaced):
        sweep(store)
        if not _has_room(store, replaced):
            raise InputError(FULL)


def _has_room(store: Store, replaced: int) -> bool:
    # Deleted ones count, too: their files are there until they are erased.
    count = store.rows("SELECT count(*) AS n FROM project WHERE visitor IS NOT NULL")[0]["n"]
    return count - replaced < MAX_PROJECTS and shutil.disk_usage(store.root).free >= MIN_FREE


def only_on_a_workstation(visitor: str | None, what: str) -> None:
    """Raises `InputError` on the public demo, which has small limits."""
    if is_public(visitor):
        raise InputError(f"{what} is switched off on this public demo. Install the app on your computer to use it.")


def check_uploads(store: Store, visitor: str | None, files: Sequence[str]) -> None:
    """Raises `InputError` for more, or larger, images than a visitor of the public demo may give the model, and while
    too many visitors wait."""
    if not is_public(visitor):
        return
    if len(jobs.active(store)) >= MAX_WAITING:
        raise InputError(BUSY)
    if len(files) > MAX_UPLOADS:
        raise InputError(f"This public demo takes at most {MAX_UPLOADS} images at once. You dropped {len(files)}.")
    for file in files:
        shape = image_files.inspect(file).shape
        if math.prod(shape) > 3 * MAX_SIDE**2:
            raise InputError(
                f"{Path(file).name} is too large for this public demo, which takes images of {MAX_SIDE} x {MAX_SIDE} "
                "pixels. Install the app on your computer for images of any size."
            )


def sweep(store: Store) -> int:
    """Erase demo projects that expired, or were deleted; returns how many. One whose job still runs is left to a later
    sweep."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with _one_by_one:
        return sum(_erase(store, project_id) for project_id in catalogue.expired(store, now))


def _erase(store: Store, project_id: int) -> bool:
    """Hide a project, cancel its jobs and erase it. False while a job runs on: what it still writes would bring the
    erased folder back."""
    catalogue.delete_project(store, project_id)
    for job in jobs.active(store, project_id):
        jobs.cancel(store, job.id)
    if jobs.active(store, project_id):
        return False
    catalogue.erase_project(store, project_id)
    return True


def start_sweep(store: Store) -> threading.Thread:
    """Sweep every few minutes, in a thread that ends with the app."""

    def run() -> None:
        pause = threading.Event()
        while not pause.wait(SWEEP_SECONDS):
            try:
                sweep(store)
            except Exception:
                logger.exception("Expired demo projects could not be erased")

    thread = threading.Thread(target=run, name="sweep", daemon=True)
    thread.start()
    return thread


def _is_id(visitor: str | None) -> bool:
    return isinstance(visitor, str) and len(visitor) == 32 and set(visitor) <= set("0123456789abcdef")
