"""The Train tab: what will be trained and why, the start button, the loss as it falls, the checkpoints."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.domain import Machine, PatchRole, Preset
from alapp.environment import machine
from alapp.errors import InputError, NotReadyError
from alapp.jobs import Job
from alapp.rounds import progress
from alapp.rounds.annotate import finished
from alapp.rounds.predict import evaluation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import planning, promotion, rehearsal, training_cases
from alapp.storage import catalogue, models
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.storage.models import Checkpoint
from alapp.ui.errors import told
from alapp.ui.page import Page, Tab
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET
from alapp.ui.train import disk, stopped
from alapp.ui.train import models as model_list
from alapp.ui.train import plan as plan_part
from alapp.ui.train.training_plot import training_curves

TRAINING = ("pretrain", "train")
LOG_LINES = 200
SCORE = "F1 at IoU 0.5 (95% interval)"
MOST_ITERATIONS = 250_000
PRESETS = {
    Preset.QUICK: "Quick: a short training, to see within minutes how it goes.",
    Preset.STANDARD: "Standard: trains about five times longer or more, for better outlines.",
    Preset.FULL: "Full: nnU-Net's own network and schedule, for final results",
}


@dataclass(frozen=True)
class Start:
    """What the start button does: a job kind and its parameters, or None when something else comes first. `text` is on
    the button, `why` beside it."""

    job: str | None
    text: str
    why: str
    params: Mapping[str, Any] = field(default_factory=dict)


def build(page: Page) -> Tab:
    """Lay out the tab inside the caller's `gr.Tab`."""
    with gr.Row():
        with gr.Column(scale=4, min_width=360):
            gr.Markdown("### Training")
            preset = gr.Radio(
                preset_choices(machine()),
                label="How thoroughly to train",
                info="Each preset keeps its own network: after a change, the next training starts from the beginning.",
            )
            why = gr.HTML(padding=False)
            start = gr.Button("Start", variant="primary")
            gr.Markdown("### Plan")
            plan = gr.HTML(padding=False)
            plan_part.experts(page, preset)
            check = gr.Checkbox(
                label="Check the pre-training before the first round",
                info="Two short trials, from the pre-trained model and from scratch, tell which start is better. "
                "They make the first round up to 40% longer.",
                elem_id="train-check",
            )
        with gr.Column(scale=6, min_width=420):
            gr.Markdown("### Loss and training Dice")
            status = gr.HTML(padding=False)
            loss = gr.Plot(show_label=False, container=False)
            gr.HTML(
                padding=False,
                value=tables.note(
                    "The loss says how far the network's answers are from the labels it learns from. It should fall "
                    "and then level off, and may go below zero. The training Dice says how well its answers cover the "
                    "labels: 1 is perfect. It is measured on the altered windows that the network just learned from, "
                    "so it flatters. Whether the network is good, the score on the validation patches tells."
                ),
            )
    model_outputs, refresh_models = model_list.build(page)
    with gr.Accordion("Log of the last training", open=False):
        log = gr.HTML(padding=False)
    disk_outputs, refresh_disk = disk.build(page)
    timer = gr.Timer(2, active=False)

    store = page.store
    live = [status, loss, log, timer]
    outputs = [plan, preset, why, start, check, *live]
    timer.tick(told(lambda p: watch_all(store, p)), page.project_id, [plan, *live], queue=False, **QUIET)
    last: dict[str, Any] = {"trigger_mode": "always_last", **QUIET}
    preset.input(
        told(lambda p, value: choose_preset(store, p, value)), [page.project_id, preset], [plan, why, start], **last
    )
    check.input(told(lambda p, on: model_list.set_check(store, p, on)), [page.project_id, check], None, **last)
    start.click(
        told(lambda p, n, c: start_training(store, p, plan_part.chosen_iterations(n), c)),
        [page.project_id, page.iterations, page.changed],
        [start, timer, page.iterations, page.changed],
        **QUIET,
    )
    return Tab(
        "train",
        [*outputs, *model_outputs, *disk_outputs],
        lambda project: [*refresh(store, project), *refresh_models(project), *refresh_disk(project)],
        [model_list.fields(model_outputs), *disk.fields(disk_outputs)],
    )


