"""The Results tab: how good the model is, where it is wrong, what it cost, and what you can take with you."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import NotReadyError
from alapp.rounds import evaluation, promotion, results
from alapp.storage import catalogue, models
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.ui import adviser, comparison, diagnostics, downloads, effort, forgetting, lane, plots, tables
from alapp.ui.errors import told
from alapp.ui.page import Page, Tab

EXPLANATION = (
    "F1 at IoU 0.5: an object counts as found when at least half of it (intersection over union) agrees with yours. "
    "F1 is 1 when every object is found and nothing else is; missed and invented objects both lower it. The bars show "
    "the 95% interval: with few validation patches it is wide, and a small difference means nothing."
)
COLUMNS = {
    "Image": "str",
    "Use": "str",
    "Objects": "number",
    "Mean size (px)": "number",
    "Foreground (%)": "number",
    "Scored patches": "number",
    "F1": "number",
    "AP at IoU 0.5": "number",
    "PQ": "number",
    "Dice": "number",
}


@dataclass(frozen=True)
class _Predictions:
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


def build(page: Page) -> Tab:
    """Lay out the tab inside the caller's `gr.Tab`."""
    store = page.store
    stale = gr.State(0)
    nothing = gr.HTML(padding=False, elem_id="results-nothing")
    with gr.Column(visible=False) as of_model:
        with gr.Row():
            with gr.Column(scale=6, min_width=420):
                gr.Markdown("### Learning curve")
                curve = gr.Plot(show_label=False, container=False)
            with gr.Column(scale=4, min_width=320):
                gr.Markdown("### What the score means")
                summary = gr.HTML(padding=False)
                gr.HTML(tables.note(EXPLANATION), padding=False)
        adviser.build(page, stale)
        lane.build(page, stale)
        diagnostics.build(page, stale)
        shown = _predictions()
        forgetting.build(page, stale)
    with gr.Column(visible=False) as of_labels:
        effort_parts = effort.build()
        gr.Markdown("### Computing time")
        timings = gr.HTML(padding=False)
        export_status, files = _exports(page)
    _connect(page, shown)
    outputs = [
        nothing, of_model, of_labels, curve, summary, shown.rounds, shown.against, shown.apply, *shown.compared,
        *effort_parts, timings, export_status, files, stale,
    ]  # fmt: skip
    return Tab("results", outputs, lambda project: [*refresh(store, project), time.time()])


def _predictions() -> _Predictions:
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
    table = gr.Dataframe(
        elem_id="results-images",
        headers=list(COLUMNS),
        datatype=list(COLUMNS.values()),
        interactive=False,
        show_label=False,
        wrap=False,
        max_height=340,
    )
    return _Predictions(
        rounds, against, filled, z, apply, listing, thumbnails, caption, titles, panels, open_button, table,
        gr.State([]), gr.State(None),
    )  # fmt: skip


def _connect(page: Page, parts: _Predictions) -> None:
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


