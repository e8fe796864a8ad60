"""What every registered selection strategy promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alapp.errors import InputError
from alapp.stages.select.base import SELECTORS, Context

NAMES = list(SELECTORS)


def pick(name, embeddings, labelled, k, context=None, seed=0):
    return SELECTORS.create(name)(embeddings, labelled, k, np.random.default_rng(seed), context or Context())


@pytest.mark.parametrize("name", NAMES)
def test_has_title_and_suits(name):
    backend = SELECTORS.load(name)
    assert backend.title
    assert backend.suits.endswith(".")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 30), k=st.integers(0, 12), seed=st.integers(0, 10**6), knows=st.booleans())
def test_picks_are_free_distinct_and_as_many_as_possible(name, n, k, seed, knows):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n, 4)).astype(np.float32)
    labelled, excluded = rng.random(n) < rng.random(), rng.random(n) < 0.3
    foreground = np.where(rng.random(n) < 0.5, 0, rng.random(n)) if knows else None
    context = Context(foreground=foreground, excluded=excluded)
    rows = pick(name, embeddings, labelled, k, context, seed).rows
    free = ~labelled & ~excluded
    assert rows.dtype == np.int64
    assert len(rows) == min(k, free.sum())
    assert len(set(rows.tolist())) == len(rows)
    assert free[rows].all()


@pytest.mark.parametrize("name", NAMES)
def test_same_arguments_same_picks_and_inputs_untouched(name):
    rng = np.random.default_rng(1)
    embeddings, labelled = rng.standard_normal((50, 5)).astype(np.float32), rng.random(50) < 0.1
    context = Context(foreground=rng.random(50), excluded=rng.random(50) < 0.1)
    before = embeddings.copy(), labelled.copy(), context.excluded.copy()
    assert pick(name, embeddings, labelled, 9, context) == pick(name, embeddings, labelled, 9, context)
    for array, copy in zip((embeddings, labelled, context.excluded), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", NAMES)
def test_every_pick_has_a_reason(name):
    selection = pick(name, np.eye(8, dtype=np.float32), np.zeros(8, bool), 6)
    assert len(selection.picks) == 6
    assert all(p.reason for p in selection.picks)


@pytest.mark.parametrize("name", NAMES)
def test_negative_k_is_refused(name):
    with pytest.raises(InputError, match="-1"):
        pick(name, np.eye(3, dtype=np.float32), np.zeros(3, bool), -1)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_other_lengths_are_refused(name):
    with pytest.raises(ValueError, match="labelled"):
        pick(name, np.eye(3, dtype=np.float32), np.zeros(4, bool), 1)
