"""micro_sam's states, and how its automatic segmentation is called. Nothing may be downloaded."""

from __future__ import annotations

import importlib.machinery
import pickle
import socket
import sys
import types

import numpy as np
import pytest

from alapp.domain import BackendState, Modality
from alapp.errors import BackendError, NotInstalledError, ResourceError, WeightsMissingError
from alapp.stages.pseudolabel import microsam
from alapp.stages.pseudolabel.microsam import MicroSamAutomatic


@pytest.fixture
def models(monkeypatch, tmp_path):
    """An empty cache of micro_sam, and no network."""
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path))

    def refuse(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def package(monkeypatch, models):
    """A micro_sam with weights for light microscopy; it labels what is bright and keeps its calls."""
    modules = {name: types.ModuleType(name) for name in ("micro_sam", "micro_sam.util")}
    automatic = types.ModuleType("micro_sam.automatic_segmentation")
    modules["micro_sam.automatic_segmentation"] = automatic
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    package = modules["micro_sam"]
    package.util, package.automatic_segmentation = modules["micro_sam.util"], automatic
    package.loads, package.images = [], []

    def get_sam_model(model_type, **options):
        pickle.Unpickler = object  # as micro_sam does
        package.loads.append((model_type, options))
        return "predictor", {"decoder_state": {}}

    def automatic_instance_segmentation(predictor, segmenter, image, ndim, verbose):
        assert (predictor, segmenter, ndim) == ("predictor", "ais", 2)
        package.images.append(image)
        return (image > 128).astype(np.uint64) * 70_000

    package.util.get_sam_model = get_sam_model
    automatic.get_predictor_and_segmenter = lambda *_, segmentation_mode, predictor, state: (
        predictor,
        segmentation_mode,
    )
    automatic.automatic_instance_segmentation = automatic_instance_segmentation
    monkeypatch.setattr(pickle, "Unpickler", pickle.Unpickler)  # put back after the test, whatever it finds
    put(models, "vit_b_lm", "vit_b_lm_decoder")
    return package


def put(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"not a checkpoint")


def square() -> np.ndarray:
    image = np.zeros((80, 90, 1), np.float32)
    image[20:40, 30:60] = 1
    return image


def without(monkeypatch, absent):
    """As if the module `absent` were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == absent else find(name, *rest))


class TestStatus:
    def test_it_needs_the_model_and_its_decoder(self, models):
        assert MicroSamAutomatic.status().state is BackendState.WEIGHTS_MISSING
        put(models, "vit_b_lm")
        half = MicroSamAutomatic.status()
        assert half.state is BackendState.WEIGHTS_MISSING
        assert "vit_b_lm is in" in half.detail
        assert "Download vit_b_lm_decoder once" in half.remedy
        put(models, "vit_b_lm_decoder")
        assert MicroSamAutomatic.status(Modality.LIGHT).state is BackendState.READY
        assert MicroSamAutomatic.status().state is BackendState.READY

    def test_weights_for_the_other_modality_do_not_count(self, models):
        put(models, "vit_b_lm", "vit_b_lm_decoder")
        status = MicroSamAutomatic.status(Modality.EM)
        assert status.state is BackendState.WEIGHTS_MISSING
        assert "em_organelles_decoder" in status.remedy
        with pytest.raises(WeightsMissingError, match="No model with its decoder"):
            MicroSamAutomatic(Modality.EM).label(square(), {})

    def test_the_fastest_that_can_run_is_taken(self, models, monkeypatch):
        put(models, "vit_t_lm", "vit_t_lm_decoder", "vit_b_lm", "vit_b_lm_decoder")
        monkeypatch.setitem(sys.modules, "mobile_sam", types.ModuleType("mobile_sam"))
        sys.modules["mobile_sam"].__spec__ = importlib.machinery.ModuleSpec("mobile_sam", None)
        assert microsam.cached_pair(Modality.LIGHT) == "vit_t_lm"
        without(monkeypatch, "mobile_sam")
        assert microsam.cached_pair(Modality.LIGHT) == "vit_b_lm"

    def test_tiny_weights_without_their_package(self, models, monkeypatch):
        without(monkeypatch, "mobile_sam")
        assert "vit_t" not in MicroSamAutomatic.status().remedy
        put(models, "vit_t_lm", "vit_t_lm_decoder")
        status = MicroSamAutomatic.status()
        assert status.state is BackendState.NOT_INSTALLED
        assert "mobilesam-mirror" in status.remedy

    def test_not_installed(self, models, monkeypatch):
        without(monkeypatch, "micro_sam")
        assert MicroSamAutomatic.status().state is BackendState.NOT_INSTALLED
        with pytest.raises(NotInstalledError, match="pip install micro_sam"):
            MicroSamAutomatic().label(square(), {})


class TestLabel:
    def test_the_files_are_loaded_by_path_and_once(self, package, models):
        method, before = MicroSamAutomatic(Modality.LIGHT), pickle.Unpickler
        labels = method.label(square(), {})
        method.label(square(), {})
        assert (labels.dtype, labels.max(), labels[30, 40]) == (np.int32, 1, 1)
        assert len(package.loads) == 1
        model_type, options = package.loads[0]
        assert model_type == "vit_b"
        assert options["checkpoint_path"] == str(models / "vit_b_lm")
        assert options["decoder_path"] == str(models / "vit_b_lm_decoder")
        assert pickle.Unpickler is before

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_it_sees_8_bit_gray_or_colour(self, package, channels):
        image = np.repeat(square(), channels, axis=-1).astype(np.uint16) * 40_000
        package.automatic_segmentation.automatic_instance_segmentation = lambda *given, **_: (
            package.images.append(given[2]) or np.zeros(given[2].shape[:2], np.uint64)
        )
        MicroSamAutomatic().label(image, {})
        seen = package.images[0]
        assert seen.dtype == np.uint8
        assert seen.shape == ((80, 90, 3) if channels == 3 else (80, 90))
        assert (seen.min(), seen.max()) == (0, 255)

    def test_a_stack_is_linked_and_constant_slices_are_not_asked_about(self, package):
        stack = np.stack([square(), square(), np.full((80, 90, 1), 5, np.float32)])
        labels = MicroSamAutomatic().label(stack, {})
        assert (labels.shape, labels.dtype) == ((3, 80, 90), np.int32)
        assert np.unique(labels[:2]).tolist() == [0, 1]
        assert not labels[2].any()
        assert len(package.images) == 2

    def test_large_images_are_cut_and_objects_joined(self, package):
        image = np.zeros((1300, 1500, 1), np.float32)
        image[600:700, 300:1200] = 1
        labels = MicroSamAutomatic().label(image, {})
        assert all(max(tile.shape) <= 1024 for tile in package.images)
        assert labels.max() == 1
        assert ((labels > 0) == (image[..., 0] > 0)).all()

    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            (ValueError("odd shape"), BackendError, "micro_sam failed on this image: odd shape"),
            (RuntimeError("can't allocate memory"), ResourceError, "ran out of memory"),
        ],
    )
    def test_its_errors_are_sentences(self, package, error, kind, words):
        def fail(*_, **__):
            raise error

        package.automatic_segmentation.automatic_instance_segmentation = fail
        with pytest.raises(kind, match=words):
            MicroSamAutomatic().label(square(), {})


def test_broken_weights_are_a_sentence_and_start_no_download(models):
    put(models, "vit_b_lm", "vit_b_lm_decoder")
    before = pickle.Unpickler
    with pytest.raises(BackendError, match=r"vit_b_lm or their decoder cannot be loaded"):
        MicroSamAutomatic(Modality.LIGHT).label(square(), {})
    assert pickle.Unpickler is before
