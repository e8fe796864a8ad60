"""Two views of a patch in one vector: what its pixels look like, and what the project's network sees in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np

from alapp.domain import BackendState, Report, Status, part
from alapp.errors import InputError
from alapp.stages.embed.base import EMBEDDERS, Embedder, PatchSource
from alapp.stages.embed.network import TrainedNetwork

WEIGHTS: Mapping[str, float] = {"mae": 0.5, "network": 0.5}
"""Share of each part in the similarity of two patches; they add up to 1. Equal, as neither is known to be the better
one: the masked autoencoder knows textures and no task, the network its task and little else."""


class Combined:
    """The parts of `WEIGHTS`, each of unit length and weighted, one after the other.

    With part i scaled by the square root of its weight, the cosine similarity of two patches is the weighted mean of
    their similarities in each part, and rows have unit length.
    """

    title: ClassVar[str] = "Both together"
    suits: ClassVar[str] = "After the first training: how patches look and what the network sees in them, half each."
    trains: ClassVar[bool] = True

    def __init__(
        self, seed: int = 0, network: TrainedNetwork | None = None, parts: Mapping[str, Embedder] | None = None
    ):
        self.parts = parts or {
            "mae": EMBEDDERS.create("mae", seed=seed),
            "network": EMBEDDERS.create("network", seed=seed, network=network),
        }

    @classmethod
    def status(cls) -> Status:
        """Ready on every machine; whether a project has a trained network, `rounds.select.embedding` knows."""
        return Status(BackendState.READY, "Uses the masked autoencoder and the network that the project trained.")

    def fit(self, patches: PatchSource, report: Report, state: Path | None = None) -> None:
        """Train every part, first those that only measure, so that what is missing is told early."""
        names = sorted(self.parts, key=lambda name: self.parts[name].trains)
        for number, name in enumerate(names):
            self.parts[name].fit(patches, part(report, number / len(names), (number + 1) / len(names)), state)

    def embed(self, patches: PatchSource, report: Report) -> np.ndarray:
        """float32 (N, D), rows L2-normalised. Raises what the parts raise."""
        step = 1 / len(self.parts)
        return combine(
            {
                name: embedder.embed(patches, part(report, number * step, (number + 1) * step))
                for number, (name, embedder) in enumerate(self.parts.items())
            }
        )

    def save(self, path: Path) -> None:
        """Write the files of all parts into one archive."""
        with TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
            for name, embedder in self.parts.items():
                embedder.save(Path(folder) / name)
                archive.write(Path(folder) / name, name)

    def load(self, path: Path) -> None:
        """Read what `save` wrote. Raises `InputError` for any other file."""
        if not path.exists():
            raise InputError(f"There is no file {path}. Compute the embeddings again.")
        try:
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive, TemporaryDirectory() as folder:
                files = {name: Path(archive.extract(name, folder)) for name in self.parts}
                for name, embedder in self.parts.items():
                    embedder.load(files[name])
        except (zipfile.BadZipFile, KeyError, OSError, InputError) as error:
            raise InputError(f"{path.name} is not an embedding file of this method. Choose another file.") from error


def combine(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """float32 (N, D) with unit rows, from unit rows of each part of `WEIGHTS`; a row of zeros stays zero there."""
    scaled = [np.sqrt(WEIGHTS[name]) * np.asarray(vectors, np.float64) for name, vectors in parts.items()]
    joined = np.concatenate(scaled, axis=1)
    norms = np.linalg.norm(joined, axis=1, keepdims=True)
    return (joined / np.where(norms > 0, norms, 1)).astype(np.float32)
