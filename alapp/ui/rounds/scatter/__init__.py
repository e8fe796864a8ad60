"""The map of patches as a canvas in plain JavaScript inside Gradio's HTML component.

A canvas draws ten thousand points in a few milliseconds, and the picture of a patch is fetched only when the pointer
rests on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

SCRIPTS = ("points.js", "legend.js", "card.js", "scatter.js")
_FOLDER = Path(__file__).parent


def script() -> str:
    """The whole script, for `js_on_load`; `element, trigger, props, server, watch` are in its scope."""
    return "\n".join(_read(name) for name in SCRIPTS)


def scatter(value: Mapping[str, Any], server_functions: Sequence[Callable[[dict], dict]]) -> gr.HTML:
    """The component. `value` is {"project", "stamp", "chosen"}: a new `project` or `stamp` fetches the points again,
    `chosen` is the id of the patch with a ring around it. Events `picked` and `opened` have `patch`, a patch id.

    `server_functions` are `map_points` and `map_look`, see `alapp.ui.rounds.patch_map`.
    """
    return gr.HTML(
        value=dict(value),
        html_template=_read("scatter.html"),
        css_template=_read("scatter.css"),
        js_on_load=script(),
        server_functions=list(server_functions),
        apply_default_css=False,
        padding=False,
        elem_id="rounds-map",
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
