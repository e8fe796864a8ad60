"""micro_sam's own trainers on samples in memory: they report, can be cancelled, and write nothing to disk.

`micro_sam.training.train_sam` writes a checkpoint with the optimizer's state and the training images at the end of
every epoch, three times the weights, and logs pictures. Here the same trainer keeps the best state in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alapp.domain import Report
from alapp.environment import machine
from alapp.errors import BackendError
from alapp.stages.annotate.microsam import as_rgb

if TYPE_CHECKING:
    from alapp.stages.foundation.finetune_sam import Sample

CROP = 512
"""Larger images are cut to this many pixels a side around an object; SAM sees every crop at 1024."""
MIN_AREA = 25
"""Objects of fewer pixels are not trained on: no point can be placed in them with a safe distance to their border."""
LEARNING_RATE = 1e-5
CHECKS = 10
"""How often, at most, a training is judged on the way."""
MONITOR_SHARE = 5
"""One image in so many is left out of the training to judge it on the way."""
MONITOR_MOST = 8
OBJECTS = {"cpu": 5, "cuda": 10, "large": 25}
CORRECTIONS = {"cpu": 4, "cuda": 8}
"""Objects that are clicked on in a step, and clicks on each, of which every one but the first corrects: about as in
micro_sam's configurations for a small computer, a GPU, and one of more than 30 GB."""


@dataclass(frozen=True)
class State:
    """Tensors by name, on the CPU."""

    weights: dict[str, Any]
    decoder: dict[str, Any] | None


def train(sam: Any, decoder: Any, samples: Sequence[Sample], iterations: int, seed: int, report: Report) -> State:
    """Train `sam` (and a decoder with the state `decoder`, unless that is None) in place; the best state on the way.

    On a CPU only the part that answers clicks learns, and `State.decoder` is None: a step with the gradients of the
    image encoder takes more than 10 GB even with vit_t, one with those of the decoder half a minute. Since the encoder
    stays as it is, so does what the decoder makes of it. The GPU of a Mac, whose memory is the computer's, counts as a
    CPU, as everywhere in the app. Raises `BackendError` when the training diverges.
    """
    import random

    import torch
    from micro_sam.instance_segmentation import get_unetr
    from micro_sam.training.trainable_sam import TrainableSAM

    for seeded in (torch.manual_seed, np.random.seed, random.seed):  # micro_sam draws its clicks from all three
        seeded(seed)
    device = next(sam.parameters()).device
    light = device.type != "cuda"
    if light:
        freeze(sam.image_encoder)
    unetr = None if light or decoder is None else get_unetr(sam.image_encoder, decoder, device=device)
    trainer = _trainer(TrainableSAM(sam), unetr, *_loaders(samples, unetr is not None, iterations, seed), device)
    trainer.fit(iterations=iterations, progress=_Progress(report, iterations))
    if trainer.best is None:
        raise BackendError("The training did not converge, so nothing was kept. Annotate more, or train for shorter.")
    return trainer.best


def freeze(encoder: Any) -> None:
    """Keep an image encoder as it is: its weights, and the means and variances that vit_t's layers would update."""
    from torch.nn import Module

    encoder.requires_grad_(False)
    # The trainer switches everything to training again at every epoch.
    encoder.train = lambda mode=True: Module.train(encoder, False)
    encoder.eval()


