"""The Experiments tab: what works on data like the user's, found out on labelled images. The form is
`experiment_form`, what came out is `experiment_results`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import InputError, NotReadyError
from alapp.experiments import control, wording
from alapp.experiments.outlook import look_ahead
from alapp.experiments.runs import Result
from alapp.experiments.study import Run
from alapp.jobs import Job
from alapp.storage import experiments as rows
from alapp.storage.db import Store
from alapp.storage.experiments import ExperimentRun, RunState
from alapp.ui import spaces
from alapp.ui.errors import sentence, told, warn
from alapp.ui.experiments import experiment_form, experiment_results
from alapp.ui.header import time_left
from alapp.ui.page import Page, Tab
from alapp.ui.parts import data_table, tables
from alapp.ui.quiet import QUIET

ABOUT = (
    "For labelled images: find out what works on data like yours, before you label. The app trains again and again "
    "with different strategies, numbers of labels and pre-trainings, and compares what comes out on test images."
)
CLOSED = (
    "Experiments are switched off on this public demo: they train for hours, and all visitors share two processors. "
    "Install the app on your computer to use them."
)
NONE_YET = "No experiment yet. Say above what to compare, and start it."
UNDO = "It can be brought back until another one is deleted or the app is started again."
COLUMNS = {
    "Pre-training": None,
    "Training": None,
    "Strategy": None,
    "Labels": None,
    "Repetition": 0,
    "State": None,
    "F1": 3,
    "Seconds": 0,
    "Remark": None,
}
WIDTHS = ["21%", "12%", "17%", "7%", "9%", "8%", "6%", "8%", "12%"]


@dataclass(frozen=True)
class _Parts:
    """The components; `shown` are those that `look` fills."""

    fields: dict[str, Any]
    ahead: gr.HTML
    new: gr.Accordion
    begin: gr.Button
    chosen: gr.Dropdown
    buttons: dict[str, gr.Button]
    question: gr.Row
    asked: gr.HTML
    sure: gr.Button
    leave: gr.Button
    seen: gr.State
    timer: gr.Timer
    shown: list[Any]


def build(page: Page) -> Tab:
    """Lay out the tab inside the caller's `gr.Tab`."""
    control.forget_removed(page.store)  # of the last time that the app ran
    gr.Markdown("### Experiments")
    intro = gr.HTML(tables.note(ABOUT), padding=False)
    stale = gr.State(0)
    # Unlike a State it tells of changes by an unqueued event; in a column that is shown it would be shown, too.
    fresh = gr.Textbox("", visible="hidden", elem_id="experiment-fresh")
    with gr.Column() as everything:
        parts = _lay_out(page.store, fresh)
    _wire_form(page, parts, stale)
    _wire_experiments(page, parts, stale)
    return Tab("experiments", [intro, everything, stale], lambda _: refresh())


def _lay_out(store: Store, fresh: gr.Textbox) -> _Parts:
    """Everything below the introduction; `fresh` changes when there are new results."""
    seen, timer = gr.State(None), gr.Timer(2, active=False)
    with gr.Accordion("A new experiment", open=True) as new:
        fields = experiment_form.lay_out()
        ahead = gr.HTML(padding=False, elem_id="experiment-ahead")
        begin = gr.Button("Start the experiment", variant="primary", elem_id="experiment-begin")
    chosen = gr.Dropdown([], label="Experiment", elem_id="experiment-chosen", filterable=False)
    status = gr.HTML(padding=False, elem_id="experiment-status")
    buttons = _buttons()
    with gr.Row(visible=False) as question:
        asked = gr.HTML(padding=False, elem_id="experiment-asked")
        sure = gr.Button("Delete", size="sm", variant="stop", scale=0, min_width=120, elem_id="experiment-sure")
        leave = gr.Button("Keep it", size="sm", scale=0, min_width=120)
    with gr.Accordion("Runs", open=True, visible=False) as runs:
        listing = data_table.layout(
            COLUMNS, wrap=True, max_height=340, column_widths=WIDTHS, elem_id="experiment-runs"
        )  # fmt: skip
    experiment_results.build(store, chosen, fresh)
    shown = [seen, chosen, status, *buttons.values(), question, runs, listing, fresh, timer]
    return _Parts(fields, ahead, new, begin, chosen, buttons, question, asked, sure, leave, seen, timer, shown)


