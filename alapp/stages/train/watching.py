"""What the user sees of a running training, and when it may be paused.

Imports torch; loaded by `alapp.stages.train.trainer`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alapp.domain import Report
from alapp.errors import Paused

_SHARE = 5


class TrainingDice:
    """Dice of the network's hard answers on the training windows of an epoch's last fifth.

    nnU-Net's pseudo-Dice (Isensee et al. 2021), mean over the foreground classes of 2 TP / (2 TP + FP + FN) over all
    pixels of several batches, but on the augmented windows that are trained on: it costs no pass of its own. It is
    read off the outputs of the training step itself, by a hook.
    """

    def __init__(self, network: nn.Module):
        self._output: torch.Tensor | None = None
        self._watching = False
        self._counts: torch.Tensor | None = None
        self._hook = network.register_forward_hook(self._keep)

    def start(self, iteration: int, iterations_per_epoch: int, iterations: int) -> None:
        """Before training step `iteration` (from 0) of `iterations`: it counts if it is among the last of its epoch."""
        first = iteration - iteration % iterations_per_epoch
        last = min(first + iterations_per_epoch, iterations)
        if iteration == first:
            self._counts = None
        self._watching = last - iteration <= max(1, (last - first) // _SHARE)

    def add(self, target: torch.Tensor | list[torch.Tensor]) -> None:
        """After each training step: compare what the network answered with `target`, classes (B, 1, ...), or a list
        of them of which the first has the full resolution. Classes the network does not have are ignored."""
        output, self._output = self._output, None
        if output is None:
            return
        classes = output.shape[1]
        truth = (target[0] if isinstance(target, list) else target)[:, 0].to(output.device).long()
        # `max` takes a tenth of the time of `argmax` over an axis that is not the last.
        answer = output.max(1).indices
        # A row of its own for what is ignored is cheaper than to pick out the rest.
        truth = torch.where((truth >= 0) & (truth < classes), truth, classes)
        pairs = torch.bincount((truth * classes + answer).flatten(), minlength=classes * (classes + 1))
        pairs = pairs.reshape(classes + 1, classes)[:classes].double()
        self._counts = pairs if self._counts is None else self._counts + pairs

    def value(self) -> float | None:
        """The Dice since the epoch's start, in [0, 1]; None when no foreground was there or answered."""
        if self._counts is None:
            return None
        hits = self._counts.diagonal()
        sizes = self._counts.sum(0) + self._counts.sum(1)
        present = sizes[1:] > 0
        return float((2 * hits[1:][present] / sizes[1:][present]).mean()) if present.any() else None

    def close(self) -> None:
        """Stop reading the network's outputs."""
        self._hook.remove()

    def _keep(self, _module: nn.Module, _inputs: Any, output: torch.Tensor | list[torch.Tensor]) -> None:
        if self._watching:
            self._output = (output[0] if isinstance(output, (list, tuple)) else output).detach()


class SafePoints:
    """A `Report` that lets a pause wait until the work is saved: `Paused` comes out of `safe` only."""

    def __init__(self, report: Report):
        self._report = report
        self._paused: Paused | None = None

    def __call__(self, done: float, total: float, message: str = "") -> None:
        """Tells progress; raises `Cancelled`, but not `Paused`."""
        try:
            self._report(done, total, message)
        except Paused as pause:
            self._paused = pause

    def safe(self, done: float, total: float, message: str = "") -> None:
        """Tells progress where all that was done is saved; raises what is due."""
        self._report(done, total, message)
        # The last report may have been too short ago to ask again.
        if self._paused is not None:
            raise self._paused
