"""Adding images: drop or name files, see what each says of itself, confirm, import."""

from __future__ import annotations

import html
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.domain import ImageRole
from alapp.errors import InputError
from alapp.jobs import JobState
from alapp.rounds import importing, references, voxel_sizes
from alapp.rounds.importing import Found
from alapp.stages import images as image_files
from alapp.storage.db import Store, now
from alapp.ui import spaces
from alapp.ui.errors import info, told
from alapp.ui.page import Page
from alapp.ui.quiet import QUIET
from alapp.wording import counted

FILE, AXES, Z, Y, X = "File", "Axes", "z (µm)", "y (µm)", "x (µm)"
HEADERS = [FILE, "Size", "Type", AXES, "Axes from", Z, Y, X, "Remark"]
UNUSABLE, MISFIT = "cannot be used: ", "does not fit: "
"""How the remark about a file begins that cannot be imported, or not into this project."""
CORRECTABLE = " Or correct its axes."
"""How that of a file ends which may fit when its axes are corrected."""
EDITED = "The list of files changed while you edited it. Look at the files again."
INTRODUCTION = """<style>
#import-intro, #import-intro .html-container { padding: 0 !important; }
/* A head cannot be renamed, and the menus of cells would be empty: see _fix. */
#found [role="columnheader"] { pointer-events: none; }
#found .cell-menu-button, #found .cell-menu { display: none; }
</style>
<div class="al-say"><b>Check before importing.</b> Axes that a file does not state are marked “assumed”: confirm or
correct them (Z slices, Y rows, X columns, C channels). Leave a voxel size empty if you don't know it.</div>"""
MASKS_INFO = (
    "One label image for each, of the same name and size: TIFF, PNG or OME-Zarr. Without masks, an image to test on is "
    "not scored. You can also give them later, with “Masks …” under the table of images."
)
ROLES = [("to train on", ImageRole.TRAIN), ("to test on (never selected)", ImageRole.TEST)]


def build(page: Page) -> gr.HTML:
    """Lay out the importer; returns the report, which the tab refreshes."""
    store = page.store
    with gr.Row():
        drop = gr.File(
            label="Drop images here: TIFF, OME-TIFF, PNG, JPEG",
            file_count="multiple",
            file_types=sorted(image_files.SUFFIXES),
            height=150,
            elem_id="drop",
        )
        with gr.Column():
            path = gr.Textbox(
                label="Or a file, a folder or a pattern on this computer; also OME-Zarr",
                placeholder="e.g. D:\\data\\mitochondria or /data/run1/*.tif",
                max_lines=1,
                elem_id="import-path",
            )
            look = gr.Button("Look at these files", size="sm", elem_id="import-look")
    paths = gr.State([])
    with gr.Column(visible=False) as confirm:
        gr.HTML(INTRODUCTION, padding=False, elem_id="import-intro")
        sheet = gr.Dataframe(
            headers=HEADERS,
            interactive=True,
            static_columns=[number for number, head in enumerate(HEADERS) if head not in (AXES, Z, Y, X)],
            max_height=300,
            elem_id="found",
            show_label=False,
            wrap=True,
            column_widths=["17%", "13%", "8%", "8%", "11%", "7%", "7%", "7%", "22%"],
        )
        _fix(sheet)
        masks = gr.Textbox(
            label="Their masks: a folder or a pattern on this computer (optional)",
            info=MASKS_INFO,
            placeholder="e.g. D:\\data\\masks or /data/run1/masks/*.tif",
            max_lines=1,
            visible=False,
            elem_id="import-masks",
        )
        count = gr.HTML(padding=False, elem_id="import-count")
        with gr.Row(elem_classes="tight"):
            role = gr.Radio(ROLES, value=ImageRole.TRAIN, label="These images are")
            start = gr.Button("Import", variant="primary", scale=0, min_width=150, elem_id="import-start")
            forget = gr.Button("Clear", scale=0, min_width=100)
    report = gr.HTML(padding=False, elem_id="import-report")

    dropped, taken = gr.State([]), gr.State([])
    shown = [confirm, sheet, paths, dropped]
    drop.change(  # an upload, but also a file that is taken out again
        told(lambda files, *values: follow_drop(files or [], *values, store=store)),
        [drop, dropped, paths, sheet, page.visitor, page.project_id],
        shown,
        show_progress="minimal",
        api_visibility="private",
    )
    for event in (look.click, path.submit):
        event(
            told(lambda text, visitor, project_id: [*see_path(text, visitor, store, project_id), []]),
            [path, page.visitor, page.project_id],
            shown,
            **QUIET,
        )
    sheet.change(counts, sheet, [count, start], **QUIET)
    role.change(lambda chosen: gr.Textbox(visible=chosen == ImageRole.TEST), role, masks, **QUIET)
    start.click(
        told(lambda *values: start_import(store, *values)),
        [page.project_id, paths, sheet, role, drop, page.visitor, page.changed, masks],
        [page.changed, confirm, taken, path],
        **QUIET,
    ).success(left_to_import, [drop, taken], drop, **QUIET)
    forget.click(lambda: (gr.Column(visible=False), None), None, [confirm, drop], **QUIET)
    return report