def _wire_form(page: Page, parts: _Parts, stale: gr.State) -> None:
    """What the form foretells, and its start."""
    store, fields = page.store, parts.fields
    names, values = list(fields), list(fields.values())

    def form(given: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(names, given, strict=True))

    for name, field in fields.items():
        event = field.blur if isinstance(field, (gr.Textbox, gr.Number)) else field.change
        if name not in ("name", "workers"):
            event(
                lambda project, *given: foretold(store, project, form(given)),
                [page.project_id, *values],
                parts.ahead,
                **QUIET,
                trigger_mode="always_last",
            )
    stale.change(
        lambda project, *given: [experiment_form.origins(store, project), foretold(store, project, form(given))],
        [page.project_id, *values],
        [fields["origin"], parts.ahead],
        **QUIET,
    )
    parts.begin.click(
        told(lambda project, visitor, *given: start_new(store, project, visitor, form(given))),
        [page.project_id, page.visitor, *values],
        parts.shown,
        **QUIET,
    ).success(lambda: gr.Accordion(open=False), None, parts.new, **QUIET)


def _wire_experiments(page: Page, parts: _Parts, stale: gr.State) -> None:
    """What is shown of the chosen experiment, and what its buttons do."""
    store, chosen, shown, workers = page.store, parts.chosen, parts.shown, parts.fields["workers"]
    # With what was seen last, for a question must not close by itself: the tab is refreshed whenever a job ends, and a
    # menu tells of an input whenever it is left.
    for event in (stale.change, chosen.input):
        event(
            told(lambda picked, last: look(store, picked, last)),
            [chosen, parts.seen],
            shown,
            trigger_mode="always_last",
            **QUIET,
        )
    parts.timer.tick(
        told(lambda picked, last: look(store, picked, last)), [chosen, parts.seen], shown, queue=False, **QUIET
    )
    for act, button in parts.buttons.items():
        if act in ACTS:
            button.click(
                told(lambda picked, n, visitor, act=act: do(store, act, picked, n, visitor)),
                [chosen, workers, page.visitor],
                shown,
                **QUIET,
            )
    parts.buttons["delete"].click(
        told(lambda picked: ask_before_removal(store, picked)), chosen, [parts.question, parts.asked], **QUIET
    )
    parts.leave.click(lambda: gr.Row(visible=False), None, parts.question, **QUIET)
    parts.sure.click(
        told(lambda picked, visitor: do(store, "remove", picked, 1, visitor)), [chosen, page.visitor], shown, **QUIET
    )


def _buttons() -> dict[str, gr.Button]:
    titles = {
        "start": "Start", "pause": "Pause", "resume": "Resume", "cancel": "Cancel", "retry": "Try again what failed",
        "delete": "Delete …", "undo": "Bring back",
    }  # fmt: skip
    with gr.Row():
        return {
            act: gr.Button(title, size="sm", visible=False, scale=0, min_width=130, elem_id=f"experiment-{act}")
            for act, title in titles.items()
        }


def refresh() -> list[Any]:
    """Updates of the tab's outputs: what it shows follows from the last."""
    closed = spaces.on_space()
    return [tables.note(CLOSED if closed else ABOUT), gr.Column(visible=not closed), time.time()]


def foretold(store: Store, project_id: int | None, said: Mapping[str, Any]) -> str:
    """What the experiment will take, or what is wrong with the form."""
    if spaces.on_space():
        return ""
    if said["origin"] == experiment_form.FOLDERS and not (said["images"] and said["labels"]):
        return tables.note("Name the folder of images and the folder of their instance maps.")
    try:
        return tables.note(look_ahead(store, experiment_form.study_of(store, project_id, said)).told)
    except Exception as error:
        return tables.note(sentence(error))


def start_new(store: Store, project_id: int | None, visitor: str | None, said: Mapping[str, Any]) -> list[Any]:
    """Define the experiment of the form and start it; it waits where another one is at work."""
    only_here(visitor)
    study, workers = experiment_form.study_of(store, project_id, said), experiment_form.workers_of(said)
    made, _ = control.define(store, str(said["name"] or ""), study)
    try:
        control.start(store, made.id, workers)
    except Exception as error:
        warn(f"The experiment was stored. {sentence(error)}")
    return look(store, made.id)


def only_here(visitor: str | None) -> None:
    """Raises `InputError` on the public demo."""
    if visitor is not None or spaces.on_space():
        raise InputError(CLOSED)


def do(store: Store, act: str, chosen: Any, workers: Any, visitor: str | None) -> list[Any]:
    """One of the buttons."""
    only_here(visitor)
    if act == "undo":
        return look(store, control.undo_removal(store).id)
    if not isinstance(chosen, int):
        raise NotReadyError("Choose an experiment first.")
    ACTS[act](store, chosen, experiment_form.workers_of({"workers": workers}))
    return look(store, chosen)


def ask_before_removal(store: Store, chosen: Any) -> list[Any]:
    """The question, with the name of what would be deleted."""
    if not isinstance(chosen, int):
        raise NotReadyError("Choose an experiment first.")
    name = rows.by_id(store, chosen).name
    return [gr.Row(visible=True), tables.note(f"Delete {name!r}, its results and its models?", UNDO)]


