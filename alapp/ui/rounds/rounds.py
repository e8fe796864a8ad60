"""The Rounds tab: the map of patches, the next batch, its picks, and the rounds so far."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from alapp import jobs
from alapp.errors import InputError, NotReadyError
from alapp.rounds.annotate import measuring
from alapp.rounds.results import results
from alapp.rounds.select import oracle, selection
from alapp.rounds.train import promotion
from alapp.stages.select.base import SELECTORS
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Project
from alapp.storage.db import Store
from alapp.ui.errors import info, told
from alapp.ui.page import Page, Tab
from alapp.ui.parts import tables
from alapp.ui.quiet import QUIET
from alapp.ui.results import adviser
from alapp.ui.rounds import compared_by, lane, scarce
from alapp.ui.rounds import patch_map as patch_maps
from alapp.ui.rounds import picks as picks_panel
from alapp.ui.rounds import strategies as strategy_menu
from alapp.wording import counted

LARGEST_BATCH = 200


def build(page: Page) -> Tab:
    """Lay out the tab inside the caller's `gr.Tab`."""
    chosen = gr.State(None)
    stale = gr.State(0)
    with gr.Row():
        with gr.Column(scale=6, min_width=420):
            patch_map = patch_maps.lay_out(page.store)
            panel = picks_panel.lay_out_panel()
        with gr.Column(scale=5, min_width=380):
            strategy, budget, share, control, repeat = _next_batch(page, stale)
            compared = compared_by.build(page)
            select_button = gr.Button("Select the batch", variant="primary")
            picks = picks_panel.lay_out()
            discard = gr.Button("Discard this selection", size="sm", visible=False)
            offer = gr.Button("Offer the vetoed patches again", size="sm", visible=False, elem_id="rounds-offer")
            reference = gr.Button(
                "Let the reference masks annotate the rest", size="sm", visible=False, elem_id="rounds-oracle"
            )
    gr.Markdown("### Rounds so far")
    timeline = gr.HTML(padding=False)

    outputs = [
        stale, patch_map.note, strategy, control, repeat, select_button, discard, offer, reference, timeline,
    ]  # fmt: skip
    store = page.store

    patch_maps.connect(page, patch_map, stale, chosen, panel)
    picks_panel.connect(page, picks, panel, stale, chosen)
    for trigger in (page.project_id.change, stale.change, budget.change):  # the first: the map may take a moment
        trigger(told(lambda p, n: share_sentence(store, p, n)), [page.project_id, budget], share, **QUIET)
    last: dict[str, Any] = {"trigger_mode": "always_last", **QUIET}
    for measure in (control, repeat):
        measure.input(
            told(lambda p, c, r: keep_shares(store, p, c, r)), [page.project_id, control, repeat], None, **last
        )
    strategy.input(told(lambda p, s: keep_strategy(store, p, s)), [page.project_id, strategy], None, **last)
    select_button.click(
        told(lambda p, n, s, c: start_selection(store, p, n, s, c)),
        [page.project_id, budget, strategy, page.changed],
        [select_button, page.changed],
        **QUIET,
    )
    discard.click(
        told(lambda p, c: discard_selection(store, p, c)), [page.project_id, page.changed], page.changed, **QUIET
    )
    offer.click(told(lambda p, c: offer_again(store, p, c)), [page.project_id, page.changed], page.changed, **QUIET)
    reference.click(
        told(lambda p, c: answer_by_reference(store, p, c)), [page.project_id, page.changed], page.changed, **QUIET
    )
    return Tab(
        "rounds",
        [*outputs, *compared],
        lambda project: [*refresh(store, project), *compared_by.refresh(store, project)],
    )


