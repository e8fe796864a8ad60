"""Features of the project's own segmentation network: what nnU-Net's deepest encoder stage sees in a patch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from alapp.domain import BackendState, Box, Report, Status, silent
from alapp.environment import prepare
from alapp.errors import CorruptFileError, InputError, NotReadyError
from alapp.stages.embed import preprocess
from alapp.stages.embed.base import PatchSource

if TYPE_CHECKING:
    import torch

    from alapp.stages.train.predict import ObjectPredictor

_BATCH = 8
_MEASURED_PATCHES = 256
_UNREADABLE = (OSError, ValueError, KeyError, EOFError)


@dataclass(frozen=True)
class TrainedNetwork:
    """Files of a trained network: the `workspace` it was planned in, and its `checkpoint`."""

    workspace: Path
    checkpoint: Path


class NetworkFeatures:
    """Global average over the deepest stage of a trained nnU-Net's encoder, before and after its last normalisation.

    Instance normalisation gives every channel the same mean in every window, so that afterwards only the shape of a
    channel's distribution is left of it: the mean before it is kept as well. Each number is taken relative to its mean
    and spread over the patches that `fit` saw. A patch is normalised and resampled as training patches are, and read
    in windows no larger than those in training; a network in 2D reads at most 8 slices of a 3D patch, evenly spaced.
    The vector is the mean over windows and slices. `seed` draws the patches that `fit` measures.
    """

    title: ClassVar[str] = "This project's network"
    suits: ClassVar[str] = (
        "After the first training: what the network learned to look for; follows it from round to round."
    )
    trains: ClassVar[bool] = False

    def __init__(self, seed: int = 0, network: TrainedNetwork | None = None):
        self.seed = seed
        self.network = network
        self._predictor: ObjectPredictor | None = None
        self._centre: np.ndarray | None = None
        self._spread: np.ndarray | None = None

    @classmethod
    def status(cls) -> Status:
        """Ready on every machine; whether a project has a trained network, `rounds.select.embedding` knows."""
        return Status(BackendState.READY, "Uses the network that the project trained.")

    def fit(self, patches: PatchSource, report: Report, state: Path | None = None) -> None:
        """Measure mean and spread of every feature on at most 256 of the patches. Nothing is trained.

        Raises `InputError` without patches, and what `embed` raises.
        """
        if len(patches) == 0:
            raise InputError("There are no patches to measure the network's features on. Import images first.")
        rows = np.random.default_rng(self.seed).permutation(len(patches))[:_MEASURED_PATCHES]
        found = self._features(_Chosen(patches, np.sort(rows)), report)
        self._centre = found.mean(axis=0)
        spread = found.std(axis=0)
        self._spread = np.where(spread > 1e-6, spread, np.inf)  # what never differs says nothing

    def embed(self, patches: PatchSource, report: Report) -> np.ndarray:
        """float32 (N, D), rows L2-normalised.

        Raises `NotReadyError` without a trained network or before `fit` or `load`, `InputError` when the network was
        trained on other channels or dimensions, `CorruptFileError` when its file cannot be read.
        """
        if self._centre is None or self._spread is None:
            raise NotReadyError("The network's features are not measured yet. Select a batch again.")
        return preprocess.unit_rows((self._features(patches, report) - self._centre) / self._spread)

    def save(self, path: Path) -> None:
        """Write what `fit` measured; the weights stay in the network's own file."""
        if self._centre is None or self._spread is None:
            raise NotReadyError("The network's features are not measured yet: there is nothing to save.")
        with open(path, "wb") as handle:
            np.savez(handle, centre=self._centre, spread=self._spread)

    def load(self, path: Path) -> None:
        """Read what `save` wrote. Raises `InputError` for any other file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                centre, spread = stored["centre"], stored["spread"]
        except FileNotFoundError as error:
            raise InputError(f"There is no file {path}. Compute the embeddings again.") from error
        except _UNREADABLE as error:
            raise InputError(f"{path.name} does not hold features of a network. Choose another file.") from error
        self._centre, self._spread = centre, spread

    def _loaded(self) -> ObjectPredictor:
        if self._predictor is None:
            if self.network is None or not self.network.checkpoint.exists():
                raise NotReadyError("No network is trained yet, so it cannot compare patches. Train a round first.")
            prepare()
            from alapp.stages.train.checkpoints import read_checkpoint
            from alapp.stages.train.nnunet import choose_device
            from alapp.stages.train.predict import ObjectPredictor
            from alapp.stages.train.workspace import Layout

            content = read_checkpoint(self.network.checkpoint)
            if content is None:
                raise CorruptFileError(f"The model {self.network.checkpoint} is damaged: train again.")
            plan = Layout(self.network.workspace).read_plan()
            self._predictor = ObjectPredictor(plan, content, choose_device(None), mirroring=False)
            self._predictor.network.eval().to(self._predictor.device)
        return self._predictor

    def _features(self, patches: PatchSource, report: Report) -> np.ndarray:
        """float64 (N, 2 * channels of the deepest stage): means over windows."""
        predictor = self._loaded()
        width = predictor.configuration_manager.network_arch_init_kwargs["features_per_stage"][-1]
        sums, counts = np.zeros((len(patches), 2 * width)), np.zeros(len(patches))
        for owners, windows in _batches(_all_windows(predictor, patches, report)):
            np.add.at(sums, owners, _averages(predictor, windows))
            np.add.at(counts, owners, 1)
        report(len(patches), len(patches), "Embedding patches")
        return sums / np.maximum(counts, 1)[:, None]


class _Chosen:
    """Some of the patches, read one at a time."""

    def __init__(self, patches: PatchSource, rows: np.ndarray):
        self.patches, self.rows = patches, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.patches[int(self.rows[index])]


def _all_windows(
    predictor: ObjectPredictor, patches: PatchSource, report: Report
) -> Iterator[tuple[int, torch.Tensor]]:
    """(row of the patch, what the network reads (C, Y, X) or (C, Z, Y, X)) of every window of every patch."""
    from alapp.stages.train.cases import check_shape

    for row in range(len(patches)):
        report(row, len(patches), "Embedding patches")
        patch = np.asarray(patches[row])
        check_shape(predictor.plan, patch, "Comparing patches")
        for window in _windows(predictor, patch if patch.ndim == 4 else patch[None]):
            yield row, window


def _windows(predictor: ObjectPredictor, stack: np.ndarray) -> Iterator[torch.Tensor]:
    """Windows over a patch (Z, Y, X, C) that together cover it; zeros (the mean) where it ends before one does."""
    import torch
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    sizes = tuple(predictor.configuration_manager.patch_size)
    strides = np.prod(
        [np.broadcast_to(s, len(sizes)) for s in predictor.configuration_manager.network_arch_init_kwargs["strides"]],
        axis=0,
    )
    view = predictor.view(stack, silent)
    shape = view.shape[-len(sizes) :]
    # Two cells of the deepest stage at least: a mean and a spread need more than one number.
    sides = tuple(
        min(size, max(-(-n // step), 1 if step == 1 else 2) * step)
        for size, n, step in zip(sizes, shape, strides.tolist(), strict=True)
    )
    padded = [max(n, side) for n, side in zip(shape, sides, strict=True)]
    corners = list(itertools.product(*compute_steps_for_sliding_window(tuple(padded), sides, 1.0)))
    flat = len(sizes) == 2
    for z in preprocess.evenly(view.shape[0]) if flat else [None]:
        box = Box(0, 0, 0, *view.shape) if z is None else Box(int(z), 0, 0, 1, *shape)
        data = view.read(box)[:, 0] if flat else view.read(box)
        data = np.pad(data, [(0, 0), *((0, p - n) for p, n in zip(padded, shape, strict=True))])
        for corner in corners:
            where = tuple(slice(a, a + side) for a, side in zip(corner, sides, strict=True))
            yield torch.from_numpy(np.ascontiguousarray(data[(slice(None), *where)]))


def _batches(windows: Iterator[tuple[int, torch.Tensor]]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Windows of one shape that follow each other, at most `_BATCH` at once, and the rows they belong to."""
    import torch

    for _, group in itertools.groupby(windows, key=lambda item: item[1].shape):
        while chunk := list(itertools.islice(group, _BATCH)):
            yield [row for row, _ in chunk], torch.stack([window for _, window in chunk])


def _averages(predictor: ObjectPredictor, windows: torch.Tensor) -> np.ndarray:
    """float64 (N, 2 * channels): averages over space of the deepest stage, before its last normalisation and after."""
    import torch

    stage = predictor.network.encoder.stages[-1]
    norms = [module for module in stage.modules() if isinstance(module, torch.nn.modules.batchnorm._NormBase)]
    seen: list[torch.Tensor] = []
    hook = norms[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        with torch.inference_mode():
            deepest = predictor.network.encoder(windows.to(predictor.device))[-1]
    finally:
        hook.remove()
    parts = [values.flatten(2).double().mean(-1).cpu().numpy() for values in (seen[0], deepest)]
    return np.concatenate(parts, axis=1)
