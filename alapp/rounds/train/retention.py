"""Which files a project keeps, what it takes on the disk, and what can be removed without losing work.

Models are large; the files of older ones are removed after each training. What they found (label maps), their
scores and their rows stay. Preprocessed patches can be made again from images and labels at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alapp import jobs
from alapp.errors import InputError, NotReadyError
from alapp.rounds.predict import evaluation
from alapp.rounds.train.training_cases import human_cases, pseudo_cases, reference_cases
from alapp.storage import catalogue, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint

MOST_KEPT = 1000

KINDS = {
    "images": "images",
    "labels": "labels and predictions",
    "models": "models",
    "cases": "prepared patches",
    "probabilities": "probabilities",
    "other": "exports and the rest",
}
"""Name and title of each kind of file that a project has."""


@dataclass(frozen=True)
class Removable:
    """What could be removed: models whose file goes, other files, and the bytes of each."""

    checkpoints: tuple[Checkpoint, ...]
    cases: tuple[Path, ...]
    unfinished: tuple[Path, ...]
    checkpoint_bytes: int
    case_bytes: int
    unfinished_bytes: int

    @property
    def total(self) -> int:
        """Bytes that would become free."""
        return self.checkpoint_bytes + self.case_bytes + self.unfinished_bytes


def kept(store: Store, project_id: int) -> dict[int, str]:
    """Ids of the checkpoints whose files are kept, and why, in words for the user."""
    found = [item for item in models.checkpoints(store, project_id) if item.removed_at is None]
    newest = catalogue.project(store, project_id).keep_checkpoints
    reasons: dict[int, str] = {}

    def keep(items: Iterable[Checkpoint | None], why: str) -> None:
        for item in items:
            if item is not None:
                reasons.setdefault(item.id, why)

    keep([item for item in found if item.pinned], "kept by you")
    keep([verdicts.current_checkpoint(store, project_id)], "in use")
    keep([_best(store, found)], "best score")
    keep(found[-newest:], "among the newest")
    keep([item for item in found if item.round_id is None], "pre-trained")
    keep(_starts(store, project_id, found), "training starts from it")
    return reasons


def _best(store: Store, found: list[Checkpoint]) -> Checkpoint | None:
    """The checkpoint with the highest pooled F1 on the validation patches that all were scored on; None while none is
    scored."""
    common = evaluation.in_all(evaluation.scored_on(store, item.id, "validation") for item in found)
    scored = [(made, item) for item in found if (made := evaluation.summary(store, item.id, "validation", common))]
    best = max(scored, key=lambda pair: pair[0].scores.f1_50, default=None)
    return best[1] if best else None


def _starts(store: Store, project_id: int, found: list[Checkpoint]) -> Iterator[Checkpoint | None]:
    """What the newest model grew from, and for each preset what the newest round starts from, done again or not."""
    by_id = {item.id: item for item in found}
    if found and found[-1].parent_id is not None:
        yield by_id.get(found[-1].parent_id)
    this = round_rows.latest(store, project_id)
    for preset in {item.preset for item in found}:
        same = [item for item in found if item.preset == preset]
        yield same[-1]
        yield next((item for item in reversed(same) if this is None or item.round_id != this.id), None)
        yield verdicts.current_checkpoint(store, project_id, preset, before_round=this.id if this else None)


def removable(store: Store, project_id: int) -> Removable:
    """What `free` would remove now: models beyond the rule, preprocessed patches whose labels were superseded, and
    unfinished trainings that a finished one has overtaken."""
    checkpoints = _beyond_rule(store, project_id)
    cases, unfinished = tuple(_stale_cases(store, project_id)), tuple(_overtaken(store, project_id))
    return Removable(
        checkpoints, cases, unfinished,
        _bytes(store.files.resolve(item.path) for item in checkpoints), _bytes(cases), _bytes(unfinished),
    )  # fmt: skip


def _beyond_rule(store: Store, project_id: int) -> tuple[Checkpoint, ...]:
    keep = kept(store, project_id)
    found = models.checkpoints(store, project_id)
    return tuple(item for item in found if item.removed_at is None and item.id not in keep)


def apply(store: Store, project_id: int) -> int:
    """Remove the files of the models beyond the rule; returns how many. Called after each training."""
    gone = _beyond_rule(store, project_id)
    _remove_models(store, gone)
    return len(gone)


def free(store: Store, project_id: int) -> Removable:
    """Remove what `removable` names now; returns it. Raises `NotReadyError` while a job of the project waits, runs or
    is paused."""
    busy = [job for job in jobs.history(store, project_id) if job.active or job.paused]
    if busy:
        title = jobs.kind(busy[0].kind).title
        raise NotReadyError(f"“{title}” is not finished. Wait for it, or cancel it, then free disk space.")
    found = removable(store, project_id)
    _remove_models(store, found.checkpoints)
    for path in (*found.cases, *found.unfinished):
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in found.unfinished}:
        with suppress(OSError):  # the log of the run is still there
            folder.rmdir()
    return found


def set_kept(store: Store, project_id: int, number: int | float | None) -> int:
    """Keep the files of so many of the newest models. Returns the number; raises `InputError` for one that cannot
    be."""
    if not isinstance(number, (int, float)) or number != int(number) or not 1 <= number <= MOST_KEPT:
        raise InputError(f"The number of models to keep must be between 1 and {MOST_KEPT:,}.")
    catalogue.update_project(store, project_id, keep_checkpoints=int(number))
    return int(number)


def usage(store: Store, project_id: int) -> dict[str, int]:
    """Bytes on the disk by the names of `KINDS`."""
    root = store.files.project(project_id)
    used = dict.fromkeys(KINDS, 0)
    for folder, _, names in os.walk(root):
        where = Path(folder).relative_to(root).parts
        kind = _kind(where)
        used[kind] += _bytes(Path(folder) / name for name in names)
    return used


def _kind(folder: tuple[str, ...]) -> str:
    """The kind of the files in a folder of the project; see `files`, and `workspace.Layout` for nnU-Net's."""
    if not folder:
        return "other"
    if folder[0] == "nnunet":
        return "models" if "runs" in folder[:3] else "cases"
    return folder[0] if folder[0] in ("images", "labels", "probabilities") else "other"


