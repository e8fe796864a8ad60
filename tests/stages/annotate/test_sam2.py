"""SAM 2's states, and how its predictor is prompted. The package is optional, so a stand-in has its interface."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import threading
import types
from typing import ClassVar

import numpy as np
import pytest
import torch

from alapp.domain import BackendState
from alapp.errors import BackendError, NotInstalledError, ResourceError, WeightsMissingError
from alapp.stages.annotate import sam2, sam2_weights
from alapp.stages.annotate.base import Embeds, Tuning
from alapp.stages.annotate.embedding_cache import EmbeddingCache
from alapp.stages.annotate.sam2 import Sam2Clicks
from alapp.stages.foundation.residency import Residents


class Predictor:
    """Proposes a square around the first point, or the box; three of them, of rising size, when several are wanted.
    Logits fall by one a pixel, and are the image's own, so that a mixed-up image shows."""

    calls: ClassVar[list] = []
    embedded: ClassVar[list] = []
    device = "cpu"

    def __init__(self, model):
        self._features = self._orig_hw = None
        self._is_image_set = False

    def set_image(self, image):
        assert (image.dtype, image.shape[2:]) == (np.uint8, (3,))
        self.embedded.append(int(image.argmax()))
        brightest = torch.full((1, 2, 2), float(image.argmax()))
        self._features = {"image_embed": brightest, "high_res_feats": [brightest[None] + 1, brightest + 2]}
        self._orig_hw, self._is_image_set = [image.shape[:2]], True

    def reset_predictor(self):
        self._features = self._orig_hw = None
        self._is_image_set = False

    def predict(self, point_coords=None, point_labels=None, box=None, mask_input=None, multimask_output=True, **rest):
        assert self._is_image_set
        assert rest == {"return_logits": True}
        self.calls.append((point_coords, point_labels, box, mask_input, multimask_output, self._features))
        yy, xx = np.mgrid[: self._orig_hw[0][0], : self._orig_hw[0][1]]
        x, y = point_coords[0] if point_coords is not None else (8, 8)
        distance = np.maximum(abs(yy - y), abs(xx - x))
        radii = (8, 2, 5) if multimask_output else (5,)
        return (
            np.stack([radius + 0.5 - distance for radius in radii]).astype(np.float32),
            np.array((0.1, 0.3, 0.8)[: len(radii)], np.float32),
            np.stack([np.full((256, 256), radius, np.float32) for radius in radii]),
        )


class Model:
    """Loads what its `build_sam2` was told to accept."""

    def __init__(self, config):
        self.config = config

    def load_state_dict(self, tensors):
        self.tensors = tensors

    def to(self, device):
        return self


def checkpoint(width=96, blocks=12, newer=True):
    tensors = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(width, 3, 1, 1)}
    tensors |= {f"image_encoder.trunk.blocks.{number}.norm1.weight": torch.zeros(1) for number in range(blocks)}
    return {"model": tensors | ({"no_obj_embed_spatial": torch.zeros(1)} if newer else {})}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ALAPP_MODELS_DIR", str(tmp_path))
    monkeypatch.setattr(sam2_weights, "_refused", {})
    (tmp_path / "sam2").mkdir()
    return tmp_path / "sam2"


@pytest.fixture
def package(monkeypatch, folder):
    """An installed sam2 with weights of its smallest model; `built` holds what was asked for."""
    modules = {name: types.ModuleType(name) for name in ("sam2", "sam2.build_sam", "sam2.sam2_image_predictor")}
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="here")
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sam2_weights, "NEEDED", ())
    package = modules["sam2"]
    package.built = []
    Predictor.calls.clear()
    Predictor.embedded.clear()
    monkeypatch.setattr(sam2, "RESIDENTS", Residents(free=lambda: 10**12))
    modules["sam2.build_sam"].build_sam2 = lambda config, device: package.built.append(config) or Model(config)
    modules["sam2.sam2_image_predictor"].SAM2ImagePredictor = Predictor
    torch.save(checkpoint(), folder / "sam2.1_hiera_tiny.pt")
    return package