def _next_batch(page: Page, stale: gr.State) -> tuple[gr.Dropdown, gr.Slider, gr.HTML, gr.Dropdown, gr.Dropdown]:
    """What the next batch shall be: strategy, size, the sentence on its share, and what it measures."""
    gr.Markdown("### Next batch")
    strategy, about = strategy_menu.menu()
    strategy_menu.follow(strategy, about)
    budget = gr.Slider(
        1, 32, value=selection.DEFAULT_BUDGET, step=1, label="Patches in the batch",
        info="How many patches you will annotate before the network trains again.",
    )  # fmt: skip
    share = gr.HTML(padding=False)
    with gr.Accordion("Measure my work", open=False, elem_id="rounds-measure"):
        control = gr.Dropdown(
            share_choices(), value=0.0, label="Patches to draw without suggestions",
            info="A few training patches, picked at random, start from nothing: how much longer they take is what "
            "suggestions save you. At least one in each batch.",
        )  # fmt: skip
        repeat = gr.Dropdown(
            share_choices(), value=0.0, label="Patches to annotate a second time",
            info="A few patches that you finished without suggestions in earlier rounds come back unmarked, on top of "
            "the batch: how well your two answers agree is the best score a model can be held to. Their labels are "
            "only compared, never trained on.",
        )  # fmt: skip
        lane.menu(page, stale)
    return strategy, budget, share, control, repeat


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of all outputs, in order. What the user set (batch size, colouring) stays; the map is drawn by
    `patch_map`, which knows it."""
    if project_id is None:
        nothing = tables.empty("Open or create a project first, on the Project tab.")
        return [
            time.time(), tables.note(patch_maps.HELP), gr.Dropdown(interactive=False),
            gr.Dropdown(interactive=False), gr.Dropdown(interactive=False), gr.Button(interactive=False),
            gr.Button(visible=False), gr.Button(visible=False), gr.Button(visible=False), nothing,
        ]  # fmt: skip
    project = catalogue.project(store, project_id)
    latest = round_rows.latest(store, project_id)
    untouched = latest is not None and selection.is_untouched(store, latest.id)
    return [
        time.time(),
        patch_maps.help_note(store, project_id),
        gr.Dropdown(value=project.strategy, interactive=True),
        gr.Dropdown(value=project.control_share, interactive=True),
        gr.Dropdown(value=project.repeat_share, interactive=True),
        select_button_state(store, project_id),
        gr.Button(visible=untouched),
        offer_button(len(round_rows.vetoed(store, project_id))),
        gr.Button(visible=oracle.can_answer(store, project_id)),
        adviser.sentence(store, project_id)
        + timeline_table(results.history(store, project_id))
        + refusal_note(store, project_id),
    ]


def share_sentence(store: Store, project_id: int | None, budget: Any) -> str:
    """How a batch of this size is divided."""
    wanted = checked_budget(budget)
    if project_id is None:
        return ""
    project, free = catalogue.project(store, project_id), scarce.n_unpicked(store, project_id)
    n = min(wanted, free)
    if not n:
        return ""  # the button says why
    return scarce.warning(store, project, free, wanted) + _share_note(project, n, n == free)


def _share_note(project: Project, n: int, everything: bool) -> str:
    """How `n` patches are divided; a strategy chooses nothing where they are `everything` that is left."""
    how = "trained on" if everything else "chosen by the strategy and trained on"
    held = selection.validation_count(n, project.validation_share)
    drawn = lane.sentence(project, n - held)
    if not held:
        which = "The one patch is" if n == 1 else f"All {n} patches are"
        return tables.note(
            f"{which} {how}. The batch is too small to set one aside for validation, "
            "so the next model gets no new score.",
            drawn,
        )
    which = f"{n - held} of {n} patches {'is' if n - held == 1 else 'are'}"
    return tables.note(
        f"{which} {how}; {held} drawn at random for validation: the network "
        "never learns from them, so that its score is honest.",
        drawn,
    )


def checked_budget(budget: Any) -> int:
    """The batch size from the page. Raises `InputError` unless it is a sensible whole number."""
    if not isinstance(budget, (int, float)) or not 1 <= budget <= LARGEST_BATCH:
        raise InputError(f"A batch has 1 to {LARGEST_BATCH} patches.")
    return int(budget)


def keep_strategy(store: Store, project_id: int | None, strategy: str) -> None:
    """Remember the strategy for this project."""
    if project_id is None:
        return
    SELECTORS.load(strategy)
    catalogue.update_project(store, project_id, strategy=strategy)


def share_choices() -> list[tuple[str, float]]:
    """(what the menu shows, share) for what may be measured."""
    return [(f"{100 * share:.0f}% of the batch" if share else "none", share) for share in measuring.SHARES]


def keep_shares(store: Store, project_id: int | None, control: Any, repeat: Any) -> None:
    """Remember what to measure in the batches to come."""
    if project_id is not None:
        measuring.set_shares(store, project_id, control, repeat)


def select_button_state(store: Store, project_id: int) -> gr.Button:
    """The button says what it would do, or why it cannot."""
    if any(job.kind == "select" for job in jobs.active(store, project_id)):
        return gr.Button("Selecting …", interactive=False)
    if training := jobs.unfinished(store, project_id, jobs.kind("select").apart_from):
        how = "Resume or cancel the paused training first" if training.paused else "Wait until the round is trained"
        return gr.Button(how, interactive=False)
    if not catalogue.any_patch(store, project_id):
        return gr.Button("Import images first", interactive=False)
    latest = round_rows.latest(store, project_id)
    if waiting := selection.open_patches(store, project_id):
        return gr.Button(f"Annotate the open patches first ({len(waiting)} left)", interactive=False)
    if not catalogue.any_patch(store, project_id, unpicked=True):
        if round_rows.vetoed(store, project_id):
            return gr.Button("Only vetoed patches are left: offer them again, or import more images", interactive=False)
        return gr.Button("No patch is left: import more images to go on", interactive=False)
    return gr.Button(f"Select the batch of round {latest.number + 1 if latest else 1}", interactive=True)


def start_selection(
    store: Store, project_id: int | None, budget: Any, strategy: str, changed: int
) -> tuple[gr.Button, int]:
    """Queue the selection of the next batch."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    SELECTORS.load(strategy)
    jobs.start(store, "select", project_id, {"budget": checked_budget(budget), "strategy": strategy})
    return gr.Button("Selecting …", interactive=False), changed + 1


