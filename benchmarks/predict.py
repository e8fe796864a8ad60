"""Prediction of one image by this app and by nnU-Net's own predictor, with the same network, windows and threads.

`python -m benchmarks.predict --json OUT` writes seconds of both (median of repeats, taken in turns) and their ratio
(ours by nnU-Net's; `predict_ratio` is the worse of two resolutions). The network has random weights in the plan that
this app makes for objects of the given width.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from alapp.domain import Machine, Preset, silent
from alapp.environment import prepare
from benchmarks import cli


def discs(size: int, diameter: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image float32 (size, size, 1) and labels int32 (size, size): bright discs on a grid, on noise."""
    rng = np.random.default_rng(seed)
    step = round(diameter * 1.4)
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for index, (row, column) in enumerate(np.ndindex(size // step, size // step)):
        away = np.hypot(y - (row + 0.5) * step, x - (column + 0.5) * step)
        labels[away < diameter / 2] = index + 1
    image = 40 + 100 * (labels > 0) + rng.normal(0, 10, labels.shape)
    return image.astype(np.float32)[..., None], labels


def predictors(folder: Path, diameter: float) -> tuple[Any, Any]:
    """Ours and nnU-Net's predictor over one network with random weights."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from alapp.stages.train.base import Case
    from alapp.stages.train.nnunet import NnUNet
    from alapp.stages.train.predict import ObjectPredictor

    cases = [Case(f"gt_{seed}", str(seed), lambda seed=seed: discs(256, diameter, seed)) for seed in range(3)]
    NnUNet("cpu").plan(folder, cases, Preset.QUICK, Machine(cores=2, ram_gb=8), silent)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    configuration = PlansManager(plan["nnunet"]).get_configuration(plan["configuration"])
    torch.manual_seed(0)
    network = get_network_from_plans(
        configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import, 1, len(plan["dataset"]["labels"]), deep_supervision=False,
    )  # fmt: skip
    checkpoint = {"network_weights": network.state_dict(), "inference_allowed_mirroring_axes": (0, 1)}
    ours = ObjectPredictor(plan, checkpoint, torch.device("cpu"), mirroring=False)
    theirs = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    theirs.manual_initialization(
        network, ours.plans_manager, ours.configuration_manager, [network.state_dict()], ours.dataset_json,
        "ObjectTrainer", (0, 1),
    )  # fmt: skip
    return ours, theirs


def measure(size: int, diameter: float, repeats: int) -> dict[str, Any]:
    """Median seconds of both, their ratio (ours / theirs), and how far the probabilities differ at most."""
    import torch

    from alapp.stages.train.cases import to_nnunet
    from alapp.stages.train.workspace import quiet

    with tempfile.TemporaryDirectory() as folder, quiet():
        ours, theirs = predictors(Path(folder), diameter)
        image = discs(size, diameter, 9)[0]
        seconds: dict[str, list[float]] = {"ours": [], "nnunet": []}
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            mine = ours.probabilities(image, silent)
            between = time.perf_counter()
            properties = {"spacing": list(ours.plan["spacing"])}
            _, other = theirs.predict_single_npy_array(to_nnunet(image), properties, None, None, True)
            seconds["ours"].append(between - begin)
            seconds["nnunet"].append(time.perf_counter() - between)
        median = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first warms up
        return {
            "size": size, "downsampling": ours.plan["downsampling"], "threads": torch.get_num_threads(),
            "seconds": {name: [round(value, 4) for value in values[1:]] for name, values in seconds.items()},
            "ours_s": round(median["ours"], 4), "nnunet_s": round(median["nnunet"], 4),
            "predict_ratio": round(median["ours"] / median["nnunet"], 3),
            "largest_difference": float(np.abs(mine - other[:, 0]).max()),
        }  # fmt: skip


def main() -> None:
    """Measure at full resolution (objects of 27 pixels) and at half (56 pixels)."""
    options = cli.parser(__doc__.splitlines()[0]).parse_args()
    prepare()
    size, repeats = (512, 1) if options.quick else (1024, 5)
    found = {name: measure(size, diameter, repeats) for name, diameter in (("full", 27.0), ("half", 56.0))}
    figures = {
        "predict_ratio": max(each["predict_ratio"] for each in found.values()),
        **{f"predict_ratio_{name}": each["predict_ratio"] for name, each in found.items()},
        **{f"predict_seconds_{name}": each["ours_s"] for name, each in found.items()},
        **{f"predict_seconds_{name}_nnunet": each["nnunet_s"] for name, each in found.items()},
    }
    cli.write(options.json, figures, cli.machine("torch", "nnunetv2") | {"runs": found})


if __name__ == "__main__":
    main()
