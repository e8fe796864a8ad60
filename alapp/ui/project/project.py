"""The Project tab: projects and samples on the left, the images and settings of the open one on the right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.domain import ImageRole, Modality, Preset
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation_classes
from alapp.stages import patches as patch_grid
from alapp.stages.sample import SAMPLES
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.annotate import click_choice
from alapp.ui.errors import info, told
from alapp.ui.page import Page, Tab
from alapp.ui.project import deleted, image_menu, importer, masks_panel, sheets
from alapp.ui.quiet import QUIET
from alapp.wording import counted, is_or_are

MODALITIES = [("Light microscopy", Modality.LIGHT), ("Electron microscopy", Modality.EM)]
KINDS_INFO = (
    "Leave it as it is if you segment one kind of object. Else name each, with commas between them, e.g. healthy "
    "mitochondrion, damaged mitochondrion. The network finds all kinds together; the kinds are kept in your exports."
)
KINDS_EMPTY = "One kind so far, called like what you segment. To tell several apart, name each of them here."
CUT = "Cut the images like this"
PRESETS = [("Quick", Preset.QUICK), ("Standard", Preset.STANDARD), ("Full", Preset.FULL)]


def build(page: Page) -> Tab:
    """Lay out the tab inside the caller's `gr.Tab`."""
    with gr.Row():
        with gr.Column(scale=2, min_width=290):
            gone, refresh_gone = _projects(page)
        with gr.Column(scale=6, min_width=560):
            empty = gr.HTML(sheets.no_project(), padding=False)
            with gr.Column(visible=False) as body:
                shown = image_menu.build(page)
                with gr.Accordion("Add images", open=False) as adding:
                    report = importer.build(page)
                with gr.Accordion("Settings", open=False):
                    set_elsewhere = _settings(page)
                    clicks, refresh_clicks = click_choice.build(page)

    def refresh(project_id: int | None) -> list[Any]:
        if project_id is None:
            hidden = [gr.HTML(visible=True), gr.Column(visible=False), *[gr.skip()] * (5 + len(shown) + len(clicks))]
            return [*hidden, *refresh_gone(None)]
        images = catalogue.images(page.store, project_id)
        project = catalogue.project(page.store, project_id)
        return [
            gr.HTML(visible=False),
            gr.Column(visible=True),
            *image_menu.refresh(page.store, project, images),
            *masks_panel.refresh(page.store, project_id, images),
            gr.Accordion(open=True) if not images and not project.sample else gr.skip(),
            importer.last_report(page.store, project_id),
            gr.Radio(value=project.modality),
            gr.Radio(value=project.preset),
            cut_button(page.store, project_id),
            *refresh_clicks(project_id),
            *refresh_gone(project_id),
        ]

    outputs = [empty, body, *shown, adding, report, *set_elsewhere, *clicks, *gone]
    return Tab("project", outputs, refresh, [image_menu.fields(shown), [adding], deleted.fields(gone)])


def _projects(page: Page) -> tuple[list[Any], Callable[[int | None], list[Any]]]:
    """The samples, a new project and what can be done with the open one; gives the outputs of the deleted ones and
    their updates."""
    store = page.store
    gr.Markdown("### Try it on a sample")
    for name, sample in SAMPLES.items():
        with gr.Column(elem_classes="sample-card"):
            gr.HTML(sheets.sample_card(name), padding=False)
            button = gr.Button(f"Create “{sample.title}”", size="sm", elem_id=f"sample-{name}")
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
    gone, refresh_gone = deleted.build(page)
    rename.click(
        told(lambda *values: rename_project(store, *values)),
        [page.project_id, other, page.changed],
        [page.changed, other],
        **QUIET,
    )
    delete.click(
        told(lambda *values: delete_project(store, *values)),
        [page.project_id, page.visitor, page.changed],
        [page.project_id, page.changed, *gone],
        **QUIET,
    )
    return gone, refresh_gone


def cut_button(store: Store, project_id: int) -> gr.Button:
    """To cut the images anew, which the first batch ends."""
    if round_rows.latest(store, project_id) is None:
        return gr.Button(CUT, interactive=True)
    return gr.Button("The patches have been fixed since the first batch", interactive=False)


def _settings(page: Page) -> list[gr.Radio | gr.Button]:
    """Lay out the settings; gives those that change with what is done elsewhere, for the tab to refresh."""
    store = page.store
    target = gr.Textbox(label="What are you segmenting?", info="In your words; it appears in exports.", max_lines=1)
    kinds = gr.Textbox(
        label="Kinds of objects", info=KINDS_INFO, placeholder=KINDS_EMPTY, lines=2, max_lines=9, elem_id="kinds"
    )
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
        size = gr.Number(label="Patch size (pixels)", precision=0, info="What you annotate at a time.")
        depth = gr.Number(label="Patch depth (slices)", precision=0, info="3D images only.")
        overlap = gr.Number(label="Overlap (pixels)", precision=0, info="0 unless objects are huge.")
    cut = gr.Button("Show the grid", size="sm")
    apply = gr.Button(CUT, size="sm", variant="primary")
    preview = gr.Image(label="Patch grid", interactive=False, height=360, buttons=[], visible=False)
    fields = [target, modality, preset, share, size, depth, overlap]

    page.project_id.change(
        told(lambda project_id: [*settings_of(store, project_id), gr.Image(visible=False)]),
        page.project_id,
        [*fields, preview],
        **QUIET,
    )
    for component, column, event in [
        (target, "target", target.blur),
        (modality, "modality", modality.input),
        (preset, "preset", preset.input),
        (share, "validation_share", share.input),  # a release tells nothing of keys, nor of the number beside it
    ]:
        kept = event(
            told(lambda project_id, value, changed, column=column: keep(store, project_id, column, value, changed)),
            [page.project_id, component, page.changed],
            page.changed,
            trigger_mode="always_last",
            **QUIET,
        )
        if component is target:
            _kinds(page, kinds, kept)
    drawn_of = gr.State(None)
    cut.click(
        told(lambda project_id, *values: [show_grid(store, project_id, *values), project_id]),
        [page.project_id, size, depth, overlap],
        [preview, drawn_of],
        **QUIET,
    ).success(  # another project may have been opened meanwhile
        lambda now, then: gr.skip() if now == then else gr.Image(visible=False),
        [page.project_id, drawn_of],
        preview,
        **QUIET,
    )
    apply.click(
        told(lambda *values: apply_grid(store, *values)),
        [page.project_id, size, depth, overlap, page.changed],
        [preview, page.changed],
        **QUIET,
    )
    return [modality, preset, apply]


