"""Decoding parameters from what a person labelled: by the shapes of the objects, and fitted on predictions of patches.

The probabilities must come from a network that was not trained on these patches: on its own training patches nearly
every parameter looks right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alapp.domain import InstanceScores
from alapp.stages import component_tree
from alapp.stages.instances import DEFAULTS, Decoding, from_probabilities, typical
from alapp.stages.metrics import annotated_only, pool, score_instances
from alapp.stages.train.targets import CORE, border_core, border_width, object_sizes, typical_size

_SHARED = {
    "foreground": (0.35, 0.5, 0.65),
    "outline": (0.2, 0.3, 0.5),
    "fragment_share": (0.05, 0.15, 0.3),
    "certainty_share": (0.0, 0.9),
    "solidity": (0.0, 0.9),
}
GRIDS = {
    3: {"seed_low": (-0.2, 0.0, 0.2, 0.4, 0.6), "seed_high": (0.4, 0.6, 0.8), **_SHARED},
    4: {"seed_low": (0.4, 0.5, 0.6, 0.7), "seed_high": (0.6, 0.7, 0.8), **_SHARED},
}
"""By number of classes: the values tried for each parameter, one parameter after the other."""

_ENOUGH_PATCHES, _ENOUGH_OBJECTS = 4, 12


_HOLLOW_SHARE = 0.05
_SMALL_SHARE, _SEVERAL = 0.1, 3
"""Small objects are worth keeping where the person outlined so many: they are no slips of the hand."""
_SMALLER = 0.5
"""A predicted object that is half as large can still match the labelled one (IoU 0.5)."""
_SMALLEST = 30
"""Objects of fewer pixels are as rough as their pixels."""


@dataclass(frozen=True)
class Example:
    """A labelled patch: class probabilities float (K, Y, X) or (K, Z, Y, X), instance map int32 (Y, X) or (Z, Y, X),
    what is not to be looked at (bool of its shape, or None), and whether it is decoded slice by slice."""

    probabilities: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray | None = None
    in_plane: bool = False


@dataclass(frozen=True)
class Fit:
    """A choice of parameters and its evidence: the panoptic quality of `decoding` and of the defaults on patches that
    the choice was not made on (two folds); equal when the defaults were kept. `patches` is how many were used."""

    decoding: Decoding
    quality: float
    quality_default: float
    patches: int


def for_shapes(maps: Iterable[np.ndarray], classes: int = 3) -> Decoding:
    """The defaults for a network of so many classes, but that objects as hollow and as small as the labelled ones stay.

    Of the instance maps `maps`, int (Y, X) or (Z, Y, X), at most a twentieth of the objects have a core of less
    solidity. That is what seeds are; it is less solid than the object where this is thin and bent. And where a tenth of
    the whole objects, and at least three, are smaller than what is taken for a fragment, that limit goes below them.
    Stacks are looked at as a whole; give those that are decoded slice by slice as `instances.decoded_at_once` takes
    them apart."""
    known = [labels for labels in maps if labels.any()]
    sizes = [size for labels in known for size in object_sizes(labels)]
    default = DEFAULTS[classes]
    if not sizes:
        return default
    default = replace(default, fragment_share=_fragment_share(known, default.fragment_share))
    border = border_width(typical_size(sizes))
    cores = (np.where(border_core(labels, border) == CORE, labels, 0) for labels in known)
    solidity = [
        region.solidity
        for core in cores
        for region in component_tree.in_labels(core)
        if np.count_nonzero(region.mask) >= _SMALLEST
    ]
    if not solidity:
        return default
    return replace(default, solidity=min(default.solidity, float(np.quantile(solidity, _HOLLOW_SHARE))))


def _fragment_share(maps: Sequence[np.ndarray], default: float) -> float:
    """The share of the typical size in its map below which an object is a fragment, at most `default`."""
    shares = np.sort(np.concatenate([_shares(labels) for labels in maps]))
    several = max(_SEVERAL, int(np.ceil(_SMALL_SHARE * len(shares))))
    if len(shares) < several or shares[several - 1] >= default:
        return default
    return float(_SMALLER * shares[int(_SMALL_SHARE / 2 * len(shares))])


def _shares(labels: np.ndarray) -> np.ndarray:
    """Sizes of the objects that the sides of an instance map do not cut, as shares of the typical one's, float (n,)."""
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    ends = [labels.take(end, axis) for axis in range(labels.ndim) for end in (0, -1)]
    whole = ~np.isin(ids, np.concatenate([end.ravel() for end in ends]))
    return counts[whole] / typical(counts)


def fit(
    examples: Sequence[Example],
    progress: Callable[[int, int], None] = lambda done, total: None,
    defaults: Decoding | None = None,
) -> Fit | None:
    """The parameters that find the objects of `examples` best, or `defaults` (of the number of classes: None) where
    that is not sure.

    Panoptic quality (see `metrics.score_instances`) is maximised one parameter after the other over `GRIDS`, on every
    second patch; the choice must beat the defaults on the patches in between, both ways, else the defaults stay. None
    when there are fewer than 4 patches or 12 objects: too few to choose by. Deterministic.
    """
    objects = sum(len(np.unique(example.labels)) - 1 for example in examples)
    if len(examples) < _ENOUGH_PATCHES or objects < _ENOUGH_OBJECTS:
        return None
    classes = len(examples[0].probabilities)
    defaults, grid = defaults or DEFAULTS[classes], GRIDS[classes]
    tried: dict[tuple[int, Decoding], InstanceScores] = {}
    steps = 6 * sum(len(values) for values in grid.values())
    done = [0]

    def quality(rows: Sequence[int], decoding: Decoding) -> float:
        for row in rows:
            if (row, decoding) not in tried:
                tried[row, decoding] = _scores(examples[row], decoding)
        return pool([tried[row, decoding] for row in rows]).pq

    def best(rows: Sequence[int]) -> Decoding:
        chosen, reached = defaults, quality(rows, defaults)
        # Twice, as what is best for one parameter can depend on those that come after it.
        for name, value in 2 * [(name, value) for name, values in grid.items() for value in values]:
            done[0] += 1
            progress(min(done[0], steps), steps)
            other = replace(chosen, **{name: value})
            if other.seed_low < other.seed_high and (score := quality(rows, other)) > reached:
                chosen, reached = other, score
        return chosen

    halves = list(range(0, len(examples), 2)), list(range(1, len(examples), 2))
    unseen = [(best(a), b) for a, b in (halves, halves[::-1])]
    gained = float(np.mean([quality(rows, decoding) for decoding, rows in unseen]))
    default = float(np.mean([quality(rows, defaults) for rows in halves]))
    if gained <= default:
        return Fit(defaults, default, default, len(examples))
    return Fit(best(range(len(examples))), gained, default, len(examples))


def _scores(example: Example, decoding: Decoding) -> InstanceScores:
    found = from_probabilities(example.probabilities, in_plane=example.in_plane, decoding=decoding)
    labels = example.labels
    if example.ignored is not None:
        labels, found = (annotated_only(each, example.ignored) for each in (labels, found))
    return score_instances(labels, found)
