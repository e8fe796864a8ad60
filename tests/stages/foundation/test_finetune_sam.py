"""Fine-tuning micro_sam: what it learns from, how it is judged, and what it leaves behind."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest

from alapp.domain import silent
from alapp.errors import BackendError, Cancelled, NotReadyError, OutOfMemoryError
from alapp.stages.foundation import finetune_sam, finetune_trainer
from alapp.stages.foundation.finetune_sam import Sample, Start, Tuned, check, finetune, innermost, one_click_iou
from alapp.stages.foundation.finetune_trainer import CROP, State


def sample(objects: int = 4, side: int = 96, seed: int = 0) -> Sample:
    """Bright squares of 12 pixels in rows, uint8 (Y, X, 1)."""
    labels = np.zeros((side, side), np.int32)
    for number in range(objects):
        y, x = 4 + 16 * (number // 5), 4 + 16 * (number % 5)
        labels[y : y + 12, x : x + 12] = number + 1
    noise = np.random.default_rng(seed).integers(0, 40, labels.shape)
    return Sample((np.where(labels > 0, 180, 20) + noise).astype(np.uint8)[..., None], labels)


class Nothing:
    """A model in the place of SAM."""

    def eval(self):
        return self

    def load_state_dict(self, state):
        self.state = state


@pytest.fixture
def package(monkeypatch):
    """micro_sam's functions for a click: it finds the square under it, `share` of its rows."""
    package = types.SimpleNamespace(share=1.0, embedded=[], clicks=[])
    util, prompts = types.ModuleType("micro_sam.util"), types.ModuleType("micro_sam.prompt_based_segmentation")
    whole = types.ModuleType("micro_sam")
    whole.util, whole.__path__ = util, []

    def precompute_image_embeddings(predictor, image, ndim, verbose):
        package.embedded.append(image)
        return image

    def segment_from_points(predictor, points, labels, image_embeddings):
        (y, x), found = points[0], np.zeros((1, *image_embeddings.shape[:2]), bool)
        package.clicks.append((y, x))
        top, left = (y - 4) // 16 * 16 + 4, (x - 4) // 16 * 16 + 4
        found[0, top : top + int(12 * package.share), left : left + 12] = True
        return found

    util.precompute_image_embeddings, prompts.segment_from_points = precompute_image_embeddings, segment_from_points
    for module in (whole, util, prompts):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    predictor = types.SimpleNamespace(model=Nothing(), reset_image=lambda: None)
    monkeypatch.setattr(finetune_sam, "_load", lambda start: (predictor, {}))
    package.predictor = predictor
    return package


def trained(monkeypatch, package, share=1.0, error=None):
    """A training that makes the model find `share` of every object."""
    seen = []

    def train(sam, decoder, samples, iterations, seed, report):
        if error:
            raise error
        seen.extend(samples)
        report(1, 2, "Training")
        package.share = share
        return State({"weight": 1}, None)

    monkeypatch.setattr(finetune_trainer, "train", train)
    return seen


START = Start("vit_t", None)


class TestCheck:
    @pytest.mark.parametrize(
        ("train", "validation", "words"),
        [
            ([sample()] * 2, [sample(12)], r"at least 3 annotated training patches .* there are 2 patches with 8"),
            ([sample(1)] * 3, [sample(12)], r"10 objects in all; there are 3 patches with 3"),
            ([sample()] * 3, [], r"1 annotated validation patch .* there are 0 patches with 0"),
            ([sample()] * 3, [sample(2)], r"there is 1 patch with 2\. Annotate more first"),
        ],
    )
    def test_too_few_labels_are_a_sentence(self, train, validation, words):
        with pytest.raises(NotReadyError, match=words):
            check(train, validation)

    def test_specks_do_not_count(self):
        specks = sample(12)
        specks.labels[:] = np.where(np.indices(specks.labels.shape)[1] % 16 == 4, specks.labels, 0)
        with pytest.raises(NotReadyError, match="there are 0 patches with 0"):
            check([specks] * 3, [sample(12)])


