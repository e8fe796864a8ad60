"""The protocol of an embedder, and the list of them. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from alapp.domain import Report, Status
from alapp.registry import Registry

PatchSource = Sequence[np.ndarray]
"""A lazy sequence of raw patches (Y, X, C) or (Z, Y, X, C); `source[i]` reads patch i from disk."""


class Embedder(Protocol):
    """Turns patches into vectors. Constructed with `seed`; deterministic given seed, patches and threads."""

    title: ClassVar[str]
    suits: ClassVar[str]
    trains: ClassVar[bool]

    @classmethod
    def status(cls) -> Status:
        """Whether it can run on this machine. No download, no torch import."""

    def fit(self, patches: PatchSource, report: Report, state: Path | None = None) -> None:
        """Train on raw patches, or only measure them where `trains` is False.

        One that was fitted or loaded before goes on from there. With `state`, a file, a training that was killed goes
        on from what it saved there; the file is gone when `fit` returns.
        """

    def embed(self, patches: PatchSource, report: Report) -> np.ndarray:
        """float32 (N, D), rows L2-normalised; a 3D patch is the mean over its slices. No augmentation."""

    def save(self, path: Path) -> None:
        """Write the weights to `path` (the caller makes it atomic)."""

    def load(self, path: Path) -> None:
        """Read weights that `save` wrote. Raises `InputError` if they do not fit."""


EMBEDDERS: Registry[Embedder] = Registry(
    "embedding method",
    {
        "mae": "alapp.stages.embed.mae:MaskedAutoencoder",
        "timm": "alapp.stages.embed.timm_features:TimmFeatures",
        "network": "alapp.stages.embed.network:NetworkFeatures",
        "combined": "alapp.stages.embed.combined:Combined",
    },
)

NEED_NETWORK = frozenset({"network", "combined"})
"""Embedders that are constructed with `network`, the trained network of a project, too."""
