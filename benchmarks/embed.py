"""Embeddings: how fast, in how much memory, and whether patches that are close in them hold alike objects.

    python -m benchmarks.embed --json out.json [--parts speed quality] [--seeds 0 1 2] [--data vnc_em nuclei_fluo]
        [--methods intensity mae_untrained timm_untrained mae network]

Speed, product and bare loop in turn:

- `embed_ratio`: patches a second of the masked autoencoder's `embed`, which reads, normalises and resamples patches of
  256 x 256 pixels, over those of a loop that only runs the same network on tensors that are ready, in batches of the
  same size. `embed_patches_per_second` is the product's.
- `embed_peak_mb`, `fit_peak_mb`: memory of a process above its start, for 20,000 patches made when they are read.

Quality, on labelled patches, mean and spread over seeds (which draw three quarters of the patches, and the networks) of
`mae`, `mae_untrained` (the same network with its first weights), `intensity` (mean, spread and histogram of the gray
values), `network` (a nnU-Net trained on 16 patches), `combined`, and `timm_untrained` (a vision transformer with
random weights: DINOv2's are not on the build machines):

- `..._r2_foreground`, `..._r2_size`, `..._r2_count`: how well the five nearest patches predict the share of foreground,
  the objects' mean size and their number; `..._rho_...` by rank (Spearman). Patches of the same place in other
  sections, or of the same image, are left out: they would give the answer away.
- `..._coverage`: distance of a patch to the nearest of 16 core-set picks, in those three numbers (each over its
  spread), over the same for random picks. Below 1 the picks cover the variety of the objects better.

`..._loss_start`, `..._loss_end`: the masked autoencoder's loss on held-out patches after 25 iterations, and the best.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
from scipy.stats import spearmanr

from alapp.domain import silent
from alapp.environment import prepare
from alapp.stages.embed import mae_network, preprocess
from alapp.stages.embed.combined import WEIGHTS, combine
from alapp.stages.embed.mae import MaskedAutoencoder
from alapp.stages.embed.network import NetworkFeatures, TrainedNetwork
from alapp.stages.select.base import Context
from alapp.stages.select.coreset import CoreSet
from benchmarks import cli, learning

NEIGHBOURS, PICKS, RANDOM_DRAWS = 5, 16, 50
NETWORK_PATCHES, NETWORK_ITERATIONS = 16, 200
TIMM = "vit_tiny_patch16_224"
METHODS = ("intensity", "mae_untrained", "timm_untrained", "mae", "network")
TARGETS = ("foreground", "size", "count")


class Made:
    """`n` patches of noise, uint8 (256, 256, 1), each made when it is read."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> np.ndarray:
        return np.random.default_rng(row).integers(0, 255, (256, 256, 1), np.uint8)


def speed(quick: bool) -> dict[str, float]:
    """The ratio and the rate; see the module."""
    prepare()
    import torch

    n = 128 if quick else 512
    patches = [Made(n)[row] for row in range(n)]
    model = MaskedAutoencoder(iterations=1)
    model.fit(patches[:8], silent)
    ready = torch.cat([preprocess.read(patch, model.architecture.side, 1) for patch in patches])

    def bare() -> None:
        with torch.inference_mode():
            for batch in ready.split(64):
                mae_network.encode(model._encoder, batch)[:, 1:].mean(dim=1).numpy()

    spent: dict[str, list[float]] = {"product": [], "bare": []}
    for turn in range(3 if quick else 9):
        for name, run in (("product", lambda: model.embed(patches, silent)), ("bare", bare)):
            started = time.perf_counter()
            run()
            if turn:
                spent[name].append(time.perf_counter() - started)
    product, plain = (float(np.median(times)) for times in spent.values())
    return {"embed_ratio": plain / product, "embed_patches_per_second": n / product}


def memory(what: str, n: int) -> dict[str, float]:
    """Peak of this process's memory above its start, while it trains on or embeds `n` patches."""
    model = MaskedAutoencoder(iterations=2)
    model.fit([Made(8)[row] for row in range(8)], silent)
    process = psutil.Process()
    baseline = process.memory_info().rss
    peak, stop = [baseline], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    (model.embed if what == "embed" else model.fit)(Made(n), silent)
    stop.set()
    thread.join()
    return {f"{what}_peak_mb": (peak[0] - baseline) / 2**20}


