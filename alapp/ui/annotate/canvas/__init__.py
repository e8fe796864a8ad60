"""The annotator: a canvas in plain JavaScript inside Gradio's HTML component.

The script is kept in several files, put together when the component is made; each is plain functions and
classes of one scope, in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

SCRIPTS = (
    "masks.js",
    "memory.js",
    "outbox.js",
    "link.js",
    "pictures.js",
    "view.js",
    "layers.js",
    "touch.js",
    "tools.js",
    "brush.js",
    "shapes.js",
    "measure.js",
    "minimap.js",
    "region.js",
    "editing.js",
    "cursor.js",
    "keys.js",
    "panels.js",
    "classes.js",
    "births.js",
    "drafting.js",
    "doubting.js",
    "tuning.js",
    "acting.js",
    "look.js",
    "channels.js",
    "ahead.js",
    "stack.js",
    "ortho.js",
    "presence.js",
    "note.js",
    "focus.js",
    "opening.js",
    "annotator.js",
)
_FOLDER = Path(__file__).parent


def script() -> str:
    """The whole script, for `js_on_load`; `element, trigger, props, server, watch` are in its scope."""
    return "\n".join(_read(name) for name in SCRIPTS)


def annotator(value: Mapping[str, Any], server_functions: Sequence[Callable[[dict], dict]]) -> gr.HTML:
    """The component. `value` is {"project", "patch", "rev"}: a new `rev` opens the patch again.

    A function, because subclassing `gr.HTML` makes Gradio write a stub file beside the source.
    """
    return gr.HTML(
        value=dict(value),
        html_template=_read("annotator.html"),
        css_template=_read("annotator.css"),
        js_on_load=script(),
        server_functions=list(server_functions),
        apply_default_css=False,
        elem_id="annotator",
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
