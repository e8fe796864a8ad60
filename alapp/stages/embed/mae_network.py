"""The network of the masked autoencoder: lightly's encoder and decoder, and a decoder that starts from neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MASK_RATIO = 0.75


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

    @property
    def grid(self) -> int:
        """Tokens along each side."""
        return self.side // self.token


def device() -> torch.device:
    """The GPU where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(architecture: Architecture, channels: int) -> tuple[torch.nn.Module, torch.nn.ModuleDict]:
    """Encoder and decoder with new weights, from torch's global generator, on the device.

    `neighbours` is what a hidden token knows at the decoder's start besides its position: a convolution over the grid
    of visible tokens. Attention alone has to learn from nothing but sines which tokens lie side by side, which takes
    more training than a project's own patches and a CPU allow.
    """
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
            "neighbours": torch.nn.Conv2d(a.decoder_width, a.decoder_width, 3, padding=1, bias=False),
            "blocks": MaskedVisionTransformerDecoderTIMM(
                num_patches=a.grid**2,
                embed_dim=a.decoder_width,
                depth=a.decoder_depth,
                num_heads=a.decoder_heads,
            ),
            "pixels": torch.nn.Linear(a.decoder_width, a.token**2 * channels),
        }
    )
    return encoder.to(device()), decoder.to(device())


def encode(encoder: torch.nn.Module, images: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
    """Tokens (B, 1 + visible, width) of images (B, C, side, side) in [0, 1]; `keep` are the visible tokens (all).

    The encoder reads -2 to 2: beside the brightness that all tokens share, the contrast within them would be small.
    """
    return encoder.encode(4 * images - 2, idx_keep=keep)


def reconstruction_loss(
    encoder: torch.nn.Module, decoder: torch.nn.ModuleDict, images: torch.Tensor, architecture: Architecture
) -> torch.Tensor:
    """Mean squared error of the hidden tokens' pixels, each token normalised, for images (B, C, side, side) in [0, 1].

    Hides other tokens at each call, by torch's global generator of the CPU on any device.
    """
    import torch
    from lightly.models import utils

    size, grid = (len(images), encoder.sequence_length), architecture.grid
    keep, hidden = (rows.to(images.device) for rows in utils.random_token_mask(size, mask_ratio=MASK_RATIO))
    visible = decoder["embed"](encode(encoder, images, keep))
    empty = visible.new_zeros((*size, visible.shape[-1]))
    # Token 0 is the class token, which has no place and no pixels.
    places = utils.set_at_index(empty, keep, visible)[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))
    around = decoder["neighbours"](places).flatten(2).transpose(1, 2)
    start = decoder["blocks"].mask_token + torch.cat([empty[:, :1], around], dim=1)
    tokens = utils.set_at_index(start, keep, visible)
    predicted = decoder["pixels"](utils.get_at_index(decoder["blocks"](tokens), hidden))
    pixels = utils.get_at_index(utils.patchify(images, architecture.token), hidden - 1)
    return torch.nn.functional.mse_loss(predicted, utils.normalize_mean_var(pixels))
