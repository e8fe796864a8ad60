"""Figures for the pages: pure functions from results to plotly figures.

Backgrounds are transparent and all ink is a middle gray, so that one figure reads on a light and on a dark
page. Colours are those of Okabe & Ito (2008), which colour-blind people can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from alapp.rounds.predict.evaluation import Summary
from alapp.rounds.results.results import CurvePoint

INK = "#8a8f98"
GRID = "rgba(138, 143, 152, 0.25)"
ACCENT = "#0072b2"
TEST = "#d55e00"
GHOST = "rgba(138, 143, 152, 0.55)"


def loss_curve(run: Sequence[Mapping[str, Any]], previous: Sequence[Mapping[str, Any]] = ()) -> go.Figure:
    """Training loss against iterations. `run` and `previous` are rows of `models.training_runs` (keys
    "iteration", "loss", "round_number"); the previous run is drawn in gray behind the newest."""
    figure = _figure("Iterations", "Loss (no unit; lower is better)", height=330)
    if previous:
        figure.add_trace(_loss_line(previous, f"{_run_name(previous)} (before)", GHOST, 2))
    if run:
        figure.add_trace(_loss_line(run, _run_name(run), ACCENT, 2.5))
    if not run and not previous:
        _say(figure, "The loss appears here when training starts.")
    figure.update_xaxes(rangemode="tozero")
    return figure


def learning_curve(points: Sequence[CurvePoint]) -> go.Figure:
    """F1 at IoU 0.5 against labelled patches, with 95% intervals where there are any; a test curve where there is one.

    Rounds of a curve are labelled in the hover; the point of round 0 is the model from pseudo-labels alone.
    """
    figure = _figure("Labelled patches", "F1 at IoU 0.5 (0 to 1; higher is better)", height=360)
    series = (
        ("Validation patches", ACCENT, "circle", [(p, p.validation) for p in points if p.validation]),
        ("Test images", TEST, "diamond", [(p, p.test) for p in points if p.test]),
    )
    for title, colour, symbol, scored in series:
        if scored:
            figure.add_trace(_score_line(title, colour, symbol, scored))
    if not figure.data:
        _say(figure, "The curve starts when a round with validation patches is trained.")
    figure.update_yaxes(range=[-0.02, 1.05])
    most = max((p.labelled for p in points), default=0)
    figure.update_xaxes(range=[-0.04 * max(most, 4) - 0.2, 1.06 * max(most, 4)], tickformat="d")
    return figure


def score_axes(x_title: str, y_title: str) -> go.Figure:
    """An empty figure of scores in [0, 1] against a count."""
    figure = _figure(x_title, y_title, height=400)
    figure.update_yaxes(range=[-0.02, 1.05])
    figure.update_xaxes(rangemode="tozero", tickformat="d")
    return figure


def _loss_line(run: Sequence[Mapping[str, Any]], name: str, colour: str, width: float) -> go.Scatter:
    return go.Scatter(
        x=[row["iteration"] for row in run],
        y=[row["loss"] for row in run],
        mode="lines+markers" if len(run) < 8 else "lines",
        name=name,
        line={"color": colour, "width": width},
        hovertemplate="%{x} iterations: loss %{y:.3f}<extra></extra>",
    )


def _run_name(run: Sequence[Mapping[str, Any]]) -> str:
    number = run[0]["round_number"]
    return f"round {number}" if number else "pre-training"


def _score_line(title: str, colour: str, symbol: str, scored: Sequence[tuple[CurvePoint, Summary]]) -> go.Scatter:
    values = [summary.scores.f1_50 for _, summary in scored]
    bounds = [summary.interval or (value, value) for value, (_, summary) in zip(values, scored, strict=True)]
    return go.Scatter(
        x=[point.labelled for point, _ in scored],
        y=values,
        customdata=[[_point_name(point), summary.n, told_interval(summary.interval)] for point, summary in scored],
        mode="lines+markers",
        name=title,
        line={"color": colour, "width": 2.5},
        marker={"size": 10, "symbol": symbol},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [max(high - value, 0.0) for value, (_, high) in zip(values, bounds, strict=True)],
            "arrayminus": [max(value - low, 0.0) for value, (low, _) in zip(values, bounds, strict=True)],
            "thickness": 1.5,
            "width": 5,
        },
        hovertemplate=(
            "%{customdata[0]}: F1 %{y:.2f}, %{customdata[2]}"
            "<br>%{x} patches labelled, scored on %{customdata[1]}<extra></extra>"
        ),
    )


def told_interval(interval: tuple[float, float] | None) -> str:
    """The 95% interval of a point in words; one that has none is not known exactly, but not known."""
    return f"95% interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else "too few for an interval"


def _point_name(point: CurvePoint) -> str:
    return f"Round {point.round_number}" if point.round_number else "Pseudo-labels only"


def _figure(x_title: str, y_title: str, height: int) -> go.Figure:
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "tickcolor": GRID, "automargin": True}
    return go.Figure(
        layout={
            "height": height,
            "paper_bgcolor": "rgba(0, 0, 0, 0)",
            "plot_bgcolor": "rgba(0, 0, 0, 0)",
            "font": {"color": INK, "size": 13},
            "margin": {"l": 12, "r": 12, "t": 34, "b": 12},
            "xaxis": {**axis, "title": {"text": x_title, "font": {"size": 13}}},
            "yaxis": {**axis, "title": {"text": y_title, "font": {"size": 13}}},
            "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "bgcolor": "rgba(0, 0, 0, 0)"},
            "hoverlabel": {"bgcolor": "#2b2f36", "bordercolor": "#2b2f36", "font": {"color": "#ffffff"}},
            "modebar": {
                "bgcolor": "rgba(0, 0, 0, 0)",
                "color": INK,
                "activecolor": ACCENT,
                "remove": ["lasso2d", "select2d"],
            },
            "showlegend": True,
            # A redrawn figure keeps the zoom that the user chose.
            "uirevision": "keep",
        }
    )


def _say(figure: go.Figure, text: str) -> None:
    """A sentence in the place of data."""
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