@pytest.fixture
def clicks(package):
    method = Sam2Clicks()
    method.prepare("a", picture())
    return method


def picture(brightest=0, shape=(40, 50, 1)):
    pixels = np.zeros(shape, np.uint16)
    pixels[divmod(brightest, shape[1])] = 4000
    return pixels


def last():
    return Predictor.calls[-1]


def brightest(call):
    """The number of the brightest value, of all channels, of the image that a call was answered on."""
    features = call[5]
    first = features["image_embed"]
    finer, finest = features["high_res_feats"]
    assert all(torch.equal(*pair) for pair in ((finer, first[None] + 1), (finest, first + 2)))
    return int(first[0, 0, 0])


class TestStatus:
    def test_not_installed(self, folder, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
        assert Sam2Clicks.status().state is BackendState.NOT_INSTALLED
        with pytest.raises(NotInstalledError, match=r"SAM 2 cannot be used.*requirements-sam2\.txt"):
            Sam2Clicks().prepare("a", picture())

    def test_a_folder_of_that_name_is_not_the_package(self, folder, monkeypatch):
        namespace = importlib.machinery.ModuleSpec("sam2", None, is_package=True)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: namespace)
        assert Sam2Clicks.status().state is BackendState.NOT_INSTALLED

    def test_what_the_package_needs(self, package, monkeypatch):
        monkeypatch.setattr(sam2_weights, "NEEDED", ("json", "no_such_module"))
        status = Sam2Clicks.status()
        assert status.state is BackendState.NOT_INSTALLED
        assert status.detail.endswith("needs: no_such_module.")

    def test_weights_missing_says_where_they_belong(self, package, folder):
        (folder / "sam2.1_hiera_tiny.pt").unlink()
        status = Sam2Clicks.status()
        assert status.state is BackendState.WEIGHTS_MISSING
        assert str(folder) in status.detail
        assert "models download sam2.1_hiera_tiny" in status.remedy
        with pytest.raises(WeightsMissingError, match="No weights of SAM 2"):
            Sam2Clicks().prepare("a", picture())

    def test_a_copy_that_broke_off_is_seen_without_loading(self, package, folder):
        path = folder / "sam2.1_hiera_tiny.pt"
        path.write_bytes(path.read_bytes()[:-100])
        status = Sam2Clicks.status()
        assert status.state is BackendState.BROKEN
        assert "not copied completely" in status.detail
        with pytest.raises(BackendError, match="Remove the file"):
            Sam2Clicks().prepare("a", picture())

    def test_ready(self, package):
        assert Sam2Clicks.status().ready


