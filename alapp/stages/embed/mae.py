"""Masked autoencoder: features learnt from the project's own patches, without labels.

He, Chen, Xie, Li, Dollar, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022: a vision
transformer sees a quarter of an image's tokens, a small decoder predicts the pixels of the other three quarters;
the loss is the mean squared error on the hidden tokens, each normalised to mean 0 and variance 1. The modules are
lightly's on a timm ViT; the sizes here train on a CPU within a minute.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from alapp.domain import BackendState, Report, Status
from alapp.environment import prepare
from alapp.errors import InputError, NotReadyError
from alapp.stages.embed import preprocess
from alapp.stages.embed.base import PatchSource

if TYPE_CHECKING:
    import torch

MASK_RATIO = 0.75
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
_FORMAT = "alapp masked autoencoder 1"
_BATCH = 64
_MAX_TRAINING_PATCHES = 4096
_LEARNING_RATE = 1e-3
_WARM_UP = 0.1
_MARGIN = 1.15  # training images are kept this much larger than the encoder's input, to crop from


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network. `side` is the input's, `token` a token's side, both in pixels; `token` divides `side`."""

    side: int = 128
    token: int = 16
    width: int = 192
    depth: int = 6
    heads: int = 3
    decoder_width: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 3


def iterations_for(n: int) -> int:
    """Training iterations (batches of 64 images) for `n` patches: a few hundred, more for large projects."""
    return int(np.clip(n, 150, 1500))


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
        self._encoder: torch.nn.Module | None = None
        self._channels = 0
        self._centre = np.zeros(0)

    @classmethod
    def status(cls) -> Status:
        """Always ready: the packages are requirements of the app, and there are no weights to download."""
        return Status(BackendState.READY, "Trains on the project's own patches.")

    def fit(self, patches: PatchSource, report: Report) -> None:
        """Train from scratch on at most 4,096 of the patches (drawn with the seed), a random slice of 3D ones.

        Also stores the mean feature, which `embed` subtracts: vectors of later patches stay comparable with earlier
        ones. Raises `InputError` without patches or when their channels differ.
        """
        if len(patches) == 0:
            raise InputError("There are no patches to train the embeddings on. Import images first.")
        prepare()
        import torch

        steps = self.iterations or iterations_for(len(patches))
        images = self._read_training(patches, partial(_scaled, report, 0, 0.1))
        self._channels = images[0].shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            encoder, decoder = _network(self.architecture, self._channels)
            _train(encoder, decoder, images, self.architecture, steps, partial(_scaled, report, 0.1, 0.95))
        self._encoder = encoder.eval()
        inner = [_resized(image, self.architecture.side) for image in images]
        features = self._features(inner, partial(_scaled, report, 0.95, 1))
        self._centre = features.mean(axis=0)

    def embed(self, patches: PatchSource, report: Report) -> np.ndarray:
        """float32 (N, D), rows L2-normalised: the mean over tokens (and slices), minus the mean of the training set.

        No masking, no augmentation. Raises `NotReadyError` before `fit` or `load`, `InputError` when the number of
        channels is not that of the training patches.
        """
        if self._encoder is None:
            raise NotReadyError("The embedding model is not trained yet. Train it first.")
        images = _Lazy(patches, self.architecture.side, self._channels)
        features = self._features(images, report)
        return preprocess.unit_rows(features - self._centre)

    def save(self, path: Path) -> None:
        """Write encoder, configuration and the centre. The decoder is only needed for training and not kept."""
        if self._encoder is None:
            raise NotReadyError("The embedding model is not trained yet: there is nothing to save.")
        import torch

        state = {
            "format": _FORMAT,
            "architecture": asdict(self.architecture),
            "channels": self._channels,
            "seed": self.seed,
            "centre": torch.from_numpy(self._centre),
            "encoder": {name: tensor.cpu() for name, tensor in self._encoder.state_dict().items()},
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
            if not isinstance(state, dict) or state.get("format") != _FORMAT:
                raise InputError(refusal)
            known = {field.name for field in fields(Architecture)}
            architecture = Architecture(**{k: int(v) for k, v in state["architecture"].items() if k in known})
            encoder, _ = _network(architecture, int(state["channels"]))
            encoder.load_state_dict(state["encoder"])
            centre = state["centre"].numpy().astype(np.float64)
        except FileNotFoundError as error:
            raise InputError(f"There is no file {path}. Train the embeddings again.") from error
        except _UNREADABLE as error:
            raise InputError(refusal) from error
        self.architecture = architecture
        self._encoder = encoder.to(_device()).eval()
        self._channels = int(state["channels"])
        self._centre = centre

    def _read_training(self, patches: PatchSource, report: Report) -> list[torch.Tensor]:
        """The training patches in memory, float32 (S, C, side, side) each, with a margin to crop from."""
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.permutation(len(patches))[:_MAX_TRAINING_PATCHES])
        side = math.ceil(self.architecture.side * _MARGIN)
        images: list[torch.Tensor] = []
        for done, row in enumerate(rows):
            report(done, len(rows), "reading patches")
            images.append(preprocess.read(patches[row], side, images[0].shape[1] if images else None))
        return images

    def _features(self, images: PatchSource | list[torch.Tensor] | _Lazy, report: Report) -> np.ndarray:
        """Mean over tokens and slices, float64 (N, D), of images float32 (S, C, side, side)."""
        import torch

        features = np.zeros((len(images), self.architecture.width))
        device = next(self._encoder.parameters()).device
        start = 0
        while start < len(images):
            report(start, len(images), "embedding patches")
            batch, counts = [], []
            while start + len(counts) < len(images) and sum(counts) < _BATCH:
                image = images[start + len(counts)]
                batch.append(image)
                counts.append(len(image))
            with torch.inference_mode():
                tokens = self._encoder.encode(torch.cat(batch).to(device))
                means = tokens[:, 1:].double().mean(dim=1).cpu()
            for offset, part in enumerate(means.split(counts)):
                features[start + offset] = part.mean(dim=0).numpy()
            start += len(counts)
        report(len(images), len(images), "embedding patches")
        return features


