"""Rehearsal: while people's labels show few objects, a round goes on learning from pseudo-labels, too.

A batch may hold next to nothing. A network that then learns from its labels alone forgets the objects that
pre-training taught it (catastrophic forgetting; rehearsal is the oldest remedy, Robins 1995, "Catastrophic forgetting,
rehearsal and pseudorehearsal"). See `docs/training.md` for what that costs, and what this gives back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alapp.stages.train.base import Case

FEW_OBJECTS = 5
"""With so many labelled objects or more, labels are learned from alone."""

SHARE = 0.5
"""Pseudo-labels get this share of the draws."""


def is_needed(n_objects: int) -> bool:
    """Whether so many labelled objects are too few to learn from alone."""
    return 0 < n_objects < FEW_OBJECTS


def learned_from(n_labelled: int, n_rehearsed: int) -> str:
    """What a model learned from, in words: so many labelled patches, and so many with pseudo-labels."""
    labelled = f"{n_labelled} {'patch' if n_labelled == 1 else 'patches'}"
    return f"{labelled} and the pseudo-labels of {n_rehearsed} more" if n_rehearsed else labelled


def mixed(
    labelled: Sequence[Case], pseudo: Sequence[Case], drawn: Mapping[str, float] | None = None
) -> tuple[tuple[Case, ...], dict[str, float] | None]:
    """What to train on, and how often each case is drawn, as the trainer takes it in its option "weights".

    `pseudo` are patches that nobody labelled, with their pseudo-labels; `drawn` says how often those in `labelled` are
    drawn among each other. Labels keep 1 - `SHARE` of the draws. Without pseudo-labels nothing changes.
    """
    given = {case.key: (drawn or {}).get(case.key, 1.0) for case in labelled}
    if not pseudo:
        return tuple(labelled), dict(drawn) if drawn else None
    scale = (1 - SHARE) / SHARE * len(pseudo) / sum(given.values())
    return (*labelled, *pseudo), {key: value * scale for key, value in sorted(given.items())}
