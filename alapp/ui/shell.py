"""The whole app on one screen: header, tabs, and when each is refreshed."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from alapp.ui import apply, header, spaces
from alapp.ui.annotate import annotate
from alapp.ui.errors import told
from alapp.ui.experiments import experiments
from alapp.ui.foundation import foundation
from alapp.ui.page import TABS, Page, Tab
from alapp.ui.project import project
from alapp.ui.pseudolabel import pseudo
from alapp.ui.quiet import QUIET
from alapp.ui.results import results
from alapp.ui.rounds import rounds
from alapp.ui.train import train

TITLE = "Active-learning segmentation"
HEAD = "".join(
    f"<script>{(Path(__file__).parent / name).read_text(encoding='utf-8')}</script>"
    for name in ("clicks.js", "waiting.js", "places.js")
)
"""What a page that shows the app has in its head."""

BROWSER_KEY = "browser.key"
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


def build(store: Store) -> gr.Blocks:
    """The app over a state folder. Launch it with the options of `launch.run`."""
    with gr.Blocks(title=TITLE, fill_width=True, delete_cache=(3600, 86400)) as demo:
        key = browser_key(store.root)
        remembered = gr.BrowserState([None, None], storage_key="alapp", secret=key)  # project, visitor
        state = {name: gr.State(value) for name, value in [("changed", 0), ("open_patch", None), ("visitor", None)]}
        project_id, current, sent = gr.State(None), gr.Textbox("project", visible="hidden"), gr.State({})
        top = header.lay_out()
        tabs: list[Tab] = []
        with gr.Tabs(selected="project") as switch:
            page = Page(store=store, project_id=project_id, tabs=switch, **state)
            for name, title in TABS.items():
                with gr.Tab(title, id=name, elem_id=f"panel-{name}") as shown:
                    tabs.append(MODULES[name].build(page))
                refresh_when_opened(page, shown, tabs[-1], current, sent)
        refresh_when_changed(page, tabs, current, sent)
        follow_the_address(demo, switch)
        foundation.build(page)
        header.wire(top, page)
        project_id.change(lambda *ids: list(ids), [project_id, page.visitor], remembered, **QUIET)
        demo.load(told(lambda kept: arrive(store, kept)), remembered, [project_id, page.visitor, page.changed], **QUIET)
    return demo


def browser_key(folder: Path) -> str:
    """What a browser encrypts its memory with: the same at every start of the app on this state folder, else the
    browser could not read after a restart which project was open, and a visitor would lose theirs."""
    path = folder / BROWSER_KEY
    known = path.read_text(encoding="ascii", errors="replace") if path.is_file() else ""
    if not re.fullmatch("[0-9a-f]{32}", known):
        known = secrets.token_hex(16)
        with atomic_write(path) as handle:
            handle.write(known.encode("ascii"))
    return known


def refresh_when_opened(page: Page, shown: gr.Tab, tab: Tab, current: gr.Textbox, sent: gr.State) -> None:
    """Refresh a tab when it is opened, and remember that it is the one which is open. The browser does the second: an
    answer of the server may come when another tab is open already. Until then the tab takes no clicks (waiting.js)."""

    def opened(project_id: int | None, before: dict[str, Any]) -> dict[Any, Any]:
        updates, now = refreshed(page.store, tab, project_id, before)
        return {**updates, sent: now}

    name = json.dumps(tab.id)
    js = f"() => {{ alapp.hold({name}, {name}); alapp.arrived({name}); return {name}; }}"
    shown.select(None, None, current, js=js, **QUIET)
    shown.select(told(opened), [page.project_id, sent], [*tab.outputs, sent], **QUIET).then(
        None, None, None, js=f"() => alapp.release({name})", **QUIET
    )


def follow_the_address(demo: gr.Blocks, switch: gr.Tabs) -> None:
    """Open the tab that the address names, when the page is loaded and when the browser goes back (places.js)."""
    js = f"() => alapp.named({json.dumps(list(TABS))})"
    go = gr.Button(visible="hidden", elem_id="go-to-named")
    for event in (demo.load, go.click):
        event(None, None, switch, js=js, **QUIET)


def refresh_when_changed(page: Page, tabs: Sequence[Tab], current: gr.Textbox, sent: gr.State) -> None:
    """Refresh the open tab when another project was opened or something in it changed.

    One event for all tabs, which leaves the others as they are: an event of its own for each would be sent, and
    answered with nothing, for every tab that is not open.
    """

    by_id = {tab.id: tab for tab in tabs}

    def changed(project_id: int | None, visible: str, before: dict[str, Any]) -> dict[Any, Any]:
        updates, now = refreshed(page.store, by_id[visible], project_id, before)
        return {**updates, sent: now}  # what is not named stays as it is

    page.project_id.change(None, current, None, js="(tab) => alapp.hold(tab, 'new project')", **QUIET)
    gr.on(
        [page.project_id.change, page.changed.change],
        told(changed),
        [page.project_id, current, sent],
        [*(output for tab in tabs for output in tab.outputs), sent],
        trigger_mode="always_last",
        **QUIET,
    ).then(None, None, None, js="() => alapp.release('new project')", **QUIET)


def refreshed(
    store: Store, tab: Tab, project_id: int | None, sent: dict[str, Any]
) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The updates of a tab by its outputs, none for the fields that have theirs already, and what was `sent` to the
    fields of all tabs."""
    with store.held():
        updates = dict(zip(tab.outputs, tab.refresh(project_id), strict=True))
    now = [repr([project_id, *(_plain(updates[field]) for field in group)]) for group in tab.fields]
    for group, update, before in zip(tab.fields, now, sent.get(tab.id, [None] * len(now)), strict=True):
        if update == before:
            updates |= dict.fromkeys(group, gr.skip())
    return updates, {**sent, tab.id: now}


def _plain(update: Any) -> Any:
    return update.constructor_args if isinstance(update, gr.blocks.Block) else update


def arrive(store: Store, kept: list[Any] | None) -> tuple[int | None, str | None, int]:
    """What a page opens with: the project it showed last, else the newest; on a public demo the visitor's own. Then the
    visitor, and another value for `Page.changed` where that has to refresh the page."""
    known, visitor = (kept or [None, None])[:2]
    if spaces.on_space():
        visitor = spaces.welcome(store, visitor)
    mine = [item.id for item in catalogue.projects(store, visitor)]
    opened = known if known in mine else next(iter(mine), None)
    return opened, visitor, 0 if opened else 1  # a change is told once: opening a project is one
