"""The results of an experiment as files: CSV for a table, JSON for everything, PNG for the figure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from alapp.errors import InputError, NotReadyError
from alapp.experiments import curves, exchange, findings, runner
from alapp.experiments.findings import Line
from alapp.storage import experiments as rows
from alapp.storage.db import Store
from alapp.storage.experiments import Experiment
from alapp.storage.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = 1
MARKERS = {
    "circle": "o", "diamond": "D", "square": "s", "triangle-up": "^", "x": "x", "star": "*", "cross": "P",
    "triangle-down": "v", "pentagon": "p", "hexagon": "h",
}  # fmt: skip


def export(store: Store, experiment: Experiment, what: str, target: Path | None = None) -> Path:
    """Write what is finished as `what` ("csv", "json", "png") to `target`, a file or an existing folder, by default in
    the experiment's folder.

    Raises `InputError` for another format or where nothing can be written, `NotReadyError` while no run is done.
    """
    if what not in FORMATS:
        raise InputError(f"There is no export called {what!r}. Choose one of: {', '.join(FORMATS)}.")
    known = findings.lines(rows.runs(store, experiment.id))
    if not known:
        raise NotReadyError(f"No run of {experiment.name!r} is done yet, so there is nothing to export.")
    place = runner.folder(store, experiment) / "exports" if target is None else target.expanduser()
    if target is None or place.is_dir():
        name = "".join(each if each.isalnum() or each in "-_" else "_" for each in experiment.name)
        place = place / f"{name}.{what}"
    content = FORMATS[what](store, experiment, known)
    try:
        with atomic_write(place) as handle:
            handle.write(content)
    except OSError as error:
        raise InputError(f"{place} cannot be written ({error.strerror}). Choose another file.") from error
    return place


def _csv(store: Store, experiment: Experiment, known: Sequence[Line]) -> bytes:
    made = curves.table(known)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(made[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(made)
    return text.getvalue().encode()


def _json(store: Store, experiment: Experiment, known: Sequence[Line]) -> bytes:
    compared = [
        {**asdict(each), "told": each.paired.told}
        for each in curves.contrasts(known)
    ]  # fmt: skip
    content = {
        "schema": SCHEMA,
        "name": experiment.name,
        "study": experiment.study,
        "table": curves.table(known),
        "differences": compared,
        "runs": exchange.portable(store, experiment),
    }
    return json.dumps(content, indent=1, allow_nan=False).encode()


def _png(store: Store, experiment: Experiment, known: Sequence[Line]) -> bytes:
    # The figure itself, not pyplot: that keeps figures of all threads in one list.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = curves.starts(known)
    figure = Figure(figsize=(8, 4.2 * len(shown)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for number, start in enumerate(shown, start=1):
        _draw(figure.add_subplot(len(shown), 1, number), known, start)
    figure.suptitle(experiment.name)
    content = io.BytesIO()
    canvas.print_png(content)
    return content.getvalue()


def _draw(axes: Axes, known: Sequence[Line], start: str) -> None:
    """The curves of one start, with the lines of what every label gives and of 90% of it."""
    from alapp.experiments import wording

    shown = curves.of(known, start)
    for curve in shown:
        colour = curves.COLOURS[curve.look % len(curves.COLOURS)]
        xs, means = [point.patches for point in curve.points], [point.mean for point in curve.points]
        spread = [point.interval or (point.mean, point.mean) for point in curve.points]
        below = [max(0.0, mean - low) for mean, (low, _) in zip(means, spread, strict=True)]
        above = [max(0.0, high - mean) for mean, (_, high) in zip(means, spread, strict=True)]
        axes.errorbar(
            xs, means, yerr=[below, above], label=curve.title, color=colour, capsize=3,
            marker=MARKERS[curves.SYMBOLS[curve.look % len(curves.SYMBOLS)]],
            linestyle="--" if curve.dashed else "-",
        )  # fmt: skip
    everything = curves.full(known, start)
    if everything is not None:
        axes.axhline(everything[0].mean, color="#555555", linewidth=1, label="every patch labelled")
        axes.axhline(curves.ENOUGH * everything[0].mean, color="#555555", linewidth=1, linestyle=":", label="90% of it")
    axes.set(title=wording.start(start), xlabel="Labelled patches", ylabel="F1 at IoU 0.5", ylim=(0, 1.02))
    axes.set_xticks(sorted({point.patches for curve in shown for point in curve.points}))
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))


FORMATS: dict[str, Callable[[Store, Experiment, Sequence[Line]], bytes]] = {"csv": _csv, "json": _json, "png": _png}