class TestFinetune:
    def test_it_is_judged_before_and_after_on_what_it_never_saw(self, package, monkeypatch):
        package.share = 0.5
        seen = trained(monkeypatch, package, share=1.0)
        learnt, judged = [sample(seed=n) for n in range(3)], [sample(12, seed=9)]
        made = finetune(START, learnt, judged, 5, 0, silent)
        assert (made.before, made.after, made.objects, made.better) == (0.5, 1.0, 12, True)
        assert len(seen) == 3
        assert not any(one is judged[0] for one in seen)
        assert package.predictor.model.state == {"weight": 1}

    def test_a_model_that_got_worse_is_not_better(self, package, monkeypatch):
        trained(monkeypatch, package, share=0.5)
        made = finetune(START, [sample()] * 3, [sample(12)], 5, 0, silent)
        assert not made.better
        assert not Tuned({}, None, 0.5, 0.5, 12, 1).better

    def test_images_without_objects_are_left_out(self, package, monkeypatch):
        seen = trained(monkeypatch, package)
        empty = Sample(np.zeros((96, 96, 1), np.uint8), np.zeros((96, 96), np.int32))
        finetune(START, [sample(), empty, sample(), sample()], [empty, sample(12)], 5, 0, silent)
        assert len(seen) == 3
        assert len(package.embedded) == 2

    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            (MemoryError(), OutOfMemoryError, "vit_t_lm. The model that you had is as it was"),
            (RuntimeError("[enforce fail] can't allocate memory"), OutOfMemoryError, "ran out of memory"),
            (RuntimeError("odd"), BackendError, "failed while it was fine-tuned: odd"),
            (Cancelled("stop"), Cancelled, "stop"),
        ],
    )
    def test_its_errors_are_sentences(self, package, monkeypatch, error, kind, words):
        trained(monkeypatch, package, error=error)
        with pytest.raises(kind, match=words):
            finetune(START, [sample()] * 3, [sample(12)], 5, 0, silent)

    def test_progress_only_grows(self, package, monkeypatch):
        trained(monkeypatch, package)
        told = []
        finetune(START, [sample()] * 3, [sample(12)], 5, 0, lambda done, total, message: told.append(done / total))
        assert told == sorted(told)
        assert told[-1] <= 1


class TestClicks:
    def test_at_most_a_hundred_objects_the_same_for_a_seed(self, package, monkeypatch):
        monkeypatch.setattr(finetune_sam, "MOST_CLICKS", 7)
        samples = [sample(20, seed=n) for n in range(3)]
        found = one_click_iou(package.predictor, samples, 0, silent)
        first = list(package.clicks)
        one_click_iou(package.predictor, samples, 0, silent)
        assert found == (1.0, 7)
        assert package.clicks == first * 2
        assert len(package.embedded) <= 6

    def test_the_click_is_inside_where_the_object_is_thick(self):
        ring = np.zeros((40, 40), bool)
        ring[5:35, 5:35] = True
        ring[8:28, 8:28] = False
        y, x = innermost(ring)
        assert ring[y, x]
        assert (y, x) == innermost(ring)
        assert min(y, x) >= 28


