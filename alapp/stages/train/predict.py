"""Class probabilities of whole images with nnU-Net's predictor.

Imports torch and nnunetv2; loaded by `alapp.stages.train.nnunet` once the environment is prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from alapp.domain import Report
from alapp.stages.train.cases import to_nnunet
from alapp.stages.train.trainer import load_weights
from alapp.stages.train.workspace import quiet

_TILES_AT_ONCE = 4


class ObjectPredictor(nnUNetPredictor):
    """nnU-Net's predictor with progress that can stop it, and without its thread.

    nnU-Net feeds its sliding window from a thread that waits for ever when the loop is left by an exception,
    and sums logits in half precision; here a plain loop sums in single precision.
    """

    def __init__(self, plan: Mapping[str, Any], checkpoint: Mapping[str, Any], device: torch.device, mirroring: bool):
        with quiet():
            super().__init__(
                tile_step_size=0.5, use_mirroring=mirroring, perform_everything_on_device=device.type == "cuda",
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
        self._report: Report | None = None

    def probabilities(self, image: np.ndarray, report: Report) -> np.ndarray:
        """Softmax probabilities float32 (K, Y, X) of an image (Y, X, C), or (K, Z, Y, X) of (Z, Y, X, C)."""
        self._report = report
        report(0, 1, "Preparing the image")
        data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            to_nnunet(image), None, {"spacing": list(self.plan["spacing"])}, self.plans_manager,
            self.configuration_manager, self.dataset_json,
        )  # fmt: skip
        logits = self.predict_sliding_window_return_logits(torch.from_numpy(data)).cpu()
        _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, self.plans_manager, self.configuration_manager, self.label_manager, properties,
            return_probabilities=True, num_threads_torch=torch.get_num_threads(),
        )  # fmt: skip
        probabilities = np.ascontiguousarray(probabilities, dtype=np.float32)
        return probabilities if image.ndim == 4 else probabilities[:, 0]

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: list[tuple], do_on_device: bool = True
    ) -> torch.Tensor:
        where = self.device if do_on_device else torch.device("cpu")
        data = data.to(where)
        logits = torch.zeros((self.label_manager.num_segmentation_heads, *data.shape[1:]), device=where)
        weight_sum = torch.zeros(data.shape[1:], device=where)
        gaussian = compute_gaussian(
            tuple(self.configuration_manager.patch_size), sigma_scale=1.0 / 8, value_scaling_factor=10,
            dtype=torch.float32, device=where,
        )  # fmt: skip
        for start in range(0, len(slicers), self.tiles_at_once):
            self._report(start, len(slicers), f"Predicting window {start + 1} of {len(slicers)}")
            group = slicers[start : start + self.tiles_at_once]
            tiles = torch.stack([data[window] for window in group]).to(self.device)
            predicted = self._internal_maybe_mirror_and_predict(tiles).float().to(where)
            for window, tile in zip(group, predicted, strict=True):
                logits[window] += tile * gaussian
                weight_sum[window[1:]] += gaussian
        self._report(len(slicers), len(slicers), "Predicted")
        return logits / weight_sum
