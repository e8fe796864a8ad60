"""The three modes with the real micro_sam, on weights with random numbers from a seed: interfaces, not quality."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from alapp.domain import Modality
from alapp.errors import Cancelled
from alapp.stages.foundation import folders
from alapp.stages.pseudolabel.microsam import MicroSamAutomatic, MicroSamGrid, MicroSamPrompts
from tests.stages.foundation.real_sam import seeded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mobile_sam") is None, reason="needs mobile_sam"),
]


@pytest.fixture
def weights():
    return seeded(folders.microsam(), "vit_t", name="vit_t_lm")


def image(shape=(96, 80, 1)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)


def few_clicks(method) -> None:
    """A grid of 3 x 3 instead of 32 x 32."""
    segmenter = method._models({})[2]
    segmenter.point_grids = [np.stack(np.meshgrid([0.2, 0.5, 0.8], [0.2, 0.5, 0.8]), -1).reshape(-1, 2)]


@pytest.mark.parametrize("kind", [MicroSamAutomatic, MicroSamPrompts, MicroSamGrid])
def test_labels_are_of_the_image(weights, kind):
    method = kind(Modality.LIGHT)
    params = {"min_size": 0, **({"quality": 0.01, "stability": 0.01} if kind is MicroSamGrid else {"seeds": 0.95})}
    if kind is MicroSamGrid:
        few_clicks(method)
    told = []
    labels = method.label(image(), params, lambda done, total, message="": told.append(done / total))
    assert (labels.shape, labels.dtype) == ((96, 80), np.int32)
    assert np.unique(np.append(0, labels)).tolist() == list(range(labels.max() + 1))
    if kind is MicroSamGrid:  # the others take half a minute
        assert (labels == method.label(image(), params)).all()
    assert told == sorted(told)
    assert told[-1] <= 1
    assert method.provenance({}).model == "vit_t_lm"


def test_a_grid_is_cancelled_after_a_few_clicks(weights):
    method = MicroSamGrid(Modality.LIGHT)
    told = []

    def report(done, total, message=""):
        told.append(done / total)
        if done > 0:
            raise Cancelled

    with pytest.raises(Cancelled):
        method.label(image(), {}, report)
    assert told[-1] < 0.5
