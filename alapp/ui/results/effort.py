"""Effort on the Results tab: what the annotation cost, by round and by patch, and what was measured about it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from alapp.rounds.annotate import agreement, annotation, ledger, savings
from alapp.rounds.annotate.agreement import Agreement
from alapp.rounds.annotate.ledger import Effort
from alapp.rounds.annotate.savings import TimeSaved
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.ui.parts import data_table, tables
from alapp.wording import counted

NOT_MEASURED = "Not measured. To measure it, open “Measure my work” on the Rounds tab before you select a batch."
EXPLANATION = (
    "Time runs from act to act while you work; a gap of more than a minute is a break and counts nothing. An object "
    "counts once: accepted as suggested, edited after a suggestion, or drawn from nothing. Rejected are suggestions "
    "that you refused and objects that you removed. Labels from files cost no time."
)
COLUMNS = {
    "Patch": None,
    "Round": 0,
    "State": None,
    "Started from": None,
    "Time (s)": 0,
    "Objects": 0,
    "Time per object (s)": 1,
    "Clicks": 0,
    "Accepted": 0,
    "Edited": 0,
    "Drawn": 0,
    "Rejected": 0,
}
STARTS = {"nothing": "nothing", "model": "the model", "pseudo": "pseudo-labels"}


def build() -> list[Any]:
    """Lay out the section in the context that is open; returns the components that `refresh` updates."""
    with gr.Column(visible=False) as section:
        gr.Markdown("### Effort")
        cards = gr.HTML(padding=False)
        rounds = gr.HTML(padding=False)
        with gr.Row():
            saved = gr.HTML(padding=False)
            agreed = gr.HTML(padding=False)
        patches = data_table.layout(COLUMNS, max_height=300, visible=False, elem_id="results-effort")
        gr.HTML(tables.note(EXPLANATION, "The export “Effort” below has one row for each object."), padding=False)
    return [section, cards, rounds, saved, agreed, patches]


def refresh(store: Store, project_id: int | None) -> list[Any]:
    """Updates of the components of `build`, in order. Before anybody has worked the section is not shown."""
    rounds = ledger.by_round(store, project_id) if project_id is not None else {}
    if project_id is None or not any(part.seconds or part.clicks or part.made for part in rounds.values()):
        return [gr.Column(visible=False), "", "", "", "", gr.Dataframe(visible=False)]
    project = catalogue.project(store, project_id)
    rows = patch_rows(store, project_id)
    return [
        gr.Column(visible=True),
        cards(list(rounds.values())),
        round_table(rounds),
        saved_text(savings.time_saved(store, project_id), project.control_share > 0),
        agreement_text(agreement.agreement(store, project_id), project.repeat_share > 0),
        gr.Dataframe(value=data_table.filled(COLUMNS, rows), visible=bool(rows)),
    ]


def cards(parts: list[Effort]) -> str:
    """All rounds together."""
    seconds, made, clicks = (sum(getattr(part, name) for part in parts) for name in ("seconds", "made", "clicks"))
    return tables.cards(
        [
            (tables.minutes(seconds), "annotating, breaks left out"),
            (f"{made}", "objects"),
            (f"{seconds / made:.1f} s" if made else tables.DASH, "for each object"),
            (f"{clicks / made:.1f}" if made else tables.DASH, "clicks and strokes for each object"),
            (f"{sum(part.accepted for part in parts)}", "accepted as suggested"),
            (f"{sum(part.corrected for part in parts)}", "edited"),
            (f"{sum(part.drawn for part in parts)}", "drawn"),
            (f"{sum(part.rejected for part in parts)}", "rejected"),
        ]
    )


def round_table(rounds: dict[int, Effort]) -> str:
    """One row for each round."""
    head = [
        "", "Time", "Objects", "Time per object", "Clicks per object", "Accepted", "Edited", "Drawn", "Rejected",
    ]  # fmt: skip
    rows = [
        [
            f"Round {number}",
            tables.minutes(part.seconds),
            str(part.made),
            tables.DASH if part.seconds_per_object is None else f"{part.seconds_per_object:.1f} s",
            tables.DASH if part.clicks_per_object is None else f"{part.clicks_per_object:.1f}",
            str(part.accepted),
            str(part.corrected),
            str(part.drawn),
            str(part.rejected),
        ]
        for number, part in sorted(rounds.items())
    ]
    return tables.table(head, rows)


def patch_rows(store: Store, project_id: int) -> list[list[Any]]:
    """Rows of the table of patches; numbers stay numbers, so that they sort. Patches that were shown again are
    counted in the rounds only, so that the table does not give them away."""
    known = ledger.patches(store, project_id)
    numbers = {item.id: item.number for item in round_rows.rounds(store, project_id)}
    chosen = {key: pick for key, pick in round_rows.selected_in_project(store, project_id).items() if key in known}
    states = annotation.patch_states(store, list(chosen))
    rows = []
    for patch_id, pick in chosen.items():
        work = known[patch_id]
        starts = ", ".join(STARTS[start] for start in STARTS if start in work.starts)
        rows.append(
            [
                catalogue.patch(store, patch_id).name,
                numbers[pick.round_id],
                states[patch_id],
                starts or ("imported labels" if work.imported else tables.DASH),
                work.seconds,
                work.kept,
                work.seconds / work.kept if work.kept else None,
                work.clicks,
                work.count(ledger.ACCEPTED),
                work.count(ledger.EDITED),
                work.count(ledger.DRAWN),
                work.count(ledger.DISMISSED, ledger.DELETED),
            ]
        )
    return rows


def saved_text(found: TimeSaved, wanted: bool) -> str:
    """What suggestions save, or what is missing to tell."""
    title = "What suggestions save"
    if found.saving is None or found.interval is None:
        if not wanted and not found.n_unaided:
            return tables.panel(
                title,
                NOT_MEASURED,
            )
        return tables.panel(
            title,
            f"Not enough data yet: {_patches(found.n_unaided)} without suggestions and {found.n_aided} with them, "
            f"in the same rounds. It takes {savings.MIN_PATCHES} finished patches of each.",
        )
    low, high = (f"{100 * value:.0f}%" for value in found.interval)
    clear = "" if found.interval[0] > 0 or found.interval[1] < 0 else " So far the difference may be chance."
    return tables.panel(
        title,
        f"{found.aided:.1f} s for each object with suggestions ({_patches(found.n_aided)}), {found.unaided:.1f} s "
        f"without ({_patches(found.n_unaided)}): suggestions "
        f"{'save' if found.saving >= 0 else 'cost'} {100 * abs(found.saving):.0f}% of the time "
        f"(95% interval of the saving: {low} to {high}).{clear}",
    )


def agreement_text(found: Agreement, wanted: bool) -> str:
    """How well the person agrees with themselves, or what is missing to tell."""
    title = "How well you agree with yourself"
    if found.f1_50 is None:
        if not wanted and not found.n:
            return tables.panel(
                title,
                NOT_MEASURED,
            )
        return tables.panel(
            title,
            f"Not enough data yet: {_patches(found.n)} annotated twice. It takes {agreement.MIN_REPEATS}.",
        )
    overlap = "" if found.mean_iou is None else f" Matched objects overlap by {found.mean_iou:.2f} (mean IoU)."
    return tables.panel(
        title,
        f"F1 at IoU 0.5 of {tables.score(found.f1_50, found.interval)} between your first and your second annotation "
        f"of {_patches(found.n)}.{overlap} A model that scores as high agrees with you as well as you do.",
    )


def _patches(n: int) -> str:
    return counted(n, "patch", "patches")
