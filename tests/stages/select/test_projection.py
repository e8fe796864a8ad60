import numpy as np
import pytest

from alapp.errors import InputError
from alapp.stages.select.projection import pca_2d, project_2d


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_patches_use_pca(n):
    rows = np.random.default_rng(0).standard_normal((n, 6)).astype(np.float32)
    points = project_2d(rows)
    assert points.shape == (n, 2)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, pca_2d(rows))


def test_pca_keeps_distances_of_flat_data():
    rng = np.random.default_rng(1)
    flat = rng.standard_normal((40, 2)) @ np.linalg.qr(rng.standard_normal((9, 2)))[0].T
    points = pca_2d(flat)
    for a, b in ((0, 1), (5, 30), (12, 39)):
        assert np.linalg.norm(points[a] - points[b]) == pytest.approx(np.linalg.norm(flat[a] - flat[b]), rel=1e-5)
    assert points[:, 0].std() >= points[:, 1].std()


def test_pca_of_one_column():
    points = pca_2d(np.arange(4)[:, None])
    assert points.shape == (4, 2)
    assert (points[:, 1] == 0).all()


def test_identical_rows_need_no_umap():
    np.testing.assert_array_equal(project_2d(np.ones((50, 4))), np.zeros((50, 2)))


@pytest.mark.slow
def test_umap_keeps_clusters_apart_and_is_deterministic():
    rng = np.random.default_rng(0)
    group = np.arange(60) % 2
    rows = (np.eye(8)[group] + 0.05 * rng.standard_normal((60, 8))).astype(np.float32)
    points = project_2d(rows, seed=3)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, project_2d(rows, seed=3))
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    assert (group[gaps.argmin(axis=1)] == group).all()


def test_not_finite_is_refused():
    with pytest.raises(InputError, match="NaN"):
        project_2d(np.full((20, 3), np.nan))
