import numpy as np

from alapp.stages.select.base import Context
from alapp.stages.select.foreground_random import ForegroundRandom
from alapp.stages.select.uniform import Random

EMPTY = np.zeros((60, 2), dtype=np.float32)
NOTHING = np.zeros(60, dtype=bool)


def test_random_gives_every_patch_the_same_chance():
    counts = np.zeros(10)
    for seed in range(2000):
        rows = Random()(EMPTY[:10], NOTHING[:10], 3, np.random.default_rng(seed), Context()).rows
        counts[rows] += 1
    assert np.abs(counts - 600).max() < 5 * np.sqrt(600 * 0.7)


def test_a_third_holds_foreground_even_when_it_is_rare():
    foreground = np.where(np.arange(60) < 4, 0.5, 0)
    for seed in range(20):
        rows = ForegroundRandom()(EMPTY, NOTHING, 9, np.random.default_rng(seed), Context(foreground=foreground)).rows
        assert (rows < 4).sum() >= 3


def test_foreground_that_runs_out_is_filled_up():
    foreground = np.where(np.arange(60) < 2, 0.004, 0)
    selection = ForegroundRandom()(EMPTY, NOTHING, 30, np.random.default_rng(0), Context(foreground=foreground))
    assert len(selection.picks) == 30
    reasons = {p.row: p.reason for p in selection.picks}
    assert "less than 1%" in reasons[0]
    assert "less than 1%" in reasons[1]


def test_says_when_it_knows_no_foreground():
    selection = ForegroundRandom()(EMPTY, NOTHING, 3, np.random.default_rng(0), Context())
    assert all("not known" in p.reason for p in selection.picks)
    none = ForegroundRandom()(EMPTY, NOTHING, 3, np.random.default_rng(0), Context(foreground=np.zeros(60)))
    assert all("no patch left has foreground" in p.reason for p in none.picks)
