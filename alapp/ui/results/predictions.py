"""Predictions on the Results tab: which model is shown, against what, its pictures and the table of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import NotReadyError
from alapp.rounds.predict import evaluation
from alapp.rounds.results import results
from alapp.storage import catalogue, models
from alapp.storage.db import Store
from alapp.ui.errors import told
from alapp.ui.page import Page
from alapp.ui.parts import data_table, tables
from alapp.ui.results import comparison

COLUMNS = {
    "Image": None,
    "Use": None,
    "Objects": 0,
    "Mean size (px)": 1,
    "Foreground (%)": 1,
    "Scored patches": 0,
    "F1": 2,
    "AP at IoU 0.5": 2,
    "PQ": 2,
    "Dice": 2,
}


@dataclass(frozen=True)
class _Parts:
    """The components of the section Predictions."""

    rounds: gr.Dropdown
    against: gr.Dropdown
    filled: gr.Checkbox
    z: gr.Slider
    apply: gr.Button
    listing: gr.HTML
    thumbnails: gr.Gallery
    caption: gr.HTML
    titles: gr.HTML
    panels: gr.Image
    open_button: gr.Button
    table: gr.Dataframe
    views: gr.State
    shown: gr.State

    @property
    def picture(self) -> list[Any]:
        """Outputs of `comparison.show_view`."""
        return [self.caption, self.panels, self.titles, self.open_button, self.z, self.shown]

    @property
    def compared(self) -> list[Any]:
        """Outputs of `show_model`."""
        return [self.listing, self.thumbnails, self.views, *self.picture, self.table]

    @property
    def outputs(self) -> list[Any]:
        """Outputs of `refresh`."""
        return [self.rounds, self.against, self.apply, *self.compared]


def build(page: Page) -> list[Any]:
    """Lay out the section in the context that is open; returns the components that `refresh` updates."""
    parts = _layout()
    _connect(page, parts)
    return parts.outputs


def _layout() -> _Parts:
    gr.Markdown("### Predictions")
    with gr.Row(equal_height=True):
        rounds = gr.Dropdown([], label="Model of", info="Whose predictions to show.", scale=1, min_width=200)
        against = gr.Dropdown(
            [],
            label="Compare with",
            info="Both on the same patches.",
            scale=1,
            min_width=200,
            elem_id="results-against",
        )
        filled = gr.Checkbox(value=True, label="Fill the objects", scale=0, min_width=170)
        z = gr.Slider(0, 1, value=0, step=1, label="Slice (z)", visible=False, scale=2)
        apply = gr.Button(visible=False, scale=0, min_width=230, elem_id="results-apply")
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            listing = gr.HTML(padding=False)
            thumbnails = gr.Gallery(
                show_label=False, columns=3, height=330, object_fit="contain", allow_preview=False, buttons=[],
                interactive=False, elem_classes="thumbnails",
            )  # fmt: skip
        with gr.Column(scale=8, min_width=560):
            caption = gr.HTML(padding=False)
            titles = gr.HTML(padding=False)
            panels = gr.Image(show_label=False, interactive=False, height=300, buttons=["fullscreen"])
            open_button = gr.Button("Open in Annotate", size="sm", visible=False)
    gr.Markdown("### Images")
    table = data_table.layout(COLUMNS, max_height=340, elem_id="results-images")
    return _Parts(
        rounds, against, filled, z, apply, listing, thumbnails, caption, titles, panels, open_button, table,
        gr.State([]), gr.State(None),
    )  # fmt: skip


def refresh(store: Store, project_id: int | None, numbers: Iterable[int], in_use: int) -> list[Any]:
    """Updates of the section, in order; `numbers` of the rounds that have a model, of which `in_use` is shown."""
    trained = sorted(numbers, reverse=True)
    if project_id is None or not trained:
        return [
            gr.Dropdown([], value=None, interactive=False),
            gr.Dropdown([], value=None, interactive=False),
            gr.Button(visible=False),
            tables.note("No predictions yet."),
            [],
            [],
            *comparison.no_picture(),
            [],
        ]
    choices = [(round_title(number, in_use), number) for number in trained]
    return [
        gr.Dropdown(choices, value=in_use, interactive=True),
        against_menu(store, project_id, in_use),
        apply_button(store, project_id),
        *show_model(store, project_id, in_use),
    ]


def show_model(store: Store, project_id: int | None, number: Any, against: Any = None) -> list[Any]:
    """What depends on the chosen models: the comparison, and the table of images by the first."""
    checkpoint_id = comparison.checkpoint_of(store, project_id, number)
    return [*comparison.show_round(store, project_id, number, against), image_table(store, checkpoint_id)]


def image_table(store: Store, checkpoint_id: int) -> dict[str, Any]:
    """The table of images. Sizes in 3D are in voxels."""
    project_id = models.checkpoint(store, checkpoint_id).project_id
    is_3d = any(image.is_3d for image in catalogue.images(store, project_id))
    columns = {name.replace("(px)", "(voxels)") if is_3d else name: digits for name, digits in COLUMNS.items()}
    return data_table.filled(columns, _image_rows(store, checkpoint_id))


def _image_rows(store: Store, checkpoint_id: int) -> list[list[Any]]:
    return [
        [
            row["image"],
            "testing" if row["role"] == "test" else "training",
            row["objects"],
            row["mean_area"],
            None if row["foreground"] is None else 100 * row["foreground"],
            row["labelled_patches"],
            *(row[name] for name in ("f1_50", "ap_50", "pq", "dice")),
        ]
        for row in results.image_table(store, checkpoint_id)
    ]


def apply_button(store: Store, project_id: int) -> gr.Button:
    """The button for images that were added since the model in use was trained; hidden when there are none."""
    count = len(evaluation.unpredicted(store, project_id))
    busy = any(job.kind in ("train", "pretrain", "predict") for job in jobs.active(store, project_id))
    return gr.Button(f"Apply to {count} new image{'s' if count > 1 else ''}", visible=bool(count) and not busy)


def start_applying(store: Store, project_id: int | None, changed: int) -> int:
    """Queue the prediction of new images."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    jobs.enqueue(store, "predict", project_id)
    return changed + 1


