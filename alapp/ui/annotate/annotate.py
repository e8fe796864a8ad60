"""The Annotate tab: the canvas and, below it, what answers its clicks."""

from __future__ import annotations

import itertools
import time
from typing import Any

import gradio as gr

from alapp.storage.db import Store
from alapp.ui.annotate import click_choice
from alapp.ui.annotate.annotate_server import server_functions
from alapp.ui.annotate.canvas import annotator
from alapp.ui.errors import told
from alapp.ui.page import Page, Tab
from alapp.ui.quiet import QUIET

_turns = itertools.count(1)


def build(page: Page) -> Tab:
    """The tab's components, in the context that is open. Opening a patch from another tab: give its id to
    `page.open_patch`."""
    # Without a number: the page does not know yet which project is open, so it must not say that there is no batch.
    canvas = annotator({**_value(None), "rev": None}, server_functions(page.store))
    with gr.Accordion(click_choice.QUESTION, open=False, elem_id="annotate-clicks"):
        choice, refresh_choice = click_choice.build(page, "annotate-method")

    def open_patch(project_id: int | None, patch_id: int | None) -> tuple[Any, Any]:
        if patch_id is None:
            return gr.skip(), gr.skip()
        # Nothing changes when the same patch is asked for again, unless what was asked for is forgotten.
        return _value(project_id, patch_id), None

    def changed(number: int) -> int:
        return number + 1

    page.open_patch.change(
        told(open_patch),
        [page.project_id, page.open_patch],
        [canvas, page.open_patch],
        **QUIET,
    )
    canvas.changed(told(changed), page.changed, page.changed, **QUIET)
    return Tab("annotate", [canvas, *choice], lambda project_id: [_value(project_id), *refresh_choice(project_id)])


def standalone(store: Store, project_id: int) -> gr.Blocks:
    """The page alone, for tests and benchmarks: `standalone(store, project_id).launch()`."""
    with gr.Blocks(title="Annotate") as blocks:
        state = {name: gr.State(value) for name, value in [("changed", 0), ("open_patch", None), ("visitor", None)]}
        with gr.Tabs() as tabs, gr.Tab("Annotate", id="annotate"):
            opened = gr.State(project_id)
            tab = build(Page(store=store, project_id=opened, tabs=tabs, **state))
        blocks.load(lambda: tab.refresh(project_id)[0], None, tab.outputs[0], api_visibility="private")
    return blocks


def _value(project_id: int | None, patch_id: int | None = None) -> dict[str, Any]:
    # A value that is equal to the one before would not reach the browser.
    return {"project": project_id, "patch": patch_id, "rev": f"{time.time():.3f}-{next(_turns)}"}
