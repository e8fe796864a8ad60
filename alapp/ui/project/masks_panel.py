"""Masks of the images to test on, which models are scored against: given, taken away, brought back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.domain import ImageRole
from alapp.errors import InputError
from alapp.rounds import references
from alapp.stages import images as image_files
from alapp.stages import mask_files
from alapp.storage import catalogue
from alapp.storage import references as rows
from alapp.storage.catalogue import Image
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.errors import info, told
from alapp.ui.page import Page
from alapp.ui.parts import tables
from alapp.ui.project import importer
from alapp.ui.quiet import QUIET
from alapp.wording import counted

EXPLANATION = (
    "A model is scored on an image to test on by masks that you drew elsewhere. Give one label image for each, of the "
    "name and size of its image: 0 is background, and every object has a number of its own. A single file may have any "
    "name, if you choose its image in the menu above."
)


def build(page: Page, chosen: gr.Dropdown, ask: gr.Button) -> list[Any]:
    """Lay out the panel, which `ask` opens; gives the outputs of `refresh`."""
    store = page.store
    with gr.Column(visible=False, elem_id="masks-panel") as panel:
        gr.HTML(tables.note(EXPLANATION), padding=False)
        with gr.Row():
            drop = gr.File(
                label="Drop masks here: TIFF, PNG",
                file_count="multiple",
                file_types=sorted(mask_files.SUFFIXES),
                height=130,
                elem_id="masks-drop",
            )
            path = gr.Textbox(
                label="Or a file, a folder or a pattern on this computer; also OME-Zarr",
                placeholder="e.g. D:\\data\\masks or /data/run1/masks/*.tif",
                max_lines=1,
                elem_id="masks-path",
            )
        with gr.Row(elem_classes="tight"):
            add = gr.Button("Add these masks", size="sm", variant="primary", min_width=140, elem_id="masks-add")
            remove = gr.Button("Remove its masks", size="sm", min_width=140, elem_id="masks-remove")
            back = gr.Button("Bring its masks back", size="sm", min_width=150, visible=False, elem_id="masks-back")
            close = gr.Button("Close", size="sm", min_width=80, elem_id="masks-close")
    ask.click(lambda: gr.Column(visible=True), None, panel, **QUIET)
    add.click(
        told(lambda *values: start(store, *values)),
        [page.project_id, chosen, drop, path, page.visitor, page.changed],
        [page.changed, panel, drop, path],
        **QUIET,
    )
    for button, act in ((remove, remove_masks), (back, bring_back)):
        button.click(
            told(lambda *values, act=act: act(store, *values)),
            [page.project_id, chosen, page.changed],
            page.changed,
            **QUIET,
        )
    close.click(lambda: gr.Column(visible=False), None, panel, **QUIET)
    page.project_id.change(lambda: (gr.Column(visible=False), None, ""), None, [panel, drop, path], **QUIET)
    return [ask, back]


def refresh(store: Store, project_id: int, images: Sequence[Image]) -> list[Any]:
    """Updates of the outputs: there is nothing to do without an image to test on."""
    return [
        gr.Button(visible=any(image.role is ImageRole.TEST for image in images)),
        gr.Button(visible=bool(rows.removed_from(store, project_id))),
    ]


def start(
    store: Store,
    project_id: int | None,
    chosen: int | None,
    dropped: list[str] | None,
    text: str,
    visitor: str | None,
    changed: int,
) -> tuple[Any, ...]:
    """Queue the reading of masks. Returns (changed + 1, the panel hidden, None and "" for its fields). Raises
    `InputError` when no file is named, or none belongs to an image to test on."""
    spaces.only_on_a_workstation(visitor, "Adding masks")
    project_id = _opened(project_id)
    importer.check_idle(store, project_id)
    paths = [Path(file) for file in dropped or ()]
    if (text or "").strip():
        paths += image_files.discover(text)
    if not paths:
        raise InputError("Drop masks, or type a file, a folder or a pattern such as /data/masks/*.tif first.")
    tests = catalogue.images(store, project_id, ImageRole.TEST)
    if not tests:
        raise InputError("There is no image to test on yet. Import one first, under “Add images”.")
    files = _files(tests, chosen, paths)
    params: dict[str, Any] = {"files": [], "masks": files}
    if dropped:
        params |= importer.keep_uploads(store, files, dropped)
    jobs.enqueue(store, "import", project_id, params)
    return changed + 1, gr.Column(visible=False), None, ""


def remove_masks(store: Store, project_id: int | None, chosen: int | None, changed: int) -> int:
    """Take the masks of the chosen image away. Returns changed + 1. Raises `InputError` where it has none."""
    image = references.remove(store, _opened(project_id), chosen)
    info(f"Removed the masks of {image.name}, and the scores against them. “Bring its masks back” undoes it.")
    return changed + 1


def bring_back(store: Store, project_id: int | None, chosen: int | None, changed: int) -> int:
    """Undo `remove_masks`. Returns changed + 1. Raises `InputError` where none were removed."""
    image = references.bring_back(store, _opened(project_id), chosen)
    info(f"{image.name} has its masks again.")
    return changed + 1


def _files(tests: Sequence[Image], chosen: int | None, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The files for the job; a single one belongs to the chosen image."""
    image = next((item for item in tests if item.id == chosen), None)
    if image is not None and len(paths) == 1:
        return [{"path": str(paths[0]), "image": image.id}]
    if not references.matching(paths, [item.name for item in tests]):
        first, others = image_files.title(paths[0]), counted(len(paths) - 1, "other file")
        raise InputError(
            f"{first} is called like no image to test on{f', nor is any of the {others}' if paths[1:] else ''}. Rename "
            f"the masks like their images, as {tests[0].name}{paths[0].suffix}. Or choose one image in the menu, and "
            "give the one file with its masks."
        )
    return [{"path": str(path)} for path in paths]


def _opened(project_id: int | None) -> int:
    if project_id is None:
        raise InputError("Create or open a project first.")
    return project_id
