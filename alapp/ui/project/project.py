"""The Project tab: projects and samples on the left, the images and settings of the open one on the right."""

from __future__ import annotations

from typing import Any

import gradio as gr

from alapp.domain import ImageRole, Modality, Preset
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation_classes
from alapp.stages.sample import SAMPLES
from alapp.storage import annotations, catalogue
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.annotate import click_choice
from alapp.ui.errors import told
from alapp.ui.page import Page, Tab
from alapp.ui.project import importer, sheets

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
MODALITIES = [("Light microscopy", Modality.LIGHT), ("Electron microscopy", Modality.EM)]
KINDS_INFO = (
    "Leave it as it is if you segment one kind of object. Else name each, with commas between them, e.g. healthy "
    "mitochondrion, damaged mitochondrion. The network finds all kinds together; the kinds are kept in your exports."
)
NO_IMAGE = ("Choose an image …", "")
"""The first entry of the menu of images that can be removed."""
PRESETS = [("Quick", Preset.QUICK), ("Standard", Preset.STANDARD), ("Full", Preset.FULL)]


def build(page: Page) -> Tab:
    """Lay out the tab inside the caller's `gr.Tab`."""
    with gr.Row():
        with gr.Column(scale=2, min_width=290):
            _projects(page)
        with gr.Column(scale=6, min_width=560):
            empty = gr.HTML(sheets.no_project(), padding=False)
            with gr.Column(visible=False) as body:
                table, removable, remove = _images(page)
                with gr.Accordion("Add images", open=False) as adding:
                    report = importer.build(page)
                with gr.Accordion("Settings", open=False):
                    _settings(page)
                    clicks, refresh_clicks = click_choice.build(page)

    def refresh(project_id: int | None) -> list[Any]:
        if project_id is None:
            return [gr.HTML(visible=True), gr.Column(visible=False), *[gr.skip()] * (5 + len(clicks))]
        images = catalogue.images(page.store, project_id)
        project = catalogue.project(page.store, project_id)
        return [
            gr.HTML(visible=False),
            gr.Column(visible=True),
            sheets.images(page.store, project, images),
            gr.Dropdown(choices=[NO_IMAGE, *(image.name for image in images)], value=NO_IMAGE[1], visible=bool(images)),
            gr.Button(visible=bool(images)),
            gr.Accordion(open=True) if not images and not project.sample else gr.skip(),
            importer.last_report(page.store, project_id),
            *refresh_clicks(project_id),
        ]

    return Tab("project", [empty, body, table, removable, remove, adding, report, *clicks], refresh)


def _projects(page: Page) -> None:
    store = page.store
    gr.Markdown("### Try it on a sample")
    for name, info in SAMPLES.items():
        with gr.Column(elem_classes="sample-card"):
            gr.HTML(sheets.sample_card(name), padding=False)
            button = gr.Button(f"Create “{info.title}”", size="sm", elem_id=f"sample-{name}")
        button.click(
            told(lambda visitor, changed, name=name: (spaces.create_sample(store, name, visitor).id, changed + 1)),
            [page.visitor, page.changed],
            [page.project_id, page.changed],
            **QUIET,
        )
    gr.Markdown("### A project of your own")
    name = gr.Textbox(label="Name", placeholder="e.g. Mitochondria in liver", max_lines=1, elem_id="new-name")
    modality = gr.Radio(MODALITIES, value=Modality.LIGHT, label="How were the images made?")
    create = gr.Button("Create the project", elem_id="new-create")
    create.click(
        told(lambda *values: create_project(store, *values)),
        [name, modality, page.visitor, page.changed],
        [page.project_id, page.changed, name],
        **QUIET,
    )
    with gr.Accordion("Rename or delete the open project", open=False):
        other = gr.Textbox(label="New name", max_lines=1)
        rename = gr.Button("Rename", size="sm")
        delete = gr.Button("Delete this project", size="sm", variant="stop", elem_id="delete-project")
        undo = gr.Button("Undo: bring the deleted project back", size="sm", visible=False, elem_id="undo-delete")
    gone = gr.State(None)
    rename.click(
        told(lambda *values: rename_project(store, *values)),
        [page.project_id, other, page.changed],
        [page.changed, other],
        **QUIET,
    )
    delete.click(
        told(lambda *values: delete_project(store, *values)),
        [page.project_id, page.visitor, page.changed],
        [page.project_id, page.changed, gone, undo],
        **QUIET,
    )
    undo.click(
        told(lambda gone, changed: (catalogue.restore_project(store, gone).id, changed + 1, gr.Button(visible=False))),
        [gone, page.changed],
        [page.project_id, page.changed, undo],
        **QUIET,
    )


