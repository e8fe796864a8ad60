"""“One more batch?” on the Results tab, and its sentence on the Rounds tab."""

from __future__ import annotations

from html import escape

import gradio as gr

from alapp import jobs
from alapp.rounds.results import adviser
from alapp.rounds.results.adviser import Advice, Verdict
from alapp.stages.stopping import SETTLED
from alapp.storage.db import Store
from alapp.ui.page import Page, fill_when_stale
from alapp.ui.parts import tables
from alapp.wording import counted

WORKING = "Being worked out …"
"""Until it is known whether there is anything to say."""

TOO_EARLY = "Advice appears here after the first training."
COMPARING = "How far the labels reach, and how much the predictions changed, is being computed."
CAVEAT = (
    "The range tells how well the curve is known from your validation patches. Luck in training and a change of what "
    "the images show are not in it."
)
WORDS = {
    Verdict.GO_ON: "Worth going on: the score still rises by more than chance.",
    Verdict.STOP: "Stopping now is reasonable: another batch would hardly change the score.",
    Verdict.OPEN: "It cannot be told yet whether another batch helps: within the range lie a real gain and none.",
    Verdict.UNKNOWN: "",
}
IMPORT = "Worth importing more images: the score still rises by more than chance."
UNSETTLED = "Another batch would hardly change the score; whether the predictions have settled is not known yet."
CHANGING = "Another batch would hardly change the score, but the predictions still change: one more batch is safer."


def build(page: Page, stale: gr.State) -> None:
    """Lay out the section in the context that is open. It is filled whenever `stale` changes."""
    gr.Markdown("### One more batch?")
    panel = gr.HTML(tables.note(WORKING), padding=False, elem_id="results-adviser")
    fill_when_stale(page, stale, text, panel)


def text(store: Store, project_id: int | None) -> str:
    """The advice on a project, as HTML. Starts the job that computes what is missing, unless that was tried."""
    if project_id is None:
        return tables.note(TOO_EARLY)
    wanted = adviser.missing(store, project_id)
    tried = [job for job in jobs.history(store, project_id) if job.params.get("wanted") == wanted]
    waiting = bool(wanted) and (not tried or tried[0].active)
    if wanted and not tried:
        jobs.enqueue(store, "advise", project_id, {"wanted": wanted})
    return panel(adviser.advise(store, project_id), waiting)


def sentence(store: Store, project_id: int) -> str:
    """The advice in one line, as HTML; "" before it can say anything."""
    advice = adviser.advise(store, project_id)
    return tables.note(advice.sentence, verdict_words(advice)) if advice.gain else ""


def panel(advice: Advice, waiting: bool = False) -> str:
    """Sentence, verdict, and what speaks for it."""
    lines = [COMPARING] if waiting else []
    if advice.facts:
        lines += [line for line in (reach_words(advice), change_words(advice), uncompared_words(advice)) if line]
    if advice.gain and advice.gain.interval:
        lines.append(CAVEAT)
    below = "".join(f"<p>{escape(line)}</p>" for line in lines)
    strong = escape(" ".join(filter(None, (advice.sentence, verdict_words(advice)))))
    return f'{tables.STYLE}<div class="al-note al-advice-panel"><b>{strong}</b>{below}</div>'


def verdict_words(advice: Advice) -> str:
    """The verdict in words."""
    if advice.verdict is Verdict.OPEN and advice.gain.interval[1] < adviser.LITTLE:
        return UNSETTLED if advice.settled is None else CHANGING
    return IMPORT if advice.exhausted and advice.verdict is Verdict.GO_ON else WORDS[advice.verdict]


def reach_words(advice: Advice) -> str:
    """How far the labels reach, and how that changed."""
    reach = sorted(advice.facts.reach.items())
    if not reach:
        return ""
    number, last = reach[-1]
    before = f" (after round {reach[-2][0]}: {reach[-2][1].radius:.2f})" if len(reach) > 1 else ""
    return (
        f"Reach of your labels after round {number}: the patch least like any labelled one is at a distance of "
        f"{last.radius:.2f}{before}, a patch on average at {last.mean:.2f} (0: alike, 2: opposite)."
    )


def change_words(advice: Advice) -> str:
    """How much the predictions changed in the last round."""
    change, compared = advice.facts.change, advice.facts.compared
    if change is None or compared is None:
        return ""
    names = [f"round {number}" if number else "pre-training" for number in compared]
    where = f"Predictions on {counted(change.n, 'patch', 'patches')} that nobody labelled, {names[0]} → {names[1]}"
    if change.settled is None:
        return f"{where}: neither model finds an object there, which does not tell whether they have settled."
    settled = "they have settled" if change.settled else "they still change"
    return (
        f"{where}: {change.pixels:.1%} of the pixels and {change.objects:.0%} of the objects changed; {settled} "
        f"(pixels agree beyond chance, Cohen's kappa: {change.kappa:.2f} of 1; settled from {SETTLED:.2f} on)."
    )


def uncompared_words(advice: Advice) -> str:
    """On how many patches the predictions could not be compared."""
    if not advice.facts.uncompared:
        return ""
    return (
        f"Not yet predicted by two models in a row: {counted(advice.facts.uncompared, 'patch', 'patches')} that nobody "
        "labelled. Whether the predictions have settled there is not known."
    )
