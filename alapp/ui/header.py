"""The header of every tab: which project, where it stands, what is next, what runs."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import InputError
from alapp.jobs import Job, JobState
from alapp.rounds.progress import IMPORT, NextStep, Progress, progress
from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.ui.errors import told
from alapp.ui.page import Page
from alapp.ui.quiet import QUIET
from alapp.ui.train import plan, train

BLOCKING = frozenset({"import", "sample", "pseudo_label", "pretrain", "select", "train"})
"""Jobs whose end decides what comes next."""


@dataclass(frozen=True)
class Header:
    """Components of the header, made before the tabs; `wire` connects them."""

    project: gr.Dropdown
    rail: gr.HTML
    next: gr.Button
    job_row: gr.Row
    job: gr.HTML
    pause: gr.Button
    resume: gr.Button
    cancel: gr.Button
    again: gr.Button
    dismiss: gr.Button
    timer: gr.Timer
    job_id: gr.Number
    ended: gr.Number
    seen: gr.State
    dismissed: gr.State

    @property
    def shown(self) -> list[Any]:
        """The outputs of `look`, in order."""
        return [
            self.project, self.rail, self.next, self.job_row, self.job, self.pause, self.resume, self.cancel,
            self.again, self.dismiss, self.seen, self.ended, self.job_id,
        ]  # fmt: skip


def lay_out() -> Header:
    """Make the components, in the context that is open."""
    with gr.Row(elem_id="header", equal_height=True):
        project = gr.Dropdown(
            [], show_label=False, container=False, elem_id="header-project", scale=0, min_width=200, interactive=True
        )
        rail = gr.HTML(elem_id="header-rail", padding=False)
        following = gr.Button("…", variant="primary", elem_id="header-next", scale=0, min_width=250)
    with gr.Row(elem_id="job-row", visible=False) as job_row:
        job = gr.HTML(elem_id="job", padding=False)
        pause = gr.Button("Pause", size="sm", elem_id="job-pause", visible=False, scale=0)
        resume = gr.Button("Resume", size="sm", variant="primary", elem_id="job-resume", visible=False, scale=0)
        cancel = gr.Button("Cancel", size="sm", elem_id="job-cancel", visible=False, scale=0)
        again = gr.Button("Try again", size="sm", elem_id="job-again", visible=False, scale=0)
        dismiss = gr.Button("Dismiss", size="sm", elem_id="job-dismiss", visible=False, scale=0)
    return Header(
        project,
        rail,
        following,
        job_row,
        job,
        pause,
        resume,
        cancel,
        again,
        dismiss,
        gr.Timer(1.0),
        gr.Number(0, precision=0, visible="hidden"),
        gr.Number(0, visible="hidden"),
        gr.State(None),
        gr.State(0),
    )


def wire(header: Header, page: Page) -> None:
    """Connect the header: poll once a second, and act on its buttons."""
    store = page.store
    inputs = [page.project_id, page.visitor, header.seen, header.dismissed]

    def poll(project_id: Any, visitor: Any, seen: Any, dismissed: int) -> list[Any]:
        with store.held():
            return look(store, project_id, visitor, seen, dismissed)

    header.timer.tick(poll, inputs, header.shown, queue=False, **QUIET)
    for event in (page.project_id.change, page.changed.change):
        event(poll, inputs, header.shown, queue=False, **QUIET)

    # A State that an unqueued event sets fires no change event; a component does.
    header.ended.change(told(lambda changed: changed + 1), page.changed, page.changed, **QUIET)
    header.project.input(
        told(lambda chosen, visitor: opened(store, chosen, visitor)),
        [header.project, page.visitor],
        page.project_id,
        trigger_mode="always_last",
        **QUIET,
    )
    header.next.click(
        told(lambda *values: take_next_step(store, *values)),
        [page.project_id, page.changed, header.next, page.iterations],
        [page.tabs, page.changed, page.iterations],
        **QUIET,
    )
    # Somebody on the Project tab would see nothing happen.
    js = f"(said) => {{ said === {json.dumps(IMPORT)} && alapp.showAdding(); }}"
    header.next.click(None, header.next, None, js=js, **QUIET)
    job_actions: list[tuple[gr.Button, Callable[..., int]]] = [
        (header.pause, pause_job),
        (header.resume, resume_job),
        (header.cancel, cancel_job),
        (header.again, run_again),
    ]
    # With the job that the page shows, not the one that is first now: that may be another, after a second click, too.
    for button, act in job_actions:
        button.click(
            told(lambda *values, act=act: act(store, *values)),
            [page.project_id, header.job_id, page.changed],
            page.changed,
            **QUIET,
        )
    header.dismiss.click(
        told(lambda *values: failed_id(store, *values)), [page.project_id, header.job_id], header.dismissed, **QUIET
    ).then(poll, inputs, header.shown, queue=False, **QUIET)


def opened(store: Store, chosen: int | None, visitor: str | None) -> int | None:
    """The chosen project, if it is one of this visitor's; else `InputError`: the list may be old, or forged."""
    if chosen is not None and all(item.id != chosen for item in catalogue.projects(store, visitor)):
        raise InputError("This project is not there any more. Reload the page to see those that are.")
    return chosen


