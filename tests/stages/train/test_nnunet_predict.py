import json
import shutil

import numpy as np
import pytest

from alapp.domain import VoxelSize, silent
from alapp.errors import Cancelled, CorruptFileError, InputError, NotReadyError
from alapp.stages.instances import from_probabilities
from alapp.stages.train.nnunet import NnUNet
from tests.stages.train.nnunet_discs import case, disc_cases, discs, plan_small, stack


@pytest.fixture(scope="module")
def model(planned, tmp_path_factory):
    """A network that was trained just long enough to see bright discs."""
    root = shutil.copytree(planned, tmp_path_factory.mktemp("model") / "workspace")
    result = NnUNet("cpu").train(root, disc_cases(), root / "run", 80, 0, None, silent, lambda entry: None)
    return root, result.checkpoint


@pytest.fixture(scope="module")
def predictor():
    return NnUNet("cpu")


def test_discs_are_found_in_an_image_of_another_size(model, predictor):
    image, labels = discs(77, size=90)
    prob = predictor.predict(*model, image, silent)
    assert prob.shape == (3, 90, 90)
    assert prob.dtype == np.float32
    np.testing.assert_allclose(prob.sum(0), 1, atol=1e-4)
    found = from_probabilities(prob)
    overlap = ((found > 0) & (labels > 0)).sum() / ((found > 0) | (labels > 0)).sum()
    assert overlap > 0.7


def test_prediction_is_deterministic_and_cached(model, predictor):
    image, _ = discs(78)
    first = predictor.predict(*model, image, silent)
    kept = predictor._cached[1]
    np.testing.assert_array_equal(predictor.predict(*model, image, silent), first)
    assert predictor._cached[1] is kept
    fresh = NnUNet("cpu").predict(*model, image, silent)
    np.testing.assert_array_equal(fresh, first)


def test_mirroring_averages_over_flips(model):
    image, _ = discs(79)
    mirrored = NnUNet("cpu", mirroring=True)
    prob = mirrored.predict(*model, image, silent)
    flipped = mirrored.predict(*model, image[::-1].copy(), silent)
    np.testing.assert_allclose(flipped[:, ::-1], prob, atol=1e-3)


def test_windows_without_overlap_see_the_same_in_fewer_looks(model, predictor):
    image, _ = discs(80, size=128)
    looks = {}

    def predicted(network, name):
        def told(done, total, message):
            looks[name] = total if "window" in message else looks.get(name)

        return network.predict(*model, image, told)

    rough, fine = predicted(NnUNet("cpu", overlap=0.0), "rough"), predicted(predictor, "fine")
    assert (looks["rough"], looks["fine"]) == (4, 9)
    assert np.mean(rough.argmax(0) == fine.argmax(0)) > 0.95


@pytest.mark.parametrize("shape", [(20, 30), (64, 200), (5, 5)])
def test_any_size_of_image_is_predicted(model, predictor, shape):
    image = np.random.default_rng(0).normal(50, 5, (*shape, 1)).astype(np.float32)
    assert predictor.predict(*model, image, silent).shape == (3, *shape)


def test_black_image_and_black_margins_are_background(model, predictor):
    assert predictor.predict(*model, np.zeros((64, 64, 1), np.uint8), silent).shape == (3, 64, 64)
    image, _ = discs(80)
    padded = np.pad(image, ((30, 0), (0, 10), (0, 0)))
    prob = predictor.predict(*model, padded, silent)
    assert prob.shape == (3, 94, 74)
    assert (prob[0, :30] == 1).all()


def test_progress_is_told_and_can_stop(model, predictor):
    steps = []
    predictor.predict(*model, discs(0, size=128)[0], lambda *step: steps.append(step))
    assert steps[-1][0] == steps[-1][1] > 1

    def stop(done, total, message):
        if done:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        predictor.predict(*model, discs(0, size=128)[0], stop)


def test_rgb(tmp_path):
    cases = disc_cases(2, channels=3)
    plan_small(tmp_path, cases)
    result = NnUNet("cpu").train(tmp_path, cases, tmp_path / "run", 4, 0, None, silent, lambda entry: None)
    prob = NnUNet("cpu").predict(tmp_path, result.checkpoint, discs(9, channels=3)[0].astype(np.uint8), silent)
    assert prob.shape == (3, 64, 64)


def test_downsampled_network_answers_at_image_resolution(tmp_path):
    cases = disc_cases(2, size=256, radius=30)
    plan_small(tmp_path, cases)
    result = NnUNet("cpu").train(tmp_path, cases, tmp_path / "run", 2, 0, None, silent, lambda entry: None)
    assert NnUNet("cpu").predict(tmp_path, result.checkpoint, np.ones((201, 155, 1)), silent).shape == (3, 201, 155)


def test_stack_by_slices(tmp_path):
    cases = [case(f"gt_{i}", *stack(i), voxel=VoxelSize(z=2.0, y=0.5, x=0.5)) for i in range(2)]
    plan_small(tmp_path, cases)
    result = NnUNet("cpu").train(tmp_path, cases, tmp_path / "run", 4, 0, None, silent, lambda entry: None)
    prob = NnUNet("cpu").predict(tmp_path, result.checkpoint, stack(5, slices=3)[0], silent)
    assert prob.shape == (3, 3, 64, 64)
    np.testing.assert_allclose(prob.sum(0), 1, atol=1e-4)


def test_wrong_images_and_models_are_refused(model, predictor, tmp_path):
    with pytest.raises(InputError, match="2 channels"):
        predictor.predict(*model, np.ones((64, 64, 2)), silent)
    with pytest.raises(InputError, match="not 2D"):
        predictor.predict(*model, np.ones((4, 64, 64, 1)), silent)
    with pytest.raises(NotReadyError, match="does not exist"):
        predictor.predict(model[0], tmp_path / "none.pth", np.ones((64, 64, 1)), silent)
    (tmp_path / "broken.pth").write_bytes(model[1].read_bytes()[:1000])
    with pytest.raises(CorruptFileError, match="damaged"):
        predictor.predict(model[0], tmp_path / "broken.pth", np.ones((64, 64, 1)), silent)


def test_plan_is_readable_by_a_person(model):
    assert json.loads((model[0] / "plan.json").read_text())["summary"]["sentence"].startswith("Objects are about")
