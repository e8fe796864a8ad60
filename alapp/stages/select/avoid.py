"""Patches that are not worth a person's time: almost empty ones, and those that look like one that is labelled.

They are passed over while anything else is left, never left out for good: a batch has as many patches as were asked
for. The reasons of the picks say so where it mattered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from alapp.stages.select import measures
from alapp.stages.select.base import Context
from alapp.stages.select.kcentre import NearestCentre

ALIKE = 1e-4
"""Patches that are at most this far apart (cosine distance) look the same to the embedding. That is little more than
rounding, so that patches which merely resemble each other are left to the strategy."""

SHARED = 0.5
"""So do patches that share more than this part of their pixels: where the side of an image is no multiple of a patch,
the last two of a row may share nearly all."""

EMPTY_SHARE = 0.1
"""A patch is almost empty when it has less than this share of the contrast of the patches that have much, and no
objects are known in it."""

EMPTY_LEFT = "almost empty, but nothing else is left"
ALIKE_LEFT = "it shows the same as another one, but nothing else is left"
EMPTY_PASSED = "almost empty patches that are even less alike were passed over"


@dataclass(frozen=True)
class Taken:
    """A row that was taken, with what else there is to say about it ("" for nothing); `distance` and `nearest` as in
    `Pick`, None where no patch was there to compare with."""

    row: int
    note: str = ""
    distance: float | None = None
    nearest: int | None = None


class Avoid:
    """Which rows are to be passed over. `chosen` are rows that are labelled or picked; more come by `took`."""

    def __init__(self, context: Context, n: int, chosen: np.ndarray):
        self.empty = almost_empty(context, n)
        self._content = context.content
        self._place = context.place
        self._known: set[int] = set()
        self._places: dict[int, list[np.ndarray]] = {}
        for row in np.asarray(chosen).tolist():
            self.took(row)

    def took(self, row: int) -> None:
        """`row` is picked."""
        if self._content is not None:
            self._known.add(int(self._content[row]))
        if self._place is not None:
            image, *box = self._place[row].tolist()
            self._places.setdefault(image, []).append(np.array(box))

    def repeats(self, row: int) -> bool:
        """Whether a row has the same pixels as one that is labelled or picked, or shares most of them."""
        if self._content is not None and int(self._content[row]) in self._known:
            return True
        if self._place is None:
            return False
        image, *box = self._place[row].tolist()
        others = np.array(self._places.get(image, ())).reshape(-1, 6)
        start, size = np.array(box[:3]), np.array(box[3:])
        last = np.minimum(start + size, others[:, :3] + others[:, 3:])
        common = np.maximum(last - np.maximum(start, others[:, :3]), 0).prod(axis=1)
        return bool((common > SHARED * size.prod()).any())


def almost_empty(context: Context, n: int) -> np.ndarray:
    """bool (N,): patches with hardly any contrast and without known objects; none where contrast is not known."""
    if context.contrast is None or n == 0:
        return np.zeros(n, dtype=bool)
    contrast = np.asarray(context.contrast, dtype=np.float64)
    low = contrast < EMPTY_SHARE * np.quantile(contrast, measures.MUCH)
    return low if context.foreground is None else low & ~measures.holds_objects(context.foreground)


def in_order(
    order: Iterable[int], k: int, embeddings: np.ndarray, chosen: np.ndarray, context: Context, fill: bool = True
) -> list[Taken]:
    """The first `k` rows of `order` that are not to be avoided, then, unless `fill` is off, those that are. `chosen`:
    labelled rows."""
    avoid = Avoid(context, len(embeddings), chosen)
    seen = _Unit(embeddings, chosen)
    found: list[Taken] = []
    left: list[Taken] = []
    alike = empty = 0
    for row in map(int, order):
        if len(found) == k:
            break
        if avoid.empty[row]:
            empty += 1
            left.append(Taken(row, EMPTY_LEFT))
            continue
        distance, nearest = seen.nearest(row)
        if avoid.repeats(row) or (distance is not None and distance <= ALIKE):
            alike += 1
            left.append(Taken(row, ALIKE_LEFT, distance, nearest))
            continue
        found.append(Taken(row, _passed(alike, empty), distance, nearest))
        alike = empty = 0
        avoid.took(row)
        seen.add(row)
    return found + left[: k - len(found)] if fill else found


def farthest_first(nearest: NearestCentre, k: int, avoid: Avoid, fill: bool = True) -> list[Taken]:
    """`k` times the farthest row that is not to be avoided; every one becomes a centre.

    When none is left, those that are avoided, unless `fill` is off.
    """
    allowed = nearest.open.copy()
    found: list[Taken] = []
    note = ""
    while len(found) < k and (best := nearest.farthest()) is not None:
        row, distance, centre = best
        if avoid.empty[row]:
            # All at once: thousands of empty patches are equally far, and each would be looked at.
            nearest.allow(np.flatnonzero(nearest.open & ~avoid.empty))
            note = EMPTY_PASSED
        elif distance <= ALIKE or avoid.repeats(row):
            if distance * nearest.weight(row) <= ALIKE * nearest.lightest:
                break  # all others are as much alike
            nearest.drop(row)
        else:
            nearest.add(row)
            avoid.took(row)
            found.append(Taken(row, note, *_known(distance, centre)))
            note = ""
    if fill and len(found) < k:
        nearest.allow(np.flatnonzero(allowed))
        while len(found) < k and (best := nearest.farthest()) is not None:
            row, distance, centre = best
            nearest.add(row)
            found.append(Taken(row, EMPTY_LEFT if avoid.empty[row] else ALIKE_LEFT, *_known(distance, centre)))
    return found


class _Unit:
    """Rows of length 1 that others are compared with."""

    def __init__(self, embeddings: np.ndarray, rows: np.ndarray):
        self._embeddings = embeddings
        self._rows = [int(row) for row in rows]
        self._vectors = np.empty((0, embeddings.shape[1]))
        if self._rows:
            self._vectors = _unit(np.asarray(embeddings[self._rows], dtype=np.float64))

    def add(self, row: int) -> None:
        vector = _unit(np.asarray(self._embeddings[[row]], dtype=np.float64))
        self._vectors = np.concatenate([self._vectors, vector])
        self._rows.append(row)

    def nearest(self, row: int) -> tuple[float | None, int | None]:
        """(cosine distance, row) of the nearest one; rows of zeros are at distance 0 from each other."""
        if not self._rows:
            return None, None
        vector = _unit(np.asarray(self._embeddings[[row]], dtype=np.float64))[0]
        distance = 1 - self._vectors @ vector
        if not vector.any():
            distance[~self._vectors.any(axis=1)] = 0
        best = int(np.argmin(distance))
        return float(np.clip(distance[best], 0, 2)), self._rows[best]


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def _known(distance: float, centre: int) -> tuple[float | None, int | None]:
    return (distance, centre) if centre >= 0 else (None, None)


def _passed(alike: int, empty: int) -> str:
    """What was passed over before a pick, in words."""
    parts = []
    if alike:
        parts.append(f"{alike} that {'shows' if alike == 1 else 'show'} the same as one labelled or picked")
    if empty:
        parts.append(f"{empty} almost empty")
    return f"passed over before it: {' and '.join(parts)}" if parts else ""
