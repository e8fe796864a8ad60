"""Small stand-ins for SAM, so that a checkpoint weighs bytes; `vit_b` and `vit_l` differ by their width."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alapp.stages.foundation import reading

WIDTHS = {"vit_b": 768, "vit_l": 1024}


def weights(architecture: str = "vit_b", seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width = WIDTHS[architecture]
    return {
        "image_encoder.patch_embed.proj.weight": torch.rand(width, 1, 1, 1, generator=generator),
        "mask_decoder.bias": torch.rand(4, generator=generator),
    }


def use_small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        reading, "_expected", lambda name: {part: tuple(value.shape) for part, value in weights(name).items()}
    )
    monkeypatch.setattr(reading, "checked_decoder", lambda path, decoder: decoder)


def saved(path: Path, content: object, **options: object) -> Path:
    torch.save(content, path, **options)
    return path
