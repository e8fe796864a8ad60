"""The menu of selection strategies on the Rounds tab: recommended ones first, then by what they look at."""

from __future__ import annotations

import gradio as gr

from alapp.stages.select.base import SELECTORS, Need
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET

GROUPS = {
    "Recommended": ("auto",),
    "To cover the whole data set": ("coreset", "typical", "coreset_uncertainty", "coreset_cost"),
    "Where the model is unsure": ("entropy", "bald", "clasp"),
    "To compare with": ("foreground_random", "random"),
}
"""Names by what a person wants, in the order of the menu; what is in none of them comes last."""

ASKS_THE_MODEL = {Need.UNCERTAINTY, Need.MUTUAL_INFORMATION, Need.CLASS_ENTROPY}


def menu() -> tuple[gr.Dropdown, gr.HTML]:
    """The menu, and below it what the chosen strategy does; wire the second with `follow`."""
    listed = choices()
    strategy = gr.Dropdown(
        listed,
        label="How to choose the patches",
        info="Core-set is the method of the paper that this app follows; Automatic sees to it that objects are in the "
        "batch. Random choices are there to compare with.",
        elem_id="rounds-strategy",
        filterable=False,
    )
    # The menu begins with its first entry; where a project has that one, nothing changes and `follow` does nothing.
    return strategy, gr.HTML(about(listed[0][1]), padding=False, elem_id="rounds-strategy-about")


def follow(strategy: gr.Dropdown, note: gr.HTML) -> None:
    """Show below the menu what is chosen in it."""
    strategy.change(about, strategy, note, **QUIET)


def choices() -> list[tuple[str, str]]:
    """(what the menu shows, name) of every registered strategy."""
    listed = [name for names in GROUPS.values() for name in names if name in SELECTORS]
    ordered = listed + [name for name in SELECTORS if name not in listed]
    return [(f"{SELECTORS.load(name).title}: {SELECTORS.load(name).suits}", name) for name in ordered]


def about(name: str | None) -> str:
    """What a strategy is for, and how long it takes to ask."""
    if name not in SELECTORS:
        return ""
    backend = SELECTORS.load(name)
    group = next((f"{title}. " for title, names in GROUPS.items() if name in names), "")
    asks = ""
    if backend.needs & ASKS_THE_MODEL:
        asks = (
            "The model looks at every image four times, mirrored, which takes about as long as predicting them; "
            "without a model the patches are chosen by their looks alone."
        )
    return tables.note(f"{group}{backend.suits}", asks)
