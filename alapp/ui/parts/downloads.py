"""The exports on the Results tab: what each is for, start it, and download what is finished.

Gradio serves files only from folders it may read; the state folder is none of them, and must not be (it would
serve everything in it). So a copy goes to Gradio's own cache, once for each file; the cache is emptied daily.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from alapp import jobs
from alapp.errors import NotReadyError, StorageError
from alapp.rounds.export.export import FORMATS, exports_folder
from alapp.storage.db import Store
from alapp.ui.parts import tables


def newest(store: Store, project_id: int) -> list[str]:
    """Paths that a `gr.File` may show: the newest export of each format, the latest first; not of those that do not fit
    beside the others where downloads are taken from."""
    files = list(exports_folder(store, project_id).glob("*"))
    made = [_newest(files, what) for what in FORMATS]
    found = sorted((entry for entry in made if entry is not None), reverse=True)
    copies = []
    for _, _, path in found:
        with suppress(StorageError):  # `export_text` tells it
            copies.append(offered(path))
    return copies


def _newest(files: Sequence[Path], what: str) -> tuple[str, int, Path] | None:
    """The newest export of the format `what`: when it was made, its number within that second, and its path. Only the
    end of a name tells: a project may be called "cells_labels_2" and may have been renamed since."""
    ending = re.compile(rf"_{what}_(\d{{4}}-\d\d-\d\dT\d{{6}}Z)(?:_(\d+))?{re.escape(FORMATS[what].suffix)}$")
    found = ((ending.search(path.name), path) for path in files)
    return max(((match[1], int(match[2] or 1), path) for match, path in found if match), default=None)


def offered(path: Path) -> str:
    """The path of a copy of `path` in Gradio's cache. Raises `StorageError` where it cannot be copied there."""
    try:
        copy = _copied(path, path.stat().st_mtime_ns)
        if not Path(copy).exists():  # the cache was emptied
            _copied.cache_clear()
            copy = _copied(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise StorageError(
            f"{path.name} is in {path.parent}. It cannot be downloaded here, because the temporary folder "
            f"{get_upload_folder()} does not take it ({error.strerror or error})."
        ) from error
    return copy


@lru_cache(maxsize=64)
def _copied(path: Path, _changed: int) -> str:
    return save_file_to_cache(path, cache_dir=get_upload_folder())


def buttons() -> dict[str, gr.Button]:
    """A button and a sentence for each format."""
    made = {}
    names = list(FORMATS)
    for start in range(0, len(names), 4):
        row = names[start : start + 4]
        with gr.Row():
            for name in row:
                with gr.Column(min_width=240):
                    made[name] = gr.Button(FORMATS[name].title, size="sm")
                    gr.HTML(tables.note(FORMATS[name].suits), padding=False)
            for _ in range(4 - len(row)):
                gr.Column(min_width=240)
    return made


def start_export(store: Store, what: str, project_id: int | None, changed: int) -> tuple[str, int]:
    """Queue an export."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    active = [job for job in jobs.active(store, project_id) if job.kind == "export" and not job.cancel_requested]
    if active and active[0].params.get("what") != what:
        raise NotReadyError("Another export is being written. Wait until it is finished.")
    jobs.enqueue(store, "export", project_id, {"what": what})
    return export_text(store, project_id), changed + 1


def export_text(store: Store, project_id: int | None) -> str:
    """What the newest export does or how it ended."""
    if project_id is None:
        return ""
    last = next((job for job in jobs.history(store, project_id) if job.kind == "export"), None)
    if last is None:
        return tables.note("Press one; the file appears here when it is written.")
    title = FORMATS[last.params.get("what", "labels")].title
    if last.active:
        return tables.progress(f"{title}: {last.message or 'waiting for its turn'}.", last.fraction)
    if last.error:
        return tables.note(f"{title}: {last.error}")
    if last.state is jobs.JobState.CANCELLED:
        return tables.note(f"{title}: the export was cancelled.")
    path = store.files.resolve(last.result["path"])
    try:
        if path.exists():
            offered(path)
    except StorageError as error:
        return tables.note(f"{title}: {error}")
    return tables.note(f"{title}: ready, see below.")


def export_files(store: Store, project_id: int | None) -> gr.File:
    """The newest file of each format, to download."""
    paths = newest(store, project_id) if project_id is not None else []
    return gr.File(value=paths or None, visible=bool(paths))
