"""How long each stage takes, recorded with the round it belongs to."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from alapp.errors import Cancelled, Paused
from alapp.storage import models
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store, to_json


@contextmanager
def timed(store: Store, project_id: int, stage: str, round_number: int | None = None) -> Iterator[None]:
    """Record the seconds of the block under `stage`; without a number, for the newest round (0 before the first). Also
    when the block is paused or cancelled: what it learned by then is kept, and it goes on from there."""
    if round_number is None:
        latest = round_rows.latest(store, project_id)
        round_number = latest.number if latest else 0
    start = time.perf_counter()

    def record() -> None:
        models.add_timing(store, project_id, round_number, stage, time.perf_counter() - start)

    try:
        yield
    except (Paused, Cancelled):
        record()
        raise
    # After any other error nothing is written: on a full disk that would hide what happened.
    record()


def content_hash(*parts: object) -> str:
    """A hash of JSON-able values: names the input of a piece of work, so that it is not done twice."""
    return hashlib.sha256(to_json(parts).encode()).hexdigest()
