"""Weights of micro_sam's architectures with random numbers from a seed: real models, of no use but for tests."""

from __future__ import annotations

from pathlib import Path

from alapp.environment import prepare
from alapp.stages.annotate.microsam import own_unpickler
from alapp.stages.foundation.finetune_sam import Start


def seeded(folder: Path, architecture: str, decoder: bool = True, name: str = "") -> Start:
    """Files `name` (by default the architecture) and `name`_decoder in `folder`, as micro_sam's cache has them."""
    prepare()
    folder.mkdir(parents=True, exist_ok=True)
    name = name or architecture
    with own_unpickler():
        import torch
        from micro_sam import util
        from micro_sam.instance_segmentation import get_unetr

        torch.manual_seed(0)
        sam = util.sam_model_registry[architecture]()
        torch.save(sam.state_dict(), folder / name)
        if decoder:
            state = get_unetr(sam.image_encoder, None, device="cpu").state_dict()
            parts = {key: value for key, value in state.items() if not key.startswith("encoder")}
            torch.save(parts, folder / f"{name}_decoder")
    return Start(architecture, folder / name, folder / f"{name}_decoder" if decoder else None)
