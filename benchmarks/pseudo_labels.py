"""What the built-in pseudo-label methods find without any label.

    python -m benchmarks.pseudo_labels --json out.json

Each method with its defaults on the data sets of `benchmarks.evidence` that it is made for; of CHO the middle slices.
Figures, each followed by `.METHOD.NAME`:

- `f1_tuning`: F1 at IoU 0.5 of all objects of the training images, on which the defaults were chosen; `f1_test` on the
  test images, which were not looked at for that;
- `seconds`: a megapixel.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from alapp.domain import Modality
from alapp.experiments import sources
from alapp.stages.metrics import pool, score_instances
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS
from benchmarks import cli, evidence

METHODS = {Modality.LIGHT: ("log_watershed", "nested_regions"), Modality.EM: ("em_dark_blobs",)}


def middle(array: np.ndarray, is_3d: bool) -> np.ndarray:
    """An image or labels, or the middle slice of a stack."""
    return array[len(array) // 2] if is_3d else array


def measure(method: str, images: Sequence[sources.Labelled]) -> tuple[float, float]:
    """(F1 of all objects, seconds a megapixel)."""
    labeller = PSEUDO_LABELLERS.create(method)
    scores, spent, pixels = [], 0.0, 0
    for image in images:
        truth = middle(image.labels, image.labels.ndim == 3)
        plane = middle(image.pixels, image.pixels.ndim == 4)
        started = time.process_time()
        found = labeller.label(plane, {})
        spent += time.process_time() - started
        pixels += truth.size
        scores.append(score_instances(truth, found))
    return pool(scores).f1_50, spent / pixels * 1e6


def main() -> None:
    """Run the benchmark; see the module's docstring."""
    options = cli.parser(__doc__ or "").parse_args()
    figures: dict[str, float] = {}
    counts: dict[str, Mapping[str, int]] = {}
    for name, source in evidence.sources().items():
        images = sources.load(source, None)
        parts = {"tuning": images.train, "test": images.test}
        if options.quick:
            parts = {part: found[:2] for part, found in parts.items()}
        counts[name] = {part: len(found) for part, found in parts.items()}
        for method in METHODS[source.modality]:
            for part, found in parts.items():
                f1, seconds = measure(method, found)
                figures[f"f1_{part}.{method}.{name}"] = round(f1, 3)
            figures[f"seconds.{method}.{name}"] = round(seconds, 2)
            print(f"{name}: {method} is measured", flush=True)
    cli.write(options.json, figures, {"images": counts} | cli.machine("scikit-image", "scipy"))


if __name__ == "__main__":
    main()
