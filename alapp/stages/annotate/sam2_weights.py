"""Which weights of SAM 2 are on this computer, which network they belong to, and whether they can be used."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alapp.domain import BackendState, Status
from alapp.environment import home_relative
from alapp.stages.foundation import folders
from alapp.stages.foundation.catalogue import SAM2, fit_for, how_to_get
from alapp.stages.foundation.states import HOW_TO_INSTALL

NEEDED = ("hydra", "iopath")
"""Modules that sam2 imports and that its installation without dependencies leaves out."""


@dataclass(frozen=True)
class Network:
    """One size of SAM 2: the end of the name of the package's configuration, and what tells its weights from those of
    the other sizes: the width of the first layer and the number of blocks of the encoder."""

    config: str
    width: int
    blocks: int


NETWORKS = (
    Network("hiera_t.yaml", 96, 12),
    Network("hiera_s.yaml", 96, 16),
    Network("hiera_b+.yaml", 112, 24),
    Network("hiera_l.yaml", 144, 48),
)
"""From the package's own configurations (`configs/sam2.1`), the fastest first."""

_ENCODER = "image_encoder.trunk."
_NEWER = "no_obj_embed_spatial"  # a weight that SAM 2.1 has and SAM 2 has not
_refused: dict[tuple[Path, int, int], str] = {}


def weights() -> Path | None:
    """The file to use, or None: the user's own before a published one, of these the fastest; a file that cannot be
    used only where there is no other."""
    order = [f"{model.name}.pt" for model in fit_for(None, SAM2)]
    found = [path for path in folders.sam2().glob("*.pt") if path.is_file()]
    rank = {path: order.index(path.name) if path.name in order else -1 for path in found}
    return min(found, key=lambda path: (bool(defect(path)), rank[path], path.name), default=None)


def defect(path: Path) -> str:
    """Why a file of weights cannot be used, as far as its frame tells or loading it has told; "" if it may be fine."""
    if told := _refused.get(_identity(path)):
        return told
    return "" if zipfile.is_zipfile(path) else "it is damaged or was not copied completely"


def refuse(path: Path, reason: str) -> None:
    """Remember, until the file changes or the app ends, that it could not be loaded."""
    _refused[_identity(path)] = reason


def status() -> Status:
    """Whether the package and weights are here. Imports neither torch nor sam2."""
    spec = importlib.util.find_spec("sam2")
    if spec is None or spec.origin is None:  # without an origin it is some folder of that name
        return Status(BackendState.NOT_INSTALLED, "The package sam2 is not installed.", HOW_TO_INSTALL["sam2"])
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        detail = f"The package sam2 is installed, but not what it needs: {', '.join(absent)}."
        return Status(BackendState.NOT_INSTALLED, detail, "Run: pip install -r requirements-sam2.txt")
    path = weights()
    if path is None:
        smallest = fit_for(None, SAM2)[0]
        return Status(
            BackendState.WEIGHTS_MISSING,
            f"No weights of SAM 2 were found in {home_relative(folders.sam2())}.",
            how_to_get(smallest.name),
        )
    if reason := defect(path):
        return Status(
            BackendState.BROKEN,
            f"The weights {home_relative(path)} cannot be used: {reason}.",
            "Remove the file and download it again.",
        )
    return Status(BackendState.READY, f"Weights {path.name} are on this computer.")


def read(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The package's configuration that fits a file of weights, and its tensors by name, read without running code
    of the file. Raises `ValueError` with the reason, or what `torch.load` raises, for a file of another kind."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    tensors = content.get("model") if isinstance(content, dict) else None
    first = tensors.get(f"{_ENCODER}patch_embed.proj.weight") if isinstance(tensors, dict) else None
    if first is None:
        raise ValueError("it does not hold a SAM 2 model")
    blocks = {match[1] for key in tensors if (match := re.match(rf"{re.escape(_ENCODER)}blocks\.(\d+)\.", key))}
    for network in NETWORKS:
        if (network.width, network.blocks) == (first.shape[0], len(blocks)):
            version = "sam2.1" if _NEWER in tensors else "sam2"
            return f"configs/{version}/{version}_{network.config}", tensors
    raise ValueError(f"no size of SAM 2 has {len(blocks)} blocks that begin {first.shape[0]} channels wide")


def _identity(path: Path) -> tuple[Path, int, int]:
    try:
        found = path.stat()
    except OSError:  # it has just been removed
        return path, 0, 0
    return path, found.st_size, found.st_mtime_ns