def _fix(sheet: gr.Dataframe) -> None:
    """Leave adding and deleting out of the menus of a table's heads and cells: every value must stay in its column, and
    every row with its file. Gradio 6.31 announces `column_limits` and `row_limits` for that, but they do nothing yet;
    its page reads these."""
    sheet.col_count = sheet.column_count = (len(HEADERS), "fixed")
    sheet.row_count = (1, "fixed")  # how many rows there are is told by the value


def see_uploads(
    files: Sequence[str],
    visitor: str | None,
    store: Store,
    project_id: int | None,
    known: Mapping[str, list[str]] | None = None,
) -> list[Any]:
    """What the uploaded files say of themselves, or what is `known` of them, as rows of the sheet."""
    spaces.only_on_a_workstation(visitor, "Importing images")
    known = known or {}
    found = [importing.inspect_file(Path(file)) for file in files]
    read = zip(files, _read(store, project_id, found), strict=True)
    rows = [known[file][:-1] + row[-1:] if file in known else row for file, row in read]
    return [gr.Column(visible=bool(rows)), gr.Dataframe(value=rows), list(files)]


def follow_drop(
    files: Sequence[str],
    before: Sequence[str],
    paths: Sequence[str],
    sheet: Any,
    visitor: str | None,
    project_id: int | None,
    store: Store,
) -> list[Any]:
    """The sheet of what lies in the drop zone now, and what that is. `before` lay there when the sheet was filled from
    it; what was edited stays for those that stay. A sheet with the files of a path is left alone by an empty zone."""
    if list(files) == list(before):
        return [gr.skip()] * 4
    try:
        rows = _rows(sheet, paths) if before else []
    except InputError:  # rows that cannot be told apart any more are read anew
        rows = []
    known = {path: [_text(cell) for cell in row.values()] for path, row in zip(paths, rows, strict=False)}
    return [*see_uploads(files, visitor, store, project_id, known), list(files)]


def _text(cell: Any) -> str:
    return "" if cell is None or cell != cell else str(cell)


def see_path(text: str, visitor: str | None, store: Store, project_id: int | None) -> list[Any]:
    """What the files behind a path say of themselves."""
    spaces.only_on_a_workstation(visitor, "Reading files of the computer that runs the app")
    if not (text or "").strip():
        raise InputError("Type a file, a folder or a pattern such as /data/run1/*.tif first.")
    found = importing.inspect(text.strip().strip('"'))
    rows = _read(store, project_id, found)
    return [gr.Column(visible=bool(rows)), gr.Dataframe(value=rows), [str(item.path) for item in found]]


def counts(sheet: Any) -> tuple[str, Any]:
    """How many files of the sheet can be imported, and how the button is called for them."""
    remarks = [str(row[-1]) for row in sheet.values.tolist()]
    bad = sum(remark.startswith((UNUSABLE, MISFIT)) for remark in remarks)
    said = counted(len(remarks), "file")
    if bad:
        said += f", of which {bad} cannot be imported as {'it is' if bad == 1 else 'they are'}; see “Remark”"
    # After a correction it may be one more.
    good = 0 if any(remark.endswith(CORRECTABLE) for remark in remarks) else len(remarks) - bad
    return f'<div class="al-say">{said}.</div>', gr.Button(f"Import {counted(good, 'image')}" if good else "Import")


def _read(store: Store, project_id: int | None, found: Sequence[Found]) -> list[list[str]]:
    fits = importing.misfits(store, project_id, found)
    return [_row(item, misfit) for item, misfit in zip(found, fits, strict=True)]


def _row(item: Found, misfit: str) -> list[str]:
    if item.info is None:
        return [image_files.title(item.path), "", "", "", "", "", "", "", UNUSABLE + item.problem]
    info, size = item.info, item.info.voxel_size
    remark = "confirm the axes" if item.must_confirm else " ".join(info.warnings)
    if misfit:
        remark = MISFIT + misfit + (CORRECTABLE if item.must_confirm else "")
    return [
        image_files.title(item.path),
        " × ".join(str(side) for side in info.shape),
        info.dtype,
        info.axes,
        info.axes_source,
        *("" if value is None else f"{value:g}" for value in (size.z, size.y, size.x)),
        remark,
    ]


