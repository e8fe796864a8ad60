"""The Pseudo-labels tab: choose a method, look at ten patches, accept it or do without."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np

from alapp import jobs
from alapp.domain import Modality
from alapp.errors import InputError
from alapp.jobs import Job, JobState
from alapp.rounds.pseudolabel import provenance, pseudo
from alapp.rounds.train import rehearsal
from alapp.stages.pseudolabel.base import MODEL, PSEUDO_LABELLERS
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.ui.errors import told, warn
from alapp.ui.foundation import model_panel
from alapp.ui.page import Page, Tab
from alapp.ui.parts import gallery
from alapp.ui.pseudolabel import finetune
from alapp.ui.pseudolabel.method_cards import method_cards
from alapp.ui.pseudolabel.method_menu import MAX_PARAMETERS, follow, method_controls, offered, parameters
from alapp.ui.quiet import QUIET
from alapp.wording import counted

NOTE = (
    "Pseudo-labels are labels that nobody checked. nnU-Net configures itself on them and learns a first, rough idea "
    "of your objects, which your own labels then correct. Your labels are learned from alone as soon as they show "
    f"{rehearsal.FEW_OBJECTS} objects. If no method gets near, do without: training then starts with your first "
    "batch."
)
NO_PREVIEW = "<h3>No preview yet</h3>Choose a method and look at what it does on ten patches."
MAKING = "<h3>The preview is being made</h3>It appears here; the bar at the top tells how far it is."
BUSY = (
    "Another preview waits or runs, so this one was not started. Wait until it has ended, or cancel it in the bar at "
    "the top; then press the button again."
)


def build(page: Page) -> Tab:
    """Lay out the tab inside the caller's `gr.Tab`."""
    store = page.store
    gr.Markdown(NOTE)
    cards = gr.HTML(padding=False, elem_id="methods")
    model_panel.opener()
    with gr.Row(visible=False) as body:
        choice, buttons, decided = _lay_out_choice()
        pair = gr.State(None)
        caption, thumbnails, compare = _lay_out_previews(page, pair)
    tune = finetune.build(page)
    offer = gr.State(None)
    _wire(page, choice, buttons, offer)

    def refresh(project_id: int | None) -> list[Any]:
        if project_id is None:
            empty = '<div class="empty"><h3>No project is open</h3>Create one on the Project tab.</div>'
            return [
                empty,
                gr.Row(visible=False),
                "",
                gr.Gallery(visible=False),
                gr.Checkbox(visible=False),
                "",
                None,
                None,
                *tune.refresh(None),
            ]
        project = catalogue.project(store, project_id)
        shown, before = newest_and_before(store, project_id)
        comparable = gr.Checkbox(visible=before is not None)
        made = decision(project.pseudo_method) + labels_in_use(store, project_id)
        text, pictures = preview_shown(store, shown, another=_previewing(store, project_id))
        cards_now = method_cards(store, project.modality)
        return [
            cards_now,
            gr.Row(visible=True),
            text,
            gr.Gallery(pictures, visible=bool(pictures)),
            comparable,
            made,
            offered(store, project_id),
            [project_id, *(job and job.id for job in (shown, before))],
            *tune.refresh(project_id),
        ]

    return Tab("pseudo", [cards, body, caption, thumbnails, compare, decided, offer, pair, *tune.outputs], refresh)


def _lay_out_choice() -> tuple[list[Any], list[gr.Button], gr.HTML]:
    """The left column: the method with its controls (`method_controls`), the buttons and what was decided."""
    with gr.Column(scale=2, min_width=300):
        method = gr.Radio([], label="Method", elem_id="method")
        why = gr.HTML(padding=False, elem_id="method-why")
        model = gr.Dropdown([], label="Weights", visible=False, elem_id="method-model")
        sliders = [gr.Slider(0, 1, visible=False, label=f"Parameter {n}") for n in range(MAX_PARAMETERS)]
        preview = gr.Button("Preview on ten patches", elem_id="preview")
        another = gr.Button("Another ten patches", size="sm")
        accept = gr.Button("Use this method for all images", variant="primary", elem_id="accept")
        without = gr.Button("Do without pseudo-labels", size="sm", elem_id="without")
        decided = gr.HTML(padding=False)
    return [method, why, model, *sliders], [preview, another, accept, without], decided