class _Lazy:
    """Patches read and prepared one at a time."""

    def __init__(self, patches: PatchSource, side: int, channels: int):
        self.patches, self.side, self.channels = patches, side, channels

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, row: int) -> torch.Tensor:
        return preprocess.read(self.patches[row], self.side, self.channels)


def _scaled(report: Report, first: float, last: float, done: float, total: float, message: str) -> None:
    """Report a part of the work as the span from `first` to `last` of 1."""
    report(first + (last - first) * done / max(total, 1), 1, message)


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _resized(image: torch.Tensor, side: int) -> torch.Tensor:
    return preprocess.to_square(image.numpy(), side)


def _network(architecture: Architecture, channels: int) -> tuple[torch.nn.Module, torch.nn.ModuleDict]:
    """Encoder and decoder with new weights, from torch's global generator, on the device."""
    import torch
    from lightly.models.modules import MaskedVisionTransformerTIMM
    from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM
    from timm.models.vision_transformer import VisionTransformer

    a = architecture
    encoder = MaskedVisionTransformerTIMM(
        VisionTransformer(
            img_size=a.side,
            patch_size=a.token,
            in_chans=channels,
            num_classes=0,
            embed_dim=a.width,
            depth=a.depth,
            num_heads=a.heads,
        )
    )
    decoder = torch.nn.ModuleDict(
        {
            "embed": torch.nn.Linear(a.width, a.decoder_width),
            "blocks": MaskedVisionTransformerDecoderTIMM(
                num_patches=(a.side // a.token) ** 2,
                embed_dim=a.decoder_width,
                depth=a.decoder_depth,
                num_heads=a.decoder_heads,
            ),
            "pixels": torch.nn.Linear(a.decoder_width, a.token**2 * channels),
        }
    )
    return encoder.to(_device()), decoder.to(_device())


def _train(
    encoder: torch.nn.Module,
    decoder: torch.nn.ModuleDict,
    images: list[torch.Tensor],
    architecture: Architecture,
    steps: int,
    report: Report,
) -> None:
    """AdamW with warm-up and cosine decay, as in the paper's section A.1, but a rate for small batches."""
    import torch
    from lightly.models.utils import get_weight_decay_parameters

    decayed, others = get_weight_decay_parameters([encoder, decoder])
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=_LEARNING_RATE, betas=(0.9, 0.95))
    warm = max(1, round(_WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    order = torch.empty(0, dtype=torch.int64)
    smooth = None
    batch_size = min(_BATCH, max(8, len(images)))
    for step in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(images))])
        rows, order = order[:batch_size], order[batch_size:]
        batch = torch.stack([_augment(images[row], architecture.side) for row in rows.tolist()])
        loss = _loss(encoder, decoder, batch.to(_device()), architecture)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*decayed, *others], 1.0)
        optimiser.step()
        schedule.step()
        value = loss.item()
        smooth = value if smooth is None else 0.9 * smooth + 0.1 * value
        report(step + 1, steps, f"training the embeddings, loss {smooth:.3f}")


def _augment(image: torch.Tensor, side: int) -> torch.Tensor:
    """A random slice of (S, C, H, W), cropped, flipped and turned: (C, side, side)."""
    import torch

    margin = image.shape[-1] - side
    plane, top, left, turns, flip = (
        int(torch.randint(high, ())) for high in (len(image), margin + 1, margin + 1, 4, 2)
    )
    crop = torch.rot90(image[plane, :, top : top + side, left : left + side], turns, (1, 2))
    return crop.flip(2) if flip else crop


def _loss(
    encoder: torch.nn.Module, decoder: torch.nn.ModuleDict, images: torch.Tensor, architecture: Architecture
) -> torch.Tensor:
    """Mean squared error of the hidden tokens' pixels, for images (B, C, side, side)."""
    import torch
    from lightly.models import utils

    size = (len(images), encoder.sequence_length)
    keep, hidden = utils.random_token_mask(size, mask_ratio=MASK_RATIO, device=images.device)
    visible = decoder["embed"](encoder.encode(images, idx_keep=keep))
    tokens = utils.repeat_token(decoder["blocks"].mask_token, size)
    tokens = utils.set_at_index(tokens, keep, visible.type_as(tokens))
    predicted = decoder["pixels"](utils.get_at_index(decoder["blocks"](tokens), hidden))
    # Token 0 is the class token, which has no pixels.
    pixels = utils.get_at_index(utils.patchify(images, architecture.token), hidden - 1)
    return torch.nn.functional.mse_loss(predicted, utils.normalize_mean_var(pixels))
