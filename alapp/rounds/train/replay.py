"""Replay: how often each labelled patch is drawn while a round is trained.

A round is trained on everything labelled so far, which is what keeps a network from forgetting (experience replay;
Rolnick et al. 2019, arXiv 1811.11682). Drawn evenly, though, the newest batch becomes a smaller and smaller part of
it, and in a long project a batch of a new kind of image is hardly seen. So new patches are drawn more often, within
limits that protect the old ones.
"""

from __future__ import annotations

from collections.abc import Collection

NEW_AGAINST_OLD = 2.0
"""A patch of the newest batch is drawn twice as often as an older one: the network has seen the older ones before."""

NEW_SHARE_MAX = 0.5
"""The newest batch gets at most this share of the draws, so that old labels are at least half of what is rehearsed,
also when one batch brings more patches than all batches before it; but see `OLD_AGAINST_NEW_MAX`."""

OLD_AGAINST_NEW_MAX = 4.0
"""An old patch is drawn at most four times as often as a new one, whatever `NEW_SHARE_MAX` asks for: two patches of
a small first batch would otherwise be learned by heart."""


def weights(keys: Collection[str], new: Collection[str]) -> dict[str, float] | None:
    """How often the cases `new` are drawn, relative to 1 of all others in `keys`, as the trainer takes it in its
    option "weights". None where all are drawn alike: everything is new, or nothing is."""
    n_new = len(set(keys) & set(new))
    n_old = len(set(keys)) - n_new
    if not n_new or not n_old:
        return None
    largest = NEW_SHARE_MAX / (1 - NEW_SHARE_MAX) * n_old / n_new
    weight = max(min(NEW_AGAINST_OLD, largest), 1 / OLD_AGAINST_NEW_MAX)
    return None if weight == 1 else dict.fromkeys(sorted(set(keys) & set(new)), weight)