def round_title(number: int, in_use: int) -> str:
    """How a model is called in the menu."""
    title = f"Round {number}" if number else "Pseudo-labels only (pre-training)"
    return f"{title} (in use)" if number == in_use else title


def against_menu(store: Store, project_id: int, in_use: int) -> gr.Dropdown:
    """The menu of models to compare with; nothing is chosen at first."""
    earlier = comparison.choices(store, project_id, lambda number: round_title(number, in_use))
    return gr.Dropdown([("nothing", 0), *earlier], value=0, interactive=len(earlier) > 1)


def _connect(page: Page, parts: _Parts) -> None:
    """What the controls of the section Predictions do."""
    store = page.store
    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    inputs = [page.project_id, parts.rounds, parts.against]
    for menu in (parts.rounds, parts.against):
        menu.input(
            told(lambda p, chosen, other: show_model(store, p, chosen, other)),
            inputs,
            parts.compared,
            show_progress="minimal",
            api_visibility="private",
        )

    def on_view(project: int | None, chosen: Any, other: Any, views: list, fill: bool, event: gr.SelectData) -> Any:
        return comparison.show_view(store, project, chosen, views, event.index, fill, other)

    parts.thumbnails.select(told(on_view), [*inputs, parts.views, parts.filled], parts.picture, **quick)
    for control in (parts.filled.input, parts.z.input):
        control(
            told(lambda p, chosen, other, view, fill, z: comparison.redraw(store, p, chosen, view, fill, z, other)),
            [*inputs, parts.shown, parts.filled, parts.z],
            parts.panels,
            **quick,
        )
    parts.apply.click(
        told(lambda p, c: start_applying(store, p, c)), [page.project_id, page.changed], page.changed, **quick
    )
    parts.open_button.click(told(comparison.open_in_annotate), parts.shown, [page.tabs, page.open_patch], **quick)
