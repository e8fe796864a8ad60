import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alapp.errors import InputError
from alapp.stages.select import kcentre
from alapp.stages.select.base import Context
from alapp.stages.select.coreset import CoreSet


def distance(a, b):
    """Cosine distance; rows of zeros are alike and at distance 1 from all others."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    if norms == 0:
        return 0.0 if not a.any() and not b.any() else 1.0
    return 1 - float(np.dot(a, b)) / norms


def transcription(embeddings, centres, candidates, k):
    """Sener & Savarese 2018, algorithm 1, with every distance computed anew."""
    rows, centres, picks = embeddings.astype(np.float64), list(centres), []
    for _ in range(min(k, len(candidates))):
        left = [i for i in candidates if i not in picks]
        nearest = [min(distance(rows[i], rows[j]) for j in centres) for i in left]
        best = next(i for i, d in zip(left, nearest, strict=True) if d >= max(nearest) - 1e-12)
        picks.append(best)
        centres.append(best)
    return picks


def select(embeddings, labelled, k, excluded=None, seed=0):
    return CoreSet()(embeddings, labelled, k, np.random.default_rng(seed), Context(excluded=excluded))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), width=st.integers(1, 6), k=st.integers(1, 10), kind=st.data())
def test_same_picks_as_the_algorithm(seed, n, width, k, kind):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n, width)).astype(np.float32)
    if kind.draw(st.booleans(), label="few distinct rows and zeros"):
        embeddings = np.round(embeddings)
    labelled, excluded = np.zeros(n, bool), rng.random(n) < 0.2
    labelled[rng.choice(n, size=min(n, 3), replace=False)] = True
    candidates = np.flatnonzero(~labelled & ~excluded).tolist()
    expected = transcription(embeddings, np.flatnonzero(labelled), candidates, k)
    assert select(embeddings, labelled, k, excluded).rows.tolist() == expected


def test_blocks_do_not_change_the_picks(monkeypatch):
    embeddings = np.random.default_rng(3).standard_normal((700, 6)).astype(np.float32)
    embeddings[600:] = embeddings[:100]
    labelled = np.arange(700) % 50 == 7
    whole = select(embeddings, labelled, 20).picks
    assert whole[0].row in transcription(embeddings, np.flatnonzero(labelled), np.flatnonzero(~labelled), 1)
    monkeypatch.setattr(kcentre, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(kcentre, "_CENTRES_AT_ONCE", 3)
    parts = select(embeddings, labelled, 20).picks
    assert [(p.row, p.nearest) for p in parts] == [(p.row, p.nearest) for p in whole]
    np.testing.assert_allclose([p.distance for p in parts], [p.distance for p in whole], atol=1e-12)


def test_starts_with_three_random_patches_that_count():
    embeddings = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    nothing = np.zeros(60, bool)
    picks = select(embeddings, nothing, 7).picks
    assert len(picks) == 7
    assert [p.reason for p in picks[:3]] == ["random start"] * 3
    assert all(p.distance is None and p.nearest is None for p in picks[:3])
    start = [p.row for p in picks[:3]]
    assert start == np.random.default_rng(0).choice(60, size=3, replace=False).tolist()
    rest = [i for i in range(60) if i not in start]
    assert [p.row for p in picks[3:]] == transcription(embeddings, start, rest, 4)
    assert len({tuple(select(embeddings, nothing, 3, seed=seed).rows) for seed in range(5)}) > 1


def test_distance_nearest_and_reason_are_those_of_the_pick():
    embeddings = np.array([[1, 0], [0, 2], [-3, 0], [1, 1]], dtype=np.float32)
    picks = select(embeddings, np.array([True, False, False, False]), 2).picks
    assert [p.row for p in picks] == [2, 1]
    assert [p.nearest for p in picks] == [0, 0]
    assert picks[0].distance == pytest.approx(2)
    assert picks[1].distance == pytest.approx(1)
    assert picks[0].reason == "farthest from everything labelled: cosine distance 2.00"
    assert picks[1].reason == "farthest from everything labelled or picked: cosine distance 1.00"


def test_identical_rows_are_taken_from_the_lowest():
    embeddings = np.tile(np.float32([0.6, 0.8, 0.1]), (9, 1))
    assert select(embeddings, np.arange(9) == 4, 4).rows.tolist() == [0, 1, 2, 3]


def test_zero_rows_are_alike_so_only_one_is_picked_early():
    embeddings = np.zeros((6, 3), dtype=np.float32)
    embeddings[:3] = np.eye(3)
    picks = select(embeddings, np.array([1, 0, 0, 0, 0, 0], bool), 5).picks
    assert [p.row for p in picks] == [1, 2, 3, 4, 5]
    assert [p.distance for p in picks] == [1, 1, 1, 0, 0]


def test_excluded_patches_are_no_centres():
    embeddings = np.array([[1, 0], [-1, 0.1], [-1, 0], [0, 1]], dtype=np.float32)
    excluded = np.array([False, True, False, False])
    assert select(embeddings, np.array([True, False, False, False]), 1, excluded).rows.tolist() == [2]


def test_scale_of_rows_does_not_matter():
    rng = np.random.default_rng(5)
    embeddings = rng.standard_normal((80, 7)).astype(np.float32)
    scaled = embeddings * rng.choice([0.25, 1, 64], size=(80, 1)).astype(np.float32)
    labelled = np.arange(80) < 2
    assert select(scaled, labelled, 15).rows.tolist() == select(embeddings, labelled, 15).rows.tolist()


def test_memory_mapped_embeddings(tmp_path):
    embeddings = np.random.default_rng(2).standard_normal((300, 5)).astype(np.float32)
    np.save(tmp_path / "e.npy", embeddings)
    mapped = np.load(tmp_path / "e.npy", mmap_mode="r")
    labelled = np.arange(300) == 17
    assert select(mapped, labelled, 9).rows.tolist() == select(embeddings, labelled, 9).rows.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named(bad):
    embeddings = np.ones((5, 3), dtype=np.float32)
    embeddings[3, 1] = bad
    with pytest.raises(InputError, match="row 3"):
        select(embeddings, np.arange(5) == 0, 2)
