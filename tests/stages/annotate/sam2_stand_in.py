"""The interface of SAM 2's package, which is optional, without its network."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch


class Predictor:
    """Proposes a square around the first point, or the box; three of them, of rising size, when several are wanted.
    Logits fall by one a pixel, and are the image's own, so that a mixed-up image shows."""

    calls: ClassVar[list] = []
    embedded: ClassVar[list] = []
    device = "cpu"

    def __init__(self, model):
        self._features = self._orig_hw = None
        self._is_image_set = False

    def set_image(self, image):
        assert (image.dtype, image.shape[2:]) == (np.uint8, (3,))
        self.embedded.append(int(image.argmax()))
        brightest = torch.full((1, 2, 2), float(image.argmax()))
        self._features = {"image_embed": brightest, "high_res_feats": [brightest[None] + 1, brightest + 2]}
        self._orig_hw, self._is_image_set = [image.shape[:2]], True

    def reset_predictor(self):
        self._features = self._orig_hw = None
        self._is_image_set = False

    def predict(self, point_coords=None, point_labels=None, box=None, mask_input=None, multimask_output=True, **rest):
        assert self._is_image_set
        assert rest == {"return_logits": True}
        self.calls.append((point_coords, point_labels, box, mask_input, multimask_output, self._features))
        yy, xx = np.mgrid[: self._orig_hw[0][0], : self._orig_hw[0][1]]
        x, y = point_coords[0] if point_coords is not None else (8, 8)
        distance = np.maximum(abs(yy - y), abs(xx - x))
        radii = (8, 2, 5) if multimask_output else (5,)
        return (
            np.stack([radius + 0.5 - distance for radius in radii]).astype(np.float32),
            np.array((0.1, 0.3, 0.8)[: len(radii)], np.float32),
            np.stack([np.full((256, 256), radius, np.float32) for radius in radii]),
        )


class Model:
    """Loads what its `build_sam2` was told to accept."""

    def __init__(self, config):
        self.config = config

    def load_state_dict(self, tensors):
        self.tensors = tensors

    def to(self, device):
        return self


def checkpoint(width=96, blocks=12, newer=True):
    tensors = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(width, 3, 1, 1)}
    tensors |= {f"image_encoder.trunk.blocks.{number}.norm1.weight": torch.zeros(1) for number in range(blocks)}
    return {"model": tensors | ({"no_obj_embed_spatial": torch.zeros(1)} if newer else {})}


def picture(brightest=0, shape=(40, 50, 1)):
    pixels = np.zeros(shape, np.uint16)
    pixels[divmod(brightest, shape[1])] = 4000
    return pixels


def last():
    return Predictor.calls[-1]


def brightest(call):
    """The number of the brightest value, of all channels, of the image that a call was answered on."""
    features = call[5]
    first = features["image_embed"]
    finer, finest = features["high_res_feats"]
    assert all(torch.equal(*pair) for pair in ((finer, first[None] + 1), (finest, first + 2)))
    return int(first[0, 0, 0])


def raising(error):
    def fail(*_, **__):
        raise error

    return fail
