"""How many objects the labels show and how many of them touch, on which it depends how a network learns from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from alapp.stages.train.base import Case
from alapp.stages.train.targets import CROWDED, touching_labels

FEW_OBJECTS = 300
"""With more labelled objects than this there are places enough as they are, and nothing is pasted."""

DENSE = 0.25
"""From this share of objects that touch another one, borders between objects count more. At 38% (dense nuclei) that
helped; at 12% (bacteria, of which some touch and some are a pixel apart) it did harm."""


@dataclass(frozen=True)
class Crowding:
    """`objects` that were counted, and the share of those, slice by slice, that touch another one."""

    objects: int
    touching: float

    @property
    def few_apart(self) -> bool:
        """Whether pasting helps (`pasting.PastingCases`). What is pasted stays apart from all else; where objects are
        crowded the network would see less of how they touch."""
        return 0 < self.objects <= FEW_OBJECTS and self.touching < CROWDED

    @property
    def dense(self) -> bool:
        """Whether borders between objects are to count more (`contacts.ContactLoss`)."""
        return self.touching >= DENSE


def crowding(cases: Iterable[Case]) -> Crowding:
    """Of the labels of `cases`, of which no more are read once there are more than `FEW_OBJECTS` objects."""
    count = seen = touching = 0
    for case in cases:
        _, labels = case.load()
        for plane in labels if labels.ndim == 3 else labels[None]:
            seen += np.count_nonzero(np.unique(plane))
            touching += len(touching_labels(plane))
        count += np.count_nonzero(np.unique(labels))
        if count > FEW_OBJECTS:
            break
    return Crowding(count, touching / seen if seen else 0.0)