def _loaders(samples: Sequence[Sample], with_decoder: bool, iterations: int, seed: int) -> tuple[Any, Any]:
    from torch.utils.data import DataLoader

    order = np.random.default_rng([seed, 2]).permutation(len(samples))
    left_out = len(samples) // MONITOR_SHARE
    monitor = [samples[row] for row in order[: left_out or len(samples)]][:MONITOR_MOST]
    learnt = [samples[row] for row in order[left_out:]]
    steps = max(-(-iterations // CHECKS), 1)
    crops = _Crops(learnt, steps, with_decoder, seed), _Crops(monitor, len(monitor), with_decoder, seed, same=True)
    return tuple(DataLoader(each, batch_size=1, shuffle=False, num_workers=0) for each in crops)


class _Crops:
    """A dataset of `length` crops: x float32 (3, Y, X) in 0..255, y float32 (1, Y, X) instances, or with a decoder
    (4, Y, X) instances, foreground, and distances to centre and border of the object in 0..1.

    Every crop has an object. Crops differ from epoch to epoch, unless they are to be the `same`.
    """

    def __init__(self, samples: Sequence[Sample], length: int, with_decoder: bool, seed: int, same: bool = False):
        self._samples, self._length, self._with_decoder, self._seed, self._same = (
            samples, length, with_decoder, seed, same,
        )  # fmt: skip
        self._drawn = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index >= self._length:
            raise IndexError(index)
        number = index if self._same else self._drawn
        self._drawn += 1
        rng = np.random.default_rng([self._seed, 3 + self._same, number])
        sample = self._samples[number % len(self._samples)]
        labels = np.where(np.isin(sample.labels, sample.ids), sample.labels, 0)
        window = _window(labels, rng)
        pixels = as_rgb(sample.image)  # of the whole image, as for clicks
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
        pixels, labels = _turned(pixels[window], _without_slivers(labels[window]), rng)
        return pixels.transpose(2, 0, 1).astype(np.float32), targets(labels, self._with_decoder)


def _window(labels: np.ndarray, rng: np.random.Generator) -> tuple[slice, ...]:
    """A random window of at most `CROP` pixels a side, with a random pixel of an object in it."""
    inside = np.argwhere(labels)
    around = inside[rng.integers(len(inside))]
    starts = [
        int(np.clip(centre - rng.integers(CROP), 0, max(side - CROP, 0)))
        for centre, side in zip(around, labels.shape, strict=True)
    ]
    return tuple(slice(start, start + CROP) for start in starts)


def _without_slivers(labels: np.ndarray) -> np.ndarray:
    """Without what the window left of objects outside, unless nothing else is there."""
    areas = np.bincount(labels.ravel())
    kept = np.where(areas[labels] >= MIN_AREA, labels, 0)
    return kept if kept.any() else labels


def _turned(pixels: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    pixels, labels = np.rot90(pixels, turns), np.rot90(labels, turns)
    return (pixels[:, ::-1], labels[:, ::-1]) if flip else (pixels, labels)


def targets(labels: np.ndarray, with_decoder: bool) -> np.ndarray:
    """What micro_sam learns from: float32 (1, Y, X) or (4, Y, X) for int labels (Y, X); see `_Crops`."""
    from skimage.segmentation import relabel_sequential
    from torch_em.transform.label import PerObjectDistanceTransform

    labels = np.ascontiguousarray(relabel_sequential(labels)[0]).astype(np.uint32)
    if not with_decoder:
        return labels[None].astype(np.float32)
    return PerObjectDistanceTransform(instances=True, apply_label=False)(labels).astype(np.float32)


class _Progress:
    """The progress bar that torch_em fills, as a `Report`."""

    def __init__(self, report: Report, total: int):
        self._report, self._done, self.total = report, 0, total

    def update(self, steps: int) -> None:
        self._done += steps
        self._report(self._done, self.total, f"Training: step {self._done} of {self.total}")

    def set_description(self, text: str, **_: Any) -> None:
        self._report(self._done, self.total, "Training: judged on labels left out of it" if self._done else "Training")


def _trainer(model: Any, unetr: Any, train_loader: Any, monitor: Any, device: Any) -> Any:
    """micro_sam's trainer, with a decoder or without, that keeps its best state in `best`."""
    import torch
    import torch_em
    from micro_sam.training.joint_sam_trainer import JointSamTrainer
    from micro_sam.training.sam_trainer import SamTrainer
    from micro_sam.training.util import ConvertToSamInputs

    class InMemory(SamTrainer if unetr is None else JointSamTrainer):
        best: State | None = None

        def _initialize(self, *arguments: Any, **options: Any) -> float:
            """Without the folder and the description of the run that a checkpoint would need."""
            self._is_initialized, self.logger = True, None
            return super()._initialize(*arguments, **options)

        def save_checkpoint(self, name: str, *_: Any, **__: Any) -> None:
            if name != "best":
                return
            weights = {key: value.detach().cpu().clone() for key, value in model.sam.state_dict().items()}
            parts = {} if unetr is None else unetr.state_dict()
            decoder = {k: v.detach().cpu().clone() for k, v in parts.items() if not k.startswith("encoder")}
            self.best = State(weights, decoder or None)

    parts = [*model.parameters()]
    decoder: dict[str, Any] = {}
    if unetr is not None:
        parts += [value for name, value in unetr.named_parameters() if not name.startswith("encoder")]
        loss = torch_em.loss.DiceBasedDistanceLoss(mask_distances_in_bg=True)
        decoder = {"unetr": unetr, "instance_loss": loss, "instance_metric": loss}
    optimizer = torch.optim.AdamW([value for value in parts if value.requires_grad], lr=LEARNING_RATE)
    kind = "cuda" if device.type == "cuda" else "cpu"
    return InMemory(
        name="finetune",
        train_loader=train_loader,
        val_loader=monitor,
        model=model,
        optimizer=optimizer,
        device=device,
        lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.9, patience=3),
        logger=None,
        mixed_precision=kind == "cuda",  # on a CPU it is slower
        convert_inputs=ConvertToSamInputs(transform=model.transform, box_distortion_factor=0.025),
        n_objects_per_batch=OBJECTS["large" if (machine().gpu_gb or 0) > 30 else kind],
        n_sub_iteration=CORRECTIONS[kind],
        compile_model=False,
        mask_prob=0.5,
        **decoder,
    )
