"""The sheet "Models on this computer": every foundation model with its state, and what can be done about it.

A native dialog in plain JavaScript inside Gradio's HTML component: the browser keeps the focus in it, closes it with
Esc and gives the focus back. It asks the server once a second while it is open, so that all pages show the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

_FOLDER = Path(__file__).parent


def sheet(server_functions: Sequence[Callable[[dict], dict]]) -> gr.HTML:
    """The component. Its value {"project": id} names the project whose images models are tried on; it is opened by
    any element of the page with the class "open-models", at the model that its `data-model` names."""
    return gr.HTML(
        value={"project": None},
        html_template=_read("panel.html"),
        css_template=_read("panel.css"),
        js_on_load=_read("panel.js"),
        server_functions=list(server_functions),
        apply_default_css=False,
        elem_id="models-panel",
    )


def opener(text: str = "Models on this computer …", model: str = "") -> gr.Button:
    """A button that opens the sheet."""
    return gr.Button(text, size="sm", elem_classes=["open-models", *([f"model-{model}"] if model else [])])


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