def _kinds(page: Page, field: gr.Textbox, target_kept: Any) -> None:
    """Wire the field with the names of the classes; the first is called like the target until it gets a name."""
    shown = gr.State("")
    page.project_id.change(
        told(lambda project_id: kinds_of(page.store, project_id)), page.project_id, [field, shown], **QUIET
    )
    target_kept.then(
        told(lambda *values: follow_target(page.store, *values)),
        [page.project_id, field, shown],
        [field, shown],
        **QUIET,
    )
    for event in (field.blur, field.submit):
        event(
            told(lambda *values: keep_kinds(page.store, *values)),
            [page.project_id, field, shown, page.changed],
            [field, shown, page.changed],
            trigger_mode="always_last",
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
    """Hide the open project and cancel its jobs, which nobody could see any more. Returns (next project, changed + 1,
    and the updates of the list of deleted projects, which is opened)."""
    project = _opened(store, project_id)
    catalogue.delete_project(store, project.id)
    stopped = jobs.cancel_all(store, project.id)
    titles = ", ".join(f"“{jobs.kind(job.kind).title}”" for job in stopped)
    told_jobs = f" Its job{'s' if len(stopped) > 1 else ''} {titles} {'were' if len(stopped) > 1 else 'was'} cancelled."
    info(f"Deleted {project.name}.{told_jobs if stopped else ''} “Deleted projects” can bring it back.")
    left = catalogue.projects(store, visitor)
    return (left[0].id if left else None), changed + 1, *deleted.listed(store, visitor, open=True)


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
    """The names of a project's classes as text, for the field and to tell later whether it was changed. While the one
    class is called like the target and that is no name of a class, as "nuclei, mitochondria", there is no text: it
    would be taken for the names of two."""
    if project_id is None:
        return "", ""
    project = catalogue.project(store, project_id)
    names = annotation_classes.names(project).values()
    if not any(project.classes) and not all(_is_one_name(name) for name in names):
        return "", ""
    return ", ".join(names), ", ".join(names)


def _is_one_name(text: str) -> bool:
    try:
        return len(annotation_classes.parse(text)) == 1
    except InputError:  # too long, for instance
        return False


def follow_target(store: Store, project_id: int | None, text: str, shown: str) -> tuple[Any, Any]:
    """As `kinds_of`, after the target was kept; nothing where the names are those `shown`, or while the field has
    another text: whoever comes from the field above it may be typing."""
    names = kinds_of(store, project_id)
    return (gr.skip(), gr.skip()) if names[1] == shown or text != shown else names


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
            info(f"“{before[kind]}” is now called “{name}”.")
    return *kinds_of(store, project.id), changed + 1


def show_grid(store: Store, project_id: int | None, size: float, depth: float, overlap: float) -> Any:
    """The grid drawn on the first image."""
    project = _opened(store, project_id)
    images = catalogue.images(store, project.id, ImageRole.TRAIN)
    if not images:
        raise InputError("Import an image first, then the grid can be drawn on it.")
    values = _whole(size, depth, overlap)
    drawn = importing.preview_grid(store, project.id, images[0].id, *values)
    boxes = patch_grid.grid(images[0].shape[:3], *values, images[0].is_3d)
    said = counted(len(boxes), "patch", "patches")
    if (shared := patch_grid.most_shared(boxes)) > values[2]:
        said += f"; the last ones are moved in, and share up to {shared} pixels with their neighbours"
    return gr.Image(drawn, visible=True, label=f"Patch grid on {images[0].name}: {said}")


def apply_grid(
    store: Store, project_id: int | None, size: float, depth: float, overlap: float, changed: int
) -> tuple[Any, int]:
    """Cut all images anew."""
    project = _opened(store, project_id)
    importing.regrid(store, project.id, *_whole(size, depth, overlap))
    images = catalogue.images(store, project.id, ImageRole.TRAIN)
    patches = counted(catalogue.count_patches(store, project.id), "patch", "patches")
    if images:
        info(f"{counted(len(images), 'image')} {is_or_are(len(images))} now cut into {patches}.")
    return gr.Image(visible=False), changed + 1


def _whole(*values: float) -> list[int]:
    if any(value is None for value in values):
        raise InputError("Fill in the patch size, the depth and the overlap first.")
    return [int(value) for value in values]


def _opened(store: Store, project_id: int | None) -> catalogue.Project:
    if project_id is None:
        raise InputError("Create or open a project first.")
    return catalogue.project(store, project_id)