def in_another_process(what: str, n: int) -> dict[str, float]:
    """`memory` of a process that did nothing else."""
    command = [sys.executable, "-m", "benchmarks.embed", "--memory", what, "--count", str(n)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def labelled(name: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Patches of a data set, float (N, 3) of `TARGETS`, and int (N,): patches of one group are not compared."""
    patches, rows, groups = [], [], []
    for number, (image, labels) in enumerate(learning.folder_of(name)):
        side = min(learning.SIDE, *labels.shape)
        for y in range(0, labels.shape[0] - side + 1, side):
            for x in range(0, labels.shape[1] - side + 1, side):
                window = np.s_[y : y + side, x : x + side]
                sizes = np.bincount(labels[window].ravel())[1:]
                sizes = sizes[sizes > 0]
                patches.append(image[window])
                rows.append((sizes.sum() / side**2, sizes.mean() if len(sizes) else np.nan, len(sizes)))
                groups.append(y * 10_000 + x if name == "vnc_em" else number)
    return patches, np.array(rows), np.array(groups)


def intensity(patches: Sequence[np.ndarray]) -> np.ndarray:
    """Unit rows: mean and spread of the gray values, and a histogram of 16 bins after normalisation, each number over
    its spread among the patches."""
    rows = []
    for patch in patches:
        gray = patch.astype(np.float64).mean(-1)
        bins = np.histogram(preprocess.normalise(patch[None])[0].mean(0), 16, (0, 1))[0] / gray.size
        rows.append([gray.mean(), gray.std(), *bins])
    found = np.array(rows)
    return preprocess.unit_rows((found - found.mean(0)) / (found.std(0) + 1e-9))


def untrained(seed: int, patches: Sequence[np.ndarray]) -> np.ndarray:
    """Vectors by the masked autoencoder's encoder with its first weights."""
    model = MaskedAutoencoder(seed=seed, iterations=1)
    with mock.patch("alapp.stages.embed.mae_training.LEARNING_RATE", 0.0):
        model.fit(patches, silent)
    return model.embed(patches, silent)


def random_transformer(seed: int, patches: Sequence[np.ndarray]) -> np.ndarray:
    """Vectors by a timm model with random weights, as `TimmFeatures` would take them, minus their mean."""
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = timm.create_model(TIMM, num_classes=0).eval()
    rows = []
    with torch.inference_mode():
        for patch in patches:
            images = preprocess.read(patch, 224)[:, :3]
            images = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
            tokens = encoder.forward_features((images - 0.5) / 0.5)[:, encoder.num_prefix_tokens :]
            rows.append(tokens.mean(dim=(0, 1)).numpy())
    found = np.array(rows)
    return preprocess.unit_rows(found - found.mean(0))


def by_network(seed: int, patches: list[np.ndarray], labels: list[learning.Labelled], quick: bool) -> np.ndarray:
    """Vectors by a nnU-Net that learned from 16 patches."""
    known = learning.cases(learning.draw(labels, NETWORK_PATCHES, seed))
    with learning.workspace() as folder:
        _, checkpoint = learning.train(Path(folder), known, 20 if quick else NETWORK_ITERATIONS, seed)
        features = NetworkFeatures(seed, TrainedNetwork(Path(folder), checkpoint))
        features.fit(patches, silent)
        return features.embed(patches, silent)


def agreement(vectors: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """R2 and rank correlation of each target with its mean over the nearest patches of other groups."""
    similarity = vectors @ vectors.T
    similarity[groups[:, None] == groups[None]] = -np.inf
    found = {}
    for column, name in enumerate(TARGETS):
        known = np.flatnonzero(np.isfinite(targets[:, column]))
        value = targets[known, column]
        near = np.argsort(-similarity[np.ix_(known, known)], axis=1, kind="stable")[:, :NEIGHBOURS]
        predicted = value[near].mean(1)
        found[f"r2_{name}"] = float(1 - ((predicted - value) ** 2).sum() / ((value - value.mean()) ** 2).sum())
        found[f"rho_{name}"] = float(spearmanr(predicted, value)[0])
    return found


def coverage(vectors: np.ndarray, targets: np.ndarray, seed: int) -> float:
    """Mean distance to the nearest of the core-set picks over that to the nearest of random ones, in the targets."""
    values = np.nan_to_num(targets)
    values = (values - values.mean(0)) / values.std(0)
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1)
    rng = np.random.default_rng([seed, 7])
    mask = np.zeros(len(vectors), bool)
    first = int(rng.integers(len(vectors)))
    mask[first] = True
    rows = [first, *CoreSet()(vectors, mask, PICKS - 1, rng, Context()).rows.tolist()]
    random = [distances[rng.permutation(len(vectors))[:PICKS]].min(0).mean() for _ in range(RANDOM_DRAWS)]
    return float(distances[rows].min(0).mean() / np.mean(random))


def quality(
    name: str, seeds: Sequence[int], wanted: Sequence[str], quick: bool
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Figures of one data set, and the values of each seed."""
    prepare()
    every, values, groups = labelled(name)
    tiles = learning.patches(learning.folder_of(name))
    found: dict[str, list[float]] = {}
    for seed in seeds:
        drawn = np.sort(np.random.default_rng([seed, 5]).permutation(len(every))[: math.ceil(0.75 * len(every))])
        patches = [every[row] for row in (drawn[:40] if quick else drawn)]
        drawn = drawn[: len(patches)]

        def trained(seed: int = seed, patches: list[np.ndarray] = patches) -> np.ndarray:
            model = MaskedAutoencoder(seed=seed, iterations=25 if quick else None)
            model.fit(patches, silent)
            found.setdefault("loss_start", []).append(model.losses[0])
            found.setdefault("loss_end", []).append(min(model.losses))
            print(f"{name} losses:", *(f"{loss:.3f}" for loss in model.losses))
            return model.embed(patches, silent)

        methods: dict[str, Callable[[], np.ndarray]] = {
            "intensity": lambda patches=patches: intensity(patches),
            "mae_untrained": lambda seed=seed, patches=patches: untrained(seed, patches),
            "timm_untrained": lambda seed=seed, patches=patches: random_transformer(seed, patches),
            "mae": trained,
            "network": lambda seed=seed, patches=patches: by_network(seed, patches, tiles, quick),
        }
        made: dict[str, np.ndarray] = {}
        for method in (*wanted, "combined"):
            started = time.perf_counter()
            if method != "combined":
                made[method] = methods[method]()
            elif set(WEIGHTS) <= set(made):
                made[method] = combine({part: made[part] for part in WEIGHTS})
            else:
                continue
            scores = agreement(made[method], values[drawn], groups[drawn])
            scores["coverage"] = coverage(made[method], values[drawn], seed)
            for key, value in scores.items():
                found.setdefault(f"{method}_{key}", []).append(value)
            shown = ", ".join(f"{key} {value:.2f}" for key, value in scores.items())
            print(f"{name} {method} seed {seed} ({time.perf_counter() - started:.0f} s): {shown}", flush=True)
    figures = {}
    for key, each in found.items():
        figures[f"{name}_{key}"] = float(np.mean(each))
        figures[f"{name}_{key}_spread"] = float(np.std(each))
    return figures, {f"{name}_{key}": each for key, each in found.items()}


def main() -> None:
    """Run the parts that are asked for."""
    arguments = cli.parser(__doc__.splitlines()[0])
    arguments.add_argument("--parts", nargs="+", default=["speed", "quality"], choices=["speed", "quality"])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    arguments.add_argument("--data", nargs="+", default=["vnc_em", "nuclei_fluo"])
    arguments.add_argument("--memory", choices=["embed", "fit"], help="only measure memory, in this process")
    arguments.add_argument("--count", type=int, default=20_000)
    given = arguments.parse_args()
    prepare()
    if given.memory:
        print(json.dumps(memory(given.memory, given.count)))
        return
    figures: dict[str, float] = {}
    each: dict[str, list[float]] = {}
    if "speed" in given.parts:
        figures |= speed(given.quick)
        for what in ("embed", "fit"):
            figures |= in_another_process(what, 500 if given.quick else given.count)
    if "quality" in given.parts:
        for name in given.data:
            found, values = quality(name, given.seeds, given.methods, given.quick)
            figures |= found
            each |= values
    cli.write(given.json, figures, {**cli.machine("torch", "timm", "lightly"), "each_seed": each})


if __name__ == "__main__":
    main()