class TestWeights:
    def test_the_users_own_then_the_fastest_then_what_is_damaged(self, package, folder):
        (folder / "sam2.1_hiera_tiny.pt").write_bytes(b"damaged")
        assert sam2_weights.weights().name == "sam2.1_hiera_tiny.pt"
        for name in ("sam2.1_hiera_large.pt", "sam2.1_hiera_small.pt"):
            torch.save({}, folder / name)
        assert sam2_weights.weights().name == "sam2.1_hiera_small.pt"
        torch.save({}, folder / "mine.pt")
        assert sam2_weights.weights().name == "mine.pt"

    @pytest.mark.parametrize("network", sam2_weights.NETWORKS, ids=lambda network: network.config)
    @pytest.mark.parametrize("newer", [True, False])
    def test_the_network_is_told_from_the_tensors(self, tmp_path, network, newer):
        torch.save(checkpoint(network.width, network.blocks, newer), tmp_path / "any.pt")
        config, tensors = sam2_weights.read(tmp_path / "any.pt")
        version = "sam2.1" if newer else "sam2"
        assert config == f"configs/{version}/{version}_{network.config}"
        assert len(tensors) == 1 + network.blocks + newer

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ({"model": {"some.weight": torch.zeros(1)}}, "it does not hold a SAM 2 model"),
            ([1], "it does not hold a SAM 2 model"),
            (checkpoint(width=80, blocks=3), "no size of SAM 2 has 3 blocks that begin 80 channels wide"),
        ],
    )
    def test_other_models_are_refused_and_the_status_knows_it(self, package, folder, content, reason):
        torch.save(content, folder / "sam2.1_hiera_tiny.pt")
        assert Sam2Clicks.status().ready
        with pytest.raises(BackendError, match=reason):
            Sam2Clicks().prepare("a", picture())
        status = Sam2Clicks.status()
        assert status.state is BackendState.BROKEN
        assert reason in status.detail
        torch.save(checkpoint(), folder / "sam2.1_hiera_tiny.pt")
        assert Sam2Clicks.status().ready

    def test_code_in_a_file_is_not_run(self, package, folder, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (tmp_path / "ran").touch, ()

        torch.save({"model": Bomb()}, folder / "sam2.1_hiera_tiny.pt")
        with pytest.raises(BackendError, match="cannot be loaded"):
            Sam2Clicks().prepare("a", picture())
        assert not (tmp_path / "ran").exists()

    def test_a_model_that_refuses_the_tensors(self, package, folder, monkeypatch):
        monkeypatch.setattr(Model, "load_state_dict", raising(RuntimeError("Missing keys:\n many")))
        with pytest.raises(BackendError, match=r"cannot be loaded: Missing keys\. Remove the file"):
            Sam2Clicks().prepare("a", picture())

    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")])
    def test_memory_that_runs_out_is_not_the_fault_of_the_file(self, package, monkeypatch, error):
        monkeypatch.setattr(Model, "load_state_dict", raising(error))
        with pytest.raises(ResourceError, match="SAM 2 ran out of memory"):
            Sam2Clicks().prepare("a", picture())
        assert Sam2Clicks.status().ready

    def test_a_package_that_cannot_be_imported(self, package):
        del sys.modules["sam2.build_sam"].build_sam2
        with pytest.raises(NotInstalledError, match=r"sam2 cannot be imported.*requirements-sam2\.txt"):
            Sam2Clicks().prepare("a", picture())


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


class TestPrompts:
    def test_the_model_is_loaded_once_for_all(self, clicks, package):
        clicks.prepare("b", picture(3))
        clicks.segment("b", [(1, 1)], [])
        Sam2Clicks().prepare("b", picture(3))
        assert package.built == ["configs/sam2.1/sam2.1_hiera_t.yaml"]

    @pytest.mark.parametrize("channels", [1, 2, 3, 5])
    def test_any_number_of_channels(self, clicks, channels):
        clicks.prepare("many", picture(7, (40, 50, channels)))
        found = clicks.segment("many", [(10, 20)], [])
        assert (found.shape, found.dtype) == ((40, 50), bool)
        assert brightest(last()) == 21

    def test_one_click_takes_the_mask_it_trusts_most(self, clicks):
        found = clicks.segment("a", [(10, 20)], [])
        assert np.count_nonzero(found) == 11**2
        assert found[10, 20]
        points, signs, box, mask, several, _ = last()
        assert points.tolist() == [[20, 10]]
        assert (signs.tolist(), box, mask, several) == ([1], None, None, True)

    def test_more_clicks_ask_for_one_mask(self, clicks):
        clicks.segment("a", [(10, 20)], [(3, 4)])
        points, signs, _, _, several, _ = last()
        assert points.tolist() == [[20, 10], [4, 3]]
        assert (signs.tolist(), several) == ([1, 0], False)

    def test_a_box_with_and_without_points(self, clicks):
        assert clicks.segment("a", [], [], box=(1, 2, 30, 40)).any()
        points, _, box, _, several, _ = last()
        assert (points, box.tolist(), several) == (None, [2, 1, 40, 30], False)
        clicks.segment("a", [(5, 6)], [], box=(1, 2, 30, 40))
        assert last()[0].tolist() == [[6, 5]]

    def test_its_own_answer_comes_back_as_the_logits_it_was(self, clicks):
        first = clicks.segment("a", [(10, 20)], [])
        clicks.segment("a", [(10, 20)], [(3, 4)], previous=first)
        _, _, box, mask, several, _ = last()
        assert (box, several) == (None, False)
        assert mask.shape == (1, 256, 256)
        assert (mask == 5).all()

    def test_another_mask_becomes_logits_and_a_box(self, clicks):
        known = np.zeros((40, 50), bool)
        known[10:20, 20:50] = True
        clicks.segment("a", [(12, 30)], [], previous=known)
        _, _, box, mask, _, _ = last()
        assert box.tolist() == [20, 10, 50, 20]
        assert mask.dtype == np.float32
        assert mask[0, 96, 180] == pytest.approx(6)
        assert mask[0, 200, 30] == pytest.approx(-6)

    def test_a_click_outside_of_another_mask_may_make_it_grow(self, clicks):
        known = np.zeros((40, 50), bool)
        known[10:20, 20:50] = True
        clicks.segment("a", [(30, 30)], [], previous=known)
        assert last()[2] is None

    def test_an_empty_mask_is_no_prompt(self, clicks):
        assert not clicks.segment("a", [], [(3, 3)], previous=np.zeros((40, 50), bool)).any()
        assert Predictor.calls == []

    def test_granularity_chooses_by_size_and_looseness_moves_the_border(self, clicks):
        sizes = [np.count_nonzero(clicks.segment("a", [(10, 20)], [], tuning=Tuning(g))) for g in (-1, 0.01, 1)]
        assert sizes == [5**2, 11**2, 17**2]
        sizes = [
            np.count_nonzero(clicks.segment("a", [(15, 20)], [], tuning=Tuning(looseness=by))) for by in (-1, 0, 1)
        ]
        assert sizes == [3**2, 11**2, 19**2]

    def test_an_answer_is_the_callers_own(self, clicks):
        found = clicks.segment("a", [(10, 20)], [])
        before = found.copy()
        found[:] = True
        clicks.segment("a", [(10, 20)], [(1, 1)], previous=before)
        assert (last()[3] == 5).all()

    def test_old_slices_are_dropped(self, clicks):
        for number in range(sam2.CACHED_SLICES):
            clicks.prepare(str(number), picture(number))
        with pytest.raises(KeyError):
            clicks.segment("a", [(1, 1)], [])
        clicks.segment("0", [(1, 1)], [])

    def test_features_of_other_weights_are_not_used(self, clicks, folder):
        torch.save(checkpoint(blocks=16), folder / "mine.pt")
        with pytest.raises(KeyError):
            clicks.segment("a", [(1, 1)], [])
        clicks.prepare("a", picture())
        assert clicks.segment("a", [(1, 1)], []).any()

    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            (RuntimeError("odd shape"), BackendError, "SAM 2 failed on this image: odd shape"),
            (torch.OutOfMemoryError("CUDA out of memory"), ResourceError, "SAM 2 ran out of memory"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ResourceError, "SAM 2 ran out of memory"),
        ],
    )
    @pytest.mark.parametrize("where", ["set_image", "predict"])
    def test_its_errors_are_sentences(self, clicks, monkeypatch, error, kind, words, where):
        monkeypatch.setattr(Predictor, where, raising(error))
        with pytest.raises(kind, match=words):
            clicks.prepare("b", picture()) if where == "set_image" else clicks.segment("a", [(1, 1)], [])


