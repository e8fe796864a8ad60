"""Weights of micro_sam drawn from a seed: its masks mean nothing, and are always the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from alapp.environment import prepare


def make_vit_t(folder: Path) -> Path:
    """Write `models/vit_t_lm` (41 MB) below `folder`, to which MICROSAM_CACHEDIR then points; returns its path. Skips
    where a package is missing."""
    pytest.importorskip("micro_sam")
    prepare()
    import torch

    mobile_sam = pytest.importorskip("mobile_sam")
    (folder / "models").mkdir()
    path = folder / "models" / "vit_t_lm"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(mobile_sam.sam_model_registry["vit_t"]().state_dict(), path)
    return path
