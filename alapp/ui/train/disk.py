"""Disk space of the project: what it uses, which models are kept, and freeing what is not needed any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from alapp.errors import NotReadyError
from alapp.rounds.train import retention
from alapp.rounds.train.retention import Removable
from alapp.storage import catalogue, models
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint
from alapp.ui.annotate import click_space
from alapp.ui.errors import info, told, warn
from alapp.ui.page import Page
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET

RULE = (
    "After each training the files of older models are removed. These are always kept: the newest ones (as many as you "
    "say here), the one with the best score, the pre-trained one, those that the next training starts from, and those "
    "that you choose. Scores, labels and predictions of all models stay."
)


def build(page: Page) -> tuple[list[Any], Callable[[int | None], list[Any]]]:
    """Lay out the fold inside of a tab. Gives its outputs, and what their updates are for a project."""
    store = page.store
    with gr.Accordion("Disk space", open=False, elem_id="disk"):
        used = gr.HTML(padding=False)
        with gr.Row():
            keep = gr.Number(
                label="Newest models to keep",
                info="At least 1.",
                precision=0,
                minimum=1,
                scale=0,
                min_width=220,
                elem_id="disk-keep",
            )
            pinned = gr.Dropdown(
                [], multiselect=True, label="Keep these as well", info="Never removed.", elem_id="disk-pinned"
            )
        gr.HTML(tables.note(RULE), padding=False)
        with gr.Row():
            ask = gr.Button("Free disk space …", size="sm", elem_id="disk-ask", scale=0, min_width=160)
        question = gr.HTML(padding=False, visible=False, elem_id="disk-question")
        with gr.Row(visible=False) as answers:
            remove = gr.Button("Remove", size="sm", variant="stop", scale=0, min_width=160, elem_id="disk-remove")
            leave = gr.Button("Keep everything", size="sm", scale=0, min_width=160, elem_id="disk-leave")
        for_clicks, look_at_clicks = click_space.build(page)
    about = gr.State(None)
    asked = [question, answers, remove, about]
    ask.click(told(lambda project_id: show_removable(store, project_id)), page.project_id, asked, **QUIET)
    leave.click(lambda: hide(), None, asked, **QUIET)
    remove.click(
        told(lambda *values: free(store, *values)),
        [page.project_id, about, page.changed],
        [*asked, page.changed],
        **QUIET,
    )
    for event in (keep.submit, keep.blur):
        event(
            told(lambda project_id, number: set_kept(store, project_id, number)),
            [page.project_id, keep],
            keep,
            trigger_mode="always_last",
            **QUIET,
        )
    pinned.input(
        told(lambda project_id, chosen: pin(store, project_id, chosen)),
        [page.project_id, pinned],
        None,
        trigger_mode="always_last",
        **QUIET,
    )
    return (
        [used, keep, pinned, *asked, *for_clicks],
        lambda project_id: [*refresh(store, project_id), *look_at_clicks()],
    )


def fields(outputs: list[Any]) -> list[list[Any]]:
    """Those of the outputs that a user fills in or answers."""
    _, keep, _, *asked, bound, _ = outputs
    return [[keep], asked, [bound]]


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of the outputs, in order."""
    if project_id is None:
        return [
            tables.empty("Open or create a project first."),
            None,
            gr.Dropdown(choices=[], value=[], multiselect=True),
            *hide(),
        ]
    found = [item for item in models.checkpoints(store, project_id) if item.removed_at is None]
    return [
        usage(store, project_id),
        catalogue.project(store, project_id).keep_checkpoints,
        gr.Dropdown(
            choices=[(name(store, item), item.id) for item in reversed(found)],
            value=[item.id for item in found if item.pinned],
            multiselect=True,
        ),
        *hide(),
    ]


def usage(store: Store, project_id: int) -> str:
    """Cards with what the project takes on the disk."""
    used = retention.usage(store, project_id)
    cards = [(tables.size(sum(used.values())), "in all")]
    cards += [(tables.size(used[kind]), title) for kind, title in retention.KINDS.items()]
    return tables.cards(cards)


def name(store: Store, item: Checkpoint) -> str:
    """A model in a few words."""
    made = f"round {round_rows.round_by_id(store, item.round_id).number}" if item.round_id else "pre-training"
    return f"{made}, {item.preset}, {item.iterations:,} iterations, {tables.local_time(item.created)}"


def question(store: Store, project_id: int, found: Removable) -> str:
    """What would be removed and how much that is, or that there is nothing."""
    lines = []
    if found.checkpoints:
        names = "; ".join(name(store, item) for item in found.checkpoints)
        lines.append(
            f"{_count(len(found.checkpoints), 'older model')} ({tables.size(found.checkpoint_bytes)}): {names}. Their "
            "scores and predictions stay, but they cannot be used on new images any more."
        )
    if found.cases:
        lines.append(
            f"Prepared patches of labels that have changed since ({tables.size(found.case_bytes)}). They are made "
            "again when they are needed."
        )
    if found.unfinished:
        lines.append(
            f"Trainings that were given up, and followed by a newer one ({tables.size(found.unfinished_bytes)})."
        )
    if not lines:
        return "Nothing can be removed: all that is here is needed or kept by the rule above."
    return f"This would free {tables.size(found.total)} and cannot be undone. " + " ".join(lines)


def show_removable(store: Store, project_id: int | None) -> list[Any]:
    """Say what would be removed; offer to do it. The last of the updates is what the question is about."""
    found = retention.removable(store, _opened(project_id))
    text = question(store, project_id, found)
    return [
        gr.HTML(tables.note(text), visible=True),
        gr.Row(visible=found.total > 0),
        gr.Button(f"Remove {tables.size(found.total)}"),
        [project_id, text],
    ]


def hide() -> list[Any]:
    """No question is open."""
    return [gr.HTML(visible=False), gr.Row(visible=False), gr.skip(), None]


def free(store: Store, project_id: int | None, about: Any, changed: int) -> list[Any]:
    """Remove what was shown. Returns the updates of the question, and changed + 1. Where something else would be
    removed by now, because a training has ended or fewer models are to be kept, it is asked anew."""
    anew = show_removable(store, project_id)
    if about is None or list(about) != anew[-1]:
        warn("Nothing was removed yet: what can be removed has changed since you were asked. Please look again.")
        return [*anew, changed]
    done = retention.free(store, _opened(project_id))
    info(f"Freed {tables.size(done.total)}.")
    return [*hide(), changed + 1]


def set_kept(store: Store, project_id: int | None, number: Any) -> int:
    """Keep so many of the newest models."""
    return retention.set_kept(store, _opened(project_id), number)


def pin(store: Store, project_id: int | None, chosen: list[int] | None) -> None:
    """Keep exactly the chosen models, beside those of the rule."""
    for item in models.checkpoints(store, _opened(project_id)):
        wanted = item.id in (chosen or [])
        if wanted != item.pinned:
            models.pin_checkpoint(store, item.id, wanted)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _opened(project_id: int | None) -> int:
    if project_id is None:
        raise NotReadyError("Open a project first.")
    return project_id
