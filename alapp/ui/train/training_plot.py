"""Loss and training Dice of a training while it runs, above each other on the same iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from alapp.ui.parts import plots

HEIGHT = 430
TITLE = "Training Dice (0 to 1)"


def training_curves(run: Sequence[Mapping[str, Any]], previous: Sequence[Mapping[str, Any]] = ()) -> go.Figure:
    """`plots.loss_curve` of the rows, and below it their training Dice (key "dice", may be None: a run from before
    it was measured has none, and where no run has one there is no second axis)."""
    figure = plots.loss_curve(run, previous)
    lines = [
        (rows, colour, width)
        for rows, colour, width in ((previous, plots.GHOST, 2), (run, plots.ACCENT, 2.5))
        if any(row.get("dice") is not None for row in rows)
    ]
    if not lines:
        return figure
    axis = figure.layout.yaxis.to_plotly_json()
    figure.update_layout(
        height=HEIGHT,
        yaxis={"domain": [0.44, 1.0], "title": {"text": "Loss (lower is better)"}},
        yaxis2={
            **axis,
            "domain": [0.0, 0.34],
            "anchor": "x",
            "range": [-0.02, 1.02],
            "title": {"text": TITLE, "font": {"size": 13}},
        },
        xaxis={"anchor": "y2"},
    )
    figure.add_traces([_dice_line(rows, colour, width) for rows, colour, width in lines])
    return figure


def _dice_line(rows: Sequence[Mapping[str, Any]], colour: str, width: float) -> go.Scatter:
    known = [row for row in rows if row.get("dice") is not None]
    return go.Scatter(
        x=[row["iteration"] for row in known],
        y=[row["dice"] for row in known],
        yaxis="y2",
        mode="lines+markers" if len(known) < 8 else "lines",
        name="training Dice",
        showlegend=False,
        line={"color": colour, "width": width},
        hovertemplate="%{x} iterations: training Dice %{y:.2f}<extra></extra>",
    )
