"""Regions of an image are seen and predicted as nnU-Net does with the whole."""

import json

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from alapp.domain import Box, VoxelSize, silent
from alapp.stages.train.cases import to_nnunet
from alapp.stages.train.predict import ObjectPredictor
from alapp.stages.train.workspace import quiet
from tests.stages.train.nnunet_discs import CPU, GPU, case, disc_cases, discs, plan_small, stack


def stacks(z: float, **options):
    return [case(f"gt_{i}", *stack(i, **options), voxel=VoxelSize(z=z, y=0.5, x=0.5)) for i in range(2)]


KINDS = {
    "same resolution": (CPU, lambda: disc_cases(2), {}),
    "half resolution": (CPU, lambda: disc_cases(2, size=256, radius=30), {}),
    "thick slices": (CPU, lambda: stacks(2.0, size=200), {"spacing": [1.7, 1.7]}),
    "slices of a cube": (CPU, lambda: stacks(0.5), {"spacing": [1.5, 1.5]}),
    "3D": (GPU, lambda: stacks(0.5, slices=40), {}),
    "3D resampled": (GPU, lambda: stacks(0.5, slices=40), {"spacing": [1.3, 1.6, 1.6]}),
    "3D resampled, thick slices": (GPU, lambda: stacks(2.0, slices=24), {"spacing": [6.0, 1.4, 1.4]}),
    "mask": (CPU, lambda: disc_cases(2, size=256, radius=30), {"use_mask_for_norm": [True]}),
    "mask of a stack": (CPU, lambda: stacks(0.5), {"use_mask_for_norm": [True], "spacing": [1.5, 1.5]}),
    "fixed scale": (CPU, lambda: disc_cases(2), {"normalization_schemes": ["CTNormalization"], "spacing": [1.5, 1.5]}),
    "0 to 1": (CPU, lambda: disc_cases(2), {"normalization_schemes": ["RescaleTo01Normalization"]}),
}


@pytest.fixture(scope="module", params=KINDS)
def predictor(request, tmp_path_factory):
    """A predictor with random weights."""
    machine, cases, edits = KINDS[request.param]
    root = tmp_path_factory.mktemp("plan")
    plan_small(root, cases(), machine=machine)
    return random_predictor(root, edits)


def random_predictor(root, edits=None, mirroring=False):
    plan = json.loads((root / "plan.json").read_text())
    options = plan["nnunet"]["configurations"][plan["configuration"]]
    options.update(edits or {})
    if plan["configuration"] != "2d":
        options["patch_size"] = [16, 32, 32]
        options["architecture"]["arch_kwargs"].update(
            n_stages=3, features_per_stage=[4, 8, 8], kernel_sizes=[[3, 3, 3]] * 3,
            strides=[[1, 1, 1]] + [[2, 2, 2]] * 2, n_conv_per_stage=[1] * 3, n_conv_per_stage_decoder=[1] * 2,
        )  # fmt: skip
    configuration = PlansManager(plan["nnunet"]).get_configuration(plan["configuration"])
    torch.manual_seed(0)
    network = get_network_from_plans(
        configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import, plan["channels"], 3, deep_supervision=False,
    )  # fmt: skip
    axes = tuple(range(len(configuration.patch_size)))
    checkpoint = {"network_weights": network.state_dict(), "inference_allowed_mirroring_axes": axes}
    return ObjectPredictor(plan, checkpoint, torch.device("cpu"), mirroring)


def image_for(predictor):
    """An image with empty margins, larger than a window, of no round size: (Z, Y, X, 1)."""
    if predictor.plan["image_dimensions"] == 2:
        image = discs(5, size=331, radius=30)[0][:, :277][None]
    else:
        slices = 5 if predictor.plan["configuration"] == "2d" else 45
        image = stack(5, slices=slices, size=140)[0][:, :, :101]
    image[:, :20] = 0
    image[:, :, -9:] = 0
    image[:, 60:66, 50:56] = 0
    return image


