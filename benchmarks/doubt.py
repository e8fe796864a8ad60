"""Whether the suggestions that are called doubtful are the wrong ones.

    python -m benchmarks.doubt --json out.json [--data ../shared/data]

Suggestions are made as the app makes them: by an nnU-Net (preset "quick", 250 iterations, 12 patches) that was trained
on other images, and by the built-in pseudo-label methods. A suggestion is right when its IoU with a reference object
is at least 0.5. Figures:

- `auroc_em_model`, `auroc_nuclei_model`: how well the confidence tells right from wrong suggestions of the network (0.5
  is chance, 1 perfect); vnc_em, trained on sections 0 to 8 and tested on 9 to 11, and 30 images of nuclei_fluo.
- `auroc_em_pseudo`, `auroc_hela_pseudo`: the same for pseudo-labels, whose confidence comes from the outline alone.
- `merged_precision`, `merged_recall`: of the flag "two in one?", on the network's nuclei; truly merged is what covers
  most of two reference objects or more.
- `wrong_share`, `wrong_share_first_fifth`: share of wrong suggestions among the network's nuclei, and among the fifth
  of them that the person is shown first.

The thresholds of the flags and the measure for pseudo-labels were chosen on these sets; the soft Jaccard index, which
the confidence of the network's suggestions is, has nothing to tune.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tifffile
from skimage.metrics import contingency_table
from sklearn.metrics import roc_auc_score

from alapp.domain import Preset
from alapp.stages import instances
from alapp.stages.annotate import doubt
from alapp.stages.annotate.doubt import MERGED, Assessment
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS
from benchmarks import cli, trained_prior
from benchmarks.clicks_to_mask import DATA, em, hela

MOSTLY = 0.6  # share of a reference object that a suggestion covers to have swallowed it
NUCLEI_LEARNT, NUCLEI_TESTED = 12, 30
ITERATIONS = 250
Slice = tuple[np.ndarray, np.ndarray]
Judged = list[tuple[Assessment, float, bool]]
"""For each suggestion its assessment, its best IoU, and whether it swallowed two reference objects or more."""


def nuclei(data: Path, count: int) -> list[Slice]:
    """`count` images of nuclei_fluo in a fixed random order; none where the folder is absent."""
    paths = sorted((data / "nuclei_fluo" / "images").glob("*"))
    chosen = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[:count]]
    pairs = [(tifffile.imread(p), tifffile.imread(p.parents[1] / "labels" / p.name)) for p in chosen]
    return [(image if image.ndim == 3 else image[..., None], labels) for image, labels in pairs]


def judge(suggested: np.ndarray, truth: np.ndarray, image: np.ndarray, foreground: np.ndarray | None) -> Judged:
    """The suggestions int32 (Y, X) of one image (Y, X, C), assessed and compared with the reference."""
    found = doubt.assess(
        suggested[None], image[None], None if foreground is None else foreground[None], doubt.typical_sizes(suggested)
    )
    shared = contingency_table(suggested, truth).toarray()
    sizes, truths = shared.sum(axis=1), shared.sum(axis=0)
    judged = []
    for key, assessment in found.items():
        common = shared[key, 1:]
        iou = float((common / (sizes[key] + truths[1:] - common)).max()) if common.size else 0.0
        judged.append((assessment, iou, int(np.count_nonzero(common > MOSTLY * truths[1:])) > 1))
    return judged


def by_network(learnt: Sequence[Slice], tested: Sequence[Slice], iterations: int) -> Judged:
    """Suggestions of a network that was trained on `learnt`, on the images `tested`."""
    maps = trained_prior.probabilities(trained_prior.patches(learnt), [image for image, _ in tested], iterations)
    found = []
    for (image, truth), prob in zip(tested, maps, strict=True):
        suggested = instances.from_probabilities(prob)
        if suggested.any():
            found += judge(suggested, truth, image, 1 - prob[0])
    return found


def by_pseudo_labels(method: str, images: Iterable[Slice]) -> Judged:
    """Suggestions of a built-in method with its default parameters."""
    labeller, found = PSEUDO_LABELLERS.create(method), []
    for image, truth in images:
        suggested = labeller.label(image, {})
        if suggested.any():
            found += judge(suggested, truth, image, None)
    return found


def auroc(judged: Judged) -> float:
    """Area under the curve of right against wrong suggestions, by confidence."""
    right = [iou >= 0.5 for _, iou, _ in judged]
    return round(float(roc_auc_score(right, [item.confidence for item, _, _ in judged])), 3)


def in_order(judged: Judged) -> Judged:
    """As the person is shown them: flagged ones first, then by rising confidence."""
    return sorted(judged, key=lambda each: (not each[0].flag, each[0].confidence))


def measured(judged: Judged) -> dict[str, float]:
    """Figures of the flag and of the order."""
    flagged = np.array([item.flag == MERGED for item, _, _ in judged])
    merged = np.array([swallowed for _, _, swallowed in judged])
    wrong = np.array([iou < 0.5 for _, iou, _ in in_order(judged)])
    return {
        "merged_precision": round(float(merged[flagged].mean()), 3) if flagged.any() else 0.0,
        "merged_recall": round(float(flagged[merged].mean()), 3) if merged.any() else 0.0,
        "wrong_share": round(float(wrong.mean()), 3),
        "wrong_share_first_fifth": round(float(wrong[: len(wrong) // 5].mean()), 3),
    }


def main() -> None:
    """Run the benchmark; see the module's docstring."""
    arguments = cli.parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    options = arguments.parse_args()
    iterations = 25 if options.quick else ITERATIONS
    sections, fluo = em(options.data, range(12)), nuclei(options.data, NUCLEI_LEARNT + NUCLEI_TESTED)
    sets: dict[str, Callable[[], Judged]] = {
        "hela_pseudo": lambda: by_pseudo_labels("log_watershed", hela(DATA, range(0, 20, 6)))
    }
    if sections:
        sets["em_pseudo"] = lambda: by_pseudo_labels("em_dark_blobs", sections[::3])
        sets["em_model"] = lambda: by_network(sections[:9], sections[9:], iterations)
    if fluo:
        sets["nuclei_model"] = lambda: by_network(fluo[:NUCLEI_LEARNT], fluo[NUCLEI_LEARNT:], iterations)
    figures: dict[str, float] = {}
    counts = {}
    for name, make in sets.items():
        judged = make()
        counts[name] = len(judged)
        figures[f"auroc_{name}"] = auroc(judged)
        if name == "nuclei_model":
            figures |= measured(judged)
    settings = {"suggestions": counts, "iterations": iterations, "preset": Preset.QUICK.value}
    cli.write(options.json, figures, settings | cli.machine("torch", "nnunetv2", "scikit-image", "trackastra"))


if __name__ == "__main__":
    main()
