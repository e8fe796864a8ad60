"""What an experiment showed: the curves, the table, the differences in words, and files to take along."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from alapp.errors import NotReadyError
from alapp.experiments import curves, export, findings, wording
from alapp.experiments.findings import Line
from alapp.storage import experiments as rows
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.errors import told
from alapp.ui.parts import data_table, plots, tables
from alapp.ui.parts.downloads import offered
from alapp.ui.quiet import QUIET
from alapp.wording import counted

COLUMNS = {
    "Pre-training": None,
    "Training": None,
    "Strategy": None,
    "Labelled patches": 0,
    "% of all": 1,
    "Objects in them": 0,
    "F1 (mean)": 3,
    "± SD": 3,
    "% of what all labels give": 1,
    "Repetitions": 0,
    "Training (s)": 0,
}
WIDTHS = ["14%", "10%", "13%", "8%", "7%", "7%", "7%", "7%", "9%", "10%", "8%"]
READING = (
    "F1 counts an object as found when it overlaps with yours by half. Means over the repetitions, with the 95% "
    "interval: where intervals are wide, more repetitions are needed. Your time goes to objects: with as many patches, "
    "a strategy that prefers crowded ones asks for more of it. The camera above the figure saves it as shown."
)
EVERY = "all"
MOST_SENTENCES = 60


def freshness(experiment_id: int | None, finished: Sequence[str]) -> str:
    """What changes when the results have to be made anew: which experiment is shown, and which runs are finished."""
    return f"{experiment_id or ''}:{zlib.crc32(repr(finished).encode())}"


def build(store: Store, chosen: gr.Dropdown, fresh: gr.Textbox) -> None:
    """Lay out the results in the context that is open; they are made anew when `fresh` (`freshness`) changes."""
    with gr.Column(visible=False) as section:
        gr.Markdown("### What it shows")
        with gr.Row():
            start = gr.Dropdown([], label="Pre-training", filterable=False, elem_id="experiment-start-shown")
            strategy = gr.Dropdown([], label="Strategy", filterable=False, elem_id="experiment-strategy-shown")
        figure = gr.Plot(show_label=False, container=False, elem_id="experiment-curve")
        gr.HTML(tables.note(READING), padding=False)
        table = data_table.layout(
            COLUMNS, wrap=True, max_height=380, column_widths=WIDTHS, elem_id="experiment-table"
        )  # fmt: skip
        words = gr.HTML(padding=False, elem_id="experiment-differences")
        with gr.Row():
            buttons = {
                what: gr.Button(title, size="sm", scale=0, min_width=190, elem_id=f"experiment-{what}")
                for what, title in (
                    ("csv", "Table (CSV)"), ("json", "Everything (JSON)"), ("png", "Figure (PNG)"),
                )
            }  # fmt: skip
        files = gr.File(label="To download", interactive=False, visible=False, elem_id="experiment-file")
    shown = [section, start, strategy, figure, table, words, files]
    # Not of the menu: the page may tell of the change before the menu shows what was set with it.
    fresh.change(
        told(lambda now, *of: look(store, int(now.split(":")[0] or 0), *of)), [fresh, start, strategy], shown, **QUIET
    )
    # One event of both, so that their answers come in the order of the choices.
    gr.on(
        [start.input, strategy.input],
        told(lambda picked, one, other: drawn(store, picked, one, other)),
        [chosen, start, strategy],
        figure,
        trigger_mode="always_last",
        **QUIET,
    )
    for what, button in buttons.items():
        button.click(told(lambda picked, what=what: written(store, picked, what)), chosen, files, **QUIET)


def look(store: Store, chosen: Any, start: Any, strategy: Any) -> list[Any]:
    """Updates of the section: hidden until the first run is done."""
    known = _lines(store, chosen)
    if not known:
        return [gr.Column(visible=False), *[gr.skip()] * 6]
    starts, strategies = curves.starts(known), curves.strategies(known)
    start = start if start in (*starts, EVERY) else starts[0]
    strategy = strategy if strategy in (*strategies, EVERY) else EVERY
    return [
        gr.Column(visible=True),
        gr.Dropdown(choices=[*((_upper(wording.start(name)), name) for name in starts), ("All", EVERY)], value=start),
        gr.Dropdown(choices=[("All", EVERY), *((wording.strategy(name), name) for name in strategies)], value=strategy),
        drawn(store, chosen, start, strategy),
        data_table.filled(COLUMNS, rows_of(known)),
        differences(known),
        gr.File(value=None, visible=False),
    ]


def drawn(store: Store, chosen: Any, start: Any, strategy: Any) -> go.Figure:
    """The figure of what is chosen."""
    known = _lines(store, chosen)
    return curve_figure(known, None if start == EVERY else start, None if strategy == EVERY else strategy)


def curve_figure(known: list[Line], start: str | None, strategy: str | None) -> go.Figure:
    """F1 against labelled patches with 95% intervals, and what every label gives."""
    shown = curves.of(known, start, strategy)
    figure = plots.score_axes("Labelled patches", "F1 at IoU 0.5 (0 to 1; higher is better)")
    figure.update_xaxes(tickvals=sorted({point.patches for curve in shown for point in curve.points}))
    for curve in shown:
        # An interval of few repetitions is wider than the scale.
        ends = [point.interval or (point.mean, point.mean) for point in curve.points]
        spread = [(max(0.0, low), min(1.0, high)) for low, high in ends]
        colour = curves.COLOURS[curve.look % len(curves.COLOURS)]
        figure.add_trace(
            go.Scatter(
                x=[point.patches for point in curve.points],
                y=[point.mean for point in curve.points],
                customdata=[
                    [plots.told_interval(point.interval and inside), counted(point.n, "repetition")]
                    for point, inside in zip(curve.points, spread, strict=True)
                ],
                name=curve.title,
                mode="lines+markers",
                line={"color": colour, "width": 2.5, "dash": "dash" if curve.dashed else "solid"},
                marker={"size": 9, "symbol": curves.SYMBOLS[curve.look % len(curves.SYMBOLS)]},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [max(0.0, high - p.mean) for p, (_, high) in zip(curve.points, spread, strict=True)],
                    "arrayminus": [max(0.0, p.mean - low) for p, (low, _) in zip(curve.points, spread, strict=True)],
                    "thickness": 1.5,
                    "width": 5,
                },
                hovertemplate="Labelled patches: %{x}<br>F1 %{y:.3f}, %{customdata[0]}, "
                "%{customdata[1]}<extra></extra>",
            )
        )
    everything = curves.full(known, start)
    if everything is not None:
        for share, text, dash in ((1.0, "every patch labelled", "solid"), (curves.ENOUGH, "90% of it", "dot")):
            figure.add_hline(
                share * everything[0].mean, line={"color": plots.INK, "width": 1.5, "dash": dash},
                annotation={"text": text, "font": {"size": 12, "color": plots.INK}}, annotation_position="bottom right",
            )  # fmt: skip
    return figure


def rows_of(known: list[Line]) -> list[list[Any]]:
    """The lines as rows of the table."""
    return [
        [
            wording.start(row["start"]), wording.SCHEDULES[row["schedule"]], wording.strategy(row["strategy"]),
            row["labelled_patches"], row["labelled_percent"], row["labelled_objects"], row["f1_50"], row["sd"],
            row["percent_of_all_labels"], row["seeds"], row["training_seconds"],
        ]
        for row in curves.table(known)
    ]  # fmt: skip


def differences(known: list[Line]) -> str:
    """What differs by more than chance, in words; what is better or worse first."""
    found = curves.contrasts(known)
    if not found:
        return ""
    ordered = sorted(found, key=lambda each: each.paired.told not in ("better", "worse"))
    lines = "".join(f"<li>{escape(each.told)}</li>" for each in ordered[:MOST_SENTENCES])
    more = len(found) - MOST_SENTENCES
    tail = tables.note(f"{more} more are in the JSON file.") if more > 0 else ""
    return f'{tables.note(curves.summary(found))}<div class="al-note"><ul>{lines}</ul></div>{tail}'


def written(store: Store, chosen: Any, what: str) -> gr.File:
    """Write an export and offer it."""
    if spaces.on_space() or not isinstance(chosen, int):
        raise NotReadyError("Choose an experiment first.")
    return gr.File(value=[offered(export.export(store, rows.by_id(store, chosen), what))], visible=True)


def _lines(store: Store, chosen: Any) -> list[Line]:
    return findings.lines(rows.runs(store, chosen)) if isinstance(chosen, int) else []


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
