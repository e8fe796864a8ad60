"""What the shell and the tabs share: which project is open, and how a tab is refreshed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from alapp.storage.db import Store
from alapp.ui.errors import told
from alapp.ui.quiet import QUIET

TABS = {
    "project": "Project",
    "pseudo": "Pseudo-labels",
    "rounds": "Rounds",
    "annotate": "Annotate",
    "train": "Train",
    "results": "Results",
    "apply": "Apply",
    "experiments": "Experiments",
}
"""Tab ids and titles, in order. `rounds.progress.NextStep.tab` is one of these ids."""


def _next_iterations() -> gr.Textbox:
    label = "Iterations of the next training only"
    return gr.Textbox("", label=label, placeholder="as planned", elem_id="next-iterations", render=False)


@dataclass(frozen=True)
class Page:
    """Components that every tab may use as inputs or outputs.

    `project_id`: `gr.State` with the id of the open project, or None. `tabs`: the `gr.Tabs`; return
    `gr.Tabs(selected="annotate")` to it to switch. `changed`: `gr.State` with an int; a handler that changed
    the project returns `changed + 1` to it, and the shell refreshes the header and the visible tab.
    `open_patch`: `gr.State` with a patch id; return one to it, together with `tabs`, to open it in Annotate.
    `visitor`: the owner id of a demo visitor, `gr.State` with None on a workstation. `iterations`: a field of the
    Train tab, which counts for the next training wherever that is started.
    """

    store: Store
    project_id: gr.State
    tabs: gr.Tabs
    changed: gr.State
    open_patch: gr.State
    visitor: gr.State
    iterations: gr.Textbox = field(default_factory=_next_iterations)


def fill_when_stale(page: Page, stale: gr.State, content: Callable[[Store, int | None], Any], panels: Any) -> None:
    """Fill `panels`, one or several, with `content(store, project_id)`, which may take a moment, whenever `stale`
    changes.

    Not as long as `stale` is 0: Gradio tells of a change when a page is opened, too, and what is on a tab that nobody
    sees yet would hold up the one that is shown.
    """

    def fill(project_id: int | None, stamp: float) -> Any:
        return content(page.store, project_id) if stamp else gr.skip()

    stale.change(told(fill), [page.project_id, stale], panels, **QUIET)


@dataclass(frozen=True)
class Tab:
    """How the shell refreshes a tab: `refresh(project_id)` gives one update for each of `outputs`.

    Called when the project changes, when the tab is opened, when a job of the project ends, and after
    `changed`. It must be quick (under 0.3 s) and must not throw away what the user is typing.

    `fields` are groups of `outputs` with what is not stored yet: what is chosen from a menu, a number that is being
    typed, a question to answer. The shell updates a group only when an update of it is another than the last time.
    """

    id: str
    outputs: Sequence[Any]
    refresh: Callable[[int | None], Sequence[Any]]
    fields: Sequence[Sequence[Any]] = ()
