"""“Does it forget?” on the Results tab: scores on older validation patches before and after each training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from alapp.rounds.results import forgetting
from alapp.rounds.results.forgetting import Memory
from alapp.stages.paired import MIN_PATCHES, Difference
from alapp.storage.db import Store
from alapp.ui.page import Page, fill_when_stale
from alapp.ui.parts import tables

TITLE = "### Does it forget?"
EXPLANATION = (
    "A network that learns a new kind of image can get worse on the old kind. Older patches are the validation patches "
    "that earlier rounds selected, new patches those of the round itself; the models before and after training are "
    "scored on the same ones. Labels of all rounds are trained on together; the newest batch is seen more often, but "
    "for at most half of the time, unless there are only a few older labels."
)
HEAD = ["Training of", "Older patches", "F1 before", "F1 after", "Change (95% interval)", "New patches", "F1 before",
        "F1 after", ""]  # fmt: skip


def build(page: Page, stale: gr.State) -> None:
    """Lay out the section in the context that is open; it is filled whenever `stale` changes."""
    title = gr.Markdown(TITLE, visible=False)
    panel = gr.HTML(padding=False, elem_id="results-forgetting")
    fill_when_stale(page, stale, section, [title, panel])


def section(store: Store, project_id: int | None) -> list[Any]:
    """Title and text; neither before a second round is trained."""
    shown = text(store, project_id)
    return [gr.Markdown(TITLE, visible=bool(shown)), shown]


def text(store: Store, project_id: int | None) -> str:
    """The section of a project, as HTML; "" while there is nothing to forget."""
    known = forgetting.memories(store, project_id) if project_id is not None else []
    if not any(memory.old for memory in known):
        return ""
    newest = [memory for memory in known if memory.old][-1]
    found = forgetting.forgetting(known)
    return "<br>".join(
        part
        for part in (
            tables.note(found.sentence, found.advice),
            table(known),
            image_table(newest),
            tables.note(EXPLANATION),
        )
        if part
    )


def table(known: Sequence[Memory]) -> str:
    """One row for each trained round."""
    rows = [
        [f"Round {memory.number}", *_columns(memory.old, True), *_columns(memory.new, False), verdict(memory.old)]
        for memory in known
    ]
    return tables.table(HEAD, rows)


def image_table(memory: Memory) -> str:
    """The newest training by image, where the older patches are of more than one."""
    if len(memory.by_image) < 2:
        return ""
    rows = [
        [name, *_columns(pair, True), verdict(pair)]
        for name, pair in sorted(memory.by_image.items(), key=lambda item: item[1].change)
    ]
    head = [f"Round {memory.number}, by image", *HEAD[1:5], ""]
    return tables.table(head, rows)


def verdict(pair: Difference | None) -> str:
    """What a change means, in a word or two."""
    if pair is None:
        return ""
    if pair.interval is None:
        return f"too few (under {MIN_PATCHES})"
    return "forgot" if pair.worse else "better" if pair.better else "no change beyond chance"


def _columns(pair: Difference | None, with_change: bool) -> list[str]:
    if pair is None:
        return [tables.DASH] * (4 if with_change else 3)
    # To the third decimal: rounded more, two scores that differ by a little would contradict their difference.
    cells = [str(pair.n), f"{pair.before:.3f}", f"{pair.after:.3f}"]
    if not with_change:
        return cells
    interval = f" ({_signed(pair.interval[0])} to {_signed(pair.interval[1])})" if pair.interval else ""
    return [*cells, f"{_signed(pair.change)}{interval}"]


def _signed(value: float) -> str:
    """With a sign, but for what is nothing when it is rounded."""
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text
