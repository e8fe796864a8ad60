"""Features of a vision transformer that was pre-trained on other images, from weights already on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from alapp.domain import BackendState, Report, Status
from alapp.environment import prepare
from alapp.errors import InputError, NotInstalledError, WeightsMissingError
from alapp.stages.embed import preprocess
from alapp.stages.embed.base import PatchSource

if TYPE_CHECKING:
    import torch

MODELS = (
    "vit_small_patch14_dinov2.lvd142m",
    "vit_base_patch14_dinov2.lvd142m",
    "vit_small_patch16_224.dino",
    "vit_base_patch16_224.dino",
)
"""Self-supervised models (DINOv2, DINO), the preferred first; all Apache-2.0."""

_FILES = ("model.safetensors", "pytorch_model.bin")
_FORMAT = "alapp timm features 1"
_SIDE = 224  # divisible by 14 and 16
_BATCH = 16


class TimmFeatures:
    """Mean over the tokens of a timm vision transformer; nothing is trained, nothing downloaded.

    `model` is a timm name, by default the first of `MODELS` that is cached by huggingface_hub; `weights` a file of
    the user for that model (.safetensors, .pth or .bin) in place of the cached one. `seed` has no effect.
    """

    title: ClassVar[str] = "Pre-trained vision transformer (DINOv2)"
    suits: ClassVar[str] = "Few images: general features without training, if their weights are on this machine."
    trains: ClassVar[bool] = False

    def __init__(self, seed: int = 0, model: str | None = None, weights: Path | None = None):
        self.seed = seed
        self.model = model
        self.weights = weights
        self._encoder: torch.nn.Module | None = None

    @classmethod
    def status(cls) -> Status:
        """Whether the weights of one of `MODELS` are in the Hugging Face cache (HF_HOME or HF_HUB_CACHE)."""
        missing = [name for name in ("timm", "huggingface_hub") if importlib.util.find_spec(name) is None]
        if missing:
            return Status(
                BackendState.NOT_INSTALLED, f"The package {missing[0]} is missing.", f"pip install {missing[0]}"
            )
        found = next((name for name in MODELS if cached_weights(name)), None)
        if found is None:
            return Status(
                BackendState.WEIGHTS_MISSING,
                "No pre-trained weights are in the Hugging Face cache of this machine.",
                f"On a machine with internet: huggingface-cli download timm/{MODELS[0]}",
            )
        return Status(BackendState.READY, f"Uses the cached weights of {found}.")

    def fit(self, patches: PatchSource, report: Report, state: Path | None = None) -> None:
        """Nothing to train; loads the weights, so that a missing file is told early."""
        self._load_encoder()

    def embed(self, patches: PatchSource, report: Report) -> np.ndarray:
        """float32 (N, D), rows L2-normalised: mean over tokens, and over at most 8 slices of a 3D patch.

        One channel is repeated to three, of more the first three are used, two are filled up with zeros. Raises
        `WeightsMissingError` where no weights are on this machine.
        """
        encoder = self._load_encoder()
        rows = []
        for done in range(len(patches)):
            report(done, len(patches), "Embedding patches")
            rows.append(np.mean(list(self._features(encoder, patches[done])), axis=0))
        report(len(patches), len(patches), "Embedding patches")
        return preprocess.unit_rows(rows) if rows else np.zeros((0, encoder.num_features), dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write which model was used; its weights stay in the cache."""
        self._load_encoder()
        import torch

        with open(path, "wb") as handle:
            torch.save({"format": _FORMAT, "model": self.model}, handle)

    def load(self, path: Path) -> None:
        """Use the model that `save` recorded. Raises `InputError` for any other file."""
        import torch

        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise InputError(f"There is no file {path}. Compute the embeddings again.") from error
        except Exception as error:  # torch raises a dozen types for files that are not its own
            raise InputError(f"{path.name} is not an embedding file of this app. Choose another file.") from error
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise InputError(f"{path.name} is not an embedding file of this method. Choose another file.")
        if state["model"] != self.model:
            self.model, self._encoder = str(state["model"]), None

    def _load_encoder(self) -> torch.nn.Module:
        if self._encoder is not None:
            return self._encoder
        if importlib.util.find_spec("timm") is None:
            raise NotInstalledError("The package timm is missing. Install it with: pip install timm")
        model = self.model or next((name for name in MODELS if cached_weights(name)), MODELS[0])
        file = self.weights or cached_weights(model)
        if file is None or not Path(file).exists():
            raise WeightsMissingError(
                f"The weights of {model} are not on this machine{f' at {file}' if file else ''}. "
                "Choose the masked autoencoder, or put the weights there."
            )
        prepare()
        import timm

        try:
            encoder = timm.create_model(
                model,
                pretrained=True,
                pretrained_cfg_overlay={"file": str(file), "custom_load": False},
                num_classes=0,
                img_size=_SIDE,
            )
        except Exception as error:  # timm, torch and safetensors each raise their own types for a wrong file
            raise InputError(f"{Path(file).name} does not hold weights of {model}: {error}") from error
        self.model = model
        self._encoder = encoder.eval()
        return self._encoder

    def _features(self, encoder: torch.nn.Module, patch: np.ndarray) -> Iterator[np.ndarray]:
        """One vector per slice, float32 (D,)."""
        import torch

        mean, std = (torch.tensor(encoder.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
        images = _three_channels(preprocess.read(patch, _SIDE))
        with torch.inference_mode():
            for batch in ((images - mean) / std).split(_BATCH):
                tokens = encoder.forward_features(batch)[:, encoder.num_prefix_tokens :]
                yield from tokens.mean(dim=1).numpy()


def cached_weights(model: str) -> Path | None:
    """The weights of a timm model in the Hugging Face cache, or None. Never downloads."""
    from huggingface_hub import try_to_load_from_cache

    for name in _FILES:
        path = try_to_load_from_cache(f"timm/{model}", name)
        if isinstance(path, str):
            return Path(path)
    return None


def _three_channels(images: torch.Tensor) -> torch.Tensor:
    """(S, C, H, W) as (S, 3, H, W)."""
    import torch

    channels = images.shape[1]
    if channels == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 2:
        return torch.cat([images, torch.zeros_like(images[:, :1])], dim=1)
    return images[:, :3]