def start_import(
    store: Store,
    project_id: int | None,
    paths: list[str],
    sheet: Any,
    role: str,
    dropped: list[str] | None,
    visitor: str | None,
    changed: int,
    masks: str = "",
) -> tuple[Any, ...]:
    """Queue the import of the confirmed files; `masks` names those of images to test on. Returns (changed + 1, the
    sheet hidden, which uploads were in the drop zone, "" for the path). Raises `InputError` for a value that cannot be
    read, and for masks of which none is called like one of the files."""
    spaces.only_on_a_workstation(visitor, "Importing images")
    if project_id is None:
        raise InputError("Create or open a project first.")
    check_idle(store, project_id)
    rows = _rows(sheet, paths)
    if not any(row[AXES] for row in rows):
        raise InputError("None of these files can be used. The last column tells why.")
    # Unusable files go along, so that the report afterwards names every file.
    files = [_confirmed(path, row) for path, row in zip(paths, rows, strict=True)]
    filled = [file.pop("filled") for file in files]
    params: dict[str, Any] = {"files": files, "role": str(ImageRole(role)), "since": now()}
    if role == ImageRole.TEST and (masks or "").strip():
        params["masks"] = [{"path": str(path)} for path in _masks_of(paths, masks)]
    if any(file["path"] in (dropped or ()) for file in files):
        params |= keep_uploads(store, files, dropped or ())
    jobs.enqueue(store, "import", project_id, params)
    if sentences := [sentence for sentence in filled if sentence]:
        more = f" The same of {counted(len(sentences) - 1, 'other file')}." if len(sentences) > 1 else ""
        info(sentences[0] + more)
    return changed + 1, gr.Column(visible=False), list(dropped or ()), ""


def check_idle(store: Store, project_id: int) -> None:
    """Raises `InputError` while an import runs, which another one would be taken for."""
    if any(job.kind == "import" for job in jobs.active(store, project_id)):
        raise InputError("An import is running already. Wait until it has ended, then import these files.")


def _masks_of(paths: Iterable[str], text: str) -> list[Path]:
    """The files behind `text` that are called like one of the images; the others belong to other images."""
    found = image_files.discover(text)
    masks = references.matching(found, [image_files.stem(path) for path in paths])
    if not masks:
        raise InputError(
            f"None of the {counted(len(found), 'file')} in {text.strip()} is called like one of these images. Rename "
            f"the masks like their images ({image_files.title(found[0])} is one of them), or leave the field empty."
        )
    return masks


def left_to_import(dropped: Sequence[str] | None, taken: Sequence[str]) -> Any:
    """The drop zone without the uploads that were `taken`; some may have come while these were copied."""
    left = [file for file in dropped or () if file not in taken]
    return gr.File(value=left or None)


def _rows(sheet: Any, paths: Sequence[str]) -> list[dict[str, Any]]:
    """The cells of each row of the sheet, a pandas table, by the head of their column. Raises `InputError` when these
    are not the rows of `paths`, or not the columns that they had: a value would be taken for another one."""
    if list(sheet.columns) != HEADERS or len(sheet) != len(paths):
        raise InputError(EDITED)
    rows = [dict(zip(HEADERS, row, strict=True)) for row in sheet.values.tolist()]
    if any(row[FILE] != image_files.title(path) for row, path in zip(rows, paths, strict=True)):
        raise InputError(EDITED)
    return rows


def _confirmed(path: str, row: dict[str, Any]) -> dict[str, Any]:
    """A file for the job, and "filled": what was filled in where it was left empty."""
    texts = {axis: str(row[head] if row[head] is not None else "") for head, axis in ((Z, "z"), (Y, "y"), (X, "x"))}
    size, filled = voxel_sizes.typed(image_files.title(path), texts)
    axes = str(row[AXES] or "").strip().upper()
    return {"path": path, "axes": axes, "voxel_size": asdict(size), "filled": filled}


def keep_uploads(store: Store, files: list[dict[str, Any]], dropped: Sequence[str]) -> dict[str, str]:
    """Copy the files that were dropped into the state folder, where they wait for the worker and outlive the page's
    cache. Each has a folder of its own, because two may have the same name. Those that no job needs any more make room
    first."""
    jobs.sweep_uploads(store)
    folder = jobs.uploads_folder(store) / uuid.uuid4().hex
    try:
        for number, file in enumerate(files):
            if file["path"] not in dropped:
                continue
            source = Path(file["path"])
            target = folder / str(number) / source.name
            target.parent.mkdir(parents=True)
            shutil.copyfile(source, target)
            file["path"] = str(target)
    except OSError:  # of a full disk, for instance
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return {"discard": folder.relative_to(store.root).as_posix()}


def last_report(store: Store, project_id: int) -> str:
    """What the last import did, file by file where something went wrong or is to be known."""
    done = next((job for job in jobs.history(store, project_id) if job.kind == "import"), None)
    if done is None or done.state is not JobState.DONE or not done.result:
        return ""
    problems, masks, imported = done.result["problems"], done.result.get("masks"), done.result["imported"]
    said = [f"Imported {counted(len(imported), 'image')}."] if imported or masks is None else []
    if masks is not None:
        said.append(f"Added the masks of {counted(len(masks), 'image')}.")
    if problems:
        said.append(f"{len(problems)} could not be used:")
    items = [f"<strong>{html.escape(row['file'])}</strong>: {html.escape(row['problem'])}" for row in problems]
    items += [html.escape(row["remark"]) for row in masks or () if row["remark"]]
    listed = f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>" if items else ""
    return f"<p>{' '.join(said)}</p>{listed}"
