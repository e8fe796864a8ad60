"""The list of models on the Train tab: where each comes from, which one is in use and why, and how to go back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import NotReadyError
from alapp.rounds.train import lineage, pretrain_check, promotion
from alapp.rounds.train.lineage import Model
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.ui.errors import info, told
from alapp.ui.page import Page
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET
from alapp.wording import counted

HEAD = (
    "Model", "Round", "State", "Started from", "Preset", "Iterations", "Patches", "Time", "On disk",
    "F1 (95% interval)", "Made",
)  # fmt: skip
EXPLANATION = (
    "The model in use makes the suggestions, is exported, is applied to new images, and is what the next training goes "
    "on from. You can go back to any earlier one; nothing is deleted by that."
)
WHOSE_TIME = "Made: by the clock of the computer that runs the app."
NO_MODELS = "Every training leaves a model here, with its score and its size on disk."


def build(page: Page) -> tuple[list[Any], Callable[[int | None], list[Any]]]:
    """Lay out the section inside the tab. Returns its outputs and what refreshes them."""
    store = page.store
    gr.Markdown("### Models")
    news = gr.HTML(padding=False, elem_id="models-news")
    with gr.Row():
        anyway = gr.Button(visible=False, size="sm", scale=0, min_width=170, elem_id="models-anyway")
        undo = gr.Button(visible=False, size="sm", scale=0, min_width=280, elem_id="models-undo")
    listing = gr.HTML(padding=False, elem_id="models-list")
    with gr.Row(visible=False, elem_id="models-choice") as choice:
        menu = gr.Dropdown(
            [], label="Another model", info=EXPLANATION, scale=4, min_width=320, elem_id="models-menu"
        )  # fmt: skip
        ask = gr.Button("Use this model …", size="md", scale=0, min_width=200, elem_id="models-use")
    with gr.Row(visible=False, elem_id="models-confirm") as confirm:
        with gr.Column(scale=4, min_width=320):
            question = gr.HTML(padding=False)
        yes = gr.Button("Yes, use it", variant="primary", size="sm", scale=0, min_width=130, elem_id="models-yes")
        no = gr.Button("No", size="sm", scale=0, min_width=80)
    asked = gr.State(None)

    panel = [confirm, question, asked]
    ask.click(told(lambda p, one: ask_to_use(store, p, one)), [page.project_id, menu], panel, **QUIET)
    anyway.click(told(lambda p: ask_to_use_refused(store, p)), page.project_id, panel, **QUIET)
    no.click(lambda: [gr.Row(visible=False), "", None], None, panel, **QUIET)
    yes.click(
        told(lambda p, one, c: use(store, p, one, c)), [page.project_id, asked, page.changed], page.changed, **QUIET
    )
    undo.click(told(lambda p, c: undo_use(store, p, c)), [page.project_id, page.changed], page.changed, **QUIET)
    return [news, anyway, undo, listing, choice, menu, *panel], lambda project: refresh(store, project)


def fields(outputs: list[Any]) -> list[Any]:
    """Those of the outputs that a user chooses from or answers. They belong together: a question is about the models
    that were there to choose from, and the one in use."""
    return outputs[5:]


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of all outputs, in order. A question that was open is closed: what it asked may have changed."""
    closed = [gr.Row(visible=False), "", None]
    found = lineage.models_of(store, project_id) if project_id is not None else []
    if project_id is None or not found:
        what = NO_MODELS if project_id is not None else "Open or create a project first, on the Project tab."
        hidden = gr.Button(visible=False)
        return ["", hidden, hidden, tables.empty(what), gr.Row(visible=False), gr.Dropdown([], value=None), *closed]
    refused, before = promotion.refused(store, project_id), promotion.undoable(store, project_id)
    names = {model.checkpoint.id: model.name for model in found}
    others = [(choice_text(model), model.checkpoint.id) for model in reversed(found) if not model.current]
    return [
        news_text(store, project_id),
        gr.Button("Use it anyway …", visible=refused is not None),
        gr.Button(f"Undo: go back to {names[before.id]}" if before else "", visible=before is not None),
        table(found),
        gr.Row(visible=bool(others)),
        gr.Dropdown(others, value=others[0][1] if others else None),
        *closed,
    ]


def news_text(store: Store, project_id: int) -> str:
    """What was decided last about the model in use, and about the pre-training: while it is news, or if it was left
    out, which explains the list."""
    pretraining, newest = pretrain_check.latest(store, project_id), round_rows.latest(store, project_id)
    said = [promotion.news(store, project_id)]
    if pretraining and newest and (not pretraining.accepted or pretraining.facts["round"] == newest.number):
        said.append(pretrain_check.sentence(pretraining))
    return "".join(tables.note(text) for text in said if text)


