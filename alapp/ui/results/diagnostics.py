"""“What may be wrong” on the Results tab: what the diagnostics found, with advice; the numbers on demand."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import gradio as gr

from alapp.rounds.results import diagnosing
from alapp.rounds.results.diagnostics import Diagnosis, State
from alapp.storage.db import Store
from alapp.ui.page import Page, fill_when_stale
from alapp.ui.parts import tables

CHECKING = "The project is being checked …"
NOTHING = "Nothing found: none of the checks sees a problem."
TOO_EARLY = "Checks appear here after the first training."
UNTOLD = "Nothing found so far. Some checks need more labels first."


def build(page: Page, stale: gr.State) -> None:
    """Lay out the section in the context that is open. It is filled whenever `stale` changes, apart from the rest of
    the tab: the first check after a training compares label maps and takes a moment."""
    gr.Markdown("### What may be wrong")
    panel = gr.HTML(tables.note(CHECKING), padding=False, elem_id="results-diagnostics")
    fill_when_stale(page, stale, text, panel)


def text(store: Store, project_id: int | None) -> str:
    """The panel of a project, as HTML."""
    if project_id is None:
        return tables.note(TOO_EARLY)
    return panel(diagnosing.diagnose(store, project_id))


def panel(found: Sequence[Diagnosis]) -> str:
    """Warnings as cards; what is in order, or cannot be told yet, behind a fold."""
    if not found:
        return tables.note(TOO_EARLY)
    warnings = [item for item in found if item.state is State.WARNING]
    others = [item for item in found if item.state is not State.WARNING]
    unknown = sum(item.state is State.UNKNOWN for item in others)
    cards = "".join(_card(item) for item in warnings)
    if cards:
        cards = f'<div class="al-findings">{cards}</div>'
    else:
        mark = '<span class="al-mark ok" aria-hidden="true">✓</span>'
        cards = f'<div class="al-note al-calm">{mark}{escape(UNTOLD if unknown else NOTHING)}</div>'
    return f"{tables.STYLE}{cards}{_fold(others, unknown)}"


def _card(item: Diagnosis) -> str:
    return (
        '<div class="al-finding"><span class="al-mark warn" role="img" aria-label="Warning">!</span><div>'
        f"<b>{escape(item.name)}</b><p>{escape(item.sentence)}</p>"
        f'<p class="al-advice"><i>What to do:</i> {escape(item.advice)}</p>{_numbers(item)}</div></div>'
    )


def _numbers(item: Diagnosis) -> str:
    if not item.numbers:
        return ""
    rows = "".join(f"<tr><td>{escape(what)}</td><td>{_number(value)}</td></tr>" for what, value in item.numbers.items())
    return f'<details class="al-numbers"><summary>Numbers</summary><table>{rows}</table></details>'


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _fold(others: Sequence[Diagnosis], unknown: int) -> str:
    if not others:
        return ""
    fine = len(others) - unknown
    parts = [f"{fine} in order"] * bool(fine) + [f"{unknown} cannot tell yet"] * bool(unknown)
    lines = "".join(_line(item) for item in sorted(others, key=lambda item: item.state is State.UNKNOWN))
    return f'<details class="al-checks"><summary>Other checks: {", ".join(parts)}</summary>{lines}</details>'


def _line(item: Diagnosis) -> str:
    kind, sign, said = ("ok", "✓", "In order") if item.state is State.OK else ("open", "?", "Cannot tell yet")
    return (
        f'<div class="al-check"><span class="al-mark {kind}" role="img" aria-label="{said}">{sign}</span>'
        f"<div><b>{escape(item.name)}.</b> {escape(item.sentence)}{_numbers(item)}</div></div>"
    )