def look(store: Store, project_id: int | None, visitor: str | None, seen: Any, dismissed: int) -> list[Any]:
    """Updates of `Header.shown`; nothing where nothing changed, so that the page stays still.

    `seen` is what was shown last. The menu of projects is left alone while a job goes on: somebody may have it open.
    """
    projects = [(item.name, item.id) for item in catalogue.projects(store, visitor)]
    known = project_id if any(number == project_id for _, number in projects) else None
    state = progress(store, known) if known else None
    history = jobs.history(store, known)
    job = shown_job(history, dismissed)
    # Another number with every job that ends: its change refreshes the visible tab.
    ended = sum(item.id for item in history if not item.active)
    signature = [projects, known, repr(state), job_html(job), ended, job.id if job else 0]
    if seen and seen == signature:
        return [gr.skip()] * 13
    following = state.next if state else NextStep("Create or open a project", "project")
    blocking = next((item for item in history if item.active and item.kind in BLOCKING), None)
    return [
        gr.skip() if seen and list(seen[:2]) == [projects, known] else gr.Dropdown(choices=projects, value=known),
        rail_html(state),
        gr.Button(next_words(following, history), interactive=blocking is None),
        gr.Row(visible=job is not None),
        job_html(job),
        gr.Button(visible=job is not None and job.active and jobs.kind(job.kind).pausable and not job.pause_requested),
        gr.Button(visible=job is not None and job.paused),
        gr.Button(visible=job is not None and (job.active or job.paused)),
        gr.Button(visible=job is not None and not (job.active or job.paused)),
        gr.Button(visible=job is not None and not (job.active or job.paused)),
        signature,
        ended,
        job.id if job else 0,
    ]


def shown_job(history: Sequence[Job], dismissed: int = 0) -> Job | None:
    """The job of a project to show, of all of them, newest first: the one that runs, else the next that waits,
    else the newest that is paused, else the newest, if it failed and was not dismissed yet."""
    active = [job for job in history if job.active]
    if active:
        return next((job for job in active if job.state is JobState.RUNNING), active[-1])
    if paused := [job for job in history if job.paused]:
        return paused[0]
    failed = bool(history) and history[0].state is JobState.FAILED and history[0].id != dismissed
    return history[0] if failed else None


def paused_step(history: Sequence[Job]) -> Job | None:
    """The newest paused job that what comes next waits for, if any."""
    return next((job for job in history if job.paused and job.kind in BLOCKING), None)


def next_words(following: NextStep, history: Sequence[Job]) -> str:
    """What the button for the next step says: what has to end first, or what goes on or begins when it is pressed."""
    blocking = next((item for item in history if item.active and item.kind in BLOCKING), None)
    if blocking:
        return f"{jobs.kind(blocking.kind).title} …"
    waiting = paused_step(history)
    return f"Resume: {_lower_first(jobs.kind(waiting.kind).title)}" if waiting else following.text


def rail_html(state: Progress | None) -> str:
    """The steps with their state."""
    if state is None:
        return '<ol class="rail"><li class="current">Start with a sample, or a project of your own</li></ol>'
    items = [
        f'<li class="{step.state}"><b>{html.escape(step.title)}</b>'
        + (f"<small>{html.escape(step.detail)}</small>" if step.detail else "")
        + "</li>"
        for step in state.steps
    ]
    return f'<ol class="rail" aria-label="Progress of the project">{"".join(items)}</ol>'


