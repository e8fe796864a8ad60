"""The voxel size of an image that is there: looked at and corrected, for one image or for all."""

from __future__ import annotations

from typing import Any

import gradio as gr

from alapp.errors import InputError
from alapp.rounds import voxel_sizes
from alapp.storage import catalogue
from alapp.storage.catalogue import Image
from alapp.storage.db import Store
from alapp.ui.errors import info, told
from alapp.ui.page import Page
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET
from alapp.wording import counted


def build(page: Page, chosen: gr.Dropdown, ask: gr.Button) -> None:
    """Lay out the panel, which `ask` opens for the `chosen` image."""
    store = page.store
    with gr.Column(visible=False, elem_id="voxel-panel") as panel:
        head = gr.HTML(padding=False)
        with gr.Row():
            z, y, x = (
                gr.Textbox(label=f"{axis} (µm)", max_lines=1, min_width=90, elem_id=f"voxel-{axis}") for axis in "zyx"
            )
        with gr.Row(elem_classes="tight"):
            one = gr.Button("Keep it for this image", size="sm", variant="primary", min_width=170, elem_id="voxel-one")
            every = gr.Button("Keep it for all images", size="sm", min_width=170, elem_id="voxel-all")
            close = gr.Button("Change nothing", size="sm", min_width=130, elem_id="voxel-close")
    asked = gr.State(None)
    ask.click(
        told(lambda *values: look(store, *values)), [page.project_id, chosen], [panel, head, z, y, x, asked], **QUIET
    )
    for button, everywhere in ((one, False), (every, True)):
        button.click(
            told(lambda *values, everywhere=everywhere: keep(store, *values, everywhere=everywhere)),
            [page.project_id, asked, z, y, x, page.changed],
            [panel, page.changed],
            **QUIET,
        )
    close.click(lambda: gr.Column(visible=False), None, panel, **QUIET)
    page.project_id.change(lambda: gr.Column(visible=False), None, panel, **QUIET)


def look(store: Store, project_id: int | None, chosen: int | None) -> list[Any]:
    """The panel with the voxel size of the chosen image, and its id. Raises `InputError` when none was chosen."""
    image = _image(store, project_id, chosen)
    text = f"Voxel size of {image.name} in micrometres. Leave it empty if you don't know it."
    size = image.voxel_size
    return [
        gr.Column(visible=True),
        tables.note(text),
        gr.Textbox(_text(size.z), visible=image.is_3d),
        gr.Textbox(_text(size.y)),
        gr.Textbox(_text(size.x)),
        image.id,
    ]


def keep(
    store: Store,
    project_id: int | None,
    asked: int | None,
    z: str,
    y: str,
    x: str,
    changed: int,
    everywhere: bool = False,
) -> tuple[Any, int]:
    """Keep a voxel size for the image that was asked for, or for all of the project, and say what it takes effect on.
    Returns (the panel hidden, changed + 1). Raises `InputError` for sizes that cannot be."""
    image = _image(store, project_id, asked)
    texts = {"z": z or "" if image.is_3d else "", "y": y or "", "x": x or ""}
    size, filled = voxel_sizes.typed(image.name, texts)
    images = catalogue.images(store, image.project_id) if everywhere else [image]
    effect = voxel_sizes.change(store, image.project_id, images, size)
    whose = counted(len(images), "image") if everywhere else image.name
    info(" ".join(part for part in (filled, f"The voxel size of {whose} was changed.", effect) if part))
    return gr.Column(visible=False), changed + 1


def _text(value: float | None) -> str:
    # All digits: who only looks must not change it.
    return "" if value is None else repr(value).removesuffix(".0")


def _image(store: Store, project_id: int | None, chosen: int | None) -> Image:
    images = catalogue.images(store, project_id) if project_id is not None else []
    found = next((image for image in images if image.id == chosen), None)
    if found is None:
        raise InputError("Choose an image in the menu first; not one that was removed.")
    return found
