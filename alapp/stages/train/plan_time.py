"""How many iterations a round trains on this computer.

On a CPU the seconds of an iteration are measured once, while planning, with the planned network on the project's own
cases; the numbers of iterations follow from them and stay in the plan. A GPU keeps fixed numbers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Preset, Report
from alapp.stages.train.base import Case
from alapp.stages.train.cases import dataset_of, prepare_cases
from alapp.stages.train.workspace import Layout, nnunet_environment, own_randomness, quiet

Timing = Callable[[Layout, Mapping[str, Any], Sequence[Case], Report], float | None]
"""Seconds of one training iteration with a plan; None where that cannot be told."""

USUAL = {
    ("cpu", Preset.QUICK): {"round": 500, "pretrain": 900},
    ("cpu", Preset.STANDARD): {"round": 2000, "pretrain": 2000},
    ("cpu", Preset.FULL): {"round": 6000, "pretrain": 4000},
    ("cuda", Preset.QUICK): {"round": 1000, "pretrain": 1500},
    ("cuda", Preset.STANDARD): {"round": 12_500, "pretrain": 5_000},
    ("cuda", Preset.FULL): {"round": 250_000, "pretrain": 62_500},
}
"""Iterations where the speed of the computer is not known."""

TARGET_SECONDS = {
    Preset.QUICK: {"round": 120, "pretrain": 240},
    Preset.STANDARD: {"round": 600, "pretrain": 600},
    Preset.FULL: {"round": 2400, "pretrain": 1200},
}
"""How long a round and the pre-training should train on a CPU. Pre-training is done once, and must be long enough that
the network knows what the pseudo-labels leave out: on EM its F1 was .25 and .14 after 300 iterations and .37 and .34
after 900, that of the pseudo-labels .38."""

LEAST, MOST_TIMES_USUAL = 300, 4
_STEP = 25
_MEASURED_CASES = 2
_WARM_UP, _MOST_MEASURED, _MOST_SECONDS = 2, 12, 3.0


def choose_iterations(device: str, preset: Preset, seconds: float | None) -> dict[str, int]:
    """Iterations of "round" and "pretrain", in steps of 25: at `seconds` each they fill the preset's time, but are at
    least 300 and at most four times the usual."""
    usual = USUAL[device, preset]
    if seconds is None or device != "cpu":
        return dict(usual)
    return {
        what: int(np.clip(_STEP * round(TARGET_SECONDS[preset][what] / seconds / _STEP), LEAST, MOST_TIMES_USUAL * n))
        for what, n in usual.items()
    }


def seconds_per_iteration(layout: Layout, plan: Mapping[str, Any], cases: Sequence[Case], report: Report) -> float:
    """Median seconds of a few training iterations on the CPU, with augmentation, on up to two of `cases`.

    Takes about 3 seconds beside building the network. `report` may cancel.
    """
    import torch

    from alapp.stages.train.trainer import ObjectTrainer, Run

    chosen = list(cases[:_MEASURED_CASES])
    with own_randomness(), tempfile.TemporaryDirectory() as folder:
        identifiers = prepare_cases(layout, dict(plan), chosen, report, 1)
        run = Run(
            out=Path(folder), identifiers=identifiers, weights=None, iterations=_MOST_MEASURED,
            iterations_per_epoch=_MOST_MEASURED, seed=0, optimizer=plan["optimizer"],
            learning_rate=plan["learning_rate"], report=report, log=lambda line: None,
        )  # fmt: skip
        with nnunet_environment(layout), quiet():
            trainer = ObjectTrainer(
                {**plan["nnunet"], "continue_training": False}, plan["configuration"], 0,
                dataset_of(dict(plan), chosen), torch.device("cpu"),
            )  # fmt: skip
        trainer.start(run, None)
        try:
            return _median_of(lambda: trainer.train_step(next(trainer.dataloader_train)), report)
        finally:
            trainer.close()


def _median_of(iteration: Callable[[], Any], report: Report) -> float:
    # The first iterations choose the kernels of the convolutions, and take several times longer.
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < _MOST_MEASURED and (len(seconds) <= _WARM_UP or time.perf_counter() - begin < _MOST_SECONDS):
        report(0, 1, "Measuring how fast this computer trains")
        start = time.perf_counter()
        iteration()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[_WARM_UP:]))
