"""micro_sam's clicks around the model: what is kept, what is loaded, and who waits for whom. The model is a small fake
that, like SAM's predictor, holds the image it works on; `test_microsam_real` has the real one."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alapp.domain import Modality
from alapp.errors import BackendError, WeightsMissingError
from alapp.stages.annotate import microsam, microsam_model
from alapp.stages.annotate.base import Embeds, Tuning
from alapp.stages.annotate.embedding_cache import EmbeddingCache
from alapp.stages.annotate.microsam import MicroSamClicks, as_rgb
from alapp.stages.annotate.microsam_model import Part
from alapp.stages.foundation import choice
from alapp.stages.foundation.residency import Residents

pytest.importorskip("micro_sam")


class Fake:
    """Takes the place of the four functions of `microsam_model` that use torch."""

    def __init__(self):
        self.loaded, self.embedded, self.prompts = [], 0, []
        self.before_embedding = lambda image: None

    def load_encoder(self, weights):
        self.loaded.append(f"encoder {weights.name}")
        return Part(SimpleNamespace(image=None))

    def load_decoder(self, weights):
        self.loaded.append(f"decoder {weights.name}")
        return Part(SimpleNamespace(image=None, model=SimpleNamespace(mask_threshold=0.0)))

    def embed(self, part, image):
        self.before_embedding(image)
        part.predictor.image = image
        time.sleep(0.001)
        self.embedded += 1
        features = part.predictor.image.astype(np.float32)
        return {"features": features, "input_size": np.array((1024, 1024)), "original_size": np.array(image.shape[:2])}

    def prompt(self, part, embedding, positive, negative, box, previous, logits, granularity):
        self.prompts.append((box, previous is not None, logits, part.predictor.model.mask_threshold))
        part.predictor.image = embedding["features"]
        time.sleep(0.0005)  # another thread would put its own image there now
        y, x = positive[0] if positive else (0, 0)
        image = part.predictor.image
        return np.abs(image - image[int(y), int(x)]) < 40, np.full((2, 2), float(y), np.float32)


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    for name in ("load_encoder", "load_decoder", "embed", "prompt"):
        monkeypatch.setattr(microsam_model, name, getattr(made, name))
    monkeypatch.setattr(microsam, "RESIDENTS", Residents(free=lambda: 10**12))
    return made


@pytest.fixture
def weights(tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "models"
    folder.mkdir(parents=True)
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(folder.parent))
    (folder / "vit_b_lm").write_bytes(b"weights")
    return folder / "vit_b_lm"


@pytest.fixture
def method(fake, weights, tmp_path):
    made = MicroSamClicks(Modality.LIGHT)
    made.keep_in(EmbeddingCache(tmp_path / "embeddings"))
    return made


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (12, 16, 1), dtype=np.uint8)


def test_it_embeds():
    assert issubclass(MicroSamClicks, Embeds)


def test_a_slice_that_was_embedded_before_needs_the_decoder_only(method, fake, tmp_path):
    method.prepare("a", picture())
    mask = method.segment("a", [(3, 4)], [])
    assert fake.loaded == ["encoder vit_b_lm", "decoder vit_b_lm"]
    fake.loaded.clear()
    microsam.RESIDENTS.release()
    fresh = MicroSamClicks(Modality.LIGHT)  # another process
    fresh.keep_in(EmbeddingCache(tmp_path / "embeddings"))
    assert fresh.is_embedded(picture())
    fresh.prepare("b", picture())
    assert np.array_equal(fresh.segment("b", [(3, 4)], []), mask)
    assert fake.loaded == ["decoder vit_b_lm"]
    assert fake.embedded == 1


def test_embedding_ahead_does_so_once_and_loads_no_decoder(method, fake):
    assert method.embed(picture())
    assert not method.embed(picture())
    assert fake.embedded == 1
    assert fake.loaded == ["encoder vit_b_lm"]
    assert not method.is_embedded(picture(1))


def test_without_a_cache_it_works_too(fake, weights):
    method = MicroSamClicks(Modality.LIGHT)
    method.prepare("a", picture())
    assert method.segment("a", [(3, 4)], []).shape == (12, 16)
    assert not method.embed(picture())
    assert not method.is_embedded(picture())


def test_a_damaged_embedding_is_computed_again(method, fake, tmp_path):
    method.embed(picture())
    (file,) = (tmp_path / "embeddings").glob("*.npz")
    file.write_bytes(file.read_bytes()[:-100])
    method.prepare("a", picture())
    assert fake.embedded == 2
    assert method.segment("a", [(3, 4)], []).any()
    assert method.is_embedded(picture())


def test_other_weights_of_the_same_name_are_not_taken_for_these(method, fake, weights):
    method.prepare("a", picture())
    weights.write_bytes(b"other weights")
    assert not method.is_embedded(picture())


def test_weights_that_arrive_later_are_used_from_then_on(method, fake, weights):
    method.prepare("a", picture())
    (weights.parent / "vit_t_lm").write_bytes(b"tiny")
    if choice.for_clicks(Modality.LIGHT).name != "vit_t_lm":
        pytest.skip("mobile_sam is not installed")
    with pytest.raises(KeyError):
        method.segment("a", [(3, 4)], [])
    method.prepare("a", picture())
    method.segment("a", [(3, 4)], [])
    assert fake.loaded[-2:] == ["encoder vit_t_lm", "decoder vit_t_lm"]


def test_the_users_own_model_comes_before_published_ones(method, fake, tmp_path, monkeypatch):
    path = tmp_path / "own" / "weights.pt"
    path.parent.mkdir()
    path.write_bytes(b"own")
    mine = choice.Weights("mine", "vit_b", path, None, "It is your own.", own=True)
    monkeypatch.setattr(choice, "for_clicks", lambda modality=None: mine)
    assert MicroSamClicks.status(Modality.LIGHT).detail == "Your own model mine is on this computer."
    method.prepare("a", picture())
    assert fake.loaded == ["encoder mine", "decoder mine"]


def test_only_the_last_slices_stay_in_memory(method, fake):
    for seed in range(microsam.CACHED_SLICES + 1):
        method.prepare(str(seed), picture(seed))
    with pytest.raises(KeyError):
        method.segment("0", [(3, 4)], [])
    assert method.segment("1", [(3, 4)], []).any()


def test_two_hundred_clicks_from_four_threads_are_those_in_sequence(method, fake):
    images = [picture(seed) for seed in range(6)]
    for index, image in enumerate(images):
        method.prepare(str(index), image)
    asked = [(turn % 6, (turn * 7 % 12, turn * 5 % 16)) for turn in range(200)]
    expected = [method.segment(str(index), [point], []) for index, point in asked]
    found = [None] * len(asked)

    def work(start):
        for turn in range(start, len(asked), 4):
            index, point = asked[turn]
            found[turn] = method.segment(str(index), [point], [])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_threads_that_embed_different_slices_do_not_mix_them(method, fake):
    def work(seed):
        method.prepare(str(seed), picture(seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for seed in range(6):
        gray = as_rgb(picture(seed)).astype(np.float32)
        assert np.array_equal(method.segment(str(seed), [(3, 4)], []), np.abs(gray - gray[3, 4]) < 40)
    assert fake.loaded.count("encoder vit_b_lm") == 1


def test_two_threads_that_want_one_slice_embed_it_once(method, fake):
    threads = [threading.Thread(target=method.prepare, args=("a", picture())) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert fake.embedded == 1


def test_embedding_another_slice_does_not_hold_up_a_click(method, fake):
    method.prepare("shown", picture())
    embedding, going_on = threading.Event(), threading.Event()

    def wait(image):
        embedding.set()
        assert going_on.wait(20)

    fake.before_embedding = wait
    ahead = threading.Thread(target=method.prepare, args=("next", picture(1)))
    ahead.start()
    assert embedding.wait(20)
    assert method.segment("shown", [(3, 4)], []).any()
    going_on.set()
    ahead.join()
    assert method.segment("next", [(3, 4)], []).any()


class TestPrompts:
    def test_all_of_them_reach_the_model_together(self, method, fake):
        method.prepare("a", picture())
        previous = np.zeros((12, 16), bool)
        previous[2:5, 2:5] = True
        method.segment("a", [(3, 4)], [(9, 9)], (8, 9, 2, 3), previous, Tuning(looseness=0.5))
        box, has_previous, logits, threshold = fake.prompts[-1]
        assert box == (2, 3, 8, 9)
        assert has_previous
        assert logits is None
        assert threshold == -0.5 * microsam.LOOSEST_LOGIT

    def test_an_answer_that_is_corrected_is_known_with_its_logits(self, method, fake):
        method.prepare("a", picture())
        answer = method.segment("a", [(3, 4)], [])
        method.segment("a", [(3, 4), (5, 5)], [], previous=answer)
        assert (fake.prompts[-1][2] == 3).all()
        changed = answer.copy()
        changed[0, 0] ^= True
        method.segment("a", [(3, 4)], [], previous=changed)
        assert fake.prompts[-1][2] is None

    def test_the_threshold_is_put_back(self, method, fake):
        method.prepare("a", picture())
        method.segment("a", [(3, 4)], [], tuning=Tuning(looseness=1))
        method.segment("a", [(3, 4)], [])
        assert [prompt[3] for prompt in fake.prompts] == [-microsam.LOOSEST_LOGIT, 0]

    @pytest.mark.parametrize("box", [None, (5, 5, 5, 5), (2, 3, 2, 9)])
    def test_without_a_prompt_the_mask_is_empty(self, method, fake, box):
        method.prepare("a", picture())
        nothing = np.zeros((12, 16), bool)
        assert not method.segment("a", [], [(3, 4)], box, nothing).any()
        assert fake.prompts == []


class TestFailures:
    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
            RuntimeError("[enforce fail] can't allocate memory"),
        ],
    )
    @pytest.mark.parametrize("where", ["embed", "prompt", "load_encoder"])
    def test_out_of_memory_is_a_sentence_and_frees_the_models(self, method, fake, monkeypatch, error, where):
        def fail(*_):
            raise error

        if where == "prompt":
            method.prepare("a", picture())
        monkeypatch.setattr(microsam_model, where, fail)
        with pytest.raises(BackendError, match=r"ran out of memory\. Close other programs"):
            method.prepare("b", picture(1)) if where != "prompt" else method.segment("a", [(3, 4)], [])
        assert microsam.RESIDENTS.names() == []

    def test_too_little_memory_is_said_before_it_is_tried(self, method, fake, monkeypatch):
        monkeypatch.setattr(microsam, "RESIDENTS", Residents(free=lambda: 10**9))
        with pytest.raises(BackendError, match=r"vit_b_lm needs about 3\.9 GB of memory, and 1\.0 GB are free"):
            method.prepare("a", picture())
        assert fake.loaded == []

    def test_a_failure_of_the_model_is_a_sentence(self, method, fake, monkeypatch):
        def fail(*_):
            raise RuntimeError("shapes do not match")

        method.prepare("a", picture())
        monkeypatch.setattr(microsam_model, "prompt", fail)
        with pytest.raises(BackendError, match="micro_sam failed on these clicks: shapes do not match"):
            method.segment("a", [(3, 4)], [])

    def test_missing_weights_name_their_place(self, fake, tmp_path, monkeypatch):
        monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path))
        with pytest.raises(WeightsMissingError, match="built-in"):
            MicroSamClicks(Modality.EM).prepare("a", picture())
        with pytest.raises(WeightsMissingError, match=r"own\.pt"):
            MicroSamClicks(checkpoint=Path("own.pt"), model_type="vit_b").prepare("a", picture())


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_image_becomes_eight_bits(channels, dtype):
    image = (np.random.default_rng(0).random((9, 7, channels)) * 200).astype(dtype)
    found = as_rgb(image)
    assert found.dtype == np.uint8
    assert found.shape == ((9, 7, 3) if channels == 3 else (9, 7))
    assert found.max() == 255


def test_a_constant_image_is_no_division_by_zero():
    assert not as_rgb(np.full((5, 6, 1), 7, np.uint16)).any()


def test_the_unpickler_is_put_back_after_a_failed_load():
    before = pickle.Unpickler

    def load():
        with microsam_model.own_unpickler():
            pickle.Unpickler = object
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        load()
    assert pickle.Unpickler is before
