import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alapp.stages.select import kcentre
from alapp.stages.select.kcentre import NearestCentre


def brute_force(embeddings, centres, candidates, weights, k):
    """(row, distance, centre) of k picks, every distance anew."""
    rows = embeddings.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1)
    centres, left, picks = list(centres), list(candidates), []
    for _ in range(min(k, len(left))):
        distance = 1 - rows[left] @ rows[centres].T
        zero = norms[left] == 0
        distance[zero & (norms[centres] == 0).T] = 0
        distance = distance.clip(0, 2)
        nearest = distance.min(axis=1)
        score = nearest * weights[left]
        best = int(np.argmax(score >= score.max() - 1e-12))
        picks.append((left[best], nearest[best]))
        centres.append(left.pop(best))
    return picks


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), width=st.integers(1, 6), block=st.booleans())
def test_weighted_distances_give_the_picks_of_the_brute_force(seed, n, width, block):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n, width)).astype(np.float32)
    embeddings[rng.random(n) < 0.1] = 0
    weights = rng.uniform(0.05, 1, n)
    centres = rng.choice(n, size=min(n - 1, 2), replace=False)
    candidates = np.setdiff1d(np.flatnonzero(rng.random(n) < 0.8), centres)
    old = kcentre._BLOCK_BYTES
    kcentre._BLOCK_BYTES = 1 if block else old
    try:
        nearest = NearestCentre(embeddings, candidates, centres, weights)
        found = []
        while (best := nearest.farthest()) is not None:
            nearest.add(best[0])
            found.append(best)
    finally:
        kcentre._BLOCK_BYTES = old
    expected = brute_force(embeddings, centres, candidates, weights, n)
    assert [row for row, _, _ in found] == [row for row, _ in expected]
    np.testing.assert_allclose([d for _, d, _ in found], [d for _, d in expected], atol=1e-9)


def test_only_what_is_allowed_is_returned_and_what_was_shut_out_comes_back_with_exact_distances():
    embeddings = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    nearest = NearestCentre(embeddings, np.arange(1, 300), np.array([0]))
    nearest.allow(np.arange(200, 300))
    first = [nearest.farthest()[0]]
    nearest.add(first[0])
    assert first[0] >= 200
    nearest.allow(np.arange(300))
    row, distance, _ = nearest.farthest()
    candidates = [i for i in range(1, 300) if i != first[0]]
    assert (row, pytest.approx(distance)) == brute_force(embeddings, [0, *first], candidates, np.ones(300), 1)[0]


def test_dropped_rows_are_no_centres():
    embeddings = np.array([[1, 0], [-1, 0], [-1, 0.1]], dtype=np.float32)
    nearest = NearestCentre(embeddings, np.array([1, 2]), np.array([0]))
    nearest.drop(1)
    assert nearest.farthest()[0] == 2
    nearest.drop(2)
    assert nearest.farthest() is None


def test_without_a_centre_everything_is_infinitely_far():
    nearest = NearestCentre(np.eye(3, dtype=np.float32), np.arange(3), np.array([], dtype=int))
    assert nearest.farthest() == (0, np.inf, -1)


def test_nothing_to_return():
    assert NearestCentre(np.zeros((0, 4), np.float32), np.array([], int), np.array([], int)).farthest() is None


def test_memory_mapped_embeddings_are_not_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(kcentre, "_SMALL_BYTES", 0)
    np.save(tmp_path / "e.npy", np.random.default_rng(2).standard_normal((300, 5)).astype(np.float32))
    mapped = np.load(tmp_path / "e.npy", mmap_mode="r")
    nearest = NearestCentre(mapped, np.arange(1, 300), np.array([0]))
    assert nearest.embeddings is mapped
    nearest.farthest()