def choice_text(model: Model) -> str:
    """A model in the menu: name, score, and whether its file is gone."""
    score = f", F1 {model.score.scores.f1_50:.2f}" if model.score else ""
    return f"{model.name}{score}{', file deleted' if model.size is None else ''}"


def table(found: list[Model]) -> str:
    """All models, newest first; `found` is oldest first."""
    numbers: dict[int | None, str] = {model.checkpoint.id: str(index) for index, model in enumerate(found, start=1)}
    listed = tables.table(HEAD, [_row(model, numbers) for model in reversed(found)], text_columns=5)
    return listed + _same_patches(found) + tables.note(WHOSE_TIME)


def _same_patches(found: list[Model]) -> str:
    """That patches are left out, where models were scored on different ones."""
    if not any(model.left_out for model in found):
        return ""
    n = next(model.score.n for model in found if model.score)
    same = f"the same {counted(n, 'validation patch', 'validation patches')}"
    return tables.note(
        f"The F1 of all models is on {same}, so that it can be compared. Patches on images that came after a model are "
        "left out here."
    )


def _row(model: Model, numbers: dict[int | None, str]) -> list[str]:
    item, score = model.checkpoint, model.score
    return [
        numbers[item.id],
        str(model.round_number) if item.round_id else "pre-training",
        state_text(model),
        f"model {numbers[item.parent_id]}" if item.parent_id in numbers else "scratch",
        item.preset,
        f"{item.iterations:,}",
        f"{item.n_cases:,}{f' + {item.n_rehearsed:,} rehearsed' if item.n_rehearsed else ''}",
        tables.minutes(item.seconds),
        "file deleted" if model.size is None else tables.size(model.size),
        tables.score(score.scores.f1_50, score.interval) if score else tables.DASH,
        tables.local_time(item.created),
    ]


def state_text(model: Model) -> str:
    """Whether the model is in use, was, or was refused, with the two scores that were compared."""
    if model.current:
        return "in use"
    if model.verdict is None:
        return "training not finished"
    if model.verdict.accepted:
        return "used before"
    facts = model.verdict.facts
    if not facts["checked"]:
        return "not used: unchecked"
    return f"not used: {facts['f1_new']:.2f} against {facts['f1_current']:.2f}"


def ask_to_use(store: Store, project_id: int | None, checkpoint_id: Any) -> list[Any]:
    """Open the question whether to use another model. Raises `NotReadyError` when it cannot be used."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    if not isinstance(checkpoint_id, int):
        raise NotReadyError("Choose a model first.")
    promotion.check_usable(store, project_id, checkpoint_id)
    called = {model.checkpoint.id: model for model in lineage.models_of(store, project_id)}
    now = next((model for model in called.values() if model.current), None)
    instead = f", instead of {choice_text(now)}" if now else ""
    text = (
        f"Use {choice_text(called[checkpoint_id])}{instead}? Suggestions in patches that you have not opened yet, "
        "exports, new images and the next training go on from it. Nothing is deleted, and you can undo it."
    )
    return [gr.Row(visible=True), tables.note(text), checkpoint_id]


def ask_to_use_refused(store: Store, project_id: int | None) -> list[Any]:
    """Open the question for the model that was refused last."""
    refused = promotion.refused(store, project_id) if project_id is not None else None
    if refused is None:
        raise NotReadyError("No model waits to be used. Reload the page.")
    return ask_to_use(store, project_id, refused.id)


def use(store: Store, project_id: int | None, checkpoint_id: Any, changed: int) -> int:
    """Use the model that the question named."""
    if project_id is None or not isinstance(checkpoint_id, int):
        raise NotReadyError("Choose a model first.")
    promotion.use(store, project_id, checkpoint_id)
    return _switched(store, project_id, checkpoint_id, changed)


def undo_use(store: Store, project_id: int | None, changed: int) -> int:
    """Go back to the model that was in use before."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    return _switched(store, project_id, promotion.undo(store, project_id).checkpoint_id, changed)


def _switched(store: Store, project_id: int, checkpoint_id: int, changed: int) -> int:
    name = lineage.names(store, project_id)[checkpoint_id]
    if promotion.needs_predicting(store, project_id):
        jobs.enqueue(store, "predict", project_id, behind_running=True)
        info(f"{name} is in use. It is being applied to the images that it has not seen.")
    else:
        info(f"{name} is in use.")
    return changed + 1


def set_check(store: Store, project_id: int | None, wanted: Any) -> None:
    """Keep whether to check the pre-training."""
    if project_id is not None:
        catalogue.update_project(store, project_id, check_pretraining=bool(wanted))
