"""The words of the field, as frozen dataclasses. No I/O, no heavy imports.

Axis order is (y, x) and (z, y, x) everywhere, channels last. Label maps are int32 in memory, 0 is
background. An image array is (Y, X, C) or (Z, Y, X, C); C is always there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

Report = Callable[[float, float, str], None]
"""`report(done, total, message)`: tells progress; raises `errors.Cancelled` when the user cancelled."""


def silent(done: float, total: float, message: str = "") -> None:
    """A `Report` for callers that show nothing."""


def part(report: Report, start: float, end: float) -> Report:
    """`report` for a part of a longer piece of work, between the fractions `start` and `end` of it."""

    def inner(done: float, total: float, message: str = "") -> None:
        report(start + (end - start) * (done / total if total else 0.0), 1.0, message)

    return inner


class Modality(StrEnum):
    """How the image was made; decides the built-in methods and the preferred foundation models."""

    LIGHT = "light"
    EM = "em"


class Preset(StrEnum):
    """How long a round trains. `full` is nnU-Net's own plan and schedule, for a GPU."""

    QUICK = "quick"
    STANDARD = "standard"
    FULL = "full"


class ImageRole(StrEnum):
    """`train` images are cut into patches that can be selected; `test` images are only scored."""

    TRAIN = "train"
    TEST = "test"


class PatchRole(StrEnum):
    """`validation` patches are drawn at random and never trained on."""

    TRAIN = "train"
    VALIDATION = "validation"


class LabelKind(StrEnum):
    """Where a label map comes from. `ignored` is 1 where a person did not annotate a patch, else 0; the patch's
    human map names it in its params. `withdrawn`: a reference that was taken away from its image, and can come back."""

    PSEUDO = "pseudo"
    HUMAN = "human"
    PREDICTED = "predicted"
    REFERENCE = "reference"
    IGNORED = "ignored"
    WITHDRAWN = "withdrawn"


class BackendState(StrEnum):
    """Whether a backend can be used on this machine, now."""

    READY = "ready"
    WEIGHTS_MISSING = "weights missing"
    NOT_INSTALLED = "not installed"
    LICENCE = "licence not accepted"
    BROKEN = "broken"


@dataclass(frozen=True)
class Status:
    """State of a backend, found without downloading or importing torch.

    `detail` says why in one sentence; `remedy` what the user can do ("" when ready).
    """

    state: BackendState
    detail: str = ""
    remedy: str = ""

    @property
    def ready(self) -> bool:
        """Whether it can be used now."""
        return self.state is BackendState.READY


@dataclass(frozen=True)
class Parameter:
    """A number that a user may set on a method. `minimum <= value <= maximum`, in `unit`."""

    name: str
    title: str
    default: float
    minimum: float
    maximum: float
    step: float
    unit: str = ""
    help: str = ""


@dataclass(frozen=True)
class VoxelSize:
    """Size of a voxel in micrometres. `z` is None for 2D images; all None when the file has none."""

    z: float | None = None
    y: float | None = None
    x: float | None = None

    @property
    def known(self) -> bool:
        """Whether the sizes in y and x are known; z is not asked for, as 2D images have none."""
        return self.y is not None and self.x is not None


@dataclass(frozen=True)
class ImageInfo:
    """What a file says about itself, for the user to confirm.

    `axes` is the file's own order, e.g. "YX", "ZYX", "CYX", "YXC"; `shape` belongs to it.
    `axes_source` says where the axes come from ("OME metadata", "ImageJ metadata", "file format",
    "assumed"): "assumed" must be confirmed by the user.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: str
    voxel_size: VoxelSize
    axes_source: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Box:
    """A box in an image, in voxels: start and size. 2D images have z=0 and depth=1."""

    z: int
    y: int
    x: int
    depth: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices for a (Z, Y, X, ...) array."""
        return (
            slice(self.z, self.z + self.depth),
            slice(self.y, self.y + self.height),
            slice(self.x, self.x + self.width),
        )

    def widened(self, shape: tuple[int, ...]) -> Box:
        """This box with half of its height and width around it, inside an image of `shape` (Z, Y, X, ...)."""
        y, x = max(0, self.y - self.height // 2), max(0, self.x - self.width // 2)
        bottom = min(shape[1], self.y + self.height + self.height // 2)
        right = min(shape[2], self.x + self.width + self.width // 2)
        return Box(self.z, y, x, self.depth, bottom - y, right - x)

    def shared(self, other: Box) -> Box | None:
        """The box that lies in both, of the same image; None where they do not overlap."""
        sides = [
            (max(one.start, two.start), min(one.stop, two.stop))
            for one, two in zip(self.slices, other.slices, strict=True)
        ]
        if any(stop <= start for start, stop in sides):
            return None
        return Box(*(start for start, _ in sides), *(stop - start for start, stop in sides))

    def within(self, outer: Box) -> tuple[slice, slice, slice]:
        """Slices of this box for an array (Z, Y, X, ...) of what `outer` holds."""
        start = (self.z - outer.z, self.y - outer.y, self.x - outer.x)
        return Box(*start, self.depth, self.height, self.width).slices


@dataclass(frozen=True)
class InstanceScores:
    """Scores of an instance segmentation against a reference; all fractions in [0, 1].

    `f1_50` and `ap_50` (= TP / (TP + FP + FN)) at IoU 0.5, `ap_75` at 0.75, `pq` panoptic quality
    (Kirillov et al. 2019), `dice` of foreground against background. Counts at IoU 0.5.
    """

    f1_50: float
    ap_50: float
    ap_75: float
    pq: float
    dice: float
    n_true: int
    n_pred: int
    tp_50: int
    fp_50: int
    fn_50: int


@dataclass(frozen=True)
class Machine:
    """What the computer has; decides nnU-Net's plan. `gpu_gb` is None without a usable GPU."""

    cores: int
    ram_gb: float
    gpu_gb: float | None = None
    gpu_name: str = ""

    @property
    def device(self) -> str:
        """What torch calls it: "cuda" with a GPU, else "cpu"."""
        return "cuda" if self.gpu_gb else "cpu"
