"""The map of patches on the Rounds tab: how it is laid out, drawn and clicked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import InputError
from alapp.rounds import results
from alapp.storage import catalogue, models
from alapp.storage.db import Store
from alapp.ui import plots, tables
from alapp.ui.errors import told
from alapp.ui.page import Page

HELP = (
    "Every point is a patch; points that lie close together look alike to the embedding (a network that learned, "
    "without labels, what your images look like). Click a point to see its patch."
)

PICKER_JS = """
const redraw = () => {
  const plot = document.querySelector('#rounds-map .js-plotly-plot');
  if (!plot || !plot.on) return;
  plot.removeListener('plotly_click', clicked);  // Gradio may have drawn the plot anew and lost it
  plot.on('plotly_click', clicked);
};
const clicked = (event) => {
  const id = event.points[0]?.customdata?.[0];
  if (id) trigger('picked', {patch: id});
};
new MutationObserver(redraw).observe(element.closest('.tabitem') || document.body, {childList: true, subtree: true});
redraw();
"""


@dataclass(frozen=True)
class PatchMap:
    """The components of the map. `picker` has the event `picked`, with `patch`, a patch id."""

    note: gr.HTML
    colour_by: gr.Radio
    plot: gr.Plot
    picker: gr.HTML


def lay_out() -> PatchMap:
    """The map, inside the caller's column."""
    with gr.Row(equal_height=True):
        note = gr.HTML(tables.note(HELP), padding=False)
        colour_by = gr.Radio(
            [("status", "status"), ("round", "round")],
            value="status",
            label="Colour by",
            min_width=240,
            scale=0,
        )
    plot = gr.Plot(show_label=False, container=False, elem_id="rounds-map")
    picker = gr.HTML("", padding=False, js_on_load=PICKER_JS, apply_default_css=False, elem_id="rounds-picker")
    return PatchMap(note, colour_by, plot, picker)


def connect(page: Page, parts: PatchMap, stale: gr.State, chosen: gr.State, detail: gr.Row) -> None:
    """Draw the map when `stale` changes, in the wanted colours, with a ring around the patch that is `chosen`;
    `detail` is the panel of that patch."""
    store = page.store
    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    drawing = [page.project_id, parts.colour_by, chosen]
    stale.change(told(lambda p, by, one: draw_anew(store, p, by, one)), drawing, [parts.plot, detail], **quick)
    for trigger in (parts.colour_by.change, chosen.change):
        trigger(told(lambda p, by, one: draw_map(store, p, by, one)), drawing, parts.plot, **quick)


def help_note(store: Store, project_id: int) -> str:
    """What the map shows. Starts the job that draws it well, unless it was tried for this embedding."""
    if not results.map_is_missing(store, project_id):
        return tables.note(HELP)
    embedded = models.latest_embedding(store, project_id)
    drawn = [job for job in jobs.history(store, project_id) if job.kind == "map" and job.created >= embedded.created]
    if drawn and not drawn[0].active:
        return tables.note(HELP)
    jobs.enqueue(store, "map", project_id)
    return tables.note(HELP, "A clearer map is being drawn.")


def draw_anew(store: Store, project_id: int | None, colour_by: str, chosen: int | None) -> tuple[Any, Any]:
    """The map after a refresh; the panel closes when its patch is not of this project."""
    ours = project_id is not None and chosen in {patch.id for patch in catalogue.patches(store, project_id)}
    return draw_map(store, project_id, colour_by, chosen), gr.skip() if ours else gr.Row(visible=False)


def draw_map(store: Store, project_id: int | None, colour_by: str, chosen: int | None) -> Any:
    """The map in the wanted colours, with a ring around the chosen patch."""
    if colour_by not in ("status", "round"):
        raise InputError("The map can be coloured by status or by round.")
    return plots.patch_map(results.patch_map(store, project_id) if project_id else [], colour_by, chosen)
