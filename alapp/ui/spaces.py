"""The public demo on Hugging Face Spaces: every visitor has a sample project of their own, for a while."""

from __future__ import annotations

import logging
import math
import os
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

LIFETIME = timedelta(hours=6)
SWEEP_SECONDS = 600.0
UPLOAD_LIMIT = "4mb"
MAX_UPLOADS = 3
"""Images that a visitor may give the model at once."""

MAX_SIDE = 1024
"""Their longer side in pixels."""

MAX_WAITING = 12
"""With this many jobs waiting, visitors are asked to come back."""

logger = logging.getLogger(__name__)


def on_space() -> bool:
    """Whether the app runs as a Space."""
    return bool(os.environ.get("SPACE_ID"))


def welcome(store: Store, visitor: str | None) -> str:
    """The visitor's id, known or new; a new visitor gets a sample project."""
    visitor = visitor if _is_id(visitor) else uuid.uuid4().hex
    if not catalogue.projects(store, visitor) and len(jobs.active(store)) < MAX_WAITING:
        create_sample(store, next(iter(SAMPLES)), visitor)
    return visitor


def create_sample(store: Store, name: str, visitor: str | None) -> catalogue.Project:
    """A sample project with its images on the way. A demo visitor's expires, and replaces the one before."""
    expires = None
    if visitor is not None:
        if len(jobs.active(store)) >= MAX_WAITING:
            raise InputError("Many visitors use this demo right now. Please come back in a few minutes.")
        for old in catalogue.projects(store, visitor):
            catalogue.delete_project(store, old.id)
        expires = (datetime.now(UTC) + LIFETIME).isoformat(timespec="milliseconds")
    project = importing.create_sample_project(store, name, visitor, expires)
    jobs.enqueue(store, "sample", project.id, {"sample": name})
    return project


def only_on_a_workstation(visitor: str | None, what: str) -> None:
    """Raises `InputError` on the public demo, which has small limits."""
    if visitor is not None:
        raise InputError(f"{what} is switched off on this public demo. Install the app on your computer to use it.")


def check_uploads(store: Store, visitor: str | None, files: Sequence[str]) -> None:
    """Raises `InputError` for more, or larger, images than a visitor of the public demo may give the model, and while
    too many visitors wait."""
    if visitor is None:
        return
    if len(jobs.active(store)) >= MAX_WAITING:
        raise InputError("Many visitors use this demo right now. Please come back in a few minutes.")
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
    """Erase demo projects that expired, or were deleted; returns how many."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    gone = catalogue.expired(store, now)
    for project_id in gone:
        for job in jobs.active(store, project_id):
            jobs.cancel(store, job.id)
        catalogue.erase_project(store, project_id)
    return len(gone)


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
