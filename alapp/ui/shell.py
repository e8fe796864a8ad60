"""The whole app on one screen: header, tabs, and when each is refreshed."""

from __future__ import annotations

from typing import Any

import gradio as gr

from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.ui import annotate, apply, experiments, foundation, header, project, pseudo, results, rounds, spaces, train
from alapp.ui.errors import told
from alapp.ui.page import TABS, Page, Tab

TITLE = "Active-learning segmentation"
MODULES = {
    "project": project,
    "pseudo": pseudo,
    "rounds": rounds,
    "annotate": annotate,
    "train": train,
    "results": results,
    "apply": apply,
    "experiments": experiments,
}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(store: Store) -> gr.Blocks:
    """The app over a state folder. Launch it with the options of `launch.run`."""
    with gr.Blocks(title=TITLE, fill_width=True, delete_cache=(3600, 86400)) as demo:
        remembered = gr.BrowserState([None, None], storage_key="alapp")  # project, visitor
        state = {name: gr.State(value) for name, value in [("changed", 0), ("open_patch", None), ("visitor", None)]}
        project_id, current = gr.State(None), gr.State("project")
        top = header.lay_out()
        tabs: list[Tab] = []
        with gr.Tabs(selected="project") as switch:
            page = Page(store=store, project_id=project_id, tabs=switch, **state)
            for name, title in TABS.items():
                with gr.Tab(title, id=name) as shown:
                    tabs.append(MODULES[name].build(page))
                refresh_on(page, shown, tabs[-1], current)
        foundation.build(page)
        header.wire(top, page)
        project_id.change(lambda *ids: list(ids), [project_id, page.visitor], remembered, **QUIET)
        demo.load(told(lambda kept: arrive(store, kept)), remembered, [project_id, page.visitor, page.changed], **QUIET)
    return demo


def refresh_on(page: Page, shown: gr.Tab, tab: Tab, current: gr.State) -> None:
    """Refresh a tab when it is opened, and, while it is open, when the project or something in it changed."""
    outputs = list(tab.outputs)

    def opened(project_id: int | None) -> list[Any]:
        return [*tab.refresh(project_id), tab.id]

    def changed(project_id: int | None, visible: str) -> Any:
        updates = list(tab.refresh(project_id)) if visible == tab.id else [gr.skip()] * len(outputs)
        return updates if len(outputs) > 1 else updates[0]  # Gradio takes a list for the value of a single output

    shown.select(told(opened), page.project_id, [*outputs, current], **QUIET)
    for trigger in (page.project_id, page.changed):
        trigger.change(told(changed), [page.project_id, current], outputs, **QUIET)


def arrive(store: Store, kept: list[Any] | None) -> tuple[int | None, str | None, int]:
    """What a page opens with: the project it showed last, else the newest; on a public demo the visitor's own."""
    known, visitor = (kept or [None, None])[:2]
    if spaces.on_space():
        visitor = spaces.welcome(store, visitor)
    mine = [item.id for item in catalogue.projects(store, visitor)]
    return (known if known in mine else next(iter(mine), None)), visitor, 1
