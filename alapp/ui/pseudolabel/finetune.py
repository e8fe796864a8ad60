"""A part of the Pseudo-labels tab: fine-tune micro_sam on the project's own labels, and what came of it."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.environment import machine
from alapp.errors import InputError, NotReadyError
from alapp.jobs import JobState
from alapp.rounds.train import finetune_sam
from alapp.storage.db import Store
from alapp.ui.errors import told
from alapp.ui.page import Page, Tab
from alapp.ui.quiet import QUIET

KIND = "finetune_sam"
NOTE = (
    "micro_sam can learn from the patches that you finished: which outlines you draw, and what is one object. It "
    "starts from weights on this computer and takes the result for clicks only if one click then finds the objects of "
    "your validation patches better than before; those are never trained on. The model that you had stays as it "
    "is. Without a GPU only the part that answers clicks learns; with one, automatic labels learn too."
)
USUAL = ("The model that answers clicks", "")
RUNNING = "It is running; the bar at the top shows how far it is."
FEWEST_STEPS, MOST_SHOWN = 10, 5000


def build(page: Page) -> Tab:
    """Lay out the part inside the caller's tab; it is hidden where there are no weights. Its outputs and its refresh
    belong to the tab."""
    store = page.store
    with gr.Accordion("Fine-tune micro_sam on your labels", open=False, visible=False, elem_id="finetune") as whole:
        gr.Markdown(NOTE)
        with gr.Row():
            model = gr.Dropdown([USUAL], value="", label="Start from", elem_id="finetune-model")
            steps = gr.Slider(
                FEWEST_STEPS,
                MOST_SHOWN,
                value=finetune_sam.STEPS[machine().device],
                step=10,
                label="Steps",
                info="A step shows it one image. Without a GPU that is slow: the time left is told after a few steps.",
                elem_id="finetune-steps",
            )
        start = gr.Button("Fine-tune", elem_id="finetune-start")
        status = gr.HTML(padding=False, elem_id="finetune-status")

    start.click(
        told(lambda p, name, count, changed: start_finetune(store, p, name, count, changed)),
        [page.project_id, model, steps, page.changed],
        page.changed,
        **QUIET,
    )
    return Tab("finetune", [whole, model, start, status], lambda project_id: shown(store, project_id))


def shown(store: Store, project_id: int | None) -> list[Any]:
    """The part as the project has it: whether it is there, weights to start from, whether it can start, and why not
    or what came of the last time."""
    weights = finetune_sam.starts(store, project_id) if project_id is not None else []
    if not weights:
        return [gr.Accordion(visible=False), gr.skip(), gr.skip(), ""]
    running = any(job.kind == KIND for job in jobs.active(store, project_id))
    why = (
        "It is running; the bar at the top shows how far it is." if running else finetune_sam.why_not(store, project_id)
    )
    text = " ".join(filter(None, (why, last_result(store, project_id))))
    return [
        gr.Accordion(visible=True),
        gr.Dropdown(choices=[USUAL, *((item.name, item.name) for item in weights)]),
        gr.Button(interactive=not why),
        f"<p>{html.escape(text)}</p>" if text else "",
    ]


def last_result(store: Store, project_id: int) -> str:
    """What the last fine-tuning that ended told, as a sentence; "" if there was none."""
    done = (job for job in jobs.history(store, project_id) if job.kind == KIND and job.state is JobState.DONE)
    job = next(done, None)
    return job.result["message"] if job and job.result else ""


def start_finetune(store: Store, project_id: int | None, model: str | None, steps: float, changed: int) -> int:
    """Queue a fine-tuning. Raises `InputError` for a value that cannot be, `NotReadyError` with too few labels."""
    if project_id is None:
        raise InputError("Create or open a project first.")
    names = [item.name for item in finetune_sam.starts(store, project_id)]
    if model and model not in names:
        raise InputError(f"The model {model!r} is not on this computer. Choose one of the list.")
    if not FEWEST_STEPS <= float(steps or 0) <= MOST_SHOWN:
        raise InputError(f"The number of steps must be between {FEWEST_STEPS} and {MOST_SHOWN}.")
    if why := finetune_sam.why_not(store, project_id):
        raise NotReadyError(why)
    jobs.start(store, KIND, project_id, {"model": model or "", "iterations": int(steps)})
    return changed + 1
