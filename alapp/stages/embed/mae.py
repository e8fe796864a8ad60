"""Masked autoencoder: features learnt from the project's own patches, without labels.

He, Chen, Xie, Li, Dollar, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022: a vision
transformer sees a quarter of an image's tokens, a small decoder predicts the pixels of the other three quarters;
the loss is the mean squared error on the hidden tokens, each normalised to mean 0 and variance 1. The modules are
lightly's on a timm ViT; the sizes here train on a CPU within minutes.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from alapp.domain import BackendState, Report, Status, part
from alapp.environment import prepare
from alapp.errors import InputError, NotReadyError
from alapp.stages.embed import preprocess
from alapp.stages.embed.base import PatchSource
from alapp.stages.embed.mae_network import Architecture, build, encode

if TYPE_CHECKING:
    import torch

# What torch.load and the network raise for files and contents that are not ours.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    EOFError,
    OSError,
)
_FORMATS = ("alapp masked autoencoder 1", "alapp masked autoencoder 2")
"""The first had no decoder, and an encoder that read 0 to 1."""
_BATCH = 64
_MAX_TRAINING_PATCHES = 4096
_TRAINING_MEMORY = 256 * 2**20
_MARGIN = 1.15  # training images are kept this much larger than the encoder's input, to crop from


def iterations_for(n: int, warm: bool = False) -> int:
    """Most training iterations (batches of 32 images) for `n` patches, half of it for a network that was trained."""
    most = int(np.clip(2 * n, 300, 1500))
    return most // 2 if warm else most


class MaskedAutoencoder:
    """Trains on raw patches; embeds by the mean over the encoder's tokens, centred and normalised.

    `iterations` overrides the training length chosen from the number of patches. The same seed, patches and number
    of threads give the same embeddings on a CPU. Runs on a CUDA GPU where there is one.
    """

    title: ClassVar[str] = "Masked autoencoder, trained on these images"
    suits: ClassVar[str] = "Any microscopy: learns from the project's own patches and needs no downloaded weights."
    trains: ClassVar[bool] = True

    def __init__(self, seed: int = 0, iterations: int | None = None, architecture: Architecture | None = None):
        self.seed = seed
        self.iterations = iterations
        self.architecture = architecture or Architecture()
        self.losses: list[float] = []
        """Of the last `fit`: loss on held-out patches after every 25 iterations."""
        self._encoder: torch.nn.Module | None = None
        self._decoder: torch.nn.ModuleDict | None = None
        self._channels = 0
        self._centre = np.zeros(0)

    @classmethod
    def status(cls) -> Status:
        """Always ready: the packages are requirements of the app, and there are no weights to download."""
        return Status(BackendState.READY, "Trains on the project's own patches.")

    def fit(self, patches: PatchSource, report: Report, state: Path | None = None) -> None:
        """Train on at most 4,096 of the patches (drawn with the seed), in at most 256 MB.

        A model that was trained or loaded before goes on from its weights, for half as long, unless the number of
        channels differs. Training ends early when a tenth of the patches, which is held out, gains nothing more. With
        `state`, a file, a training that was killed goes on from it; it is removed at the end.

        Also stores the mean feature, which `embed` subtracts: vectors of later patches stay comparable with earlier
        ones. Raises `InputError` without patches or when their channels differ.
        """
        if len(patches) == 0:
            raise InputError("There are no patches to train the embeddings on. Import images first.")
        prepare()
        import torch

        from alapp.stages.embed.mae_training import LEARNING_RATE, WARM_RATE, Training

        images, content = self._read_training(patches, part(report, 0, 0.1))
        channels = images[0].shape[1]
        warm = self._encoder is not None and self._decoder is not None and channels == self._channels
        steps = self.iterations or iterations_for(len(patches), warm)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            encoder, decoder = build(self.architecture, channels)
            start = ""
            if warm:
                encoder.load_state_dict(self._encoder.state_dict())
                decoder.load_state_dict(self._decoder.state_dict())
                start = _hash_of(encoder)
            signature = {
                "seed": self.seed, "steps": steps, "images": content, "start": start, **asdict(self.architecture),
            }  # fmt: skip
            training = Training(
                encoder, decoder, images, self.architecture, steps, WARM_RATE if warm else LEARNING_RATE, state,
                signature,
            )  # fmt: skip
            training.run(part(report, 0.1, 0.95))
        self.losses = training.losses
        self._encoder, self._decoder, self._channels = encoder.eval(), decoder.eval(), channels
        self._centre = self._features(_Middles(images, self.architecture.side), part(report, 0.95, 1)).mean(axis=0)
        if state is not None:
            state.unlink(missing_ok=True)

    def embed(self, patches: PatchSource, report: Report) -> np.ndarray:
        """float32 (N, D), rows L2-normalised: the mean over tokens (and slices), minus the mean of the training set.

        No masking, no augmentation. Raises `NotReadyError` before `fit` or `load`, `InputError` when the number of
        channels is not that of the training patches.
        """
        if self._encoder is None:
            raise NotReadyError("The embedding model is not trained yet. Train it first.")
        images = _Lazy(patches, self.architecture.side, self._channels)
        return preprocess.unit_rows(self._features(images, report) - self._centre)

    def save(self, path: Path) -> None:
        """Write both networks, so that training can go on with more images, the configuration and the centre."""
        if self._encoder is None:
            raise NotReadyError("The embedding model is not trained yet: there is nothing to save.")
        import torch

        networks = {"encoder": self._encoder, "decoder": self._decoder}
        state = {
            "format": _FORMATS[-1],
            "architecture": asdict(self.architecture),
            "channels": self._channels,
            "seed": self.seed,
            "centre": torch.from_numpy(self._centre),
            **{
                name: {key: value.cpu() for key, value in network.state_dict().items()}
                for name, network in networks.items()
                if network is not None
            },
        }
        with open(path, "wb") as handle:
            torch.save(state, handle)

    def load(self, path: Path) -> None:
        """Read what `save` wrote. Raises `InputError` for any other file; the model is then left as it was."""
        prepare()
        import torch

        refusal = f"{path.name} is not an embedding model of this app. Choose another file or train again."
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or state.get("format") not in _FORMATS:
                raise InputError(refusal)
            known = {field.name for field in fields(Architecture)}
            architecture = Architecture(**{k: int(v) for k, v in state["architecture"].items() if k in known})
            with torch.random.fork_rng(devices=[]):
                encoder, decoder = build(architecture, int(state["channels"]))
            if state["format"] == _FORMATS[0]:
                _read_contrast(state["encoder"])
            encoder.load_state_dict(state["encoder"])
            if "decoder" in state:
                decoder.load_state_dict(state["decoder"])
            centre = state["centre"].numpy().astype(np.float64)
        except FileNotFoundError as error:
            raise InputError(f"There is no file {path}. Train the embeddings again.") from error
        except _UNREADABLE as error:
            raise InputError(refusal) from error
        self.architecture = architecture
        self._encoder, self._decoder = encoder.eval(), decoder.eval() if "decoder" in state else None
        self._channels = int(state["channels"])
        self._centre = centre

    def _read_training(self, patches: PatchSource, report: Report) -> tuple[list[torch.Tensor], str]:
        """Training patches in memory, uint8 (S, C, H, W) each with a margin to crop from, and a hash of them all."""
        import torch

        rng = np.random.default_rng(self.seed)
        side = math.ceil(self.architecture.side * _MARGIN)
        first = preprocess.read(patches[0], side)
        most = min(_MAX_TRAINING_PATCHES, max(8, _TRAINING_MEMORY // first.numel()))
        rows = np.sort(rng.permutation(len(patches))[:most])
        images: list[torch.Tensor] = []
        content = hashlib.sha256()
        for done, row in enumerate(rows):
            report(done, len(rows), "Reading patches")
            image = preprocess.read(patches[int(row)], side, first.shape[1])
            images.append((image * 255).round().to(torch.uint8))
            content.update(images[-1].numpy().tobytes())
        return images, content.hexdigest()

    def _features(self, images: _Lazy | _Middles, report: Report) -> np.ndarray:
        """Mean over tokens and slices, float64 (N, D), of images float32 (S, C, side, side)."""
        import torch

        device = next(self._encoder.parameters()).device
        features = np.zeros((len(images), self.architecture.width))
        start = 0
        for batch in _read_ahead(images):
            report(start, len(images), "Embedding patches")
            with torch.inference_mode():
                tokens = encode(self._encoder, torch.cat(batch).to(device))
                means = tokens[:, 1:].double().mean(dim=1).cpu()
            for one in means.split([len(image) for image in batch]):
                features[start] = one.mean(dim=0).numpy()
                start += 1
        report(len(images), len(images), "Embedding patches")
        return features


class _Lazy:
    """Patches read and prepared one at a time."""

    def __init__(self, patches: PatchSource, side: int, channels: int):
        self.patches, self.side, self.channels = patches, side, channels

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, row: int) -> torch.Tensor:
        return preprocess.read(self.patches[row], self.side, self.channels)


class _Middles:
    """Training images at the encoder's size."""

    def __init__(self, images: list[torch.Tensor], side: int):
        self.images, self.side = images, side

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return preprocess.to_square(self.images[row].float().numpy() / 255, self.side)


