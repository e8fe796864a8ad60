"""Small HTML tables and cards: numbers on the right, headings with units, text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

STYLE = """<style class="al-style">
.html-container:has(> .prose > style.al-style){padding:2px 0}
.al-scroll{overflow-x:auto}
.al-scroll table.al-table{width:100%;border-collapse:collapse;border:0;margin:0;font-size:14px;
 font-variant-numeric:tabular-nums}
.al-scroll table.al-table th,.al-scroll table.al-table td{padding:7px 10px;border:0;
 border-bottom:1px solid var(--border-color-primary);text-align:right;white-space:nowrap;
 color:var(--body-text-color);font-family:var(--font)}
.al-scroll table.al-table th{font-weight:600;font-size:13px;opacity:.75;background:none}
.al-scroll table.al-table tr{border:0}
.al-scroll table.al-table .al-text{text-align:left}
.al-scroll table.al-table tr:last-child td{border-bottom:0}
div.al-empty{padding:18px;border:1px dashed var(--border-color-primary);border-radius:8px;text-align:center;
 font-size:14px}
div.al-note{font-size:14px;line-height:1.45}
div.al-cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(118px,1fr));gap:10px}
div.al-card{border:1px solid var(--border-color-primary);border-radius:8px;padding:8px 12px}
div.al-card b{display:block;font-size:19px;font-variant-numeric:tabular-nums;color:var(--body-text-color)}
div.al-card span{opacity:.75;font-size:13px;line-height:1.3;display:block}
pre.al-log{max-height:320px;overflow:auto;font-size:12px;white-space:pre-wrap;font-family:var(--font-mono);margin:0}
div.al-bar{height:6px;border-radius:3px;background:var(--border-color-primary);overflow:hidden;margin-top:6px}
div.al-bar div{height:100%;background:var(--color-accent)}
div.al-panel{border:1px solid var(--border-color-primary);border-radius:8px;padding:8px 12px;font-size:14px;
 line-height:1.45;height:100%}
div.al-panel b{display:block;color:var(--body-text-color)}
div.al-panels{display:flex;font-size:14px}
div.al-panels span{flex:1;text-align:center}
</style>"""

DASH = "–"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """An HTML table of texts. The first `text_columns` columns are aligned left, the others (numbers) right."""

    def line(cells: Sequence[str], tag: str) -> str:
        made = (
            f"<{tag}{' class=al-text' if column < text_columns else ''}>{escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'{STYLE}<div class="al-scroll"><table class="al-table">{line(head, "th")}{body}</table></div>'


def cards(items: Sequence[tuple[str, str]]) -> str:
    """Cards with a value and what it is."""
    made = "".join(
        f'<div class="al-card"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in items
    )
    return f'{STYLE}<div class="al-cards">{made}</div>'


def empty(sentence: str) -> str:
    """An empty state: what will be here, and what to do."""
    return f'{STYLE}<div class="al-empty">{escape(sentence)}</div>'


def note(*sentences: str) -> str:
    """A quiet paragraph."""
    return f'{STYLE}<div class="al-note">{" ".join(escape(sentence) for sentence in sentences)}</div>'


def panel(title: str, sentence: str) -> str:
    """A sentence with a heading, in a frame."""
    return f'{STYLE}<div class="al-panel"><b>{escape(title)}</b>{escape(sentence)}</div>'


def progress(sentence: str, fraction: float) -> str:
    """A sentence over a progress bar; `fraction` in [0, 1]."""
    width = f"{100 * min(max(fraction, 0.0), 1.0):.1f}"
    return (
        f'{STYLE}<div class="al-note">{escape(sentence)}</div>'
        f'<div class="al-bar"><div style="width:{width}%"></div></div>'
    )


def log(text: str) -> str:
    """Lines of a log."""
    return f'{STYLE}<pre class="al-log">{escape(text)}</pre>'


def minutes(seconds: float | None) -> str:
    """A duration with its unit: "45 s", "12 min", "3.2 h"."""
    if seconds is None:
        return DASH
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def score(value: float | None, interval: tuple[float, float] | None = None) -> str:
    """A score with its 95% interval: "0.71 (0.62 to 0.79)"."""
    if value is None:
        return DASH
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})" if interval else f"{value:.2f}"


def local_time(stamp: str) -> str:
    """A time of the database (UTC) as the clock of this computer shows it."""
    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"


def size(n_bytes: float) -> str:
    """A file size: "9.4 MB"."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
