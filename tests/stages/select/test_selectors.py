"""What every registered selection strategy promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alapp.errors import InputError
from alapp.stages.select.base import SELECTORS, Context, Need

NAMES = list(SELECTORS)
NEED_A_MODEL = ("entropy", "bald", "clasp", "coreset_uncertainty")


def pick(name, embeddings, labelled, k, context=None, seed=0):
    return SELECTORS.create(name)(embeddings, labelled, k, np.random.default_rng(seed), context or Context())


def everything(rng, n, excluded=None):
    """A context in which all is known."""
    by_class = rng.random((n, 3))
    by_class[rng.random((n, 3)) < 0.3] = np.nan
    return Context(
        foreground=np.where(rng.random(n) < 0.5, 0, rng.random(n)),
        excluded=excluded,
        contrast=rng.random(n) * (rng.random(n) < 0.8),
        content=rng.integers(max(1, 2 * n), size=n),
        place=np.column_stack([rng.integers(2, size=n), rng.integers(40, size=(n, 3)), rng.integers(1, 40, (n, 3))]),
        uncertainty=rng.random(n),
        mutual_information=rng.random(n),
        class_entropy=by_class,
        cost=rng.uniform(5, 200, n),
        round_number=int(rng.integers(1, 9)),
    )


def only(name, known):
    """What of a context a strategy asked for, as the app tells it."""
    needs = SELECTORS.load(name).needs
    return Context(excluded=known.excluded, **{str(need): getattr(known, need) for need in needs})


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is_and_needs(name):
    backend = SELECTORS.load(name)
    assert backend.title
    assert backend.suits.endswith(".")
    assert backend.needs <= set(Need)
    assert isinstance(backend.uses_embeddings, bool)


def test_needs_are_fields_of_the_context():
    assert {str(need) for need in Need} == set(vars(Context())) - {"excluded"}


def test_titles_differ():
    assert len({SELECTORS.load(name).title for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 30),
    k=st.integers(0, 12),
    seed=st.integers(0, 10**6),
    knows=st.booleans(),
    few=st.booleans(),
)
def test_picks_are_free_distinct_and_as_many_as_possible(name, n, k, seed, knows, few):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n, 4)).astype(np.float32)
    if few:  # rows that occur often, and rows of zeros
        embeddings = np.round(embeddings / 2)
    labelled, excluded = rng.random(n) < rng.random(), rng.random(n) < 0.3
    context = only(name, everything(rng, n, excluded)) if knows else Context(excluded=excluded)
    selection = pick(name, embeddings, labelled, k, context, seed)
    rows, free = selection.rows, ~labelled & ~excluded
    assert rows.dtype == np.int64
    assert len(rows) == min(k, free.sum())
    assert len(set(rows.tolist())) == len(rows)
    assert free[rows].all()
    assert all(p.reason for p in selection.picks)


@pytest.mark.parametrize("name", NAMES)
def test_same_arguments_same_picks_and_inputs_untouched(name):
    rng = np.random.default_rng(1)
    embeddings, labelled = rng.standard_normal((50, 5)).astype(np.float32), rng.random(50) < 0.1
    context = everything(rng, 50, rng.random(50) < 0.1)
    arrays = [embeddings, labelled, *(value for value in vars(context).values() if isinstance(value, np.ndarray))]
    before = [array.copy() for array in arrays]
    assert pick(name, embeddings, labelled, 9, context) == pick(name, embeddings, labelled, 9, context)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labelled", [False, True])
def test_one_patch_no_patch_and_more_than_there_are(name, labelled):
    one = np.ones((1, 4), np.float32)
    assert pick(name, one, np.zeros(1, bool), 5).rows.tolist() == [0]
    assert pick(name, one, np.ones(1, bool), 5).rows.tolist() == []
    assert pick(name, np.zeros((0, 4), np.float32), np.zeros(0, bool), 5).rows.tolist() == []
    embeddings = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    marked = np.arange(7) < labelled
    assert sorted(pick(name, embeddings, marked, 99).rows.tolist()) == list(range(int(labelled), 7))
    assert pick(name, embeddings, marked, 0).rows.tolist() == []


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_zeros_and_equal_rows_are_picked_when_nothing_else_is_left(name):
    assert len(set(pick(name, np.zeros((9, 4), np.float32), np.arange(9) == 3, 8).rows.tolist())) == 8
    known = everything(np.random.default_rng(0), 9)
    assert len(set(pick(name, np.ones((9, 4), np.float32), np.zeros(9, bool), 9, known).rows.tolist())) == 9


@pytest.mark.parametrize("name", NAMES)
def test_mapped_embeddings_give_the_same_picks(name, tmp_path):
    rng = np.random.default_rng(2)
    np.save(tmp_path / "e.npy", rng.standard_normal((60, 5)).astype(np.float32))
    mapped, labelled, context = np.load(tmp_path / "e.npy", mmap_mode="r"), np.arange(60) % 9 == 0, everything(rng, 60)
    assert pick(name, mapped, labelled, 9, context) == pick(name, np.array(mapped), labelled, 9, context)


@pytest.mark.parametrize("name", NEED_A_MODEL)
def test_before_there_is_a_model_it_is_core_set_and_says_why(name):
    embeddings = np.random.default_rng(3).standard_normal((30, 5)).astype(np.float32)
    labelled = np.arange(30) < 2
    found = pick(name, embeddings, labelled, 6)
    assert found.rows.tolist() == pick("coreset", embeddings, labelled, 6).rows.tolist()
    assert all(p.reason.startswith("there is no model yet") for p in found.picks)
    assert all("core-set" in p.reason for p in found.picks)


@pytest.mark.parametrize("name", [name for name in NAMES if SELECTORS.load(name).uses_embeddings])
def test_empty_and_repeated_patches_come_last(name):
    rng = np.random.default_rng(4)
    embeddings = rng.standard_normal((24, 5)).astype(np.float32)
    embeddings[20:] = embeddings[:4]  # 0 to 3 are labelled
    context = everything(rng, 24)
    context = Context(
        **{**vars(context), "contrast": np.where((np.arange(24) >= 15) & (np.arange(24) < 20), 0.01, 1),
           "foreground": np.where(np.arange(24) < 15, 0.3, 0), "content": np.arange(24),
           "place": np.column_stack([np.arange(24), np.tile([0, 0, 0, 1, 64, 64], (24, 1))])}
    )  # fmt: skip
    found = pick(name, embeddings, np.arange(24) < 4, 20, context)
    assert len(found.picks) == 20
    assert sorted(found.rows[:11].tolist()) == list(range(4, 15))
    assert all("nothing else is left" in p.reason for p in found.picks[11:])


@pytest.mark.parametrize("name", [name for name in NAMES if not SELECTORS.load(name).uses_embeddings])
def test_who_does_not_use_embeddings_picks_the_same_with_any(name):
    rng = np.random.default_rng(5)
    context = everything(rng, 30)
    one, other = (array.astype(np.float32) for array in (rng.random((30, 4)), np.full((30, 1), np.nan)))
    nothing = np.zeros(30, bool)
    assert pick(name, one, nothing, 9, context) == pick(name, other, nothing, 9, context)


@pytest.mark.parametrize("name", [name for name in NAMES if SELECTORS.load(name).uses_embeddings])
def test_embeddings_that_are_not_finite_are_refused(name):
    embeddings = np.ones((30, 3), dtype=np.float32)
    embeddings[3, 1] = np.nan
    with pytest.raises(InputError, match="row 3"):
        pick(name, embeddings, np.arange(30) == 0, 9)


@pytest.mark.parametrize("name", NAMES)
def test_negative_k_is_refused(name):
    with pytest.raises(InputError, match="-1"):
        pick(name, np.eye(3, dtype=np.float32), np.zeros(3, bool), -1)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_other_lengths_are_refused(name):
    with pytest.raises(ValueError, match="labelled"):
        pick(name, np.eye(3, dtype=np.float32), np.zeros(4, bool), 1)
