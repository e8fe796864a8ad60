"""What every pseudo-labeller must do with odd input; the rest of the contract is in test_pseudo_contract.py.

Foundation models run with the stand-ins of conftest.py for their packages."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.errors import Cancelled
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS, HasModels


@pytest.fixture(params=list(PSEUDO_LABELLERS))
def method(request, stand_ins):
    backend = PSEUDO_LABELLERS.load(request.param)
    return backend(modality=sorted(backend.modalities)[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(48, 40, 1), (48, 40, 2), (2, 48, 40, 3)])
def test_black_images_have_no_objects(method, dtype, shape):
    labels = method.label(np.zeros(shape, dtype), {})
    assert (labels.shape, labels.dtype) == (shape[:-1], np.int32)
    assert not labels.any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 1), (40, 2, 3), (1, 9, 9, 1), (2, 3, 40, 2)])
def test_slivers_keep_their_shape(method, shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    labels = method.label(image, {})
    assert (labels.shape, labels.dtype) == (shape[:-1], np.int32)


def test_a_stack_of_several_channels_is_a_volume(method):
    image = np.random.default_rng(0).integers(0, 4000, (3, 64, 56, 4), dtype=np.uint16)
    labels = method.label(image, {})
    assert (labels.shape, labels.dtype) == ((3, 64, 56), np.int32)
    assert np.unique(np.append(0, labels)).tolist() == list(range(labels.max() + 1))


def test_a_flat_image_with_a_gradient_or_noise_keeps_the_contract(method):
    noise = np.random.default_rng(0).normal(1000, 5, (48, 40, 5)).astype(np.uint16)
    slope = np.broadcast_to(np.linspace(0, 60_000, 40).astype(np.uint16)[:, None], (48, 40, 5))
    for image in (noise, slope):
        labels = method.label(image, {})
        assert (labels.shape, labels.dtype) == ((48, 40), np.int32)
        assert np.unique(np.append(0, labels)).tolist() == list(range(labels.max() + 1))


def test_it_can_be_cancelled_within_a_stack(method):
    stack = np.random.default_rng(0).integers(0, 255, (3, 48, 40, 1), dtype=np.uint8)
    told = []

    def report(done, total, message=""):
        told.append(done / total)
        if "slice 2" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        method.label(stack, {}, report)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1 / 3)


@pytest.mark.parametrize("method", ["cellsam", "micro_sam", "micro_sam_apg", "micro_sam_amg"], indirect=True)
def test_a_method_with_weights_tells_what_made_its_labels(method):
    assert isinstance(method, HasModels)
    told = method.provenance({})
    assert told.model
    assert len(told.weights.split("+")[0]) == 64
    assert told.package