def preset_choices(computer: Machine) -> list[tuple[str, str]]:
    """(sentence, name) of each preset; what `full` means depends on the computer."""
    full = (
        f", on this computer's {computer.gpu_name or 'GPU'}."
        if computer.gpu_gb
        else ". It needs a GPU, and this computer has none that can be used: here it is the longest training instead."
    )
    return [(text + (full if name is Preset.FULL else ""), str(name)) for name, text in PRESETS.items()]


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of all outputs, in order."""
    if project_id is None:
        nothing = tables.empty("Open or create a project first, on the Project tab.")
        return [
            nothing, gr.Radio(interactive=False), "", gr.Button("Start", interactive=False),
            gr.Checkbox(interactive=False), *watch(store, None),
        ]  # fmt: skip
    project = catalogue.project(store, project_id)
    begin = what_to_start(store, project_id)
    return [
        plan_part.text(store, project_id, project.preset),
        gr.Radio(value=str(project.preset), interactive=True),
        tables.note(begin.why),
        start_button(store, project_id, begin),
        gr.Checkbox(value=project.check_pretraining, interactive=True),
        *watch(store, project_id),
    ]


def what_to_start(store: Store, project_id: int) -> Start:
    """The training that comes next, or what has to be done before it."""
    if selecting := jobs.unfinished(store, project_id, jobs.kind("train").apart_from):
        return Start(None, "Wait until the batch is selected", jobs.first_end(selecting))
    state = progress.progress(store, project_id)
    batch = state.batch
    if state.next.job == "pretrain":
        return Start("pretrain", state.next.text, "The network first learns from the automatic pseudo-labels.")
    if state.next.job == "train":
        return Start("train", state.next.text, _goes_on(store, state.project), state.next.params)
    if batch and batch.left == 0 and batch.trained:
        return Start(
            "train",
            f"Train round {batch.round.number} again",
            f"Next: {state.next.text.lower()}. Training again gives a new model only with another preset or another "
            "number of iterations.",
            {"round_id": batch.round.id},
        )
    if state.project.pseudo_method not in (None, pseudo.NONE) and not planning.models_of_plan(store, project_id):
        return Start(
            "pretrain",
            "Pre-train the new network",
            "This network is new and knows nothing yet. It first learns from the automatic pseudo-labels.",
        )
    return Start(None, "Nothing to train yet", f"Next: {state.next.text}.")


def _goes_on(store: Store, project: Project) -> str:
    """What the next round learns from."""
    n_objects = training_cases.labelled_objects(store, project)
    if not (rehearsal.is_needed(n_objects) and training_cases.unlabelled_cases(store, project)):
        return "The network goes on from the model in use, with all you have labelled."
    shown = "one object" if n_objects == 1 else f"{n_objects} objects"
    return (
        f"Your labels to train on show only {shown}. So that the network does not forget all others, pseudo-labels "
        f"stay half of what it sees until your labels show {rehearsal.FEW_OBJECTS} objects."
    )


def start_button(store: Store, project_id: int, begin: Start) -> gr.Button:
    """The start button, off while a training waits or runs."""
    if running(store, project_id):
        return gr.Button("Training …", interactive=False)
    if paused(store, project_id) and not jobs.unfinished(store, project_id, jobs.kind("train").apart_from):
        return gr.Button("Resume the training", interactive=True)
    return gr.Button(begin.text, interactive=begin.job is not None)


def running(store: Store, project_id: int) -> Job | None:
    """The training that waits or runs, if any."""
    return next((job for job in jobs.active(store, project_id) if job.kind in TRAINING), None)


def paused(store: Store, project_id: int) -> Job | None:
    """The training that is paused, if any."""
    return next((job for job in jobs.history(store, project_id) if job.kind in TRAINING and job.paused), None)


def choose_preset(store: Store, project_id: int | None, preset: Any) -> tuple[str, str, gr.Button]:
    """Keep the preset; show its plan."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    if preset not in list(Preset):
        raise InputError(f"There is no preset called {preset!r}.")
    catalogue.update_project(store, project_id, preset=Preset(preset))
    begin = what_to_start(store, project_id)
    return plan_part.text(store, project_id, preset), tables.note(begin.why), start_button(store, project_id, begin)