def _images(page: Page) -> tuple[gr.HTML, gr.Dropdown, gr.Button]:
    """The table of images, and the menu and button to remove one."""
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
        undo = gr.Button("Undo: bring it back", size="sm", visible=False, scale=0, min_width=160)
    gone = gr.State(None)
    remove.click(
        told(lambda *values: remove_image(store, *values)),
        [page.project_id, chosen, page.changed],
        [page.changed, gone, undo, chosen],
        **QUIET,
    )
    undo.click(
        told(lambda gone, changed: restore_image(store, gone, changed)),
        [gone, page.changed],
        [page.changed, undo],
        **QUIET,
    )
    return table, chosen, remove


def _settings(page: Page) -> None:
    store = page.store
    target = gr.Textbox(label="What are you segmenting?", info="In your words; it appears in exports.", max_lines=1)
    kinds = gr.Textbox(label="Kinds of objects", info=KINDS_INFO, lines=2, max_lines=9, elem_id="kinds")
    modality = gr.Radio(
        MODALITIES, label="How were the images made?", info="Decides the built-in methods and which models fit."
    )
    preset = gr.Radio(
        PRESETS,
        label="How long should a round train?",
        info="Quick: about two minutes without a GPU. Full: nnU-Net's own schedule, for a GPU.",
    )
    share = gr.Slider(
        0, 0.5, step=0.05, label="Share of each batch for validation",
        info="Drawn at random and never trained on, so that the score you see is not flattered.",
    )  # fmt: skip
    with gr.Row():
        size = gr.Number(label="Patch size (pixels)", precision=0, minimum=32, info="What you annotate at a time.")
        depth = gr.Number(label="Patch depth (slices)", precision=0, minimum=1, info="3D images only.")
        overlap = gr.Number(label="Overlap (pixels)", precision=0, minimum=0, info="0 unless objects are huge.")
    cut = gr.Button("Show the grid", size="sm")
    apply = gr.Button("Cut the images like this", size="sm", variant="primary")
    preview = gr.Image(label="Patch grid", interactive=False, height=360, buttons=[], visible=False)
    fields = [target, modality, preset, share, size, depth, overlap]

    page.project_id.change(told(lambda project_id: settings_of(store, project_id)), page.project_id, fields, **QUIET)
    for component, column, event in [
        (target, "target", target.blur),
        (modality, "modality", modality.input),
        (preset, "preset", preset.input),
        (share, "validation_share", share.release),
    ]:
        kept = event(
            told(lambda project_id, value, changed, column=column: keep(store, project_id, column, value, changed)),
            [page.project_id, component, page.changed],
            page.changed,
            **QUIET,
        )
        if component is target:
            _kinds(page, kinds, kept)
    cut.click(
        told(lambda *values: show_grid(store, *values)), [page.project_id, size, depth, overlap], preview, **QUIET
    )
    apply.click(
        told(lambda *values: apply_grid(store, *values)),
        [page.project_id, size, depth, overlap, page.changed],
        [preview, page.changed],
        **QUIET,
    )


def _kinds(page: Page, field: gr.Textbox, target_kept: Any) -> None:
    """Wire the field with the names of the classes; the first is called like the target until it gets a name."""
    shown = gr.State("")
    for event in (page.project_id.change, target_kept.then):
        event(told(lambda project_id: kinds_of(page.store, project_id)), page.project_id, [field, shown], **QUIET)
    for event in (field.blur, field.submit):
        event(
            told(lambda *values: keep_kinds(page.store, *values)),
            [page.project_id, field, shown, page.changed],
            [field, shown, page.changed],
            **QUIET,
        )


def create_project(store: Store, name: str, modality: str, visitor: str | None, changed: int) -> tuple[int, int, str]:
    """Create a project and open it. Returns (its id, changed + 1, "" for the name field)."""
    spaces.only_on_a_workstation(visitor, "A project of your own")
    return catalogue.create_project(store, name or "", modality=Modality(modality)).id, changed + 1, ""


def rename_project(store: Store, project_id: int | None, name: str, changed: int) -> tuple[int, str]:
    """Rename the open project. Returns (changed + 1, "" for the name field)."""
    project = _opened(store, project_id)
    name = (name or "").strip()
    if not name:
        raise InputError("Type the new name first.")
    if any(item.name == name and item.id != project.id for item in catalogue.projects(store, project.visitor)):
        raise InputError(f"There is already a project called {name!r}. Choose another name.")
    catalogue.update_project(store, project.id, name=name)
    return changed + 1, ""


