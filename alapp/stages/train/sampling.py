"""Where training windows are cut out of cases that are partly annotated.

Imports torch and nnunetv2; loaded by `alapp.stages.train.trainer`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader


class PatchLoader(nnUNetDataLoader):
    """nnU-Net's data loader, for cases with the ignore label beside cases without.

    With an ignore label nnU-Net draws every window around an annotated pixel, and expects a sample of those in the
    properties of each case. Cases that are wholly annotated have none, were perhaps preprocessed before the project
    had its first ignored region, and need none: their windows are drawn as ever, anywhere in the image.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        # A copy, because batches are made by several threads that must not change what they share.
        self._anywhere = copy.copy(self)
        self._anywhere.has_ignore = False

    def get_bbox(
        self, data_shape: np.ndarray, force_fg: bool, class_locations: Mapping[Any, Any] | None, *args: Any, **more: Any
    ) -> tuple[list[int], list[int]]:
        """See `nnUNetDataLoader.get_bbox`: lower and upper corner of a window."""
        partly = class_locations is not None and self.annotated_classes_key in class_locations
        loader = self if partly else self._anywhere
        return nnUNetDataLoader.get_bbox(loader, data_shape, force_fg, class_locations, *args, **more)
