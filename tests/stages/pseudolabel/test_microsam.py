"""micro_sam's states, and how its automatic segmentation is called. Nothing may be downloaded."""

from __future__ import annotations

import importlib.machinery
import pickle
import runpy
import socket
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from alapp.domain import BackendState, Modality
from alapp.errors import (
    BackendError,
    Cancelled,
    NotInstalledError,
    ResourceError,
    WeightsMissingError,
)
from alapp.stages.foundation import own
from alapp.stages.foundation.fingerprint import weights_hash
from alapp.stages.pseudolabel import microsam, microsam_weights
from alapp.stages.pseudolabel.microsam import MicroSamAutomatic, MicroSamGrid, MicroSamPrompts
from alapp.stages.pseudolabel.microsam_weights import GRID, SEEDS


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


class Segmenter:
    """Labels what is bright; says so after every step, as micro_sam does."""

    def __init__(self, mode, package):
        self.mode, self.package = mode, package

    def initialize(self, image, image_embeddings, verbose, pbar_init, pbar_update):
        assert verbose  # without, micro_sam leaves the two functions alone
        assert image_embeddings == "embeddings"
        self.package.images.append(image)
        self.image = image
        pbar_init(2, "steps")
        pbar_update(1)
        pbar_update(1)

    def generate(self, **options):
        self.package.options.append((self.mode, options))
        return self.package.answer(self.image)


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
    package.loads, package.images, package.options = [], [], []
    package.answer = lambda image: (image > 128).astype(np.uint64) * 70_000

    def get_sam_model(model_type, **options):
        pickle.Unpickler = object  # as micro_sam does
        package.loads.append((model_type, options))
        return "predictor", {"decoder_state": {}}

    package.util.get_sam_model = get_sam_model
    package.util.precompute_image_embeddings = lambda predictor, image, ndim, verbose: "embeddings"
    automatic.get_predictor_and_segmenter = lambda *_, segmentation_mode, predictor, state: (
        predictor,
        Segmenter(segmentation_mode, package),
    )
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
        assert "models download vit_b_lm" in half.remedy
        put(models, "vit_b_lm_decoder")
        assert MicroSamAutomatic.status(Modality.LIGHT).state is BackendState.READY
        assert MicroSamAutomatic.status().state is BackendState.READY

    def test_weights_for_the_other_modality_do_not_count(self, models):
        put(models, "vit_b_lm", "vit_b_lm_decoder")
        status = MicroSamAutomatic.status(Modality.EM)
        assert status.state is BackendState.WEIGHTS_MISSING
        assert "models download vit_t_em_organelles" in status.remedy
        with pytest.raises(WeightsMissingError, match="No model with its decoder"):
            MicroSamAutomatic(Modality.EM).label(square(), {})

    def test_the_fastest_that_can_run_is_taken(self, models, monkeypatch):
        put(models, "vit_t_lm", "vit_t_lm_decoder", "vit_b_lm", "vit_b_lm_decoder")
        monkeypatch.setitem(sys.modules, "mobile_sam", types.ModuleType("mobile_sam"))
        sys.modules["mobile_sam"].__spec__ = importlib.machinery.ModuleSpec("mobile_sam", None)
        assert MicroSamAutomatic.models(Modality.LIGHT) == ["vit_t_lm", "vit_b_lm"]
        assert microsam_weights.fit(Modality.LIGHT, True).name == "vit_t_lm"
        without(monkeypatch, "mobile_sam")
        assert MicroSamAutomatic.models(Modality.LIGHT) == ["vit_b_lm"]
        assert microsam_weights.fit(Modality.LIGHT, True).name == "vit_b_lm"

    def test_tiny_weights_without_their_package(self, models, monkeypatch):
        without(monkeypatch, "mobile_sam")
        assert "vit_t" not in MicroSamAutomatic.status().remedy
        put(models, "vit_t_lm", "vit_t_lm_decoder")
        status = MicroSamAutomatic.status()
        assert status.state is BackendState.NOT_INSTALLED
        assert "mobilesam-mirror" in status.remedy

    def test_a_grid_of_clicks_needs_no_decoder(self, models):
        put(models, "vit_b")
        assert MicroSamGrid.status(Modality.EM).detail == "vit_b is on this computer."
        assert MicroSamPrompts.status(Modality.EM).state is BackendState.WEIGHTS_MISSING
        put(models, "vit_b_em_organelles")
        assert MicroSamGrid.models(Modality.EM) == ["vit_b_em_organelles", "vit_b"]
        assert "20 to 160 seconds" in MicroSamGrid.suits

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

    @pytest.mark.parametrize("channels", [1, 2, 3, 5])
    def test_it_sees_8_bit_gray_or_colour(self, package, channels):
        image = np.repeat(square(), channels, axis=-1).astype(np.uint16) * 40_000
        package.answer = lambda image: np.zeros(image.shape[:2], np.uint64)
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

        package.answer = fail
        with pytest.raises(kind, match=words):
            MicroSamAutomatic().label(square(), {})