def _read_ahead(images: _Lazy | _Middles) -> Iterator[list[torch.Tensor]]:
    """Images in order, in batches of about 64 slices; the next batch is read while one is worked on."""

    def read(start: int) -> list[torch.Tensor]:
        batch: list[torch.Tensor] = []
        while start + len(batch) < len(images) and sum(map(len, batch)) < _BATCH:
            batch.append(images[start + len(batch)])
        return batch

    with ThreadPoolExecutor(1, thread_name_prefix="embedding") as pool:
        start, coming = 0, pool.submit(read, 0)
        while batch := coming.result():
            start += len(batch)
            coming = pool.submit(read, start)
            yield batch


def _read_contrast(weights: dict[str, torch.Tensor]) -> None:
    """Make an encoder of the first format, which read x in [0, 1], read 4 x - 2 to the same effect."""
    kernel = weights["vit.patch_embed.proj.weight"]
    weights["vit.patch_embed.proj.bias"] = weights["vit.patch_embed.proj.bias"] + kernel.sum(dim=(1, 2, 3)) / 2
    weights["vit.patch_embed.proj.weight"] = kernel / 4


def _hash_of(network: torch.nn.Module) -> str:
    content = hashlib.sha256()
    for value in network.state_dict().values():
        content.update(value.cpu().numpy().tobytes())
    return content.hexdigest()