def delete_project(store: Store, project_id: int | None, visitor: str | None, changed: int) -> tuple[Any, ...]:
    """Hide the open project and offer to undo. Returns (next project, changed + 1, the hidden id, undo button)."""
    project = _opened(store, project_id)
    catalogue.delete_project(store, project.id)
    left = catalogue.projects(store, visitor)
    gr.Info(f"Deleted {project.name}. Undo is under “Rename or delete”.")
    return (left[0].id if left else None), changed + 1, project.id, gr.Button(visible=True)


def remove_image(store: Store, project_id: int | None, name: str, changed: int) -> tuple[Any, ...]:
    """Hide an image by its name. Returns (changed + 1, its id, undo button, no image for the menu)."""
    project = _opened(store, project_id)
    found = next((item for item in catalogue.images(store, project.id) if item.name == (name or "").strip()), None)
    if found is None:
        raise InputError("Choose the image to remove first.")
    catalogue.set_image_deleted(store, found.id, True)
    return changed + 1, found.id, gr.Button(visible=True), NO_IMAGE[1]


def restore_image(store: Store, image_id: int, changed: int) -> tuple[int, Any]:
    """Undo `remove_image`. Raises `InputError` when its name was taken in the meantime."""
    image = catalogue.image(store, image_id)
    if any(item.name == image.name for item in catalogue.images(store, image.project_id)):
        raise InputError(f"There is now another image called {image.name!r}. Remove that one first.")
    catalogue.set_image_deleted(store, image_id, False)
    return changed + 1, gr.Button(visible=False)


def settings_of(store: Store, project_id: int | None) -> list[Any]:
    """The settings of a project, in the order of the fields."""
    if project_id is None:
        return [gr.skip()] * 7
    it = catalogue.project(store, project_id)
    return [
        it.target, it.modality, it.preset, it.validation_share, it.patch_size, it.patch_depth, it.patch_overlap,
    ]  # fmt: skip


def keep(store: Store, project_id: int | None, column: str, value: Any, changed: int) -> int:
    """Save one setting at once."""
    checks = {"modality": Modality, "preset": Preset, "validation_share": lambda x: min(max(float(x), 0.0), 0.9)}
    project = _opened(store, project_id)
    catalogue.update_project(store, project.id, **{column: checks.get(column, str)(value)})
    return changed + 1


def kinds_of(store: Store, project_id: int | None) -> tuple[str, str]:
    """The names of a project's classes as text, for the field and to tell later whether it was changed."""
    names = annotation_classes.names(catalogue.project(store, project_id)).values() if project_id is not None else ()
    return ", ".join(names), ", ".join(names)


def keep_kinds(store: Store, project_id: int | None, text: str, shown: str, changed: int) -> tuple[Any, Any, Any]:
    """Save the names of the classes, unless the field still says what was `shown`. Returns the text for the field,
    the same as the new `shown`, and changed + 1."""
    project = _opened(store, project_id)
    if text == shown:
        return gr.skip(), gr.skip(), gr.skip()
    before = annotation_classes.names(project)
    after = annotation_classes.names(annotation_classes.set_names(store, project.id, text or ""))
    used = annotations.used_classes(store, project.id)
    for kind, name in after.items():
        if used and before.get(kind, name) != name:
            gr.Info(f"“{before[kind]}” is now called “{name}”.")
    return *kinds_of(store, project.id), changed + 1


def show_grid(store: Store, project_id: int | None, size: float, depth: float, overlap: float) -> Any:
    """The grid drawn on the first image."""
    project = _opened(store, project_id)
    images = catalogue.images(store, project.id, ImageRole.TRAIN)
    if not images:
        raise InputError("Import an image first, then the grid can be drawn on it.")
    drawn = importing.preview_grid(store, project.id, images[0].id, *_whole(size, depth, overlap))
    return gr.Image(drawn, visible=True, label=f"Patch grid on {images[0].name}")


def apply_grid(
    store: Store, project_id: int | None, size: float, depth: float, overlap: float, changed: int
) -> tuple[Any, int]:
    """Cut all images anew."""
    project = _opened(store, project_id)
    importing.regrid(store, project.id, *_whole(size, depth, overlap))
    return gr.Image(visible=False), changed + 1


def _whole(*values: float) -> list[int]:
    if any(value is None for value in values):
        raise InputError("Fill in the patch size, the depth and the overlap first.")
    return [int(value) for value in values]


def _opened(store: Store, project_id: int | None) -> catalogue.Project:
    if project_id is None:
        raise InputError("Create or open a project first.")
    return catalogue.project(store, project_id)
