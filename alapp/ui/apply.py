"""The Apply tab: the project's model on a folder or dropped images, and what was found in each."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import InputError, NotReadyError, StorageError
from alapp.jobs import Job, JobState
from alapp.rounds import voxel_sizes
from alapp.rounds.apply import apply
from alapp.rounds.apply.apply_reading import FROM_PROJECT
from alapp.stages import images as image_files
from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.errors import told
from alapp.ui.header import time_left
from alapp.ui.page import Page, Tab
from alapp.ui.parts import tables
from alapp.ui.parts.downloads import offered
from alapp.ui.quiet import QUIET
from alapp.wording import counted

TABLE, OUTLINES, MIRRORING = "table", "pictures", "mirroring"
EXTRAS = [
    ("A table of the objects of each image (CSV: area, position, shape, brightness)", TABLE),
    ("A picture of each image with the outlines (PNG)", OUTLINES),
    (
        "Look at each image flipped, too: mostly a bit more accurate, 4 times slower (8 times for stacks in 3D)",
        MIRRORING,
    ),
]
BITS = [("16 bit: fits every program, up to 65,535 objects", 16), ("32 bit", 32)]


def build(page: Page) -> Tab:
    """Lay out the tab inside the caller's `gr.Tab`."""
    gr.Markdown("### Apply the model to other images")
    intro = gr.HTML(padding=False)
    with gr.Row():
        with gr.Column(scale=5, min_width=420):
            drop = gr.File(
                label="Drop images here: TIFF, OME-TIFF, PNG, JPEG",
                file_count="multiple",
                file_types=sorted(image_files.SUFFIXES),
                height=170,
                elem_id="apply-drop",
            )
            path = gr.Textbox(
                label="Or a folder, a file or a pattern on this computer; also OME-Zarr",
                placeholder="e.g. D:\\data\\run2 or /data/run2/*.tif",
                max_lines=1,
                elem_id="apply-path",
            )
            target = gr.Textbox(
                label="Folder for the results",
                info="Leave empty for a folder among the project's exports. Your images are never changed.",
                max_lines=1,
                elem_id="apply-target",
            )
            pixel_size = gr.Textbox(
                label="Pixel size of these images (µm)",
                info="Leave empty to take that of each file; where a file tells none, that of the project's images is "
                "taken, and the results say so.",
                placeholder="e.g. 0.65",
                max_lines=1,
                elem_id="apply-pixel-size",
            )
        with gr.Column(scale=5, min_width=420):
            bits = gr.Radio(
                BITS, value=16, label="Masks", info="TIFF label maps: 0 is background, every other number one object."
            )
            extras = gr.CheckboxGroup(EXTRAS, value=[TABLE, MIRRORING], label="Also", elem_id="apply-extras")
            # Until the page knows its project, which takes a moment, there is nothing to apply.
            start = gr.Button("Apply", variant="primary", interactive=False, elem_id="apply-start")
    status = gr.HTML(padding=False, elem_id="apply-status")
    listing = gr.HTML(padding=False, elem_id="apply-results")
    files = gr.File(label="Results to download", interactive=False, visible=False, elem_id="apply-files")
    timer = gr.Timer(2, active=False)

    store = page.store
    live = [status, listing, files, timer]
    timer.tick(
        told(lambda project: [start_button(store, project), *watch(store, project)]),
        page.project_id,
        [start, *live],
        queue=False,
        **QUIET,
    )
    start.click(
        told(lambda *values: start_applying(store, *values)),
        [page.project_id, drop, path, target, bits, extras, page.visitor, page.changed, pixel_size],
        [page.changed, drop, timer],
        **QUIET,
    )
    return Tab("apply", [intro, path, target, start, *live], lambda project: refresh(store, project))


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of all outputs, in order."""
    if project_id is None:
        head, model, local = tables.empty("Open or create a project first, on the Project tab."), None, True
    else:
        model = apply.model_name(store, project_id)
        local = catalogue.project(store, project_id).visitor is None
        head = tables.note(explanation(model, local)) if model else tables.empty(
            "The project has no model yet. Train one first; then it can find the objects in any number of images."
        )  # fmt: skip
    return [
        head,
        gr.Textbox(visible=local),
        gr.Textbox(visible=local),
        start_button(store, project_id),
        *watch(store, project_id),
    ]


def start_button(store: Store, project_id: int | None) -> gr.Button:
    """The start button: there must be a model, and nothing that runs already."""
    ready = project_id is not None and apply.model_name(store, project_id) is not None
    return gr.Button(interactive=ready and _last(store, project_id, active=True) is None)


def explanation(model: str, local: bool) -> str:
    """What the tab does, in plain words."""
    text = (
        f"The model of {model} finds the objects in images that are not part of the project. They must look like those "
        "it learned from: the same kind of microscope, the same magnification, the same channels."
    )
    more = (
        " Images of any size are worked on part by part. What is finished is kept: press Apply again to go on."
        if local
        else f" This demo takes at most {spaces.MAX_UPLOADS} images of {spaces.MAX_SIDE} × {spaces.MAX_SIDE} pixels."
    )
    return text + more


def watch(store: Store, project_id: int | None) -> list[Any]:
    """Status, results, download and timer of the newest run."""
    last = _last(store, project_id) if project_id is not None else None
    if last is None:
        return ["", "", gr.File(value=None, visible=False), gr.Timer(active=False)]
    if last.active:
        line = " · ".join(word for word in (last.message or "Waiting for its turn", time_left(last)) if word)
        return [
            tables.progress(line, last.fraction), "", gr.File(value=None, visible=False), gr.Timer(active=True)
        ]  # fmt: skip
    archive = (last.result or {}).get("archive")
    packed = store.files.resolve(archive) if archive else None
    shown, problem = None, ""
    if packed and packed.exists():
        try:
            shown = [offered(packed)]
        except StorageError as error:
            problem = tables.note(str(error))
    return [
        ended(last) + problem,
        results(last.result) if last.result else "",
        gr.File(value=shown, visible=bool(shown)),
        gr.Timer(active=False),
    ]


def ended(job: Job) -> str:
    """How a run ended, in a sentence."""
    if job.state is JobState.CANCELLED:
        return tables.note("The last run was cancelled. What was finished is kept; press Apply again to go on.")
    if job.error:
        return tables.note(f"The last run failed: {job.error}")
    made = job.result or {}
    count, problems = len(made["rows"]), len(made["problems"])
    text = f"Found the objects in {counted(count, 'image')}."
    if problems:
        text += f" {counted(problems, 'file')} could not be used, see below."
    return tables.note(text, "" if made.get("archive") or not count else f"The results are in {made['target']}.")


def results(made: dict[str, Any]) -> str:
    """The images with their objects, and the files that could not be used."""
    problems = "".join(
        f"<li><strong>{escape(row['file'])}</strong>: {escape(row['problem'])}</li>" for row in made["problems"]
    )
    listed = f'<div class="al-note">Could not be used:<ul>{problems}</ul></div>' if problems else ""
    if not made["rows"]:
        return listed
    head = ["Image", "State", "Size (pixels)", "Objects", "Typical object", "Time"]
    rows = [
        [
            row["image"],
            row["remark"] or "done",
            " × ".join(str(n) for n in row["shape"]),
            f"{row['objects']:,}",
            _typical(row),
            tables.minutes(row["seconds"]),
        ]
        for row in made["rows"]
    ]
    note = (
        "Typical object: half of the objects are smaller. The folder's summary.csv lists all images whose results lie "
        "there."
    )
    return borrowed_note(made["rows"]) + listed + tables.table(head, rows, text_columns=2) + tables.note(note)


def borrowed_note(rows: Sequence[dict[str, Any]]) -> str:
    """That sizes in micrometres stand on what nobody knows of these images, where they do; else ""."""
    borrowed = [row for row in rows if FROM_PROJECT in row["remark"] and row["size_um"] is not None]
    if not borrowed:
        return ""
    which = f"{counted(len(borrowed), 'file')} {'tells' if len(borrowed) == 1 else 'tell'} no pixel size"
    return (
        f'{tables.STYLE}<div class="al-say warn">{which}, so that of the project was taken. Sizes in µm are right only '
        "where the magnification is the same. If it is not, enter the pixel size above and apply the model again.</div>"
    )


def _typical(row: dict[str, Any]) -> str:
    """Median size with its unit."""
    if row["size"] is None:
        return tables.DASH
    flat = len(row["shape"]) == 2
    if row["size_um"] is None:
        return f"{row['size']:,.0f} {'pixels' if flat else 'voxels'}"
    return f"{row['size_um']:,.3g} {'µm²' if flat else 'µm³'}"


def start_applying(
    store: Store,
    project_id: int | None,
    dropped: Sequence[str] | None,
    path: str,
    target: str,
    bits: int,
    extras: Sequence[str],
    visitor: str | None,
    changed: int,
    pixel_size: str = "",
) -> tuple[Any, ...]:
    """Queue the run. `pixel_size` is a text of micrometres, "" for that of the files. Raises `InputError` for what
    cannot be used, `NotReadyError` before the first training."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    if apply.model_name(store, project_id) is None:
        raise NotReadyError("Train a model first, then it can be applied to other images.")
    if _last(store, project_id, active=True):
        raise InputError("The model is being applied already. Wait until it has finished, or cancel it.")
    path, target = (path or "").strip().strip("\"'"), (target or "").strip().strip("\"'")
    if path or target:
        spaces.only_on_a_workstation(visitor, "Reading and writing folders of the computer that runs the app")
    if path and dropped:
        raise InputError("There are dropped images and a folder. Clear one of them, so that it is plain what is meant.")
    params: dict[str, Any] = {"options": {"bits": int(bits), **{name: name in extras for _, name in EXTRAS}}}
    size, _ = voxel_sizes.typed("These images", {"x": pixel_size or ""})
    if size.known:
        params["pixel_size"] = size.x
    if dropped:
        spaces.check_uploads(store, visitor, dropped)
    found = [Path(file) for file in dropped] if dropped else apply.images_named(path)
    if target:
        params["target"] = str(apply.prepare_target(Path(target).expanduser(), [] if dropped else found))
    params |= _keep_uploads(store, project_id, found) if dropped else {"source": path}
    jobs.enqueue(store, "apply", project_id, params)
    return changed + 1, None, gr.Timer(active=True)


def _keep_uploads(store: Store, project_id: int, files: Sequence[Path]) -> dict[str, Any]:
    """Copies uploads into the project's folder, where they outlive the page's cache and go with the project. Those of
    a run that was cancelled go; none is active now."""
    folder = store.files.project(project_id) / "uploads" / uuid.uuid4().hex
    shutil.rmtree(folder.parent, ignore_errors=True)
    kept = []
    try:
        for number, source in enumerate(files):
            copy = folder / str(number) / source.name
            copy.parent.mkdir(parents=True)
            shutil.copyfile(source, copy)
            kept.append(str(copy))
    except OSError:  # of a full disk, for instance
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return {"files": kept, "discard": folder.relative_to(store.root).as_posix()}


def _last(store: Store, project_id: int, active: bool = False) -> Job | None:
    """The newest run of this project; with `active`, if it waits or runs."""
    last = next((job for job in jobs.history(store, project_id) if job.kind == "apply"), None)
    return None if last is None or (active and not last.active) else last