def _lay_out_previews(page: Page, pair: gr.State) -> tuple[gr.HTML, gr.Gallery, gr.Checkbox]:
    """The right column: the newest preview and, on request, the one before it; `pair` says which they are."""
    pictures = {
        "show_label": False, "columns": 5, "height": 430, "object_fit": "contain", "interactive": False,
        "elem_classes": "thumbnails",
    }  # fmt: skip
    with gr.Column(scale=5, min_width=520):
        caption = gr.HTML(padding=False)
        thumbnails = gr.Gallery(elem_id="gallery", visible=False, **pictures)
        compare = gr.Checkbox(
            label="Compare with the method previewed before", value=False, visible=False, elem_id="compare"
        )
        other_caption = gr.HTML(padding=False, visible=False)
        other = gr.Gallery(visible=False, **pictures)
    compare.input(
        told(lambda p, on: comparison(page.store, p, on)),
        [page.project_id, compare],
        [other_caption, other],
        trigger_mode="always_last",
        **QUIET,
    )
    pair.change(
        told(lambda *values: follow_pair(page.store, *values)), [pair, compare], [other_caption, other], **QUIET
    )
    return caption, thumbnails, compare


def _wire(page: Page, choice: list[Any], buttons: list[gr.Button], offer: gr.State) -> None:
    """What the method and the buttons do. The menu follows `offer`, which the tab's refresh sets."""
    store = page.store
    method, *controls = choice
    _, model, *sliders = controls
    preview, another, accept, without = buttons
    shown = gr.State(None)
    offer.change(
        told(lambda *values: follow(store, *values)),
        [page.project_id, shown, method, model],
        [shown, *choice],
        **QUIET,
    )
    method.input(
        told(lambda p, name: method_controls(store, p, name)),
        [page.project_id, method],
        controls,
        trigger_mode="always_last",
        **QUIET,
    )
    draw = gr.State(0)
    inputs = [page.project_id, method, draw, page.changed, model, *sliders]

    def show(project_id: int | None, name: str | None, number: int, changed: int, *values: Any) -> int:
        return start_preview(store, project_id, name, number, changed, values)

    def show_others(project_id: int | None, name: str | None, number: int, changed: int, *values: Any) -> list[int]:
        return other_patches(store, project_id, name, number, changed, values)

    preview.click(told(show), inputs, page.changed, **QUIET)
    another.click(told(show_others), inputs, [draw, page.changed], **QUIET)
    accept.click(
        told(lambda p, name, _, changed, *values: use(store, p, name, changed, values)), inputs, page.changed, **QUIET
    )
    without.click(
        told(lambda p, changed: do_without(store, p, changed)), [page.project_id, page.changed], page.changed, **QUIET
    )


def start_preview(
    store: Store, project_id: int | None, name: str | None, draw: int, changed: int, values: tuple[Any, ...]
) -> int:
    """Queue a preview. Says so, and returns `changed` as it is, when another one waits or runs. Raises `InputError`
    without a project or method."""
    modality = _modality(store, project_id, name)
    pseudo.patches_to_label(store, project_id)
    wanted = {"method": name, "params": _named(modality, name, values), "draw": draw}
    if jobs.enqueue(store, "preview", project_id, wanted).params != wanted:
        warn(BUSY)
        return changed
    return changed + 1


def other_patches(
    store: Store, project_id: int | None, name: str | None, draw: int, changed: int, values: tuple[Any, ...]
) -> list[int]:
    """Queue a preview of the next ten patches. Returns [draw, changed], both one more unless another one waits or runs.
    Raises as `start_preview`."""
    told = start_preview(store, project_id, name, draw + 1, changed, values)
    return [draw + 1 if told != changed else draw, told]


def use(store: Store, project_id: int | None, name: str | None, changed: int, values: tuple[Any, ...]) -> int:
    """Keep the method and label all images."""
    modality = _modality(store, project_id, name)
    pseudo.patches_to_label(store, project_id)
    before = catalogue.project(store, project_id)
    pseudo.decide(store, project_id, name, _named(modality, name, values))
    now = catalogue.project(store, project_id)
    other = (before.pseudo_method, before.pseudo_params) != (now.pseudo_method, now.pseudo_params)
    # One that runs goes on with what was chosen when it began.
    jobs.enqueue(store, "pseudo_label", project_id, behind_running=other)
    return changed + 1


def do_without(store: Store, project_id: int | None, changed: int) -> int:
    """Switch pseudo-labels off; choosing a method switches them on again."""
    if project_id is None:
        raise InputError("Create or open a project first.")
    pseudo.decide(store, project_id, pseudo.NONE)
    return changed + 1


def decision(method: str | None) -> str:
    """What the project has decided, in words."""
    if method is None:
        return ""
    if method == pseudo.NONE:
        return "<p>This project does without pseudo-labels. Choose a method above to change that.</p>"
    title = "the automatic choice" if method == pseudo.AUTO else PSEUDO_LABELLERS.load(method).title
    return f"<p>This project uses <strong>{html.escape(title)}</strong>.</p>"