class TestModes:
    @pytest.mark.parametrize(
        ("method", "mode", "given", "expected"),
        [
            (MicroSamAutomatic, "ais", {}, {"center_distance_threshold": 0.4, "foreground_threshold": 0.5}),
            (MicroSamAutomatic, "ais", {"seeds": 0.7}, {"center_distance_threshold": 0.7, "distance_smoothing": 2.0}),
            (MicroSamPrompts, "apg", {"foreground": 0.3}, {"foreground_threshold": 0.3, "min_size": 0}),
            (MicroSamGrid, "amg", {}, {"pred_iou_thresh": 0.65, "stability_score_thresh": 0.7}),
            (MicroSamGrid, "amg", {"quality": 0.9}, {"pred_iou_thresh": 0.9, "stability_score_thresh": 0.7}),
        ],
    )
    def test_each_is_asked_with_the_values_of_its_authors_unless_others_are_given(
        self, package, method, mode, given, expected
    ):
        assert method(Modality.LIGHT).label(square(), given).max() == 1
        asked, options = package.options[0]
        assert asked == mode
        assert {name: options[name] for name in expected} == expected

    def test_small_objects_are_dropped(self, package):
        assert MicroSamAutomatic().label(square(), {"min_size": 600}).max() == 1
        assert MicroSamAutomatic().label(square(), {"min_size": 601}).max() == 0

    def test_a_model_is_chosen_and_another_one_loaded(self, package, models):
        put(models, "vit_b_em_organelles", "vit_b_em_organelles_decoder")
        method = MicroSamAutomatic(Modality.LIGHT)
        method.label(square(), {"model": "vit_b_em_organelles"})
        method.label(square(), {"model": ""})
        paths = [options["checkpoint_path"] for _, options in package.loads]
        assert paths == [str(models / "vit_b_em_organelles"), str(models / "vit_b_lm")]

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("vit_l_lm", "The model vit_l_lm is not on this computer"),
            ("../x", "The model ../x is not on this computer"),
            ("vit_b", "The model vit_b has no decoder on this computer"),
        ],
    )
    def test_a_model_that_is_not_here_is_a_sentence(self, package, models, name, words):
        put(models, "vit_b")
        with pytest.raises(WeightsMissingError, match=words):
            MicroSamAutomatic().label(square(), {"model": name})

    def test_a_model_of_the_users_own_comes_first(self, package, monkeypatch):
        torch = pytest.importorskip("torch")
        own.add("mine", "vit_b", {"a": torch.zeros(1)}, {"b": torch.zeros(1)}, modality=Modality.LIGHT)
        own.add("for clicks", "vit_b", {"a": torch.ones(1)})
        assert MicroSamAutomatic.models(Modality.LIGHT) == ["mine", "vit_b_lm"]
        assert MicroSamAutomatic.models(Modality.EM) == ["mine", "vit_b_lm"]
        assert set(MicroSamGrid.models(Modality.LIGHT)) == {"mine", "for clicks", "vit_b_lm"}
        MicroSamAutomatic(Modality.LIGHT).label(square(), {})
        assert package.loads[0][1]["checkpoint_path"] == str(own.checkpoint("mine").weights)

    def test_the_weights_are_told(self, package, models, monkeypatch):
        monkeypatch.setattr(microsam.metadata, "version", lambda name: "1.8.14")
        told = MicroSamPrompts(Modality.LIGHT).provenance({})
        assert (told.mode, told.model, told.package) == ("APG", "vit_b_lm", "micro_sam 1.8.14")
        assert told.weights == "+".join([weights_hash(models / "vit_b_lm")] * 2)
        (models / "vit_b_lm").write_bytes(b"other weights of the same name")
        assert MicroSamPrompts(Modality.LIGHT).provenance({}).weights != told.weights

    def test_it_can_be_cancelled_between_slices_and_steps(self, package):
        told = []

        def report(done, total, message=""):
            told.append((done / total, message))
            if len(told) == 9:
                raise Cancelled

        with pytest.raises(Cancelled):
            MicroSamGrid().label(np.stack([square()] * 3), {}, report)
        assert [share for share, _ in told] == sorted(share for share, _ in told)
        assert {message for _, message in told} >= {"slice 1 of 3", "slice 2 of 3"}
        assert len(package.images) == 2


def test_the_values_are_those_of_the_installed_micro_sam():
    settings = runpy.run_path(str(Path(importlib.util.find_spec("micro_sam").origin).with_name("_model_settings.py")))
    for name, (centre, border, smoothing) in SEEDS.items():
        theirs = settings["AIS_SETTINGS"][name]
        names = ("center_distance_thresh", "boundary_distance_thresh", "distance_smoothing")
        assert tuple(theirs[key] for key in names) == (centre, border, smoothing)
    for name, (quality, stability) in GRID.items():
        theirs = settings["AMG_SETTINGS"][name]
        assert (theirs["pred_iou_thresh"], theirs["stability_score_thresh"]) == (quality, stability)


def test_broken_weights_are_a_sentence_and_start_no_download(models):
    put(models, "vit_b_lm", "vit_b_lm_decoder")
    before = pickle.Unpickler
    with pytest.raises(BackendError, match=r"vit_b_lm or their decoder cannot be loaded"):
        MicroSamAutomatic(Modality.LIGHT).label(square(), {})
    assert pickle.Unpickler is before
