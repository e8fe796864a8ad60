"""How SAM 2 is prompted and what is kept of a slice. The package is optional, so a stand-in has its interface."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from alapp.errors import BackendError, ResourceError
from alapp.stages.annotate.base import Embeds, Tuning
from alapp.stages.annotate.embedding_cache import EmbeddingCache
from alapp.stages.annotate.sam2 import CACHED_SLICES, Sam2Clicks
from tests.stages.annotate.sam2_stand_in import Predictor, brightest, checkpoint, last, picture, raising


@pytest.fixture
def clicks(sam2_package):
    method = Sam2Clicks()
    method.prepare("a", picture())
    return method


class TestPrompts:
    def test_the_model_is_loaded_once_for_all(self, clicks, sam2_package):
        clicks.prepare("b", picture(3))
        clicks.segment("b", [(1, 1)], [])
        Sam2Clicks().prepare("b", picture(3))
        assert sam2_package.built == ["configs/sam2.1/sam2.1_hiera_t.yaml"]

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
        for number in range(CACHED_SLICES):
            clicks.prepare(str(number), picture(number))
        with pytest.raises(KeyError):
            clicks.segment("a", [(1, 1)], [])
        clicks.segment("0", [(1, 1)], [])

    def test_features_of_other_weights_are_not_used(self, clicks, sam2_folder):
        torch.save(checkpoint(blocks=16), sam2_folder / "mine.pt")
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
    def cached(self, sam2_package, tmp_path):
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

    def test_other_weights_have_features_of_their_own(self, cached, sam2_folder):
        one, other = cached
        one.embed(picture(5))
        torch.save(checkpoint(blocks=16), sam2_folder / "mine.pt")
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

    @pytest.fixture
    def busy(self, clicks, monkeypatch):
        """A thread that computes the features of the slice "next", until its `finish` is called."""
        embedding, going_on, embed = threading.Event(), threading.Event(), Predictor.set_image

        def slowly(self, image):
            embedding.set()
            assert going_on.wait(20)
            embed(self, image)

        monkeypatch.setattr(Predictor, "set_image", slowly)
        thread = threading.Thread(target=clicks.prepare, args=("next", picture(9)))
        thread.finish = going_on.set
        thread.start()
        assert embedding.wait(20)
        yield thread
        thread.finish()
        thread.join()

    def test_embedding_another_slice_does_not_hold_up_a_click(self, clicks, busy):
        assert clicks.segment("a", [(1, 1)], []).any()
        assert busy.is_alive()
        busy.finish()
        busy.join()
        assert clicks.segment("next", [(1, 1)], []).any()

    def test_nor_the_opening_of_a_slice_that_was_embedded(self, clicks, tmp_path, request):
        clicks.keep_in(EmbeddingCache(tmp_path / "cache"))
        assert clicks.embed(picture(5))
        busy = request.getfixturevalue("busy")
        clicks.prepare("b", picture(5))
        clicks.prepare("a", picture())
        assert busy.is_alive()
        assert clicks.segment("b", [(1, 1)], []).any()

    def test_who_waits_for_the_same_slice_does_not_compute_it_again(self, clicks, busy):
        waiting = threading.Thread(target=clicks.prepare, args=("next", picture(9)))
        waiting.start()
        waiting.join(0.2)
        busy.finish()
        waiting.join(20)
        assert clicks.segment("next", [(1, 1)], []).any()
        assert Predictor.embedded == [0, 27]


@pytest.mark.slow
def test_the_package_itself_answers(sam2_folder):
    """With weights made from a seed: what it draws means nothing, but every prompt must be taken."""
    pytest.importorskip("sam2")
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
    torch.save({"model": model.state_dict()}, sam2_folder / "sam2.1_hiera_tiny.pt")
    assert Sam2Clicks.status().ready
    method, image = Sam2Clicks(), np.random.default_rng(0).integers(0, 4000, (60, 90, 2), dtype=np.uint16)
    method.keep_in(EmbeddingCache(sam2_folder / "cache"))
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