class TestCrops:
    def test_a_crop_has_an_object_and_the_size_that_fits(self):
        labels = np.zeros((700, 90), np.int32)
        labels[650:670, 40:60] = 7
        big = Sample(np.random.default_rng(0).integers(0, 4000, (700, 90, 2)).astype(np.uint16), labels)
        crops = finetune_trainer._Crops([big], 6, False, 0)
        for pixels, target in crops:
            assert sorted(pixels.shape[1:]) == [90, CROP]
            assert (pixels.dtype, pixels.shape[0], target.dtype) == (np.float32, 3, np.float32)
            assert 0 <= pixels.min() < pixels.max() <= 255
            assert np.unique(target).tolist() == [0, 1]

    def test_pixels_and_labels_turn_together(self):
        for pixels, target in finetune_trainer._Crops([sample(9)], 8, False, 0):
            assert (pixels[0][target[0] > 0]).min() > pixels[0][target[0] == 0].max()

    def test_crops_for_judging_stay_the_same(self):
        samples = [sample(9, seed=n) for n in range(2)]
        same = finetune_trainer._Crops(samples, 2, False, 0, same=True)
        fresh = finetune_trainer._Crops(samples, 8, False, 0)
        assert all((a[0] == b[0]).all() for a, b in zip(list(same), list(same), strict=True))
        first, second = list(fresh), list(fresh)
        assert not all((a[0] == b[0]).all() for a, b in zip(first, second, strict=True))

    def test_a_fifth_is_left_out_to_judge_on_the_way(self):
        samples = [sample(9, seed=n) for n in range(10)]
        learnt, monitor = finetune_trainer._loaders(samples, False, 50, 0)
        here, there = learnt.dataset._samples, monitor.dataset._samples
        assert (len(here), len(there), len(learnt)) == (8, 2, 5)
        assert not {id(one) for one in here} & {id(one) for one in there}
        few = finetune_trainer._loaders(samples[:4], False, 50, 0)
        assert [len(loader.dataset._samples) for loader in few] == [4, 4]


@pytest.mark.skipif(importlib.util.find_spec("micro_sam") is None, reason="needs micro_sam")
def test_on_the_gpu_of_a_mac_only_the_part_that_answers_clicks_learns(monkeypatch):
    import torch

    sam = torch.nn.Module()
    sam.image_encoder, sam.mask_decoder = torch.nn.Linear(2, 2, device="meta"), torch.nn.Linear(2, 2, device="meta")
    sam.image_encoder.img_size = 1024
    learning = []

    def trainer(model, unetr, *_):
        learning.extend(name for name, value in sam.named_parameters() if value.requires_grad)
        assert unetr is None
        return types.SimpleNamespace(fit=lambda **_: None, best=State({}, None))

    monkeypatch.setattr(finetune_trainer, "_trainer", trainer)
    # There is no such GPU here; "meta" is no CPU either.
    finetune_trainer.train(sam, {"decoder": "weights"}, [sample()] * 3, 1, 0, silent)
    assert learning == ["mask_decoder.weight", "mask_decoder.bias"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("mobile_sam") is None, reason="needs mobile_sam")
@pytest.mark.parametrize("with_decoder", [True, False])
def test_the_real_trainer_learns_can_be_cancelled_and_writes_nothing(tmp_path, monkeypatch, with_decoder):
    from tests.stages.foundation.real_sam import seeded

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finetune_sam, "MOST_CLICKS", 2)
    monkeypatch.setattr(finetune_trainer, "MONITOR_MOST", 1)
    start = seeded(tmp_path / "weights", "vit_t", with_decoder)
    learnt, judged = [sample(9, seed=n) for n in range(3)], [sample(12, seed=9)]
    told = []

    def report(done, total, message=""):
        told.append(message)
        if message == "Training: step 1 of 9":
            raise Cancelled("stop")

    before = start.weights.read_bytes()
    if with_decoder:
        with pytest.raises(Cancelled):
            finetune(start, learnt, judged, 9, 0, report)
    made = finetune(start, learnt, judged, 2, 0, silent)
    assert (made.iterations, made.objects) == (2, 2)
    assert 0 <= made.before <= 1
    assert 0 <= made.after <= 1
    assert bool(made.decoder) == with_decoder  # learnt on a GPU, as it was on a CPU
    assert start.weights.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights"]
    import torch

    old = torch.load(start.weights, weights_only=True)
    assert made.weights.keys() == old.keys()
    changed = {name for name in old if (made.weights[name].cpu() != old[name]).any()}
    assert any(name.startswith("mask_decoder") for name in changed)
    if not torch.cuda.is_available():  # the encoder stays as it was, statistics of its layers too
        assert not [name for name in changed if name.startswith("image_encoder")]