def job_html(job: Job | None) -> str:
    """What runs, how far it is and how long it will take; or why it failed."""
    if job is None:
        return ""
    title = html.escape(jobs.kind(job.kind).title)
    if job.state is JobState.FAILED:
        reason = f'<span class="message">{html.escape(job.error or "")}</span>'
        return f'<div class="job failed" role="alert"><strong>{title} failed</strong>{reason}</div>'
    title = f"{title} is paused" if job.paused else title
    share = 100 * (job.fraction or 0)
    message = html.escape(" · ".join(part for part in (job.message, time_left(job)) if part))
    return (
        f'<div class="job{" paused" if job.paused else ""}" role="status"><strong>{title}</strong>'
        f'<div class="bar" role="progressbar" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
        f'<span class="message">{message}</span></div>'
    )


def time_left(job: Job) -> str:
    """The time left in words, or what the job waits for."""
    if job.state is JobState.QUEUED:
        return "waiting for its turn"
    if job.paused:
        # Whether a training goes on where it was takes reading what it learns from: too slow for every second.
        return "the Train tab says how it goes on" if job.kind in ("pretrain", "train") else "all is saved"
    if job.cancel_requested:
        return "is being cancelled, within a minute"
    if job.pause_requested:
        return "pauses as soon as this step is saved"
    if jobs.stalled(job):
        return "interrupted; it goes on in a moment"
    seconds = jobs.eta_seconds(job)
    if seconds is None:
        return ""
    if seconds < 10:
        return "a few seconds left"
    if seconds < 90:
        return f"about {round(seconds / 10) * 10} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


def take_next_step(
    store: Store, project_id: int | None, changed: int, said: str, iterations: str = ""
) -> tuple[Any, int, Any]:
    """Go to the tab of the next step, and start its job if it has one, or let the paused one go on, unless the button
    `said` something else: what comes next may have changed since. A training has the `iterations` of their field, if
    there are any; the last update is that field's."""
    if project_id is None:
        return gr.Tabs(selected="project"), changed, gr.skip()
    history, following = jobs.history(store, project_id), progress(store, project_id).next
    waiting = paused_step(history)
    if (waiting or following.job) and said != next_words(following, history):
        return gr.skip(), changed + 1, gr.skip()
    if waiting is not None:
        jobs.resume(store, waiting.id)
        where = gr.Tabs(selected="train") if waiting.kind in ("pretrain", "train") else gr.skip()
        return where, changed + 1, gr.skip()
    params, field = {}, gr.skip()
    if following.job in train.TRAINING:
        params, field = train.with_iterations(plan.chosen_iterations(iterations)), ""
    if following.job:
        jobs.start(store, following.job, project_id, following.params | params)
    return gr.Tabs(selected=following.tab), changed + 1, field


def cancel_job(store: Store, project_id: int | None, job_id: int, changed: int) -> int:
    """Cancel a job of the project."""
    job = _job(store, project_id, job_id)
    if job is not None and (job.active or job.paused):
        jobs.cancel(store, job.id)
    return changed + 1


def pause_job(store: Store, project_id: int | None, job_id: int, changed: int) -> int:
    """Pause a job of the project."""
    job = _job(store, project_id, job_id)
    if job is not None and job.active:
        jobs.pause(store, job.id)
    return changed + 1


def resume_job(store: Store, project_id: int | None, job_id: int, changed: int) -> int:
    """Let a paused job of the project go on."""
    job = _job(store, project_id, job_id)
    if job is not None and job.paused:
        jobs.resume(store, job.id)
    return changed + 1


def run_again(store: Store, project_id: int | None, job_id: int, changed: int) -> int:
    """Queue the failed job again, with the same settings, unless another job came after it."""
    job = shown_job(jobs.history(store, project_id))
    if job is not None and job.id == job_id and job.state is JobState.FAILED:
        jobs.start(store, job.kind, project_id, job.params)
    return changed + 1


def failed_id(store: Store, project_id: int | None, job_id: int) -> int:
    """The id of a job of the project that failed, or 0."""
    job = _job(store, project_id, job_id)
    return job.id if job is not None and job.state is JobState.FAILED else 0


def _job(store: Store, project_id: int | None, job_id: int) -> Job | None:
    return next((job for job in jobs.history(store, project_id) if job.id == job_id), None)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
