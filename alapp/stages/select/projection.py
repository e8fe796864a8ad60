"""A 2D map of the embeddings for the eye; no strategy uses it."""

from __future__ import annotations

import warnings

import numpy as np

from alapp.errors import InputError

UMAP_FROM = 15
"""Below this many patches there are no neighbourhoods to show, and PCA is used."""

_NEIGHBOURS = 15


def project_2d(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """float (N, D) to float32 (N, 2) by UMAP (McInnes et al. 2018, cosine distance), or PCA for few patches.

    The same arguments give the same map: fixed random state, one thread. UMAP compiles for some seconds the first
    time in a process; `pca_2d` is there for a map at once. Raises `InputError` for values that are not finite.
    """
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if not np.isfinite(embeddings).all():
        raise InputError("The embeddings hold NaN or infinity. Compute the embeddings again.")
    # Fewer distinct rows than neighbours leave UMAP's graph in pieces and its spectral start without a solution.
    if len(embeddings) < UMAP_FROM or len(np.unique(embeddings, axis=0)) < UMAP_FROM:
        return pca_2d(embeddings)
    import umap

    # The cosine distance has no value for a row of zeros; on unit rows the Euclidean one ranks in the same way.
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows = embeddings / np.where(norms > 0, norms, 1)
    mapper = umap.UMAP(n_components=2, n_neighbors=min(_NEIGHBOURS, len(rows) - 1), random_state=seed, n_jobs=1)
    with warnings.catch_warnings():
        # A small or tight data set makes UMAP fall back to a random start, which is fine for a map.
        warnings.filterwarnings("ignore", category=UserWarning)
        return np.asarray(mapper.fit_transform(rows), dtype=np.float32)


def pca_2d(embeddings: np.ndarray) -> np.ndarray:
    """The first two principal components, float32 (N, 2); zeros where there are fewer. Signs are fixed."""
    rows = np.asarray(embeddings, dtype=np.float64)
    out = np.zeros((len(rows), 2), dtype=np.float32)
    if len(rows) < 2:
        return out
    rows = rows - rows.mean(axis=0)
    # The D x D covariance, not the SVD of all rows: D is a few hundred, N may be a million.
    _, vectors = np.linalg.eigh(rows.T @ rows)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    out[:, : axes.shape[1]] = rows @ axes
    return out
