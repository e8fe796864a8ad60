"""micro_sam itself, with weights that are drawn from a seed: its masks mean nothing, and must be the same whichever way
they come about. One model (vit_t, 41 MB) for all tests; embedding a slice takes seconds."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from alapp.domain import Modality
from alapp.errors import BackendError
from alapp.stages.annotate import microsam, microsam_model
from alapp.stages.annotate.base import UP, Tuning
from alapp.stages.annotate.embedding_cache import EmbeddingCache
from alapp.stages.annotate.microsam import MicroSamClicks, as_rgb
from alapp.stages.foundation.residency import RESIDENTS
from tests.seeded_weights import make_vit_t

pytestmark = pytest.mark.slow

SHAPE = (80, 96)


def picture(seed=0):
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = (yy - 40) ** 2 + (xx - 44 - seed) ** 2 < 200
    noise = np.random.default_rng(seed).normal(0, 6, SHAPE)
    return (60 + 110 * disc + noise).clip(0, 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("micro_sam")
    make_vit_t(made)
    return made


@pytest.fixture(autouse=True)
def weights(folder, monkeypatch):
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(folder))
    return folder / "models" / "vit_t_lm"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    yield EmbeddingCache(tmp_path_factory.mktemp("embeddings"))
    RESIDENTS.release()


@pytest.fixture
def method(kept):
    made = MicroSamClicks(Modality.LIGHT)
    made.keep_in(kept)
    made.prepare("a", picture())
    return made


MASK = np.zeros(SHAPE, bool)
MASK[30:50, 30:60] = True
PROMPTS = {
    "a point": ([(40, 44)], [], None, None),
    "points": ([(40, 44), (35, 40)], [(5, 5)], None, None),
    "a box": ([], [], (25, 30, 55, 60), None),
    "a box and points": ([(40, 44)], [(5, 5)], (25, 30, 55, 60), None),
    "a mask": ([], [], None, MASK),
    "a mask and points": ([(40, 70)], [(45, 40)], None, MASK),
    "a mask, a box and points": ([(40, 44)], [(5, 5)], (25, 30, 55, 60), MASK),
}


@pytest.mark.parametrize("name", list(PROMPTS))
def test_every_combination_of_prompts_and_every_size(method, name):
    positive, negative, box, previous = PROMPTS[name]
    found = method.segment("a", positive, negative, box, previous)
    assert found.dtype == bool
    assert found.shape == SHAPE
    sizes = [
        np.count_nonzero(method.segment("a", positive, negative, box, previous, Tuning(granularity=size)))
        for size in (-1, 0.01, 1)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


def test_the_masks_are_those_of_the_package_with_the_whole_model(method, weights):
    from micro_sam import prompt_based_segmentation as prompts
    from micro_sam import util

    with microsam_model.own_unpickler():
        predictor = util.get_sam_model("vit_t", checkpoint_path=str(weights))
    whole = util.precompute_image_embeddings(predictor, as_rgb(picture()), ndim=2, verbose=False)
    one = {"points": np.array([[40, 44]]), "labels": np.array([1]), "image_embeddings": whole}
    two = {"points": np.array([[40, 44], [5, 5]]), "labels": np.array([1, 0]), "image_embeddings": whole}
    box = np.array([25, 30, 55, 60])
    expected = {
        ((40, 44), None, None): prompts.segment_from_points(predictor, **one),
        ((40, 44), (5, 5), None): prompts.segment_from_points(predictor, **two),
        (None, None, "box"): prompts.segment_from_box(predictor, box, image_embeddings=whole),
        ((40, 44), (5, 5), "box"): prompts.segment_from_box_and_points(predictor, box, **two),
    }
    for (positive, negative, boxed), mask in expected.items():
        points = [[point] if point else [] for point in (positive, negative)]
        found = method.segment("a", *points, tuple(box) if boxed else None)
        assert np.array_equal(found, mask[0]), (positive, negative, boxed)


def test_an_embedding_from_disk_gives_the_same_masks_with_the_decoder_alone(method, kept):
    expected = [method.segment("a", *prompt) for prompt in PROMPTS.values()]
    RESIDENTS.release()
    fresh = MicroSamClicks(Modality.LIGHT)
    fresh.keep_in(kept)
    fresh.prepare("b", picture())
    assert [name[0] for name in RESIDENTS.names()] == ["micro_sam decoder"]
    for prompt, mask in zip(PROMPTS.values(), expected, strict=True):
        assert np.array_equal(fresh.segment("b", *prompt), mask)


def test_two_hundred_clicks_from_four_threads_are_those_in_sequence(method):
    method.prepare("b", picture(3))
    rng = np.random.default_rng(0)
    clicks = [(key, tuple(rng.uniform(0, 79, 2))) for key in ["a", "b"] * 25]
    answers = [method.segment(key, [point], []) for key, point in clicks]
    assert len({mask.tobytes() for mask in answers}) > 40  # they differ, so that a mix-up shows
    order = rng.permutation(list(range(len(clicks))) * 4)
    asked, expected = [clicks[turn] for turn in order], [answers[turn] for turn in order]
    found = [None] * len(asked)

    def work(start):
        for turn in range(start, len(asked), 4):
            key, point = asked[turn]
            found[turn] = method.segment(key, [point], [])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_correction_starts_from_the_logits_of_the_answer(method):
    answer = method.segment("a", [(40, 44)], [])
    known = method.segment("a", [(40, 44)], [(5, 5)], previous=answer)
    method._answers.clear()
    assert not np.array_equal(method.segment("a", [(40, 44)], [(5, 5)], previous=answer), known)


def test_an_object_is_carried_by_the_packages_own_function(method):
    """With weights that mean nothing every mask is as good as the last: it goes on as far as the rule lets it."""
    stack = np.stack([picture()] * 4)
    whole = np.zeros((4, *SHAPE), bool)
    whole[0] = method.segment("a", [(40, 44)], [])
    told = []
    arguments = (str, stack.__getitem__, whole, 0)
    found = method.propagate(*arguments, report=lambda done, total, message="": told.append(message))
    assert np.array_equal(found[0], whole[0])
    assert "slice 2" in told
    whole[3] = whole[0]
    between = method.propagate(*arguments, directions=[UP])
    assert between.any(axis=(1, 2)).all()
    assert np.array_equal(between[3], whole[3])


def test_loading_leaves_the_unpickler_alone(folder):
    before = pickle.Unpickler
    weights = microsam.Weights("vit_t_lm", "vit_t", folder / "models" / "vit_t_lm")
    microsam_model.load_encoder(weights)
    microsam_model.load_decoder(weights)
    assert pickle.Unpickler is before


def test_a_checkpoint_of_a_training_loads_too(folder, tmp_path):
    import torch

    state = torch.load(folder / "models" / "vit_t_lm", weights_only=True)
    trained = {"model_state": {f"sam.{name}": value for name, value in state.items()}, "epoch": 3}
    path = tmp_path / "best.pt"
    torch.save(trained, path)
    part = microsam_model.load_decoder(microsam.Weights("mine", "vit_t", path))
    tensor = part.predictor.model.mask_decoder.iou_token.weight
    assert torch.equal(tensor.cpu(), state["mask_decoder.iou_token.weight"])


@pytest.mark.parametrize("load", [microsam_model.load_encoder, microsam_model.load_decoder])
@pytest.mark.parametrize("content", [b"", b"garbage", "empty", "wrong"])
def test_files_that_hold_no_such_model_are_named(tmp_path, load, content):
    import torch

    path = tmp_path / "own.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({} if content == "empty" else {"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(BackendError, match=r"own\.pt cannot be loaded"):
        load(microsam.Weights("own", "vit_t", path))


def test_weights_of_another_architecture_are_refused(folder, tmp_path):
    with pytest.raises(BackendError, match="of vit_t, not of vit_b"):
        microsam_model.load_encoder(microsam.Weights("own", "vit_b", folder / "models" / "vit_t_lm"))