def _exports(page: Page) -> tuple[gr.HTML, gr.File]:
    gr.Markdown("### Take it with you")
    buttons = downloads.buttons()
    status = gr.HTML(padding=False)
    files = gr.File(label="Finished exports", file_count="multiple", interactive=False, visible=False)
    for name, button in buttons.items():
        button.click(
            told(partial(downloads.start_export, page.store, name)),
            [page.project_id, page.changed],
            [status, page.changed],
            show_progress="hidden",
            api_visibility="private",
        )
    return status, files


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of all outputs but the last, in order: the results of the model in use."""
    trained = results.checkpoint_by_round(store, project_id) if project_id is not None else {}
    if project_id is None or not trained:
        return _nothing(store, project_id)
    shown = results.shown_round(store, project_id)
    in_use = max(trained) if shown is None else shown
    choices = [(round_title(number, in_use), number) for number in sorted(trained, reverse=True)]
    points = results.learning_curve(store, project_id)
    return [
        gr.HTML(visible=False),
        gr.Column(visible=True),
        gr.Column(visible=True),
        plots.learning_curve(points),
        summary_cards(points, in_use) + tables.note(promotion.news(store, project_id)),
        gr.Dropdown(choices, value=in_use, interactive=True),
        against_menu(store, project_id, in_use),
        apply_button(store, project_id),
        *show_model(store, project_id, in_use),
        *effort.refresh(store, project_id),
        timing_table(store, project_id),
        downloads.export_text(store, project_id),
        downloads.export_files(store, project_id),
    ]


def _nothing(store: Store, project_id: int | None) -> list[Any]:
    """The updates before the first training: what rests on a model is not shown, nor, before there is a batch, what
    rests on labels."""
    what = (
        "Results appear here after the first training. The button at the top of the page says what comes next."
        if project_id is not None
        else "Open or create a project first, on the Project tab."
    )
    return [
        gr.HTML(tables.empty(what), visible=True),
        gr.Column(visible=False),
        gr.Column(visible=project_id is not None and round_rows.latest(store, project_id) is not None),
        plots.learning_curve([]),
        "",
        gr.Dropdown([], value=None, interactive=False),
        gr.Dropdown([], value=None, interactive=False),
        gr.Button(visible=False),
        tables.note("No predictions yet."),
        [],
        [],
        *comparison.no_picture(),
        [],
        *effort.refresh(store, project_id),
        tables.empty("How long each stage took on this computer."),
        downloads.export_text(store, project_id),
        downloads.export_files(store, project_id),
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


def summary_cards(points: list[results.CurvePoint], in_use: int) -> str:
    """The score of the model in use, by its round number, and what the last round gained."""
    newest = points[-1]
    items = [(f"{newest.labelled}", f"patches labelled ({100 * newest.fraction:.0f}% of all)")]
    for title, split in (("validation patches", "validation"), ("test images", "test")):
        scored = [getattr(point, split) for point in points if getattr(point, split)]
        if not scored:
            continue
        last = next((getattr(point, split) for point in points if point.round_number == in_use), None) or scored[-1]
        items.insert(0, (tables.score(last.scores.f1_50), f"F1 on {last.n} {title}{_range(last.interval)}"))
        if len(scored) > 1:
            gain = scored[-1].scores.f1_50 - scored[-2].scores.f1_50
            items.append((f"{gain:+.2f}", f"F1 by the last round, {title}"))
    text = tables.cards(items)
    if not any(point.validation or point.test for point in points):
        text += tables.note("There is no score yet: it needs at least one finished validation patch, or a test image.")
    return text + "<br>"


def _range(interval: tuple[float, float] | None) -> str:
    return f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""


def show_model(store: Store, project_id: int | None, number: Any, against: Any = None) -> list[Any]:
    """What depends on the chosen models: the comparison, and the table of images by the first."""
    checkpoint_id = comparison.checkpoint_of(store, project_id, number)
    return [*comparison.show_round(store, project_id, number, against), image_table(store, checkpoint_id)]


def image_table(store: Store, checkpoint_id: int) -> dict[str, Any]:
    """The table of images; numbers stay numbers, so that they sort. Sizes in 3D are in voxels."""
    project_id = models.checkpoint(store, checkpoint_id).project_id
    is_3d = any(image.is_3d for image in catalogue.images(store, project_id))
    headers = [name.replace("(px)", "(voxels)") if is_3d else name for name in COLUMNS]
    return {"headers": headers, "data": _image_rows(store, checkpoint_id)}


def _image_rows(store: Store, checkpoint_id: int) -> list[list[Any]]:

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 2)

    return [
        [
            row["image"],
            "testing" if row["role"] == "test" else "training",
            row["objects"],
            None if row["mean_area"] is None else round(row["mean_area"], 1),
            None if row["foreground"] is None else round(100 * row["foreground"], 1),
            row["labelled_patches"],
            *(rounded(row[name]) for name in ("f1_50", "ap_50", "pq", "dice")),
        ]
        for row in results.image_table(store, checkpoint_id)
    ]


STAGES = {
    "pseudo_label": "Pseudo-labels",
    "plan": "Planning",
    "embed": "Embedding",
    "select": "Selecting",
    "train": "Training",
    "predict": "Predicting",
}


def timing_table(store: Store, project_id: int) -> str:
    """Computing time of each stage, by round."""
    spent = models.timings(store, project_id)
    if not spent:
        return tables.empty("How long each stage took on this computer.")
    rows = [
        [
            f"Round {number}" if number else "Before round 1",
            *(tables.minutes(stages.get(name)) for name in STAGES),
        ]
        for number, stages in sorted(spent.items())
    ]
    return tables.table(["", *STAGES.values()], rows)
