"""The Results tab: how good the model is, where it is wrong, what it cost, and what you can take with you."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import gradio as gr

from alapp.rounds.predict import evaluation
from alapp.rounds.results import results
from alapp.rounds.train import promotion
from alapp.stages.metrics import MIN_PATCHES
from alapp.storage import models
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.ui.errors import told
from alapp.ui.page import Page, Tab
from alapp.ui.parts import downloads, plots, tables
from alapp.ui.quiet import QUIET
from alapp.ui.results import adviser, comparison, diagnostics, effort, forgetting, predictions
from alapp.ui.rounds import lane
from alapp.wording import counted

EXPLANATION = (
    "F1 at IoU 0.5: an object counts as found when at least half of it (intersection over union) agrees with yours. "
    "F1 is 1 when every object is found and nothing else is; missed and invented objects both lower it. The bars show "
    "the 95% interval: how far the score may be from that on very many such patches. The fewer patches there are, the "
    f"wider it is. With fewer than {MIN_PATCHES} none can be given, and a difference may well be chance."
)


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
        shown = predictions.build(page)
        forgetting.build(page, stale)
    with gr.Column(visible=False) as of_labels:
        effort_parts = effort.build()
        gr.Markdown("### Computing time")
        timings = gr.HTML(padding=False)
        export_status, files = _exports(page)
    outputs = [
        nothing, of_model, of_labels, curve, summary, *shown, *effort_parts, timings, export_status, files, stale,
    ]  # fmt: skip
    return Tab("results", outputs, lambda project: [*refresh(store, project), time.time()])


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
            **QUIET,
        )
    return status, files


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of all outputs but the last, in order: the results of the model in use."""
    trained = results.checkpoint_by_round(store, project_id) if project_id is not None else {}
    if project_id is None or not trained:
        return _nothing(store, project_id)
    shown = results.shown_round(store, project_id)
    in_use = max(trained) if shown is None else shown
    outdated = evaluation.queue_rescore(store, project_id)
    points, labelled = results.learning_curve(store, project_id), results.labelled_now(store, project_id)
    cards = summary_cards(points, in_use, labelled)
    return [
        gr.HTML(visible=False),
        gr.Column(visible=True),
        gr.Column(visible=True),
        plots.learning_curve(points),
        cards + outdated_note(outdated) + tables.note(promotion.news(store, project_id)),
        *predictions.refresh(store, project_id, trained, in_use),
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
        *predictions.refresh(store, project_id, {}, 0),
        *effort.refresh(store, project_id),
        tables.empty("How long each stage took on this computer."),
        downloads.export_text(store, project_id),
        downloads.export_files(store, project_id),
    ]


def summary_cards(points: list[results.CurvePoint], in_use: int, labelled: tuple[int, int]) -> str:
    """The score of the model in use, by its round number, what the last round gained, and how many patches are
    `labelled` today, of how many."""
    newest, (done, total) = points[-1], labelled
    # Rounded down: not all are labelled before the last one is.
    share = f" ({100 * done // total}%)" if total else ""
    items = [(f"{done}", f"of {counted(total, 'patch', 'patches')} labelled{share}")]
    for split in results.SPLITS:
        scored = [getattr(point, split) for point in points if getattr(point, split)]
        if not scored:
            continue
        last = next((getattr(point, split) for point in points if point.round_number == in_use), None) or scored[-1]
        what = f"F1 on {comparison.scored_on(last.n, split)} ({plots.told_interval(last.interval)})"
        items.insert(0, (tables.score(last.scores.f1_50), what))
        if len(scored) > 1:
            gain = scored[-1].scores.f1_50 - scored[-2].scores.f1_50
            items.append((f"{gain:+.2f}", f"F1 by the last round, {comparison.SPLITS[split][1]}"))
    text = tables.cards(items)
    if not any(point.validation or point.test for point in points):
        text += tables.note("There is no score yet: it needs at least one finished validation patch, or a test image.")
    if newest.left_out:
        text += tables.note(
            f"All rounds are scored on the same patches, so that they can be compared; {newest.left_out} more, on "
            "images that came later, are left out here."
        )
    return text + "<br>"


def outdated_note(outdated: int) -> str:
    """That so many patches or images are left out because their labels were corrected, until they are scored again."""
    if not outdated:
        return ""
    what = "1 patch is" if outdated == 1 else f"{outdated} patches are"
    return tables.note(
        f"{what} left out, because you corrected the labels after they were scored; a job scores them again."
    )


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
    said = tables.note("With what comes before and after in each stage; the table of the Train tab has training alone.")
    return said + tables.table(["", *STAGES.values()], rows)
