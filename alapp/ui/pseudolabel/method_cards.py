"""The cards of the Pseudo-labels tab: each method with its state, what it suits, and its speed on this computer."""

from __future__ import annotations

import html

from alapp.domain import Modality
from alapp.rounds.pseudolabel import pseudo, pseudo_speed
from alapp.rounds.pseudolabel.pseudo import Method
from alapp.storage.db import Store

COLUMNS = {4: 4, 5: 3, 6: 3, 7: 4, 8: 4, 9: 3}
"""By the number of cards, fewer ones have three: no row holds a single one that could have company."""


def method_cards(store: Store, modality: Modality) -> str:
    """A card for each method: the recommended one, then those that can be used; the others folded away, so that what
    to do next is in sight."""
    recommended, _ = pseudo.resolve(pseudo.AUTO, modality)
    methods = sorted(
        pseudo.methods(modality),
        key=lambda item: (item.name != recommended, not item.status.ready, not item.fits_modality),
    )
    speeds = pseudo_speed.measured(store)

    def grid(wanted: list[Method]) -> str:
        cards = "".join(_card(item, speeds.get(item.name), item.name == recommended) for item in wanted)
        return f'<div class="method-cards" style="--columns: {COLUMNS.get(len(wanted), 3)}">{cards}</div>'

    missing = [item for item in methods if not item.status.ready]
    if not missing:
        return grid(methods)
    what = "1 more method needs" if len(missing) == 1 else f"{len(missing)} more methods need"
    return (
        f"{grid([item for item in methods if item.status.ready])}"
        f'<details class="more-methods"><summary>{what} something that is not on this computer yet: '
        f"{html.escape(', '.join(dict.fromkeys(item.title.split(',')[0] for item in missing)))}</summary>"
        f"{grid(missing)}</details>"
    )


def speed_text(seconds: float) -> str:
    """Seconds a patch as people read them: "0.4 s a patch", "2 min a patch"."""
    if seconds >= 90:
        return f"{seconds / 60:.0f} min a patch"
    return f"{seconds:.0f} s a patch" if seconds >= 10 else f"{max(seconds, 0.1):.1f} s a patch"


def _card(item: Method, seconds: float | None, recommended: bool) -> str:
    ready = item.status.ready
    chips = [f'<span class="chip {"ok" if ready else ""}">{html.escape(item.status.state)}</span>']
    if recommended:
        chips.append('<span class="chip plain">recommended</span>')
    if not item.fits_modality:
        chips.append('<span class="chip plain">for the other kind of microscopy</span>')
    lines = [f"<p>{html.escape(item.suits)}</p>"]
    if ready:
        speed = f"{speed_text(seconds)}, measured here" if seconds else "preview it to see its speed here"
        lines.append(f'<p class="speed">{speed}</p>')
    else:
        why = " ".join(part for part in (item.status.detail, item.status.remedy) if part)
        lines.append(f'<p class="why">{html.escape(why)}</p>')
    return (
        f'<article class="method-card{"" if ready else " off"}"><h4>{html.escape(item.title)}</h4>'
        f'<div class="chips">{"".join(chips)}</div>{"".join(lines)}</article>'
    )
