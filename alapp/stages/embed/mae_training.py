"""Training of the masked autoencoder: goes on after a kill, and ends when held-out images gain nothing more."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alapp.domain import Report
from alapp.stages.embed.mae_network import Architecture, device, reconstruction_loss
from alapp.stages.train.workspace import write_atomic

if TYPE_CHECKING:
    import torch

LEARNING_RATE = 3e-3
WARM_RATE = 1e-3
"""Largest rate of a training from scratch, and of one that goes on from a trained network."""
BATCH = 32
CHECK_EVERY = 25
"""Iterations between looks at the held-out images; the state is saved at each."""
PATIENCE = 6
"""Looks in a row without a better loss that end the training."""
_LEAST_GAIN = 1e-3
_WARM_UP = 0.1
_HELD_SHARE = 0.1
_MOST_HELD = 128
_FEWEST_TO_HOLD_OUT = 20
# What torch.load and the networks raise for files that are cut short or not ours.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, EOFError, OSError)


class Training:
    """Trains `encoder` and `decoder` from the weights that they have; in the end they have the best ones.

    `images` are uint8 (S, C, H, W), larger than the encoder's input, to crop from; a tenth of them is held out, unless
    there are fewer than 20. Draws from torch's global generator. With `state`, a file, everything is saved there at
    each look at the held-out images, and a training with the same `signature` goes on from it as if it had never
    stopped; the file is the caller's to remove.
    """

    def __init__(
        self,
        encoder: torch.nn.Module,
        decoder: torch.nn.ModuleDict,
        images: Sequence[torch.Tensor],
        architecture: Architecture,
        steps: int,
        rate: float,
        state: Path | None = None,
        signature: Mapping[str, Any] | None = None,
    ):
        import torch

        self.networks = {"encoder": encoder, "decoder": decoder}
        self.architecture = architecture
        self.steps = steps
        self.state = state
        self.signature = dict(signature or {})
        n = len(images)
        n_held = min(_MOST_HELD, int(_HELD_SHARE * n)) if n >= _FEWEST_TO_HOLD_OUT else 0
        order = torch.randperm(n).tolist()
        self.held = [images[row] for row in order[:n_held]]
        self.images = [images[row] for row in order[n_held:]]
        self._optimiser, self._schedule = _optimiser(encoder, decoder, steps, rate)
        self.step = 0
        self.losses: list[float] = []
        """Loss on the held-out images at each look; with none held out, of the batches since the last one."""
        self._best: dict[str, dict[str, torch.Tensor]] = {}
        self._queue = torch.empty(0, dtype=torch.int64)

    def run(self, report: Report) -> None:
        """Train to the end. `report` may raise."""
        self._resume()
        recent: list[float] = []
        while self.step < self.steps and not self.gains_nothing:
            recent.append(self._iterate())
            self.step += 1
            if self.step % CHECK_EVERY == 0 or self.step == self.steps:
                self._look(sum(recent) / len(recent))
                recent.clear()
            shown = self.losses[-1] if self.losses else recent[-1]
            report(self.step, self.steps, f"Training the embeddings, loss {shown:.3f}")
        for name, network in self.networks.items():
            network.load_state_dict(self._best[name])

    @property
    def gains_nothing(self) -> bool:
        """Whether the last looks at held-out images brought nothing."""
        earlier, last = self.losses[:-PATIENCE], self.losses[-PATIENCE:]
        return bool(self.held and earlier) and min(earlier) - min(last) < _LEAST_GAIN

    def _iterate(self) -> float:
        import torch

        size = min(BATCH, max(8, len(self.images)))
        while len(self._queue) < size:
            self._queue = torch.cat([self._queue, torch.randperm(len(self.images))])
        rows, self._queue = self._queue[:size], self._queue[size:]
        batch = torch.stack([augment(self.images[row], self.architecture.side) for row in rows.tolist()])
        loss = self._loss(batch)
        self._optimiser.zero_grad()
        loss.backward()
        parameters = [value for group in self._optimiser.param_groups for value in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self._optimiser.step()
        self._schedule.step()
        return loss.item()

    def _loss(self, batch: torch.Tensor) -> torch.Tensor:
        return reconstruction_loss(*self.networks.values(), batch.to(device()) / 255, self.architecture)

    def _look(self, recent: float) -> None:
        """Keep the weights if they are the best so far, and save everything."""
        loss = self._held_loss() if self.held else recent
        if loss <= min(self.losses, default=math.inf) or not self.held:
            self._best = {
                name: {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
                for name, network in self.networks.items()
            }
        self.losses.append(loss)
        if self.state is not None:
            self._save(self.state)

    def _held_loss(self) -> float:
        """Mean loss on the middles of the held-out images, with the same tokens hidden each time."""
        import torch

        side = self.architecture.side
        margin = (self.held[0].shape[-1] - side) // 2
        middles = [image[len(image) // 2, :, margin : margin + side, margin : margin + side] for image in self.held]
        total = 0.0
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            for start in range(0, len(middles), BATCH):
                batch = torch.stack(middles[start : start + BATCH])
                total += self._loss(batch).item() * len(batch)
        return total / len(middles)

    def _save(self, path: Path) -> None:
        import torch

        content = io.BytesIO()
        torch.save(
            {
                "signature": self.signature,
                "step": self.step,
                "losses": self.losses,
                "best": self._best,
                "now": {name: network.state_dict() for name, network in self.networks.items()},
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict(),
                "queue": self._queue,
                "generator": torch.get_rng_state(),
            },
            content,
        )
        write_atomic(path, content.getvalue())

    def _resume(self) -> None:
        """Take up what a stopped training with this signature saved; anything else in the file counts for nothing."""
        if self.state is None or not self.state.exists():
            return
        import torch

        try:
            found = torch.load(self.state, map_location="cpu", weights_only=True)
            if found["signature"] != self.signature:
                return
            for name, network in self.networks.items():
                network.load_state_dict(found["now"][name])
            self._optimiser.load_state_dict(found["optimiser"])
            self._schedule.load_state_dict(found["schedule"])
            self.step, self.losses, self._best = found["step"], found["losses"], found["best"]
            self._queue = found["queue"]
            torch.set_rng_state(found["generator"])
        except _UNREADABLE:
            self.state.unlink(missing_ok=True)


def _optimiser(
    encoder: torch.nn.Module, decoder: torch.nn.ModuleDict, steps: int, rate: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW with warm-up and cosine decay, as in the paper's section A.1, but a rate for small batches."""
    import torch
    from lightly.models.utils import get_weight_decay_parameters

    decayed, others = get_weight_decay_parameters([encoder, decoder])
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))
    warm = max(1, round(_WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def augment(image: torch.Tensor, side: int) -> torch.Tensor:
    """A random slice of (S, C, H, W), cropped, flipped and turned: (C, side, side)."""
    import torch

    margin = image.shape[-1] - side
    plane, top, left, turns, flip = (
        int(torch.randint(high, ())) for high in (len(image), margin + 1, margin + 1, 4, 2)
    )
    crop = torch.rot90(image[plane, :, top : top + side, left : left + side], turns, (1, 2))
    return crop.flip(2) if flip else crop
