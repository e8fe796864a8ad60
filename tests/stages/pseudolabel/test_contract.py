"""What every pseudo-labeller must do with odd input; the rest of the contract is in test_pseudo_contract.py."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS


@pytest.fixture(params=list(PSEUDO_LABELLERS))
def method(request):
    backend = PSEUDO_LABELLERS.load(request.param)
    if not backend.status().ready:
        pytest.skip("not ready on this machine")
    return backend(modality=next(iter(backend.modalities)))


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