def _remove_models(store: Store, items: Iterable[Checkpoint]) -> None:
    for item in items:
        # The row first: a crash between the two leaves a file too many, not a row without its file.
        models.mark_removed(store, item.id)
        with suppress(PermissionError):  # Windows keeps a file that a prediction is reading
            store.files.resolve(item.path).unlink(missing_ok=True)


def _workspaces(store: Store, project_id: int) -> list[Path]:
    return [path for path in (store.files.project(project_id) / "nnunet").glob("*") if path.is_dir()]


def _stale_cases(store: Store, project_id: int) -> Iterator[Path]:
    """Preprocessed files that no patch with its labels of today needs."""
    from alapp.stages.train.cases import identifier
    from alapp.stages.train.workspace import DATASET, Layout

    folders = [Layout(path) for path in _workspaces(store, project_id)]
    files = [
        path
        for layout in folders
        for path in (*layout.preprocessed.glob(f"{DATASET}/*/*--*"), *layout.incoming.glob("*"))
        if path.is_file()
    ]
    if not files:
        return
    project = catalogue.project(store, project_id)
    sources: tuple[Callable[..., tuple], ...] = (human_cases, pseudo_cases, reference_cases)
    needed = {identifier(case) for source in sources for case in source(store, project)}
    for path in files:
        key, _, rest = path.name.partition("--")
        if f"{key}--{rest[:12]}" not in needed:
            yield path


def _overtaken(store: Store, project_id: int) -> Iterator[Path]:
    """Checkpoints of trainings that were given up: older than the newest finished model, without one of their own."""
    found = models.checkpoints(store, project_id)
    if not found:
        return
    finished = {item.input_hash[:16] for item in found}
    files = [store.files.resolve(item.path) for item in found if item.removed_at is None]
    newest = max((path.stat().st_mtime for path in files if path.exists()), default=0.0)
    for workspace in _workspaces(store, project_id):
        for run in (workspace / "runs").glob("*"):
            left = [path for path in run.glob("*") if path.suffix == ".pth" or path.name.startswith(".tmp-")]
            if run.name not in finished and left and max(path.stat().st_mtime for path in left) < newest:
                yield from left


def _bytes(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):  # removed in the meantime
            total += path.stat().st_size
    return total
