"""nnU-Net's trainer for short, resumable runs inside an app.

Imports torch and nnunetv2; loaded by `alapp.stages.train.nnunet` once the environment is prepared.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.optim.swa_utils import AveragedModel

from alapp.disk import patiently
from alapp.domain import Report
from alapp.errors import BackendError
from alapp.stages.train.base import EpochLog
from alapp.stages.train.checkpoints import FINAL, LATEST, PREVIOUS, dump, load_latest, load_weights
from alapp.stages.train.contacts import ContactLoss
from alapp.stages.train.loading import Batches
from alapp.stages.train.pasting import PastingCases
from alapp.stages.train.reduction import check_disk
from alapp.stages.train.sampling import PatchLoader
from alapp.stages.train.watching import SafePoints, TrainingDice
from alapp.stages.train.workspace import seed_everything, write_atomic

_log = logging.getLogger(__name__)
_REPORT_EVERY = 10
_WARM_UP_SHARE, _WARM_UP_MOST = 0.1, 50
AVERAGE_DECAY = 0.99
"""Of the weights that predict: a moving average over about the last 100 iterations. After a schedule that ends at 0
it scores like the last weights (F1 on 16 patches of EM .67 and .67 in one run, .72 and .71 in another), but does not
depend on the step at which a short training ends."""
_UNREADABLE = "The checkpoints of this training are damaged, or belong to another one: it starts from the beginning."


@dataclass(frozen=True)
class Run:
    """One training run: what `ObjectTrainer` needs beside nnU-Net's plan.

    `identifiers` are preprocessed cases, `weights` how often each is drawn (None: all alike); the learning
    rate falls from `learning_rate` to 0 in `iterations`. `mirror_axes` are the axes of a window that may be mirrored
    in training and at prediction (None: all). `pasting`: objects are pasted into other cases while they are few.
    `contacts`: the width of borders along ((z,) y, x) in pixels of the network, where those between objects that touch
    are to count more (`contacts.ContactLoss`).
    """

    out: Path
    identifiers: Sequence[str]
    weights: Sequence[float] | None
    iterations: int
    iterations_per_epoch: int
    seed: int
    optimizer: str
    learning_rate: float
    report: Report
    log: Callable[[EpochLog], None]
    threads: int = 0
    signature: Mapping[str, Any] = field(default_factory=dict)
    mirror_axes: Sequence[int] | None = None
    pasting: bool = False
    contacts: Sequence[float] | None = None


def moving_average(average: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor) -> None:
    """In place, `average` of `current` weights with `AVERAGE_DECAY`; shorter at the start (Tarvainen & Valpola 2017,
    Mean teachers are better role models), so that the first weights do not linger."""
    count = float(steps)
    torch._foreach_lerp_(average, current, 1.0 - min(AVERAGE_DECAY, (1.0 + count) / (10.0 + count)))


def learning_rate(run: Run, iteration: int) -> float:
    """Rate of an iteration (from 0): nnU-Net's polynomial decay, (1 - t)^0.9.

    With AdamW every iteration has its own rate, and the first ones warm up linearly; with SGD it changes once
    an epoch and there is no warm-up, as in nnU-Net.
    """
    if run.optimizer == "sgd":
        iteration -= iteration % run.iterations_per_epoch
        return run.learning_rate * (1 - iteration / run.iterations) ** 0.9
    warm_up = max(1, min(_WARM_UP_MOST, round(_WARM_UP_SHARE * run.iterations)))
    return run.learning_rate * min(1.0, (iteration + 1) / warm_up) * (1 - iteration / run.iterations) ** 0.9


class ObjectTrainer(nnUNetTrainer):
    """nnU-Net's network, loss, augmentation and training step, in a loop that can be stopped at any moment.

    Differences: no validation pass (the app scores whole patches), checkpoints written atomically at each
    epoch's end, randomness seeded per epoch so that a resumed run equals an uninterrupted one, AdamW for short
    runs, a moving average of the weights for predictions, no child processes. Construct it as nnU-Net's (plans,
    configuration, fold, dataset_json, device), then call `train_run`.
    """

    run: Run | None = None

    def train_run(self, run: Run, start_from: Mapping[str, Any] | None) -> float:
        """Trains to the end of `run`, from its last checkpoint if there is one. Returns the seconds it took.

        `start_from` are network weights (a state dict), used when there is no checkpoint yet.
        """
        self.start(run, start_from)
        try:
            # Not in `start`: a run that only measures time writes no checkpoint.
            check_disk(run.out, sum(weights.numel() for weights in self.network.parameters()))
            for epoch in range(self.current_epoch, self.num_epochs):
                self._train_epoch(epoch)
        finally:
            self.close()
        seconds = self._elapsed()
        self._write_final(seconds)
        return seconds

    def close(self) -> None:
        """End what `start` began: the threads that make batches, and reading the network's answers."""
        self.dataloader_train.close()
        self._dice.close()

    def start(self, run: Run, start_from: Mapping[str, Any] | None) -> None:
        """Everything that comes before the first iteration; see `train_run`."""
        self.run = run
        self.output_folder = str(run.out)
        self.log_file = str(run.out / "training_log.txt")
        seed_everything(run.seed, 0)
        self.initialize()
        if run.contacts is not None:
            # Inside of what applies it to every resolution.
            window = self.configuration_manager.patch_size
            self.loss.loss = ContactLoss(self.loss.loss, run.contacts, window, self.label_manager.ignore_label)
        self.set_deep_supervision_enabled(True)
        self.num_epochs = math.ceil(run.iterations / run.iterations_per_epoch)
        self._seconds_before = 0.0
        found = [name for name in (LATEST, PREVIOUS) if (run.out / name).exists()]
        resumed = load_latest(run.out, run.signature)
        if found and resumed is None:
            self.print_to_log_file(_UNREADABLE)
            _log.warning(_UNREADABLE)
        if resumed is None and start_from is not None:
            load_weights(self.network, start_from)
        self._average = AveragedModel(self.network, multi_avg_fn=moving_average)
        if resumed is not None:
            self._restore(resumed)
            self.print_to_log_file(f"goes on after epoch {self.current_epoch - 1}")
        self._started = time.monotonic()
        self.dataloader_train = self.get_dataloaders()
        # After the average, which copies the network: the copy must not count.
        self._report, self._dice = SafePoints(run.report), TrainingDice(self.network)

    def _elapsed(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _train_epoch(self, epoch: int) -> None:
        run = self.run
        seed_everything(run.seed, 1 + epoch)
        self.network.train()
        first = epoch * run.iterations_per_epoch
        last = min(first + run.iterations_per_epoch, run.iterations)
        losses = [self.iterate(iteration) for iteration in range(first, last)]
        loss = float(np.mean(losses))
        if not math.isfinite(loss):
            raise BackendError(
                f"The training loss became {loss} at iteration {last}, so the network learned nothing useful. "
                "Under “For experts” on the Train tab, fill in a lower “Learning rate” and press “Make the plan anew”: "
                "the network then starts from the beginning."
            )
        self.current_epoch = epoch + 1
        rate, dice = self.optimizer.param_groups[0]["lr"], self._dice.value()
        self._write_latest()
        self.print_to_log_file(f"epoch {epoch}: iteration {last}, loss {loss:.4f}, learning rate {rate:.2e}")
        run.log(EpochLog(epoch, last, loss, rate, self._elapsed(), dice))
        self._report.safe(last, run.iterations, f"Training: iteration {last} of {run.iterations}, loss {loss:.3f}")

    def iterate(self, iteration: int) -> float:
        """One step on the next batch; returns its loss."""
        run = self.run
        if iteration % _REPORT_EVERY == 0:
            self._report(iteration, run.iterations, f"Training: iteration {iteration} of {run.iterations}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(run, iteration)
        self._dice.start(iteration, run.iterations_per_epoch, run.iterations)
        batch = next(self.dataloader_train)
        loss = float(self.train_step(batch)["loss"])
        self._dice.add(batch["target"])
        self._average.update_parameters(self.network)
        return loss

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, None]:
        """SGD as nnU-Net configures it, or AdamW, which learns much faster within a few hundred iterations."""
        if self.run.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                self.network.parameters(), self.run.learning_rate, momentum=0.99, nesterov=True,
                weight_decay=self.weight_decay,
            )  # fmt: skip
        else:
            optimizer = torch.optim.AdamW(
                self.network.parameters(), self.run.learning_rate, weight_decay=1e-2, fused=True
            )
        return optimizer, None

    def _do_i_compile(self) -> bool:
        return False

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802
        """nnU-Net's choice, but only the run's axes are mirrored."""
        rotation, dummy_2d, initial_patch, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.run.mirror_axes is not None:
            axes = self.inference_allowed_mirroring_axes = tuple(self.run.mirror_axes)
        return rotation, dummy_2d, initial_patch, axes

    def get_dataloaders(self) -> Batches:
        """Augmented training batches, drawn with the run's weights, objects pasted in where there are few."""
        configuration = self.configuration_manager
        rotation, dummy_2d, initial_patch, mirror_axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        transforms = self.get_training_transforms(
            configuration.patch_size, rotation, self._get_deep_supervision_scales(), mirror_axes, dummy_2d,
            use_mask_for_norm=configuration.use_mask_for_norm, is_cascaded=False,
            foreground_labels=self.label_manager.foreground_labels, regions=None,
            ignore_label=self.label_manager.ignore_label,
        )  # fmt: skip
        dataset = nnUNetDatasetBlosc2(self.preprocessed_dataset_folder, list(self.run.identifiers))
        cases = dataset
        if self.run.pasting:
            cases = PastingCases(dataset, self.label_manager.ignore_label, self.run.weights)
        loader = PatchLoader(
            cases, self.batch_size, initial_patch, configuration.patch_size, self.label_manager,
            oversample_foreground_percent=self.oversample_foreground_percent,
            sampling_probabilities=self.run.weights, transforms=transforms,
        )  # fmt: skip
        return Batches(loader, self.run.threads)

    def print_to_log_file(self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """Into the run's log file only; what nnU-Net says while it is constructed is not kept."""
        if self.run is None:
            return
        stamp = time.strftime("%Y-%m-%d %H:%M:%S ") if add_timestamp else ""
        with open(self.log_file, "a", encoding="utf-8") as handle:
            handle.write(stamp + " ".join(str(argument) for argument in args) + "\n")

    def network_state(self) -> dict[str, Any]:
        """What predicts and what the next round goes on from: the averaged weights."""
        return {
            "network_weights": self._average.module.state_dict(),
            "configuration": self.configuration_name,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            "signature": dict(self.run.signature),
        }

    def _write_latest(self) -> None:
        out = self.run.out
        content = dump(
            {
                **self.network_state(),
                "moving_weights": self.network.state_dict(),
                "averaged_steps": int(self._average.n_averaged),
                "optimizer_state": self.optimizer.state_dict(),
                "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
                "current_epoch": self.current_epoch,
                "seconds": self._elapsed(),
            }
        )
        if (out / LATEST).exists():
            patiently(os.replace, out / LATEST, out / PREVIOUS)
        write_atomic(out / LATEST, content)

    def _restore(self, checkpoint: Mapping[str, Any]) -> None:
        # An unfinished run of a version that did not average goes on from its weights.
        self.network.load_state_dict(checkpoint.get("moving_weights", checkpoint["network_weights"]))
        self._average.module.load_state_dict(checkpoint["network_weights"])
        self._average.n_averaged.fill_(checkpoint.get("averaged_steps", 0))
        self.optimizer.load_state_dict(checkpoint["optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self.current_epoch = checkpoint["current_epoch"]
        self._seconds_before = checkpoint["seconds"]

    def _write_final(self, seconds: float) -> None:
        """The finished run: without the optimiser's state, a third of the size."""
        out = self.run.out
        write_atomic(out / FINAL, dump({**self.network_state(), "iterations": self.run.iterations, "seconds": seconds}))
        for name in (LATEST, PREVIOUS):
            (out / name).unlink(missing_ok=True)