class TestCache:
    @pytest.fixture
    def cached(self, package, tmp_path):
        """Methods of as many processes that share a cache on disk."""
        methods = [Sam2Clicks() for _ in range(2)]
        for method in methods:
            method.keep_in(EmbeddingCache(tmp_path / "cache"))
        return methods

    def test_what_one_process_embedded_another_does_not(self, cached):
        one, other = cached
        assert isinstance(one, Embeds)
        assert not one.is_embedded(picture(5))
        assert one.embed(picture(5))
        assert not other.embed(picture(5))
        assert other.is_embedded(picture(5))
        assert not other.is_embedded(picture(6))
        other.prepare("a", picture(5))
        assert other.segment("a", [(10, 20)], []).any()
        assert brightest(last()) == 15
        assert Predictor.embedded == [15]

    def test_prepare_keeps_what_it_computed(self, cached):
        one, other = cached
        one.prepare("a", picture(5))
        assert other.is_embedded(picture(5))

    def test_other_weights_have_features_of_their_own(self, cached, folder):
        one, other = cached
        one.embed(picture(5))
        torch.save(checkpoint(blocks=16), folder / "mine.pt")
        assert not other.is_embedded(picture(5))
        assert other.embed(picture(5))

    def test_what_is_no_features_is_computed_anew(self, cached, tmp_path):
        one, other = cached
        one.embed(picture(5))
        (entry,) = (tmp_path / "cache").glob("*.npz")
        np.savez(entry, something=np.zeros(3))
        other.prepare("a", picture(5))
        assert Predictor.embedded == [15, 15]

    def test_without_a_cache_nothing_is_kept(self, clicks):
        assert not clicks.embed(picture(5))
        assert not clicks.is_embedded(picture(5))


