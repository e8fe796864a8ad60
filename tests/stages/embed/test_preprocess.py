import numpy as np
import pytest

from alapp.errors import InputError
from alapp.stages.embed import preprocess


def test_2d_is_one_slice_and_deep_stacks_are_thinned_evenly():
    assert preprocess.slices_of(np.zeros((5, 6, 2))).shape == (1, 5, 6, 2)
    stack = np.arange(22)[:, None, None, None] * np.ones((22, 3, 4, 1))
    assert preprocess.slices_of(stack)[:, 0, 0, 0].tolist() == [0, 3, 6, 9, 12, 15, 18, 21]


@pytest.mark.parametrize("patch", [np.zeros((4, 4)), np.zeros((0, 4, 1)), np.zeros((1, 1, 4, 4, 1))])
def test_other_shapes_are_refused(patch):
    with pytest.raises(InputError, match="shape"):
        preprocess.slices_of(patch)


def test_nan_is_refused():
    with pytest.raises(InputError, match="NaN"):
        preprocess.slices_of(np.full((4, 4, 1), np.nan))


def test_normalise_is_per_channel_and_ignores_gain_and_offset():
    values = np.random.default_rng(0).random((1, 20, 20, 2))
    plain = preprocess.normalise(values)
    assert plain.shape == (1, 2, 20, 20)
    assert plain.dtype == np.float32
    assert plain.min() == 0
    assert plain.max() == 1
    np.testing.assert_allclose(preprocess.normalise(values * [1000, 0.01] + [50, -3]), plain, atol=1e-4)


def test_constant_becomes_zero_and_rare_bright_pixels_survive():
    assert (preprocess.normalise(np.full((1, 8, 8, 1), 7, np.uint8)) == 0).all()
    sparse = np.zeros((1, 50, 50, 1), np.uint16)
    sparse[0, 3, 4, 0] = 900
    assert preprocess.normalise(sparse)[0, 0, 3, 4] == 1


def test_read_checks_channels_and_resamples():
    tensor = preprocess.read(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8), 16, 3)
    assert tuple(tensor.shape) == (1, 3, 16, 16)
    with pytest.raises(InputError, match="3 channels"):
        preprocess.read(np.zeros((30, 40, 3)), 16, 1)


def test_unit_rows_leaves_zeros():
    np.testing.assert_allclose(preprocess.unit_rows([[3, 4], [0, 0]]), [[0.6, 0.8], [0, 0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 7, 9, 2), (3, 20, 31, 1)])
def test_limits_are_numpys_percentiles(dtype, shape):
    values = (np.random.default_rng(0).random(shape) ** 3 * 250).astype(dtype)
    np.testing.assert_allclose(preprocess._limits(values), np.percentile(values, (1, 99), axis=(0, 1, 2)), rtol=1e-6)
