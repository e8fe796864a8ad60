"""The space on disk for what click models computed ahead: how much it is, its bound, and emptying it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gradio as gr

from alapp.errors import InputError
from alapp.rounds.annotate import clicks
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.errors import info, told
from alapp.ui.page import Page
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET

GB = 10**9
INFO = (
    "Where a foundation model answers clicks, what it needs seconds to compute for a slice is kept, for all projects; "
    "what was used longest ago goes first. It can be removed at any time and is made again when it is needed."
)


def build(page: Page) -> tuple[list[Any], Callable[[], list[Any]]]:
    """Lay out the row. Gives its outputs, and what their updates are."""
    store = page.store
    with gr.Row():
        bound = gr.Number(
            label="Space for fast clicks (GB, all projects)",
            info=INFO,
            minimum=0.1,
            min_width=320,
            elem_id="disk-clicks-bound",
        )
        empty = gr.Button("Remove", size="sm", scale=0, min_width=220, elem_id="disk-clicks-clear")
    for event in (bound.submit, bound.blur):
        event(
            told(lambda visitor, number: set_bound(store, visitor, number)),
            [page.visitor, bound],
            [bound, empty],
            trigger_mode="always_last",
            **QUIET,
        )
    empty.click(told(lambda visitor: clear(store, visitor)), page.visitor, [bound, empty], **QUIET)
    return [bound, empty], lambda: refresh(store)


def refresh(store: Store) -> list[Any]:
    """Updates of the outputs, in order."""
    cache = clicks.embedding_cache(store)
    used = cache.used_bytes
    words = f"Remove what is kept ({tables.size(used)})" if used else "Nothing is kept"
    return [cache.max_bytes / GB, gr.Button(words, interactive=used > 0)]


def set_bound(store: Store, visitor: str | None, number: Any) -> list[Any]:
    """Take the bound that the user typed, in GB."""
    spaces.only_on_a_workstation(visitor, "Changing the space for fast clicks")
    if not isinstance(number, (int, float)) or not math.isfinite(number):
        raise InputError("Type how many GB may be used for fast clicks, for example 2.")
    clicks.embedding_cache(store).set_max_bytes(round(number * GB))
    return refresh(store)


def clear(store: Store, visitor: str | None) -> list[Any]:
    """Remove all that is kept."""
    spaces.only_on_a_workstation(visitor, "Removing what is kept for fast clicks")
    info(f"Freed {tables.size(clicks.embedding_cache(store).clear())}.")
    return refresh(store)
