"""Tables that the user can sort: numbers stay numbers to be sorted by, and all of a column show as many digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from alapp.ui.parts import tables

Columns = Mapping[str, int | None]
"""Columns by their heads: how many digits after the point their numbers show, None for text."""


def layout(columns: Columns, **looks: Any) -> gr.Dataframe:
    """An empty table, to be filled with what `filled` gives. `looks`: options of `gr.Dataframe`."""
    kinds = ["str" if digits is None else "number" for digits in columns.values()]
    return gr.Dataframe(headers=list(columns), datatype=kinds, interactive=False, show_label=False, **looks)


def filled(columns: Columns, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The value of a table with these rows; None is a number that is not known."""
    return {
        "headers": list(columns),
        "data": [list(row) for row in rows],
        "metadata": {
            "display_value": [
                [_shown(cell, digits) for cell, digits in zip(row, columns.values(), strict=True)] for row in rows
            ],
            "styling": [["" if digits is None else "text-align: right" for digits in columns.values()] for _ in rows],
        },
    }


def _shown(cell: Any, digits: int | None) -> str:
    if cell is None:
        return tables.DASH
    return str(cell) if digits is None else f"{cell:,.{digits}f}"
