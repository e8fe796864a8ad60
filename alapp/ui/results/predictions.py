"""Predictions on the Results tab: which model is shown, against what, its pictures and the table of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import NotReadyError
from alapp.rounds.predict import evaluation
from alapp.rounds.results import results
from alapp.storage import catalogue, models
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint
from alapp.ui.errors import told
from alapp.ui.page import Page
from alapp.ui.parts import data_table, tables
from alapp.ui.quiet import QUIET
from alapp.ui.results import comparison
from alapp.wording import counted

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
    compared_models: gr.State
    basis: gr.State
    seen: gr.State
    followed: gr.State

    @property
    def picture(self) -> list[Any]:
        """Outputs of `comparison.show_view`."""
        return [self.caption, self.panels, self.titles, self.open_button, self.z, self.shown]

    @property
    def compared(self) -> list[Any]:
        """Outputs of `show_model`."""
        return [self.listing, self.thumbnails, self.views, *self.picture, self.table, self.compared_models]

    @property
    def all(self) -> list[Any]:
        """Outputs of `follow`."""
        return [self.followed, self.rounds, self.against, *self.compared]

    @property
    def outputs(self) -> list[Any]:
        """Outputs of `refresh`."""
        return [self.apply, self.basis]


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
                interactive=False, elem_classes="thumbnails", elem_id="results-thumbnails",
            )  # fmt: skip
        with gr.Column(scale=8, min_width=560):
            caption = gr.HTML(padding=False, elem_id="results-caption")
            titles = gr.HTML(padding=False)
            panels = gr.Image(
                show_label=False, interactive=False, height=300, buttons=["fullscreen"], elem_id="results-panels"
            )
            open_button = gr.Button("Open in Annotate", size="sm", visible=False)
    gr.Markdown("### Images")
    table = data_table.layout(COLUMNS, max_height=340, elem_id="results-images")
    return _Parts(
        rounds, against, filled, z, apply, listing, thumbnails, caption, titles, panels, open_button, table,
        gr.State([]), gr.State(None), gr.State(None), gr.State(None), gr.State(None), gr.State((None, None)),
    )  # fmt: skip


def refresh(store: Store, project_id: int | None, trained: Mapping[int, Checkpoint], in_use: int) -> list[Any]:
    """Updates of the section that rest on the project alone: the button, and what the rest rests on, which follows
    (`follow`) when that is another. `trained` has the model of each round, of which the one of `in_use` is in use."""
    if project_id is None or not trained:
        return [gr.Button(visible=False), [project_id]]
    numbers = [[number, item.id] for number, item in sorted(trained.items())]
    basis = [project_id, in_use, numbers, models.results_stamp(store, project_id)]
    return [apply_button(store, project_id), basis]


def follow(
    store: Store,
    project_id: int | None,
    followed: tuple[int | None, int | None],
    number: Any,
    against: Any,
    filled: bool,
    z: Any,
    view: comparison.View | None,
) -> list[Any]:
    """Updates of the section after something that it rests on has changed, or another project was opened: what was
    chosen stays as long as it is there, but who looked at the model in use sees the new one when that is another.
    `followed` are the project and its model in use at the last time."""
    trained = results.checkpoint_by_round(store, project_id) if project_id is not None else {}
    if project_id is None or not trained:
        off = gr.Dropdown([], value=None, interactive=False)
        empty = [tables.note("No predictions yet."), [], [], *comparison.no_picture(), [], None]
        return [(project_id, None), off, off, *empty]
    shown = results.shown_round(store, project_id)
    in_use = max(trained) if shown is None else shown
    if project_id != followed[0]:
        number, against, view = None, None, None
    if number not in trained or number == followed[1]:
        number = in_use
    choices = [(round_title(each, in_use), each) for each in sorted(trained, reverse=True)]
    others = [("nothing", 0), *comparison.choices(store, project_id, lambda each: round_title(each, in_use))]
    against = against if against in [each for _, each in others] else 0
    return [
        (project_id, in_use),
        gr.Dropdown(choices, value=number, interactive=True),
        gr.Dropdown(others, value=against, interactive=len(others) > 2),
        *show_model(store, project_id, number, against, filled, view, z),
    ]


def show_model(
    store: Store,
    project_id: int | None,
    number: Any,
    against: Any = None,
    filled: bool = True,
    view: comparison.View | None = None,
    z: Any = None,
) -> list[Any]:
    """What depends on the chosen models: the comparison, of `view` where that is possible, the table of images by the
    first, and which models these are."""
    checkpoint_id = comparison.checkpoint_of(store, project_id, number)
    compared = comparison.show_round(store, project_id, number, against, filled, view, z)
    return [*compared, image_table(store, checkpoint_id), (project_id, number, against or 0)]


def choose_models(
    store: Store, project_id: int | None, number: Any, against: Any, filled: bool, before: tuple[Any, ...] | None
) -> Any:
    """What `show_model` gives for what the menus say; nothing where that is shown already (`before`): a menu tells of
    an input whenever it is left, and a picture that was clicked meanwhile would make way for the first."""
    if before is not None and tuple(before) == (project_id, number, against or 0):
        return gr.skip()
    return show_model(store, project_id, number, against, filled)


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
            row["scored_patches"],
            *(row[name] for name in ("f1_50", "ap_50", "pq", "dice")),
        ]
        for row in results.image_table(store, checkpoint_id)
    ]


def apply_button(store: Store, project_id: int) -> gr.Button:
    """The button for images that were added since the model in use was trained; hidden when there are none."""
    count = len(evaluation.unpredicted(store, project_id))
    busy = any(job.kind in ("train", "pretrain", "predict") for job in jobs.active(store, project_id))
    return gr.Button(f"Apply to {counted(count, 'new image')}", visible=bool(count) and not busy)


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


def _connect(page: Page, parts: _Parts) -> None:
    """What the controls of the section Predictions do."""
    store = page.store
    # One after the other, in the order of the acts: an answer that is overtaken would take back what came after it.
    in_turn: dict[str, Any] = {**QUIET, "concurrency_id": "predictions", "concurrency_limit": 1}
    inputs = [page.project_id, parts.rounds, parts.against]
    for menu in (parts.rounds, parts.against):
        menu.input(
            told(lambda *values: choose_models(store, *values)),
            [*inputs, parts.filled, parts.compared_models],
            parts.compared,
            trigger_mode="always_last",
            **in_turn,
        )

    def on_basis(basis: list | None, seen: list | None, *values: Any) -> Any:
        # Gradio tells of a change when a page is opened, too, and twice of one that two refreshes made at a time.
        return gr.skip() if basis in (None, seen) else [basis, *follow(store, *values)]

    parts.basis.change(
        told(on_basis),
        [
            parts.basis, parts.seen, page.project_id, parts.followed, parts.rounds, parts.against, parts.filled,
            parts.z, parts.shown,
        ],
        [parts.seen, *parts.all],
        **in_turn,
    )  # fmt: skip

    def on_view(project: int | None, chosen: Any, other: Any, views: list, fill: bool, event: gr.SelectData) -> Any:
        return comparison.show_view(store, project, chosen, views, event.index, fill, other)

    parts.thumbnails.select(
        told(on_view), [*inputs, parts.views, parts.filled], parts.picture, trigger_mode="multiple", **in_turn
    )
    for control in (parts.filled.input, parts.z.input):
        control(
            told(lambda p, chosen, other, view, fill, z: comparison.redraw(store, p, chosen, view, fill, z, other)),
            [*inputs, parts.shown, parts.filled, parts.z],
            parts.panels,
            trigger_mode="always_last",
            **in_turn,
        )
    parts.apply.click(
        told(lambda p, c: start_applying(store, p, c)), [page.project_id, page.changed], page.changed, **QUIET
    )
    parts.open_button.click(told(comparison.open_in_annotate), parts.shown, [page.tabs, page.open_patch], **QUIET)