def preprocessed(predictor, image):
    with quiet():
        return DefaultPreprocessor(verbose=False).run_case_npy(
            to_nnunet(image), None, {"spacing": list(predictor.plan["spacing"])}, predictor.plans_manager,
            predictor.configuration_manager, predictor.dataset_json,
        )  # fmt: skip


def boxes(shape):
    """Some boxes inside `shape`: corners, an inner one, a single voxel, the whole."""
    z, y, x = shape
    yield Box(0, 0, 0, *shape)
    yield Box(0, 0, 0, max(1, z // 2), y // 3, x // 2)
    yield Box(z // 2, y // 3, x // 4, z - z // 2, y // 3, x // 3)
    yield Box(z - 1, y - 7, x - 5, 1, 7, 5)
    yield Box(z // 2, y // 2, x // 2, 1, 1, 1)


def test_samples_are_those_of_nnunet(predictor):
    image = image_for(predictor)
    expected, _, _ = preprocessed(predictor, image)
    view = predictor.view(image, silent)
    assert view.shape == expected.shape[1:]
    for box in boxes(view.shape):
        np.testing.assert_allclose(view.read(box), expected[(slice(None), *box.slices)], atol=2e-4)


def test_probabilities_return_to_the_image_as_in_nnunet(predictor):
    image = image_for(predictor)
    data, _, properties = preprocessed(predictor, image)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(3, *data.shape[1:])).astype(np.float32))
    _, expected = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits.clone(), predictor.plans_manager, predictor.configuration_manager, predictor.label_manager, properties,
        return_probabilities=True, num_threads_torch=1,
    )  # fmt: skip
    view = predictor.view(image, silent)
    crop = view.crop
    for inner in boxes((crop.depth, crop.height, crop.width)):
        box = Box(inner.z + crop.z, inner.y + crop.y, inner.x + crop.x, inner.depth, inner.height, inner.width)
        seen = view.needed(box)
        found = torch.softmax(view.to_image(logits[(slice(None), *seen.slices)], seen, box), 0).numpy()
        np.testing.assert_allclose(found, expected[(slice(None), *box.slices)], atol=1e-4)


def test_the_whole_is_predicted_as_by_nnunet(predictor):
    image = image_for(predictor)
    stock = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"))
    stock.allow_tqdm = False
    stock.manual_initialization(
        predictor.network, predictor.plans_manager, predictor.configuration_manager,
        [predictor.network.state_dict()], predictor.dataset_json, "ObjectTrainer", None,
    )  # fmt: skip
    properties = {"spacing": list(predictor.plan["spacing"])}
    with quiet():
        _, expected = stock.predict_single_npy_array(to_nnunet(image), properties, None, None, True)
    found = predictor.region(predictor.view(image, silent), Box(0, 0, 0, *image.shape[:3]), silent)
    # nnU-Net sums in half precision, where the weights of a 3D window's corners are nearly 0.
    assert np.mean(np.abs(found - expected) > 1e-2) < 0.003


def test_a_box_is_predicted_as_in_the_whole(predictor):
    image = image_for(predictor)
    view = predictor.view(image, silent)
    whole = predictor.region(view, Box(0, 0, 0, *image.shape[:3]), silent)
    assert whole[:, :, :20].tolist() == np.broadcast_to([[[[1]]], [[[0]]], [[[0]]]], whole[:, :, :20].shape).tolist()
    for box in boxes(image.shape[:3]):
        np.testing.assert_allclose(predictor.region(view, box, silent), whole[(slice(None), *box.slices)], atol=1e-5)


def test_images_smaller_than_a_window(tmp_path):
    plan_small(tmp_path, disc_cases(2))
    predictor = random_predictor(tmp_path)
    image = discs(1, size=37)[0][None, :, :25]
    view = predictor.view(image, silent)
    whole = predictor.region(view, Box(0, 0, 0, 1, 37, 25), silent)
    np.testing.assert_allclose(whole.sum(0), 1, atol=1e-5)
    part = predictor.region(view, Box(0, 30, 3, 1, 7, 4), silent)
    np.testing.assert_allclose(part, whole[:, :, 30:, 3:7], atol=1e-5)
