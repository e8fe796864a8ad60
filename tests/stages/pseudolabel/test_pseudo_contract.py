"""What every pseudo-labeller must do."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import BackendState, Modality
from alapp.errors import Cancelled
from alapp.stages.pseudolabel.base import BUILT_IN, PSEUDO_LABELLERS, Resumable, choose_automatically


@pytest.fixture(params=list(PSEUDO_LABELLERS))
def name(request, stand_ins):
    assert PSEUDO_LABELLERS.load(request.param).status().ready
    return request.param


@pytest.fixture
def method(name):
    backend = PSEUDO_LABELLERS.load(name)
    return PSEUDO_LABELLERS.create(name, modality=sorted(backend.modalities)[0])


def picture(dark: bool, shape=(160, 160), radius=14) -> np.ndarray:
    """Five blobs with a rim, on noise, float32 (Y, X) in about 0..1."""
    rng = np.random.default_rng(3)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    image = np.full(shape, 0.7 if dark else 0.15)
    for y, x in [(30, 30), (30, 110), (80, 70), (125, 30), (125, 120)]:
        distance = np.hypot(yy - y, xx - x)
        image[distance < radius + 5] = 0.85 if dark else 0.15
        image[distance < radius] = 0.25 if dark else 0.8
    return (image + rng.normal(0, 0.03, shape)).astype(np.float32)


def shown_to(method) -> np.ndarray:
    return picture(dark=Modality.EM in method.modalities)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_labels_are_int32_from_1_without_gaps(method, dtype):
    image = shown_to(method)
    scaled = image if dtype == np.float32 else (image.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    labels = method.label(scaled[..., None], {})
    assert labels.dtype == np.int32
    assert labels.shape == image.shape
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))


@pytest.mark.parametrize("shape", [(64, 64, 1), (3, 64, 64, 1), (64, 64, 3)])
def test_a_constant_image_has_no_objects(method, shape):
    labels = method.label(np.full(shape, 7, np.uint8), {})
    assert labels.shape == shape[:-1]
    assert not labels.any()


def test_the_same_image_gives_the_same_labels_and_is_left_alone(method):
    image = shown_to(method)[..., None]
    before = image.copy()
    first = method.label(image, {})
    assert (first == method.label(image, {})).all()
    assert (image == before).all()


def test_a_stack_has_objects_through_z(method):
    image = shown_to(method)
    params = {"diameter": 28.0} if "diameter" in [item.name for item in method.parameters] else {}
    labels = method.label(np.stack([image] * 4)[..., None], params)
    flat = method.label(image[..., None], params)
    assert labels.shape == (4, *image.shape)
    assert labels.max() == flat.max() > 0
    assert (labels[0] == labels[3]).all()


@pytest.mark.parametrize(
    "name",
    ["nested_regions", "log_watershed", "em_dark_blobs", "cellsam", "micro_sam", "micro_sam_apg", "micro_sam_amg"],
    indirect=True,
)
def test_slices_that_were_labelled_before_a_cancellation_are_not_labelled_again(method):
    stack = np.stack([shown_to(method)] * 4)[..., None]
    kept, made = {}, []

    def keep(name, make):
        if name not in kept:
            made.append(name)
            kept[name] = make().astype(np.int32)
        return kept[name]

    def report(done, total, message=""):
        if "slice 4" in message:
            raise Cancelled

    assert isinstance(method, Resumable)
    labels = method.label(stack, {})
    method.keep = keep
    with pytest.raises(Cancelled):
        method.label(stack, {}, report)
    assert len(made) == 3
    assert np.array_equal(method.label(stack, {}), labels)
    assert len(made) == len(kept) == 4


def test_several_channels_are_taken(method):
    image = shown_to(method)
    noise = np.random.default_rng(0).random(image.shape, dtype=np.float32)
    assert method.label(np.stack([noise * 0.1, image], -1), {}).shape == image.shape


def test_an_image_smaller_than_an_object(method):
    assert method.label(shown_to(method)[:20, :24, None], {}).shape == (20, 24)


def test_every_parameter_has_a_sensible_default(name):
    for item in PSEUDO_LABELLERS.load(name).parameters:
        assert item.minimum <= item.default <= item.maximum
        assert item.title


@pytest.mark.parametrize("name", list(PSEUDO_LABELLERS))
def test_a_status_that_is_not_ready_says_why_and_what_to_do(name):
    status = PSEUDO_LABELLERS.load(name).status()
    if status.state is not BackendState.READY:
        assert status.detail.endswith(".")
        assert status.remedy


@pytest.mark.parametrize("modality", list(Modality))
def test_the_automatic_choice_is_ready_and_fits(modality):
    name, reason = choose_automatically(modality)
    backend = PSEUDO_LABELLERS.load(name)
    assert backend.status(modality).ready
    assert modality in backend.modalities
    assert reason.endswith(".")
    assert BUILT_IN[modality] in PSEUDO_LABELLERS
