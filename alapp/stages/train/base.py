"""What goes into training and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alapp.domain import Box, Machine, Preset, Report, VoxelSize
from alapp.registry import Registry

UNKNOWN_SIZE = VoxelSize()


class ImageSource(Protocol):
    """An image (Z, Y, X, C), Z = 1 for 2D, that is read part by part; a NumPy array is one.

    `source[z, y, x]` with three slices (start and stop inside the image) gives the array (z, y, x, C).
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, where: tuple[slice, slice, slice]) -> np.ndarray: ...


PredictBox = Callable[[Box, Report], np.ndarray]
"""Class probabilities float32 (K, Z, Y, X) of a box of an image."""


@dataclass(frozen=True)
class Case:
    """One labelled image or patch. `load()` gives (image (Y, X, C) or (Z, Y, X, C), labels int32 (Y, X) or
    (Z, Y, X) instance map). `hash` names the content: a case is preprocessed again only when it changes.
    `key` is unique in the workspace, of letters, digits, '_' and '-' ("pl_12", "gt_7"). `ignored()` gives a bool
    array of the shape of the labels, True where nobody annotated and nothing is to be learned; None: everywhere is
    annotated."""

    key: str
    hash: str
    load: Callable[[], tuple[np.ndarray, np.ndarray]]
    voxel_size: VoxelSize = UNKNOWN_SIZE
    ignored: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True)
class Overrides:
    """What an expert fixes in a plan; None leaves the choice to the plan.

    `downsampling`: by how much the network's pixels are larger than the image's. `patch_size`: the window in the
    network's pixels, (y, x) for a network in 2D, (z, y, x) in 3D. `features`: one number a stage. `three_d`: a
    network in 3D, or slice by slice. `iterations`: of a round. `learning_rate`: of a training from scratch.
    """

    downsampling: float | None = None
    patch_size: tuple[int, ...] | None = None
    batch_size: int | None = None
    features: tuple[int, ...] | None = None
    three_d: bool | None = None
    iterations: int | None = None
    learning_rate: float | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """The values that are fixed, by name, as JSON has them."""
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {name: value for name, value in listed.items() if value is not None}

    @classmethod
    def of(cls, chosen: Mapping[str, Any]) -> Overrides:
        """The inverse of `chosen`."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()})


@dataclass(frozen=True)
class Fact:
    """One line of a plan for the page: what was chosen (`value`), why, and what the thing called `name` is.

    `override` names the field of `Overrides` that fixes it, "" where nothing does.
    """

    name: str
    value: str
    why: str
    help: str
    override: str = ""


@dataclass(frozen=True)
class PlanSummary:
    """What was configured, for the page and the database (all values JSON-able).

    `configuration` is nnU-Net's name ("2d" or "3d_fullres"); `sentence` tells the user in plain words what
    the network looks at, and why; `iterations` has the keys "pretrain" and "round". `seconds_per_iteration` was
    measured on this computer, None where it was not. `facts` says the same line by line; `overrides` is
    `Overrides.chosen`.
    """

    configuration: str
    patch_size: tuple[int, ...]
    batch_size: int
    n_stages: int
    features: tuple[int, ...]
    downsampling: float
    object_diameter_px: float
    border_px: int
    iterations: Mapping[str, int]
    sentence: str
    seconds_per_iteration: float | None = None
    facts: tuple[Fact, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochLog:
    """One line of the loss curve. `seconds` since the start of the run; `dice` in [0, 1] is that of the network's
    hard answers on the augmented windows it trained on last, None where it is not known."""

    epoch: int
    iteration: int
    loss: float
    learning_rate: float
    seconds: float
    dice: float | None = None


@dataclass(frozen=True)
class TrainResult:
    """A finished run. `checkpoint` is the file to predict with and to continue from."""

    checkpoint: Path
    iterations: int
    seconds: float


class Trainer(Protocol):
    """A network that learns instances. All files stay below `workspace`, one folder a project.

    Arrays in, arrays out; the caller keeps track of checkpoints.
    """

    def plan(
        self,
        workspace: Path,
        cases: Sequence[Case],
        preset: Preset,
        machine: Machine,
        report: Report,
        overrides: Overrides | None = None,
    ) -> PlanSummary:
        """Fingerprint the cases and configure the network for the machine. Once per workspace.

        Raises `InputError` for overrides that cannot be.
        """

    def plan_suits(self, workspace: Path, cases: Sequence[Case], machine: Machine) -> bool | None:
        """Whether the objects of `cases` ask for the resolution that the plan of the workspace has; None where they are
        too few to tell."""

    def same_spacing(self, workspace: Path, cases: Sequence[Case]) -> bool:
        """Whether the plan of the workspace takes slices to be as thick as those of `cases` are."""

    def same_network(self, workspace: Path, other: Path) -> bool:
        """Whether weights that were trained in `other` fit the network of the workspace, at whatever resolution."""

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
        """Train on `cases`, from the weights in `start_from` or from scratch, into the folder `out`.

        Called again with the same `out` after a kill it goes on from the last saved epoch. Raises
        `Cancelled` (from `report`; `Paused` only once the epoch is saved), `OutOfMemoryError` and `DiskFullError`.
        `options` may have "reduction", how often the portions that are worked on at once are made smaller, without
        another network.
        """

    def reduction(self, workspace: Path, number: int) -> str | None:
        """What the reduction `number` (from 1) makes smaller, completing "training went on with ..."; None when
        nothing can be smaller."""

    def predict(self, workspace: Path, checkpoint: Path, image: np.ndarray, report: Report) -> np.ndarray:
        """Class probabilities float32 (K, Y, X) or (K, Z, Y, X) of the plan's classes (`targets.SCHEMES`), which
        `alapp.stages.instances` decodes."""

    def mirrored(self, workspace: Path, checkpoint: Path, image: np.ndarray, report: Report) -> Iterator[np.ndarray]:
        """Class probabilities as `predict` gives them, of the image as it is and then of its mirrored copies, each
        mirrored back; one at a time, so that only one is in memory. How they differ tells where the network is in
        doubt."""

    def blocks(
        self, workspace: Path, checkpoint: Path, image: ImageSource, is_3d: bool, report: Report
    ) -> AbstractContextManager[PredictBox]:
        """Gives a function that predicts boxes of an image of any size, exactly as `predict` does on the whole.

        Memory is bounded by the boxes, not by the image. The network is kept while the context is open; `report`
        tells about the pass over the image that comes first.
        """


TRAINERS: Registry[Trainer] = Registry("network", {"nnunet": "alapp.stages.train.nnunet:NnUNet"})
NETWORK = "nnunet"
