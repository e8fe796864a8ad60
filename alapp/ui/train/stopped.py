"""What the Train tab says of a training that is paused or was cancelled: whether it goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alapp import jobs
from alapp.jobs import Job
from alapp.rounds.train import resuming
from alapp.storage import catalogue
from alapp.storage.db import Store


def paused_text(store: Store, job: Job) -> str:
    """What resuming a paused training does."""
    reached = f" It was here: {job.message}." if job.message else ""
    preset = job.params.get("preset")
    other = preset is not None and preset != catalogue.project(store, job.project_id).preset
    with_preset = f" It keeps the preset that it was started with, “{preset}”." if other else ""
    if resuming.begins_anew(store, job):
        return (
            f"The training is paused.{reached} The labels that it learns from, or the model that it starts from, have "
            f"changed since: when you resume it, it begins anew.{with_preset}"
        )
    return (
        f"The training is paused; all that it learned is saved.{reached} Resume it whenever you want, also after the "
        f"computer was off.{with_preset}"
    )


def cancelled_text(store: Store, job: Job, kind: str | None, params: Mapping[str, Any]) -> str:
    """What becomes of a cancelled training. The start button starts a job of `kind` with `params`, or nothing."""
    said = "The last training was cancelled."
    before = jobs.with_settings(store, job.kind, job.project_id, job.params)
    now = jobs.with_settings(store, kind, job.project_id, params) if kind else {}
    if kind != job.kind or before.get("round_id") != now.get("round_id"):
        return said
    iterations = before.get("iterations")
    if before["preset"] != now["preset"] or resuming.begins_anew(store, job):
        return (
            f"{said} Something has changed since: the preset, the labels, or the model to start from. The next one "
            "begins anew."
        )
    if iterations:
        return (
            f"{said} It was to have {iterations:,} iterations. Start it again with that number, under “For experts”, "
            "and it goes on where it stopped."
        )
    return f"{said} Start it again and it goes on where it stopped."
