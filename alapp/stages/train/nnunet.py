"""nnU-Net v2 behind the `Trainer` protocol.

torch and nnunetv2 are imported when a method first needs them, after `alapp.environment.prepare`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alapp.domain import Box, Machine, Preset, Report, part
from alapp.environment import prepare, usable_cores
from alapp.errors import CorruptFileError, InputError, NotReadyError, OutOfMemoryError
from alapp.stages.train import plan_fit
from alapp.stages.train.base import Case, EpochLog, ImageSource, Overrides, PlanSummary, PredictBox, TrainResult
from alapp.stages.train.cases import check_shape, dataset_of, prepare_cases
from alapp.stages.train.crowding import crowding
from alapp.stages.train.plan import border_widths, make_plan
from alapp.stages.train.plan_time import Timing, seconds_per_iteration
from alapp.stages.train.reduction import difference, reduced, release_memory
from alapp.stages.train.workspace import Layout, nnunet_environment, own_randomness, quiet, remove_unfinished, resources

if TYPE_CHECKING:
    from alapp.stages.train.predict import ObjectPredictor

_FINE_TUNING_RATE = 1 / 3
_SMALLER = "make the plan anew with fewer “Windows a batch” or a smaller “Window”, under “For experts” on the Train tab"
_log = logging.getLogger(__name__)


class NnUNet:
    """nnU-Net v2 on border-core classes. Implements `alapp.stages.train.base.Trainer`.

    `device` is "cpu" or "cuda"; by default the GPU where there is one. `mirroring` averages predictions over flips: 4
    times slower in 2D, -0.03 to +0.06 F1 in single runs on EM with 16 patches, 0.02 on average. `timing` tells the plan
    how fast the computer is, None that it should not ask. `overlap` is the part of a window, 0 to below 1, that the
    next one sees again; without any, for a rough look at many images, predictions were 2.8 times as fast on nuclei. A
    workspace belongs to one project and one preset.
    """

    title = "nnU-Net"
    suits = "Any microscopy image; configures itself from the images and the sizes of the objects."

    def __init__(
        self,
        device: str | None = None,
        mirroring: bool = True,
        timing: Timing | None = seconds_per_iteration,
        overlap: float = 0.5,
    ):
        self._device = device
        self._timing = timing
        self._mirroring = mirroring
        self._overlap = overlap
        self._lock = threading.Lock()
        self._cached: tuple[tuple[object, ...], ObjectPredictor] | None = None

    def plan(
        self,
        workspace: Path,
        cases: Sequence[Case],
        preset: Preset,
        machine: Machine,
        report: Report,
        overrides: Overrides | None = None,
    ) -> PlanSummary:
        """See `Trainer.plan`. A workspace that is planned already returns its plan."""
        prepare()
        with resources(workspace, "configuring nnU-Net"):
            return make_plan(Layout(workspace), cases, preset, machine, report, overrides, self._timing)

    def plan_suits(self, workspace: Path, cases: Sequence[Case], machine: Machine) -> bool | None:
        """See `Trainer.plan_suits`."""
        return plan_fit.suits(Layout(workspace), cases, machine)

    def same_spacing(self, workspace: Path, cases: Sequence[Case]) -> bool:
        """See `Trainer.same_spacing`."""
        return plan_fit.same_spacing(Layout(workspace), cases)

    def same_network(self, workspace: Path, other: Path) -> bool:
        """See `Trainer.same_network`."""
        return plan_fit.same_network(Layout(workspace), Layout(other))

    def train(
        self,
        workspace: Path,
        cases: Sequence[Case],
        out: Path,
        iterations: int,
        seed: int,
        start_from: Path | None,
        report: Report,
        log: Callable[[EpochLog], None],
        options: Mapping[str, Any] | None = None,
    ) -> TrainResult:
        """See `Trainer.train`. Deterministic on a CPU for the same cases, seed and number of threads.

        `options`: "weights" {case key: how often it is drawn, relative to 1 of the others}, "learning_rate"
        (by default the plan's, a third of it with `start_from`), "threads" that make batches ahead (default:
        none on a CPU), "reduction" (see `alapp.stages.train.reduction`).
        """
        prepare()
        with resources(workspace, "training", _SMALLER), own_randomness():
            return _train(
                Layout(workspace), cases, out, iterations, seed, start_from, report, log, dict(options or {}),
                self._device,
            )  # fmt: skip

    def reduction(self, workspace: Path, number: int) -> str | None:
        """See `Trainer.reduction`."""
        return difference(Layout(workspace).read_plan(), number)

    def predict(self, workspace: Path, checkpoint: Path, image: np.ndarray, report: Report) -> np.ndarray:
        """See `Trainer.predict`. The network stays in memory for the next call with the same checkpoint.

        One prediction at a time: threads that share this object wait for each other. When memory runs out, it looks
        at fewer windows at once, and then leaves the GPU for good.
        """
        return self._probabilities(workspace, checkpoint, image, report, self._mirroring)

    def mirrored(self, workspace: Path, checkpoint: Path, image: np.ndarray, report: Report) -> Iterator[np.ndarray]:
        """See `Trainer.mirrored`. Four copies, mirrored along y, x and both; only the image itself where the network
        never saw mirrored images."""
        y, x = image.ndim - 3, image.ndim - 2
        flips = ((), (y,), (x,), (y, x))
        for number, axes in enumerate(flips):
            here = part(report, number / len(flips), (number + 1) / len(flips))
            flipped = np.ascontiguousarray(np.flip(image, axes))
            found = self._probabilities(workspace, checkpoint, flipped, here, mirroring=False)
            yield np.flip(found, [axis + 1 for axis in axes])
            if not self._knows_mirrors():
                return

    def _knows_mirrors(self) -> bool:
        """Whether the network that predicted last was trained on images mirrored along y and x."""
        if self._cached is None:
            return False
        predictor = self._cached[1]
        sides = len(predictor.configuration_manager.patch_size)
        return {sides - 2, sides - 1} <= set(predictor.allowed_mirroring_axes or ())

    def _probabilities(
        self, workspace: Path, checkpoint: Path, image: np.ndarray, report: Report, mirroring: bool
    ) -> np.ndarray:
        def work() -> np.ndarray:
            predictor = self._predictor(Layout(workspace), checkpoint)
            check_shape(predictor.plan, image, "Prediction")
            predictor.use_mirroring = mirroring
            return predictor.probabilities(image, report)

        prepare()
        with self._lock:
            return self._within_memory(workspace, work)

    def _within_memory(self, workspace: Path, work: Callable[[], np.ndarray]) -> np.ndarray:
        """What `work` predicts, tried with less at once whenever memory runs out; it asks for the predictor anew each
        time."""
        while True:
            try:
                with resources(workspace, "predicting"):
                    return work()
            except OutOfMemoryError as error:
                if not self._use_less_memory():
                    raise
                _log.warning("%s It is tried again with less at once.", error)
            # Outside of the handler: an exception that is handled keeps what its frames hold.
            release_memory()

    def _use_less_memory(self) -> bool:
        """Whether there is a way left to predict with less memory; it is taken then."""
        predictor = self._cached[1] if self._cached else None
        if predictor is not None and predictor.tiles_at_once > 1:
            predictor.tiles_at_once //= 2
            return True
        if choose_device(self._device).type == "cpu":
            return False
        self._device, self._cached = "cpu", None
        return True

    @contextmanager
    def blocks(
        self, workspace: Path, checkpoint: Path, image: ImageSource, is_3d: bool, report: Report
    ) -> Iterator[PredictBox]:
        """See `Trainer.blocks`. Other predictions by this object wait until the context is left. When memory runs out,
        it does as `predict`."""
        prepare()
        with self._lock, resources(workspace, "predicting"):
            predictor = self._predictor(Layout(workspace), checkpoint)
            corner = image[0:1, 0:1, 0:1]
            check_shape(predictor.plan, corner if is_3d else corner[0], "Prediction")
            view = predictor.view(image, report)
            del predictor  # it would stay on a GPU that is left

            def region(box: Box, told: Report) -> np.ndarray:
                # Read anew only where a GPU was left: the file may have been removed since.
                predictor = self._cached[1] if self._cached else self._predictor(Layout(workspace), checkpoint)
                predictor.use_mirroring = self._mirroring
                return predictor.region(view, box, told)

            yield lambda box, told: self._within_memory(workspace, lambda: region(box, told))

    def _predictor(self, layout: Layout, checkpoint: Path) -> ObjectPredictor:
        from alapp.stages.train.predict import ObjectPredictor

        if not checkpoint.exists():
            raise NotReadyError(f"The model {checkpoint} does not exist (any more): train again, or choose another.")
        state = checkpoint.stat()
        key = (layout.root, checkpoint, state.st_mtime_ns, state.st_size, self._mirroring)
        if self._cached is None or self._cached[0] != key:
            self._cached = None
            predictor = ObjectPredictor(
                layout.read_plan(), _readable(checkpoint), choose_device(self._device), self._mirroring, self._overlap
            )
            self._cached = (key, predictor)
        return self._cached[1]


def choose_device(wanted: str | None) -> Any:
    """The torch device to work on."""
    import torch

    return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))


def _readable(checkpoint: Path) -> dict[str, Any]:
    from alapp.stages.train.checkpoints import read_checkpoint

    content = read_checkpoint(checkpoint)
    if content is None:
        raise CorruptFileError(f"The model {checkpoint} is damaged or missing: train again, or choose another one.")
    return content


def _train(
    layout: Layout,
    cases: Sequence[Case],
    out: Path,
    iterations: int,
    seed: int,
    start_from: Path | None,
    report: Report,
    log: Callable[[EpochLog], None],
    options: dict[str, Any],
    device_name: str | None,
) -> TrainResult:
    import torch

    from alapp.stages.train.checkpoints import FINAL, read_checkpoint
    from alapp.stages.train.trainer import ObjectTrainer, Run

    if not cases:
        raise NotReadyError("There is no labelled patch to train on: label some first.")
    if iterations < 1:
        raise InputError(f"Training needs at least 1 iteration, not {iterations}.")
    plan = layout.read_plan()
    cases = sorted(cases, key=lambda case: case.key)
    rate = options.get("learning_rate") or plan["learning_rate"] * (_FINE_TUNING_RATE if start_from else 1.0)
    weights = _weights(cases, options.get("weights"))
    signature = {
        "cases": [f"{case.key}:{case.hash}" for case in cases],
        "weights": weights,
        "iterations": iterations,
        "seed": seed,
        "start_from": f"{start_from.parent.name}/{start_from.name}" if start_from else None,
        "learning_rate": rate,
    }
    remove_unfinished(out)
    finished = read_checkpoint(out / FINAL)
    if finished is not None:
        if finished["signature"] != signature:
            raise InputError(f"The folder {out} holds the finished model of another training: choose a new folder.")
        return TrainResult(out / FINAL, iterations, finished["seconds"])
    out.mkdir(parents=True, exist_ok=True)
    initial = _readable(start_from)["network_weights"] if start_from else None
    identifiers = prepare_cases(layout, plan, cases, report, iterations)
    device = choose_device(device_name)
    crowd = crowding(cases)
    run = Run(
        out=out, identifiers=identifiers, weights=weights, iterations=iterations,
        iterations_per_epoch=plan["iterations_per_epoch"], seed=seed, optimizer=plan["optimizer"],
        learning_rate=rate, report=report, log=log,
        threads=int(options.get("threads", _loading_threads(device.type))), signature=signature,
        mirror_axes=plan.get("mirror_axes"), pasting=crowd.few_apart,
        contacts=border_widths(plan) if crowd.dense else None,
    )  # fmt: skip
    torch.backends.cudnn.benchmark = device.type == "cuda"
    with nnunet_environment(layout), quiet():
        smaller = reduced(plan, int(options.get("reduction", 0)))
        trainer = ObjectTrainer(
            {**smaller["nnunet"], "continue_training": False}, plan["configuration"], 0, dataset_of(plan, cases), device
        )
    seconds = trainer.train_run(run, initial)
    return TrainResult(out / FINAL, iterations, seconds)


def _weights(cases: Sequence[Case], wanted: Mapping[str, float] | None) -> list[float] | None:
    """Probabilities of drawing each case, or None when all are alike."""
    if not wanted:
        return None
    raw = np.array([float(wanted.get(case.key, 1.0)) for case in cases])
    if (raw < 0).any() or not np.isfinite(raw).all() or raw.sum() == 0:
        raise InputError("The sampling weights of the training patches must be positive numbers.")
    return [float(value) for value in raw / raw.sum()]


def _loading_threads(device: str) -> int:
    """On a CPU augmentation and training would only compete for the same cores."""
    return min(12, max(1, usable_cores() - 1)) if device == "cuda" else 0