def _on_job(act: Any) -> Any:
    def perform(store: Store, experiment_id: int, _: int) -> None:
        job = control.job_of(store, experiment_id)
        if job is not None and (job.active or job.paused):
            act(store, job.id)

    return perform


ACTS: dict[str, Any] = {
    "start": control.start,
    "retry": control.retry,
    "pause": _on_job(jobs.pause),
    "resume": _on_job(jobs.resume),
    "cancel": _on_job(jobs.cancel),
    "remove": lambda store, chosen, _: control.remove(store, chosen),
    "undo": None,
}


def look(store: Store, chosen: Any, seen: Any = None) -> list[Any]:
    """Updates of what is shown of the chosen experiment, else of the newest; nothing where nothing changed."""
    known = rows.every(store)
    picked = next((item for item in known if item.id == chosen), known[-1] if known else None)
    found = rows.runs(store, picked.id) if picked else []
    job = control.job_of(store, picked.id) if picked else None
    gone = control.removed(store)
    states = [f"{run.key}{run.state}" for run in found]
    signature = [picked and picked.id, len(known), states, gone, job and status_text(job, found)]
    busy = bool(job and job.active)
    if seen == signature:
        return [gr.skip()] * 15
    same = bool(seen) and seen[:4] == signature[:4]  # only the progress is new: what the user has open stays open
    # A tick that was under way when the last run ended must not take the question away that was asked since.
    asked = bool(seen) and seen[0] == signature[0] and not busy
    return [
        signature,
        gr.skip() if same else gr.Dropdown(
            choices=[(_named(store, item), item.id) for item in reversed(known)], value=picked.id if picked else None,
            visible=picked is not None,
        ),
        status_text(job, found) if picked else tables.empty(NONE_YET),
        gr.Button(visible=picked is not None and not busy and not (job and job.paused) and _left(found)),
        gr.Button(visible=busy and not job.pause_requested),
        gr.Button(visible=bool(job and job.paused)),
        gr.Button(visible=busy or bool(job and job.paused)),
        gr.Button(visible=not busy and any(run.state is RunState.FAILED for run in found)),
        gr.Button(visible=picked is not None and not busy and not (job and job.paused)),
        gr.Button(f"Bring back {gone!r}" if gone else "", visible=gone is not None),
        gr.skip() if asked else gr.Row(visible=False),
        gr.Accordion(visible=picked is not None),
        gr.skip() if same else data_table.filled(COLUMNS, run_rows(found)),
        experiment_results.freshness(picked and picked.id, [run.key for run in found if run.result]),
        gr.Timer(active=busy),
    ]  # fmt: skip


def _left(found: Sequence[ExperimentRun]) -> bool:
    done = {run.key for run in found if run.state is RunState.DONE}
    return any(run.state is RunState.WAITING and (run.after is None or run.after in done) for run in found)


def _named(store: Store, item: rows.Experiment) -> str:
    found = rows.runs(store, item.id)
    return f"{item.name}: {sum(run.state is RunState.DONE for run in found)} of {len(found)} runs done"


def status_text(job: Job | None, found: Sequence[ExperimentRun]) -> str:
    """Where an experiment stands, over a bar."""
    done = sum(run.state is RunState.DONE for run in found)
    failed = sum(run.state is RunState.FAILED for run in found)
    text = f"{done} of {len(found)} runs are done" + (f", {failed} failed." if failed else ".")
    if job is None or not (job.active or job.paused):
        if job is not None and job.error:
            text += f" It stopped: {job.error}"
        return tables.progress(text, done / len(found) if found else 0.0)
    more = "Paused" if job.paused else job.message or ""
    line = " · ".join(part for part in (text, more, time_left(job)) if part)
    if job.active:
        line += " · Other work of the app waits meanwhile; pause it to let that go first."
    return tables.progress(line, max(job.fraction, done / len(found) if found else 0.0))


def run_rows(found: Sequence[ExperimentRun]) -> list[list[Any]]:
    """The runs as rows of the table."""
    failed = {run.key for run in found if run.state is RunState.FAILED}
    made = []
    for item in found:
        run = Run(**item.run)
        result = Result.of(item.result) if item.result else None
        remark = item.error or ""
        if item.state is RunState.WAITING and item.after in failed:
            remark = "The run that it goes on from failed."
        made.append(
            [
                wording.start(run.start), wording.SCHEDULES.get(run.schedule, run.schedule),
                wording.strategy(run.strategy), wording.budget(run.budget), run.seed + 1, item.state.value,
                result.pooled.f1_50 if result else None, result.seconds if result else None, remark,
            ]
        )  # fmt: skip
    return made
