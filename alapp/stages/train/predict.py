"""Class probabilities of images of any size with nnU-Net's network and windows, whole or box by box.

Imports torch and nnunetv2; loaded by `alapp.stages.train.nnunet` once the environment is prepared.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from alapp.domain import Box, Report, silent
from alapp.stages.train.base import ImageSource
from alapp.stages.train.checkpoints import load_weights
from alapp.stages.train.view import NetworkView
from alapp.stages.train.workspace import quiet

_TILES_AT_ONCE = 4


class ObjectPredictor(nnUNetPredictor):
    """nnU-Net's predictor for regions of an image, with progress that can stop it, and without its thread.

    nnU-Net feeds its sliding window from a thread that waits for ever when the loop is left by an exception,
    and sums logits in half precision; here a plain loop sums in single precision, several windows at once.
    """

    def __init__(
        self,
        plan: Mapping[str, Any],
        checkpoint: Mapping[str, Any],
        device: torch.device,
        mirroring: bool,
        overlap: float = 0.5,
    ):
        with quiet():
            super().__init__(
                tile_step_size=1 - overlap, use_mirroring=mirroring, perform_everything_on_device=device.type == "cuda",
                device=device, allow_tqdm=False,
            )  # fmt: skip
        manager = PlansManager(plan["nnunet"])
        configuration = manager.get_configuration(plan["configuration"])
        network = get_network_from_plans(
            configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import, plan["channels"], len(plan["dataset"]["labels"]),
            allow_init=False, deep_supervision=False,
        )  # fmt: skip
        load_weights(network, checkpoint["network_weights"])
        self.manual_initialization(
            network, manager, configuration, None, plan["dataset"], "ObjectTrainer",
            tuple(checkpoint["inference_allowed_mirroring_axes"]),
        )  # fmt: skip
        self.plan = plan
        self.tiles_at_once = _TILES_AT_ONCE

    def probabilities(self, image: np.ndarray, report: Report) -> np.ndarray:
        """Softmax probabilities float32 (K, Y, X) of an image (Y, X, C), or (K, Z, Y, X) of (Z, Y, X, C)."""
        report(0, 1, "Preparing the image")
        stack = image if image.ndim == 4 else image[None]
        found = self.region(self.view(stack, silent), Box(0, 0, 0, *stack.shape[:3]), report)
        return found if image.ndim == 4 else found[:, 0]

    def view(self, source: ImageSource, report: Report) -> NetworkView:
        """A whole image as this network sees it; reads it once."""
        return NetworkView(source, self.plan, self.configuration_manager.configuration, report)

    @torch.inference_mode()
    def region(self, view: NetworkView, box: Box, report: Report) -> np.ndarray:
        """Softmax probabilities float32 (K, Z, Y, X) of a box of an image.

        The windows are those of the whole image, so what a box gets does not depend on its size and place.
        """
        inside = _common(box, view.crop)
        if inside is None:
            return _background(self.label_manager.num_segmentation_heads, box)
        seen = view.needed(inside)
        logits = view.to_image(self._logits(view, seen, report), seen, inside)
        found = torch.softmax(logits, 0).cpu().numpy()
        if inside == box:
            return found
        result = _background(len(found), box)
        result[(slice(None), *_within(inside, box))] = found
        return result

    def _logits(self, view: NetworkView, seen: Box, report: Report) -> torch.Tensor:
        """Logits float32 (K, Z, Y, X) of a box of the network's voxels: sums over all windows that touch it."""
        patch = (1,) * (3 - len(self.configuration_manager.patch_size)) + tuple(self.configuration_manager.patch_size)
        flat = len(self.configuration_manager.patch_size) == 2
        before = [max(0, side - n) // 2 for n, side in zip(view.shape, patch, strict=True)]
        padded = [max(n, side) for n, side in zip(view.shape, patch, strict=True)]
        target = [(part.start + b, part.stop + b) for part, b in zip(seen.slices, before, strict=True)]
        windows = _windows(padded, patch, self.tile_step_size, flat, target)
        data, origin = self._data(view, windows, patch, before)
        logits = torch.zeros(
            (self.label_manager.num_segmentation_heads, seen.depth, seen.height, seen.width), device=data.device
        )
        weights = torch.zeros(logits.shape[1:], device=data.device)
        gaussian = compute_gaussian(
            tuple(self.configuration_manager.patch_size), sigma_scale=1.0 / 8, value_scaling_factor=10,
            dtype=torch.float32, device=data.device,
        ).reshape(patch)  # fmt: skip
        for start in range(0, len(windows), self.tiles_at_once):
            report(start, len(windows), f"Predicting window {start + 1} of {len(windows)}")
            group = windows[start : start + self.tiles_at_once]
            tiles = torch.stack([data[(slice(None), *_at(window, patch, origin))] for window in group])
            for window, tile in zip(group, self._predict_tiles(tiles, flat), strict=True):
                common = [(max(w, a), min(w + side, b)) for w, side, (a, b) in zip(window, patch, target, strict=True)]
                there = tuple(slice(lo - a, hi - a) for (lo, hi), (a, _) in zip(common, target, strict=True))
                here = tuple(slice(lo - w, hi - w) for (lo, hi), w in zip(common, window, strict=True))
                logits[(slice(None), *there)].addcmul_(tile[(slice(None), *here)], gaussian[here])
                weights[there] += gaussian[here]
        report(len(windows), len(windows), "Predicted")
        return logits.div_(weights)

    def _data(
        self, view: NetworkView, windows: list[tuple[int, ...]], patch: tuple[int, ...], before: list[int]
    ) -> tuple[torch.Tensor, list[int]]:
        """What the windows look at, float32 (C, Z, Y, X), zeros where an image is smaller than a window; and the
        place of its first voxel in the padded image."""
        origin = [min(window[axis] for window in windows) for axis in range(3)]
        end = [max(window[axis] for window in windows) + patch[axis] for axis in range(3)]
        ranges = [(max(a - b, 0), min(e - b, n)) for a, e, b, n in zip(origin, end, before, view.shape, strict=True)]
        data = view.read(Box(*(a for a, _ in ranges), *(e - a for a, e in ranges)))
        margins = [(a + b - o, e - z - b) for (a, z), b, o, e in zip(ranges, before, origin, end, strict=True)]
        if any(margin != (0, 0) for margin in margins):
            data = np.pad(data, [(0, 0), *margins])
        where = self.device if self.perform_everything_on_device else torch.device("cpu")
        return torch.from_numpy(data).to(where), origin

    def _predict_tiles(self, tiles: torch.Tensor, flat: bool) -> torch.Tensor:
        """Logits float32 (N, K, Z, Y, X) of windows (N, C, Z, Y, X); a 2D network has Z = 1."""
        work = (tiles[:, :, 0] if flat else tiles).to(self.device)
        self.network.eval().to(self.device)
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            predicted = self._internal_maybe_mirror_and_predict(work).float().to(tiles.device)
        return predicted[:, :, None] if flat else predicted


def _windows(
    shape: list[int], patch: tuple[int, ...], step: float, flat: bool, target: list[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    """Corners (z, y, x) of nnU-Net's windows over an image of `shape` that touch the ranges `target`."""
    free = slice(1, 3) if flat else slice(0, 3)
    starts = compute_steps_for_sliding_window(tuple(shape[free]), patch[free], step)
    if flat:
        starts = [list(range(shape[0])), *starts]
    touching = [
        [s for s in steps if s < b and s + side > a] for steps, side, (a, b) in zip(starts, patch, target, strict=True)
    ]
    return list(itertools.product(*touching))


def _at(window: tuple[int, ...], patch: tuple[int, ...], origin: list[int]) -> tuple[slice, ...]:
    return tuple(slice(w - o, w - o + side) for w, side, o in zip(window, patch, origin, strict=True))


def _common(a: Box, b: Box) -> Box | None:
    """The intersection of two boxes, or None."""
    starts = [max(one.start, other.start) for one, other in zip(a.slices, b.slices, strict=True)]
    stops = [min(one.stop, other.stop) for one, other in zip(a.slices, b.slices, strict=True)]
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
        return None
    return Box(*starts, *(stop - start for start, stop in zip(starts, stops, strict=True)))


def _within(inner: Box, outer: Box) -> tuple[slice, ...]:
    """Slices of `inner` into an array of `outer`."""
    return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner.slices, outer.slices, strict=True))


def _background(classes: int, box: Box) -> np.ndarray:
    result = np.zeros((classes, box.depth, box.height, box.width), np.float32)
    result[0] = 1
    return result
