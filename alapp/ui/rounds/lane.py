"""The control lane: its menu on the Rounds tab, and whether the strategy beats chance on the Results tab."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from alapp.rounds.select import lane
from alapp.rounds.select.lane import Comparison
from alapp.stages.paired import MIN_PATCHES
from alapp.storage import catalogue
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.ui.errors import told
from alapp.ui.page import Page, fill_when_stale
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET

TITLE = "Does the strategy beat chance?"
WAITING = "It is told here once a round has finished patches of both kinds, and a model was trained before that round."
CAVEAT = (
    "It shows where the model was wrong, which is what there was to learn. It does not show that learning from these "
    "patches helps more: patches can also be hard because they are blurred or rare. Only training twice can show that "
    "(see “experiment” in the README)."
)


def menu(page: Page, stale: gr.State) -> gr.Dropdown:
    """The menu of the share, in the context that is open; brought up to date whenever `stale` changes."""
    store = page.store
    shares = [(f"{100 * share:.0f}% of the training patches" if share else "none", share) for share in lane.SHARES]
    share = gr.Dropdown(
        shares,
        value=0.0,
        label="Patches to draw at random, to check the strategy",
        info="Some training patches are drawn by chance instead of by the strategy, a third of them where objects are "
        "seen. The Results tab then tells on which of them the model had more to learn, on your own images.",
        elem_id="rounds-lane",
    )
    stale.change(told(lambda project: shown(store, project)), page.project_id, share, **QUIET)
    share.input(
        told(lambda project, value: keep(store, project, value)),
        [page.project_id, share],
        None,
        trigger_mode="always_last",
        **QUIET,
    )
    return share


def shown(store: Store, project_id: int | None) -> gr.Dropdown:
    """The menu as it was set."""
    if project_id is None:
        return gr.Dropdown(interactive=False)
    return gr.Dropdown(value=catalogue.project(store, project_id).lane_share, interactive=True)


def keep(store: Store, project_id: int | None, share: Any) -> None:
    """Remember the share for the batches to come."""
    if project_id is not None:
        lane.set_share(store, project_id, share)


def sentence(project: Project, n_training: int) -> str:
    """How many of a batch's training patches the lane will draw, in words; "" without it."""
    n = lane.count(project, project.strategy, n_training)
    return f"{n} of these {n_training} are drawn at random instead, to check the strategy." if n else ""


def build(page: Page, stale: gr.State) -> None:
    """Lay out the section on the Results tab, which is empty where the lane was never used."""
    section = gr.HTML("", padding=False, elem_id="results-lane")
    fill_when_stale(page, stale, text, section)


def text(store: Store, project_id: int | None) -> str:
    """The section, as HTML; "" where the lane was never used."""
    if project_id is None or not lane.used(store, project_id):
        return ""
    found = lane.compare(store, project_id)
    lines = [WAITING] if found is None else words(found)
    below = "" if found is None else f"<p>{escape(CAVEAT)}</p>"
    body = f'<div class="al-note al-advice-panel">{escape(" ".join(lines))}{below}</div>'
    return f"{tables.STYLE}<h3>{TITLE}</h3>{body}"


def words(found: Comparison) -> list[str]:
    """What was found, and what it means."""
    strategy, control = found.strategy, found.control
    rounds = f"{found.rounds} round{'s' if found.rounds > 1 else ''}"
    measured = (
        f"Before the model learned from them, in {rounds}: F1 {strategy.f1:.2f} on {strategy.n} patches that the "
        f"strategy chose ({strategy.mistakes:.1f} mistakes a patch), F1 {control.f1:.2f} on {control.n} that were "
        f"drawn at random, a third of them where objects are seen ({control.mistakes:.1f} mistakes a patch)."
    )
    if found.interval is None:
        few = min(strategy.n, control.n)
        return [
            measured,
            f"That is too little to tell it from chance: it takes {MIN_PATCHES} of each kind, there are {few}.",
        ]
    low, high = found.interval
    spread = f"Strategy minus chance: {found.difference:+.2f} (95% interval {low:+.2f} to {high:+.2f})."
    if high < 0:
        return [
            measured,
            f"{spread} The strategy finds patches on which the model is wrong more often than by chance.",
        ]
    if low > 0:
        return [
            measured,
            f"{spread} Chance finds more mistakes than the strategy: another strategy may serve you better.",
        ]
    return [measured, f"{spread} No difference that could not be chance."]