def start_training(
    store: Store, project_id: int | None, iterations: Any, changed: int
) -> tuple[gr.Button, gr.Timer, Any, int]:
    """Queue the training that comes next, or the paused one again. Returns the updates of the button, of the timer and
    of the field with the iterations, which count for one training only, and `changed` + 1."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    params = with_iterations(iterations)
    busy = gr.Button("Training …", interactive=False)
    waiting = paused(store, project_id)
    if waiting:
        jobs.resume(store, waiting.id)
        return busy, gr.Timer(active=True), gr.skip(), changed + 1
    begin = what_to_start(store, project_id)
    if begin.job is None:
        raise NotReadyError(begin.why)
    jobs.start(store, begin.job, project_id, begin.params | params)
    return busy, gr.Timer(active=True), "", changed + 1


def with_iterations(iterations: Any) -> dict[str, int]:
    """Parameters of a training of so many iterations, or of as many as planned. Raises `InputError`."""
    if iterations is not None and not (isinstance(iterations, (int, float)) and 1 <= iterations <= MOST_ITERATIONS):
        raise InputError(f"The number of iterations must be between 1 and {MOST_ITERATIONS:,}, or empty.")
    return {"iterations": int(iterations)} if iterations else {}


def watch_all(store: Store, project_id: int | None) -> list[Any]:
    """The plan, which is made while the first training begins, and what `watch` gives."""
    plan = "" if project_id is None else plan_part.text(store, project_id, catalogue.project(store, project_id).preset)
    return [plan, *watch(store, project_id)]


def watch(store: Store, project_id: int | None) -> list[Any]:
    """Status, loss curve, log, and whether to look again: what changes while a training runs."""
    if project_id is None:
        return ["", training_curves([]), "", gr.Timer(active=False)]
    job = running(store, project_id)
    return [
        status_text(store, project_id, job),
        training_curves(*newest_runs(store, project_id, job is not None)),
        tables.log(log_text(store, project_id)),
        gr.Timer(active=job is not None),
    ]


def newest_runs(store: Store, project_id: int, training: bool) -> tuple[list[dict], list[dict]]:
    """Loss of the newest run and of the one before. A run that has just begun has no loss yet, so while `training`
    a finished run is the one before."""
    runs = models.training_runs(store, project_id)
    finished = {item.input_hash for item in models.checkpoints(store, project_id)}
    curves: list[list[dict]] = [[], *runs.values()]
    if training and runs and list(runs)[-1] in finished:
        curves.append([])
    return curves[-1], curves[-2] if len(curves) > 1 else []


def status_text(store: Store, project_id: int, job: Job | None) -> str:
    """What the training does, or how the last one ended."""
    if job is not None:
        if job.state is jobs.JobState.QUEUED:
            return tables.progress("Waiting for its turn.", job.fraction)
        left = jobs.eta_seconds(job)
        rest = f" About {tables.minutes(left)} left." if left is not None else ""
        if job.pause_requested:
            rest = " It pauses at the end of this step, as soon as all is saved."
        return tables.progress(f"{job.message or 'Starting'}.{rest}{memory_text(store, project_id, job)}", job.fraction)
    waiting = paused(store, project_id)
    if waiting is not None:
        return tables.progress(stopped.paused_text(store, waiting), waiting.fraction)
    last = next((item for item in jobs.history(store, project_id) if item.kind in TRAINING), None)
    if last is not None and last.error:
        return tables.note(f"The last training failed. {last.error} What was there before is unchanged.")
    if last is not None and last.state is jobs.JobState.CANCELLED:
        begin = what_to_start(store, project_id)
        return tables.note(stopped.cancelled_text(store, last, begin.job, begin.params))
    newest = models.latest_checkpoint(store, project_id)
    return tables.note(newest_sentence(store, newest), *_memory_notes(store, newest)) if newest else ""


def memory_text(store: Store, project_id: int, job: Job) -> str:
    """What happened because memory ran out since the training was started, "" when nothing."""
    return "".join(f" {sentence}" for sentence in models.memory_notes_since(store, project_id, job.created))


def _memory_notes(store: Store, item: Checkpoint) -> list[str]:
    return [sentence for _, sentence in models.memory_notes(store, item.project_id, item.input_hash)]


def newest_sentence(store: Store, item: Checkpoint) -> str:
    """How the newest model came about and how good it is."""
    scored = evaluation.summary(store, item.id, "validation")
    result = (
        f" It scores F1 {tables.score(scored.scores.f1_50, scored.interval)} on {scored.n} validation patches."
        if scored
        else f" It has no score yet, because {_why_no_score(store, item)}."
    )
    refused = promotion.refused(store, item.project_id)
    kept = "" if refused is None else " It is not used; the list of models below says why."
    seen = rehearsal.learned_from(item.n_cases, item.n_rehearsed)
    return f"The newest model trained for {tables.minutes(item.seconds)} on {seen}.{result}{kept}"


def _why_no_score(store: Store, item: Checkpoint) -> str:
    project = catalogue.project(store, item.project_id)
    if finished.maps(store, project.id, PatchRole.VALIDATION):
        return "the validation patches were finished after it; the next training gives it one, too"
    return "no validation patch is finished"


def log_text(store: Store, project_id: int) -> str:
    """The end of the log of the newest training job."""
    last = next((item for item in jobs.history(store, project_id) if item.kind in TRAINING and item.started), None)
    path = store.root / last.log if last else None
    if path is None or not path.exists():
        return "There is no log yet."
    with path.open(encoding="utf-8", errors="replace") as handle:
        return "".join(deque(handle, maxlen=LOG_LINES)) or "The log is empty."
