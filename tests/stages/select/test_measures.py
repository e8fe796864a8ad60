import numpy as np
import pytest

from alapp.stages.select import measures


def noise(seed, shape=(32, 32, 1)):
    return np.random.default_rng(seed).normal(100, 5, shape)


def test_contrast_is_that_of_structures_not_of_noise():
    bright = noise(0)
    bright[8:16, 8:16] += 200
    assert measures.contrast(np.full((32, 32, 1), 7)) == 0
    assert measures.contrast(noise(0)) < 2
    assert measures.contrast(bright) == pytest.approx(200 * np.sqrt(1 / 16 * 15 / 16), rel=0.1)


def test_contrast_of_stacks_channels_and_tiny_patches():
    flat = noise(1, (3, 32, 32, 2))
    flat[..., 1] = 0
    flat[2, :, 16:, 0] += 100
    assert measures.contrast(flat) == pytest.approx(100 * np.sqrt(1 / 6 * 5 / 6), rel=0.1)
    assert measures.contrast(np.arange(6, dtype=np.uint8).reshape(2, 3, 1)) == 0
    assert measures.contrast(np.arange(30.0).reshape(5, 6, 1)) == 0  # one cell


def test_content_is_equal_for_equal_pixels_only():
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    assert measures.content(image) == measures.content(image.copy())
    others = [image + 1, image.reshape(2, 8, 1), image.astype(np.int8), image[::-1]]
    assert len({measures.content(each) for each in [image, *others]}) == 5
    assert -(2**63) <= measures.content(image) < 2**63


def test_doubt_by_hand():
    sure, other, even = [1.0, 0, 0], [0, 1.0, 0], [1 / 3] * 3
    first = np.array([sure, sure, even, [0.5, 0.5, 0]], dtype=np.float32).T
    second = np.array([sure, other, even, [0.5, 0.5, 0]], dtype=np.float32).T
    found = measures.doubt([first, second])
    two_of_three = np.log(2) / np.log(3)
    np.testing.assert_allclose(found.entropy, [0, two_of_three, 1, two_of_three], atol=1e-6)
    np.testing.assert_allclose(found.disagreement, [0, two_of_three, 0, 0], atol=1e-6)
    assert found.classes[0] == 0
    assert found.n_classes == 3
    np.testing.assert_array_equal(first[:, 0], sure)  # the inputs stay


def test_doubt_of_a_patch_by_class():
    whole = measures.Doubt(
        entropy=np.array([[0.2, 0.4], [0.6, 1.0]], np.float32),
        disagreement=np.array([[0, 0.1], [0.2, 0.3]], np.float32),
        classes=np.array([[0, 0], [0, 2]], np.uint8),
        n_classes=3,
    )
    found = whole.of(lambda array: array[1:])
    assert found.uncertainty == pytest.approx(0.8)
    assert found.mutual_information == pytest.approx(0.25)
    np.testing.assert_allclose(found.class_entropy, [0.6, np.nan, 1.0], rtol=1e-6)


def test_disagreement_is_never_more_than_doubt():
    raw = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    found = measures.doubt(iter(raw / raw.sum(axis=1, keepdims=True)))
    assert (found.disagreement <= found.entropy + 1e-6).all()
    assert (found.disagreement > 0).all()


def test_doubt_needs_a_prediction():
    with pytest.raises(ValueError, match="at least one"):
        measures.doubt([])


def test_unknown_patches_are_taken_for_average_ones():
    np.testing.assert_array_equal(measures.filled(np.array([1, np.nan, 3.0])), [1, 2, 3])
    assert measures.filled(np.array([np.nan])) is None
    np.testing.assert_array_equal(measures.cost(np.array([0, 2]), 10, 3), [10, 16])


def test_a_speck_is_no_object():
    foreground = np.array([0, 0.002, 0.004, 0.006, 0.1, 0.1, 0.1])
    assert measures.holds_objects(foreground).tolist() == [False, False, False, True, True, True, True]
    assert measures.holds_objects(np.array([0, 0.002])).tolist() == [False, True]  # nothing larger is known
    assert not measures.holds_objects(np.zeros(3)).any()
    assert measures.holds_objects(np.array([])).shape == (0,)


def test_noise_is_that_of_single_pixels_whatever_is_shown():
    bright = noise(0, (64, 64, 1))
    bright[:, 20:40] += 500
    assert measures.noise(bright) == pytest.approx(5, rel=0.1)
    assert measures.noise(bright[None]) == measures.noise(bright)
    assert measures.noise(np.full((8, 8, 1), 3, np.uint8)) == pytest.approx(0.29, abs=0.01)  # that of rounding
    assert measures.noise(np.full((8, 8, 1), 3, np.float32)) == 0
    assert measures.noise(np.zeros((8, 1, 1))) == 0


def test_a_dark_image_has_the_contrast_of_the_others_and_an_empty_one_has_not():
    image = np.array([7, 7, 7, 9, 9, 9, 4, 4, 2])
    contrast = np.array([100, 50, 3, 8.0, 4, 0.2, 3, 2, 4])
    noise = np.array([10, 10, 10, 1.0, 1, 1, 10, 10, np.nan])
    found = measures.evened(contrast, noise, image)
    much = np.quantile(contrast, 0.95)
    assert found[:3].tolist() == [100, 50, 3]  # as bright as any
    np.testing.assert_allclose(found[3:6], contrast[3:6] * much / 8)  # dark
    assert found[6:].tolist() == [3, 2, 4]  # empty, and one of which nothing is known
    assert measures.evened(np.zeros(2), np.zeros(2), np.array([0, 1])).tolist() == [0, 0]
    assert measures.evened(np.empty(0), np.empty(0), np.empty(0, int)).shape == (0,)
