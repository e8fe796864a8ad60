"""The images of the open project: the table, and the menu with what can be done with one of them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from alapp.errors import InputError
from alapp.rounds import importing
from alapp.storage import catalogue, removed
from alapp.storage.catalogue import Image, Project
from alapp.storage.db import Store
from alapp.ui.errors import info, told
from alapp.ui.page import Page
from alapp.ui.project import masks_panel, sheets, voxel_panel
from alapp.ui.quiet import QUIET

NO_IMAGE = ("Choose an image …", 0)


def build(page: Page) -> list[Any]:
    """Lay out the table, the menu, its buttons and what opens under them; gives the outputs of `refresh`, and behind
    them those of `masks_panel.refresh`."""
    store = page.store
    table = gr.HTML(padding=False, elem_id="images-table")
    with gr.Row(elem_classes="tight"):
        chosen = gr.Dropdown(
            [NO_IMAGE],
            value=NO_IMAGE[1],
            show_label=False,
            container=False,
            scale=0,
            min_width=260,
            elem_id="remove-name",
        )
        remove = gr.Button("Remove this image", size="sm", scale=0, min_width=150, elem_id="remove-image")
        back = gr.Button("Bring it back", size="sm", scale=0, min_width=150, visible=False, elem_id="restore-image")
        size = gr.Button("Voxel size …", size="sm", scale=0, min_width=110, elem_id="voxel-ask")
        masks = gr.Button("Masks …", size="sm", scale=0, min_width=90, visible=False, elem_id="masks-ask")
    voxel_panel.build(page, chosen, size)
    for button, act in ((remove, remove_image), (back, restore_image)):
        button.click(
            told(lambda *values, act=act: act(store, *values)),
            [page.project_id, chosen, page.changed],
            page.changed,
            **QUIET,
        )
    return [table, chosen, remove, back, *masks_panel.build(page, chosen, masks)]


def fields(outputs: list[Any]) -> list[Any]:
    """Those of the outputs that a user chooses from."""
    return outputs[1:2]


def refresh(store: Store, project: Project, images: list[Image]) -> list[Any]:
    """Updates of the first outputs. Removed images stay in the menu, so that what was removed can be brought back after
    a reload, too."""
    gone = removed.images(store, project.id)
    choices = [NO_IMAGE, *((image.name, image.id) for image in images)]
    choices += [(f"{image.name} (removed)", image.id) for image in gone]
    return [
        sheets.images(store, project, images),
        gr.Dropdown(choices=choices, value=NO_IMAGE[1], visible=bool(images or gone)),
        gr.Button(visible=bool(images)),
        gr.Button(visible=bool(gone)),
    ]


def remove_image(store: Store, project_id: int | None, chosen: int | None, changed: int) -> int:
    """Hide an image. Returns changed + 1. Raises `InputError` when none that is there was chosen."""
    found = _chosen(catalogue.images(store, project_id) if project_id is not None else [], chosen)
    if found is None:
        raise InputError("Choose the image to remove first.")
    catalogue.set_image_deleted(store, found.id, True)
    info(f"Removed {found.name}. The same menu can bring it back.")
    return changed + 1


def restore_image(store: Store, project_id: int | None, chosen: int | None, changed: int) -> int:
    """Undo `remove_image`. Returns changed + 1. Raises `InputError` when no removed image was chosen, or it does not
    fit any more."""
    found = _chosen(removed.images(store, project_id) if project_id is not None else [], chosen)
    if found is None:
        raise InputError("Choose the removed image to bring back first; the menu marks them.")
    importing.restore_image(store, found.id)
    return changed + 1


def _chosen(images: list[Image], chosen: int | None) -> Image | None:
    return next((image for image in images if image.id == chosen), None)
