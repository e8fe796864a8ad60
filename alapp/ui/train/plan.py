"""The plan on the Train tab: what was chosen and why, line by line, and what an expert may fix instead."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import InputError, NotReadyError
from alapp.rounds.train import planning
from alapp.stages.train.base import Overrides
from alapp.storage import catalogue, models
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.errors import told
from alapp.ui.page import Page
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET

TRAINING = ("pretrain", "train")
AUTOMATIC = "Chosen for you"
VIEWS = {AUTOMATIC: None, "2D": False, "3D": True}
NOTHING = ["", "", AUTOMATIC, "", "", "", ""]
EMPTY = (
    "When you press start, nnU-Net measures your objects and your images, chooses the size of its network and of the "
    "windows it looks through, and says here what it chose. Then it trains, predicts every image, and scores the "
    "prediction."
)
STYLE = """<style>
div.al-plan{margin-top:8px;font-size:14px}
div.al-plan dl{display:grid;grid-template-columns:max-content 1fr;margin:0}
div.al-plan dt,div.al-plan dd{margin:0;padding:5px 0;border-top:1px solid var(--border-color-primary);
 color:var(--body-text-color);line-height:1.4}
div.al-plan dt{padding-right:18px;font-weight:400}
div.al-plan dt span{opacity:.75;border-bottom:1px dotted currentColor;cursor:help}
div.al-plan dd b{font-weight:600;font-variant-numeric:tabular-nums}
div.al-plan dd small{font-size:13px;opacity:.75}
div.al-plan dd small.yours{opacity:1;font-weight:600;color:var(--color-accent)}
div.al-ask{padding:10px 12px;font-size:14px;line-height:1.45;color:var(--body-text-color)}
</style>"""


def text(store: Store, project_id: int, preset: str) -> str:
    """The plan in plain words, or what will be planned."""
    *earlier, known = [None, *models.plans(store, project_id, preset)]
    if known is None:
        return tables.note(EMPTY)
    summary, sentences = known.summary, [known.summary["sentence"]]
    before = earlier[-1].summary["object_diameter_px"] if earlier[-1] else None
    if before is not None and before != summary["object_diameter_px"]:
        sentences.append(f"This plan was made anew; the one before was for objects of {before:.0f} pixels.")
    return tables.note(*sentences) + lines(summary.get("facts", ()), summary.get("overrides", {}))


def lines(facts: Sequence[Mapping[str, str]], overrides: Mapping[str, Any]) -> str:
    """The facts of a plan (`stages.train.base.Fact`), each with its help as a tooltip."""
    if not facts:
        return ""
    rows = "".join(
        f'<dt><span title="{escape(fact["help"])}" tabindex="0">{escape(fact["name"])}</span></dt>'
        f"<dd><b>{escape(fact['value'])}</b> "
        f"<small{' class=yours' if fact['override'] in overrides else ''}>{escape(fact['why'])}</small></dd>"
        for fact in facts
    )
    return f'{STYLE}<div class="al-plan" id="plan-lines"><dl>{rows}</dl></div>'


def experts(page: Page, preset: gr.Radio) -> None:
    """Lay out what an expert may set."""
    store = page.store
    with gr.Accordion("For experts", open=False, elem_id="experts"):
        page.iterations.render()
        gr.HTML(
            padding=False,
            value=tables.note(
                "Below, you can fix values of the plan itself. What you leave empty is chosen for you. They count for "
                "the preset above, from the next training on. With nothing filled in, the plan is made anew on the "
                "labels that there are now."
            ),
        )
        fields = _fields()
        apply = gr.Button("Make the plan anew", elem_id="plan-anew")
        with gr.Group(visible=False) as confirm:
            question = gr.HTML(padding=False, elem_id="plan-question")
            with gr.Row():
                yes = gr.Button("Start a new network", variant="stop", elem_id="plan-yes")
                no = gr.Button("Keep the present one", elem_id="plan-no")
    meant_for = gr.State(None)
    page.project_id.change(
        told(forget_iterations),
        [page.project_id, meant_for, page.iterations],
        [meant_for, page.iterations],
        **QUIET,
    )
    shown = gr.State((None, None, NOTHING))
    filled: Callable[..., Any] = told(lambda project_id, last: fill(store, project_id, None, last))
    page.project_id.change(filled, [page.project_id, shown], [shown, *fields], **QUIET)
    page.project_id.change(lambda: gr.Group(visible=False), None, confirm, **QUIET)
    # Also when it was changed in the settings, of which the tab's refresh tells the radio.
    preset.change(
        told(lambda project_id, name, last: fill(store, project_id, name, last)),
        [page.project_id, preset, shown],
        [shown, *fields],
        **QUIET,
    )
    inputs = [page.project_id, page.visitor, page.changed, *fields]
    about = gr.State(None)
    asked = [confirm, question, page.changed, about]
    apply.click(told(lambda p, v, c, *values: ask(store, p, v, c, values)), inputs, asked, **QUIET)
    yes.click(told(lambda of, p, v, c, *values: go(store, p, v, c, values, of)), [about, *inputs], asked, **QUIET)
    no.click(lambda: gr.Group(visible=False), None, confirm, **QUIET)


def forget_iterations(project_id: int | None, meant_for: int | None, written: str | None) -> tuple[int | None, Any]:
    """The open project, and the field with the iterations of its next training, of which was `written` what was meant
    for another one: emptied then. Left as it is where it was empty, or for the first project: by the time the answer
    comes, somebody may be typing."""
    return project_id, "" if written and meant_for not in (None, project_id) else gr.skip()


def chosen_iterations(written: Any) -> int | None:
    """The iterations of the next training as they are in their field. Raises `InputError` for what is no number."""
    return whole(written, "The number of iterations of the next training, on the Train tab,")


def _fields() -> list[Any]:
    """The fields in the order of `parsed`. All are texts, because an empty `gr.Number` in a closed accordion turns into
    0 when it is opened."""

    def field(label: str, info: str, name: str) -> gr.Textbox:
        return gr.Textbox(
            "", label=label, info=info, placeholder=AUTOMATIC.lower(), min_width=120, elem_id=f"plan-{name}"
        )

    with gr.Row():
        resolution = field("Times smaller", "1 is full resolution.", "resolution")
        window = field("Window", "128 x 128, or 8 x 96 x 96 in 3D.", "window")
    view = gr.Radio(
        list(VIEWS), value=AUTOMATIC, label="2D or 3D", info="For stacks. 2D learns them slice by slice.",
        elem_id="plan-view",
    )  # fmt: skip
    with gr.Row():
        features = field("Features of each stage", "For example 16, 32, 64, 128.", "features")
        batch = field("Windows a batch", "2 or more.", "batch")
    with gr.Row():
        each = field("Iterations a round", "50 or more.", "iterations")
        rate = field("Learning rate", "For example 0.003.", "rate")
    return [resolution, window, view, features, batch, each, rate]


def fill(store: Store, project_id: int | None, preset: str | None, last: tuple[Any, ...]) -> list[Any]:
    """What was filled in, and what is fixed in the plan in use for `preset` (None: the project's), for the fields.

    `last` is what was filled in before. Nothing changes where a first project has nothing fixed, because the answer
    may come when the user is already typing.
    """
    known = None
    if project_id is not None:
        preset = preset or str(catalogue.project(store, project_id).preset)
        known = models.find_plan(store, project_id, preset)
    fixed = Overrides.of(known.summary.get("overrides", {}) if known else {})
    view = next(name for name, value in VIEWS.items() if value is fixed.three_d)
    values = [
        _text(fixed.downsampling),
        " x ".join(str(n) for n in fixed.patch_size or ()),
        view,
        ", ".join(str(n) for n in fixed.features or ()),
        _text(fixed.batch_size),
        _text(fixed.iterations),
        _text(fixed.learning_rate),
    ]
    now = (project_id, preset, values)
    first = last[0] is None and values == NOTHING
    return [now, *([gr.skip()] * len(values) if first or now == tuple(last) else values)]


def parsed(values: Sequence[Any]) -> Overrides:
    """The fields as overrides. Raises `InputError` for texts that are not numbers."""
    resolution, window, view, features, batch, each, rate = values
    return Overrides(
        downsampling=_number(resolution, "The resolution factor"),
        patch_size=_numbers(window, "The window", "128 x 128, or 8 x 96 x 96 in 3D"),
        batch_size=whole(batch, "The batch"),
        features=_numbers(features, "The features", "16, 32, 64, 128: one number a stage"),
        three_d=VIEWS.get(view),
        iterations=whole(each, "The iterations of a round"),
        learning_rate=_number(rate, "The learning rate"),
    )


def whole(written: Any, name: str) -> int | None:
    """A whole number from a text, None from an empty one. Raises `InputError` naming it."""
    value = _number(written, name)
    if value is not None and not (math.isfinite(value) and value.is_integer()):
        raise InputError(f"{name} must be a whole number; {written!r} is not.")
    return None if value is None else int(value)


def _number(written: Any, name: str) -> float | None:
    text = str(written if written is not None else "").strip().replace(",", ".")
    try:
        return float(text) if text else None
    except ValueError as error:
        raise InputError(f"{name} must be a number, or empty; {written!r} is not.") from error


def _text(value: float | None) -> str:
    return "" if value is None else repr(value).removesuffix(".0")


def _numbers(written: str | None, name: str, example: str) -> tuple[int, ...] | None:
    parts = [part for part in re.split(r"[\s,;x×*]+", (written or "").strip().lower()) if part]
    if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        raise InputError(f"{name} must be whole numbers, such as {example}; {written!r} is not.")
    return tuple(int(part) for part in parts) or None


def ask(
    store: Store, project_id: int | None, visitor: str | None, changed: int, values: Sequence[Any]
) -> tuple[Any, str, int, Any]:
    """Plan with these values, or ask first where the network in use has been trained already. Returns the question,
    `changed`, one more where the plan is on its way, and what the question is about."""
    wanted = _wanted(store, project_id, visitor, values)
    if planning.same_plan(store, project_id, wanted) is not None:
        raise NotReadyError("The plan has these values already, and was made on the labels that there are now.")
    count = planning.models_of_plan(store, project_id)
    if not count:
        return _enqueued(store, project_id, wanted, changed)
    trained = "1 model has" if count == 1 else f"{count} models have"
    question = (
        f"{trained} been trained with the present plan. Another plan is another network, so the next training starts "
        "from the beginning, or from the pre-trained model where that still fits. The models so far stay in the list, "
        "with their scores and predictions, but training cannot go on from them."
    )
    about = _about(store, project_id, wanted)
    return gr.Group(visible=True), STYLE + f'<div class="al-ask">{escape(question)}</div>', changed, about


def go(
    store: Store, project_id: int | None, visitor: str | None, changed: int, values: Sequence[Any], about: Any
) -> tuple[Any, str, int, Any]:
    """Plan with these values; the user has confirmed it. Where the question was about something else, because another
    project was opened since, or another preset or values chosen, it is asked anew."""
    wanted = _wanted(store, project_id, visitor, values)
    if about is None or list(about) != _about(store, project_id, wanted):
        return ask(store, project_id, visitor, changed, values)
    return _enqueued(store, project_id, wanted, changed)


def _about(store: Store, project_id: int, wanted: Overrides) -> list[Any]:
    """What a question is about: the project, its preset, the models that were trained with its plan, and the values."""
    preset = str(catalogue.project(store, project_id).preset)
    return [project_id, preset, planning.models_of_plan(store, project_id), wanted.chosen]


def _wanted(store: Store, project_id: int | None, visitor: str | None, values: Sequence[Any]) -> Overrides:
    if project_id is None:
        raise NotReadyError("Open a project first.")
    spaces.only_on_a_workstation(visitor, "Changing the plan")
    wanted = parsed(values)
    planning.check(store, project_id, wanted)
    # A paused one too: with another plan it would begin anew.
    if busy := jobs.unfinished(store, project_id, (*TRAINING, "plan")):
        raise NotReadyError(jobs.first_end(busy))
    return wanted


def _enqueued(store: Store, project_id: int, wanted: Overrides, changed: int) -> tuple[Any, str, int, Any]:
    jobs.enqueue(store, "plan", project_id, {"overrides": wanted.chosen})
    return gr.Group(visible=False), "", changed + 1, None