def discard_selection(store: Store, project_id: int | None, changed: int) -> int:
    """Undo the newest selection, of which nothing was annotated."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    selection.discard_round(store, project_id)
    info("The selection was discarded. Nothing else was changed.")
    return changed + 1


def offer_button(n_vetoed: int) -> gr.Button:
    """The button that takes vetoes back, while there are any."""
    return gr.Button(f"Offer {counted(n_vetoed, 'vetoed patch', 'vetoed patches')} again", visible=n_vetoed > 0)


def offer_again(store: Store, project_id: int | None, changed: int) -> int:
    """Take all vetoes of the project back."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    round_rows.lift_vetoes(store, project_id)
    info("The next batch may have them.")
    return changed + 1


def answer_by_reference(store: Store, project_id: int | None, changed: int) -> int:
    """Finish the open patches with reference masks, where the images came with them (the samples do)."""
    if project_id is None:
        raise NotReadyError("Open a project first.")
    count = oracle.answer(store, project_id)
    patches = counted(count, "patch", "patches")
    info(f"The reference masks annotated {patches}. Every one can be reopened on the Annotate tab.")
    return changed + 1


def refusal_note(store: Store, project_id: int) -> str:
    """Why the last training's model is not used, below the timeline that shows its score; "" when it is."""
    return tables.note(promotion.news(store, project_id)) if promotion.refused(store, project_id) else ""


def timeline_table(history: list[results.HistoryRow]) -> str:
    """The rounds as a table, oldest first."""
    if not history:
        return tables.empty("Rounds appear here, with their scores and the time they took, once you select a batch.")
    head = [
        "Round", "Strategy", "Selected (patches)", "Done", "Skipped", "F1 at IoU 0.5 (95% interval)",
        "Annotating", "Training",
    ]  # fmt: skip
    rows = [
        [
            str(row.number),
            SELECTORS.load(row.strategy).title if row.strategy in SELECTORS else row.strategy,
            str(row.selected),
            str(row.done),
            str(row.skipped),
            tables.score(row.f1_50, row.interval),
            tables.minutes(row.annotate_seconds) if row.annotate_seconds else tables.DASH,
            tables.minutes(row.train_seconds),
        ]
        for row in history
    ]
    left_out = max(row.left_out for row in history)
    note = (
        f"All rounds are scored on the same patches, so that they can be compared; {left_out} more, on images that "
        "came later, are left out here."
    )
    return tables.table(head, rows, text_columns=2) + (tables.note(note) if left_out else "")