def labels_in_use(store: Store, project_id: int) -> str:
    """How the labels that training uses were made; several sentences where images of before have other weights."""
    maps = pseudo.pseudo_maps(store, project_id).values()
    told = dict.fromkeys(provenance.sentence(item.backend, item.params) for item in maps)
    return f'<p id="provenance">{html.escape(" ".join(told))}</p>' if told else ""


def previews(store: Store, project_id: int) -> Iterator[Job]:
    """Finished previews, newest first, without those whose patches are gone (the images were cut anew)."""
    for job in jobs.history(store, project_id):
        done = job.kind == "preview" and job.state is JobState.DONE and job.result
        if done and labels.of_ids(store, job.result["label_maps"]):
            yield job


def _previewing(store: Store, project_id: int) -> bool:
    return any(job.kind == "preview" for job in jobs.active(store, project_id))


def newest_and_before(store: Store, project_id: int) -> tuple[Job | None, Job | None]:
    """The newest preview, and the newest one before it that differs from it."""
    done = previews(store, project_id)
    newest = next(done, None)
    return newest, next((job for job in done if newest and job.params != newest.params), None)


def preview_shown(store: Store, job: Job | None, another: bool = False) -> list[Any]:
    """Caption and pictures of a preview, while `another` waits or runs."""
    if job is None:
        return [f'<div class="empty">{MAKING if another else NO_PREVIEW}</div>', []]
    result = job.result
    maps = labels.of_ids(store, result["label_maps"])
    patches = [catalogue.patch(store, item.patch_id) for item in maps]
    pictures = [
        (gallery.patch_picture(store, patch, item), picture_words(store, patch, item))
        for patch, item in zip(patches, maps, strict=True)
    ]
    total = sum(item.n_objects for item in maps)
    method = PSEUDO_LABELLERS.load(result["method"])
    values = ", ".join(
        f"{item.title.lower()} {result['params'][item.name]:g} {item.unit}".strip()
        for item in method.parameters
        if result["params"].get(item.name, item.default) != item.default
    )
    made = provenance.sentence(result["method"], result.get("provenance", {"reason": result["reason"]}))
    text = f"<p><strong>{html.escape(method.title)}</strong> found {counted(total, 'object')} in "
    text += f"{counted(len(maps), 'patch', 'patches')}"
    slices = " Of each patch you see the slice with most of its objects." if any(p.is_3d for p in patches) else ""
    before = "<p>Another preview is being made. Until then, this is the one before.</p>" if another else ""
    return [f"{before}{text}{f' ({html.escape(values)})' if values else ''}. {html.escape(made)}{slices}</p>", pictures]


def picture_words(store: Store, patch: Patch, item: labels.LabelMap) -> str:
    """How many objects were found in a patch; of a stack, also which slice is shown, and how many are on it."""
    if not patch.is_3d:
        return counted(item.n_objects, "object")
    instances = labels.read_patch(store, item, patch)
    z = gallery.slice_of(patch, instances)
    here = np.count_nonzero(np.unique(instances[z]))
    return f"slice {z + 1} of {patch.box.depth}, {counted(here, 'object')} of {item.n_objects}"


def comparison(store: Store, project_id: int | None, on: bool) -> list[Any]:
    """The preview before the newest one that differs from it, beside it."""
    if not on or project_id is None:
        return [gr.HTML(visible=False), gr.Gallery(visible=False)]
    _, before = newest_and_before(store, project_id)
    if before is None:
        raise InputError("There is nothing to compare with yet. Preview a second method or other parameters first.")
    text, pictures = preview_shown(store, before)
    return [gr.HTML(text, visible=True), gr.Gallery(pictures, visible=True)]


def follow_pair(store: Store, pair: list[int | None] | None, on: bool) -> list[Any]:
    """As `comparison`, after there is another preview or another project is open; hidden where there is none before the
    newest. `pair` has the project, the newest preview and the one before it."""
    project_id, _, before = pair or (None, None, None)
    return comparison(store, project_id, on and before is not None)


def _named(modality: Modality, name: str | None, values: tuple[Any, ...]) -> dict[str, float | str]:
    """Parameters by name from what the controls hold: the weights, then the sliders."""
    if name == pseudo.AUTO:
        return {}
    model, *numbers = values
    known = parameters(modality, name or "")
    params = {item.name: value for item, value in zip(known, numbers, strict=False)}
    return pseudo.checked(name or "", params | ({MODEL: model} if model else {}))


def _modality(store: Store, project_id: int | None, name: str | None) -> Modality:
    if project_id is None:
        raise InputError("Create or open a project first.")
    if not name:
        raise InputError("Choose a method first.")
    return catalogue.project(store, project_id).modality
