"""Checkpoints of nnU-Net trainings: their names, and reading them although a file may be cut short.

Imports torch.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alapp.errors import InputError
from alapp.stages.foundation.residency import is_out_of_memory

LATEST, PREVIOUS, FINAL = "checkpoint_latest.pth", "checkpoint_previous.pth", "checkpoint_final.pth"
"""Of an unfinished training the newest and the one before, and of a finished one."""


def dump(checkpoint: Mapping[str, Any]) -> bytes:
    """A checkpoint as the content of its file."""
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    return buffer.getvalue()


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint file, in the computer's memory; None when it is missing or cut short.

    Raises `MemoryError`, or what torch raises, where it does not fit there: nothing is wrong with the file then.
    """
    if not path.exists():
        return None
    try:
        # Not onto the GPU: others may hold it, and what is loaded is copied into the network anyway.
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        return None


def load_latest(out: Path, signature: Mapping[str, Any]) -> dict[str, Any] | None:
    """The last readable checkpoint of the unfinished run `signature` in `out`; None to start over. Raises as
    `read_checkpoint` does.

    Files that are cut short or belong to another run are removed.
    """
    for name in (LATEST, PREVIOUS):
        checkpoint = read_checkpoint(out / name)
        if checkpoint is not None and checkpoint["signature"] == dict(signature):
            return checkpoint
        (out / name).unlink(missing_ok=True)
    return None


def load_weights(network: nn.Module, weights: Mapping[str, Any]) -> None:
    """All weights, the segmentation head too. Raises `InputError` when they belong to another network."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            "The model to continue from belongs to another network configuration (another preset or project): "
            "choose one that was trained with this preset, or start from scratch."
        ) from error