class TestThreads:
    def test_clicks_on_different_slices_do_not_mix(self, clicks):
        for number in range(4):
            clicks.prepare(str(number), picture(number))
        seen = []

        def work(number):
            for _ in range(25):
                clicks.segment(str(number), [(number, 0)], [])
            seen.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert sorted(seen) == [0, 1, 2, 3]
        assert len(Predictor.calls) == 100
        # The row that was clicked on is the number of the slice, whose brightest pixel is that of all three channels.
        assert all(call[0][0, 1] * 3 == brightest(call) for call in Predictor.calls)

    def test_embedding_another_slice_does_not_hold_up_a_click(self, clicks, monkeypatch):
        embedding, going_on, embed = threading.Event(), threading.Event(), Predictor.set_image

        def slowly(self, image):
            embedding.set()
            assert going_on.wait(20)
            embed(self, image)

        monkeypatch.setattr(Predictor, "set_image", slowly)
        ahead = threading.Thread(target=clicks.prepare, args=("next", picture(9)))
        ahead.start()
        assert embedding.wait(20)
        assert clicks.segment("a", [(1, 1)], []).any()
        going_on.set()
        ahead.join()
        assert clicks.segment("next", [(1, 1)], []).any()


@pytest.mark.slow
def test_the_package_itself_answers(folder):
    """With weights made from a seed: what it draws means nothing, but every prompt must be taken."""
    pytest.importorskip("sam2")
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
    torch.save({"model": model.state_dict()}, folder / "sam2.1_hiera_tiny.pt")
    assert Sam2Clicks.status().ready
    method, image = Sam2Clicks(), np.random.default_rng(0).integers(0, 4000, (60, 90, 2), dtype=np.uint16)
    method.keep_in(EmbeddingCache(folder / "cache"))
    method.prepare("a", image)
    first = method.segment("a", [(20, 30)], [])
    assert (first.shape, first.dtype) == ((60, 90), bool)
    answers = [
        method.segment("a", [(20, 30)], [(50, 80)], previous=first),
        method.segment("a", [], [], box=(10, 10, 40, 50)),
        method.segment("a", [(20, 30)], [], box=(10, 10, 40, 50)),
        method.segment("a", [], [], previous=np.eye(60, 90, dtype=bool)),
        method.segment("a", [(20, 30)], [], tuning=Tuning(1, -1)),
    ]
    assert {answer.shape for answer in answers} == {(60, 90)}
    assert np.array_equal(first, method.segment("a", [(20, 30)], []))
    later = Sam2Clicks()
    later.keep_in(method._cache)
    assert later.is_embedded(image)
    later.prepare("a", image)
    assert np.array_equal(first, later.segment("a", [(20, 30)], []))
