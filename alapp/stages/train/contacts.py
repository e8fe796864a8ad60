"""A loss that counts the border between two objects that touch more than the border to the background.

A line of a few pixels decides whether two objects are told apart, and nearly nothing of the usual loss; so it is
weighted more (Ronneberger et al. 2015, "U-Net", equation 2, there by the distance to the two nearest objects, here only
where objects do touch). Imports torch; loaded by `alapp.stages.train.trainer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from alapp.stages.train.targets import BORDER

WEIGHT = 5.0
"""How often a pixel of such a border counts, beside the once that every pixel does."""


class ContactLoss(nn.Module):
    """nnU-Net's loss `plain`, plus `WEIGHT` times the cross-entropy of the pixels where objects touch, over all that
    are annotated. `border` is the width of the borders in pixels of the network along each axis of a window, whose
    shape is `window`; both ((z,) y, x). Works at every resolution of deep supervision."""

    def __init__(self, plain: nn.Module, border: Sequence[float], window: Sequence[int], ignored: int | None = None):
        super().__init__()
        self.plain = plain
        self._border, self._window, self._ignored = tuple(border), tuple(window), ignored

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of `output` (B, K, (Z,) Y, X), before softmax; `target` are classes (B, 1, (Z,) Y, X)."""
        loss = self.plain(output, target)
        classes = target[:, 0]
        scales = [now / whole for now, whole in zip(classes.shape[1:], self._window, strict=True)]
        reach = [round(max(width * scale, float(width > 0))) for width, scale in zip(self._border, scales, strict=True)]
        here = contacts(classes, reach, self._ignored)
        annotated = classes.numel() if self._ignored is None else (classes != self._ignored).sum().clamp(min=1)
        missed = functional.cross_entropy(output.movedim(1, -1)[here], classes[here].long(), reduction="sum")
        return loss + WEIGHT * missed / annotated


def contacts(classes: torch.Tensor, reach: Sequence[int], ignored: int | None = None) -> torch.Tensor:
    """bool of the shape of `classes` (B, (Z,) Y, X): the border that is not within `reach` pixels along the axes of
    the background, so the one between two objects. What is not annotated (`ignored`) may be background."""
    outside = (classes == 0) if ignored is None else (classes == 0) | (classes == ignored)
    pool = functional.max_pool3d if len(reach) == 3 else functional.max_pool2d
    near = pool(outside[:, None].float(), [2 * n + 1 for n in reach], stride=1, padding=list(reach))[:, 0] > 0
    return (classes == BORDER) & ~near
