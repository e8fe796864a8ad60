"""Pseudo-labels of a project."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import BackendState, Box, LabelKind, Modality, Status, silent
from alapp.errors import BackendError, Cancelled, InputError, NotReadyError, OutOfMemoryError
from alapp.rounds import importing
from alapp.rounds.pseudolabel import provenance, pseudo
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS, Provenance
from alapp.stages.pseudolabel.log_watershed import LogWatershed
from alapp.stages.select import measures
from alapp.storage import catalogue, labels
from alapp.storage.db import to_json
from tests.rounds.conftest import discs


class Weighty:
    """A method with weights that finds one object, and fails on its image number `fails_on`."""

    title, suits, parameters = "Weighty", "Tests.", ()
    modalities = frozenset(Modality)
    fails_on: int | None = None
    error: Exception = BackendError("Weighty failed on this image: odd.")
    weights = "a" * 64
    asked: list

    def __init__(self, modality=None):
        self.count = 0

    @classmethod
    def status(cls, modality=None):
        return Status(BackendState.READY)

    @classmethod
    def models(cls, modality=None):
        return ["small", "large"]

    def provenance(self, params):
        return Provenance("AIS", params.get("model") or "small", self.weights, "weighty 1.0")

    def label(self, image, params, report=silent):
        self.asked.append(dict(params))
        report(0.5, 1, "half way")
        self.count += 1
        if self.count == self.fails_on:
            raise self.error
        found = np.zeros(image.shape[:-1], np.int32)
        found[:8, :8] = 1
        return found


@pytest.fixture
def weighty(monkeypatch):
    """The method above in the place of micro_sam; cellSAM is not ready."""
    monkeypatch.setitem(PSEUDO_LABELLERS._targets, "micro_sam", "tests.rounds.pseudolabel.test_pseudo:Weighty")
    monkeypatch.setattr(Weighty, "asked", [], raising=False)
    cellsam = PSEUDO_LABELLERS.load("cellsam")
    missing = Status(BackendState.NOT_INSTALLED, "Not here.", "Install it.")
    monkeypatch.setattr(cellsam, "status", classmethod(lambda cls, modality=None: missing))
    return Weighty


def test_every_method_is_listed_with_its_status():
    listed = {method.name: method for method in pseudo.methods(Modality.LIGHT)}
    assert {"log_watershed", "em_dark_blobs", "cellsam", "micro_sam"} <= set(listed)
    assert listed["log_watershed"].status.ready
    assert all(method.status.ready or method.status.remedy for method in listed.values())


def test_nothing_runs_before_a_decision(store, project):
    with pytest.raises(NotReadyError, match="Choose how"):
        pseudo.run_all(store, project.id, silent)


def test_images_are_labelled_once_for_the_same_settings(store, project):
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 14})
    assert pseudo.run_all(store, project.id, silent)["made"] == 3
    assert pseudo.run_all(store, project.id, silent)["made"] == 0
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 20})
    assert pseudo.run_all(store, project.id, silent)["made"] == 3


def test_going_back_to_earlier_settings_takes_the_labels_that_they_made(store, project):
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 14})
    pseudo.run_all(store, project.id, silent)
    first = pseudo.pseudo_maps(store, project.id)
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 20})
    pseudo.run_all(store, project.id, silent)
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 14})
    done = pseudo.run_all(store, project.id, silent)
    assert (done["made"], done["objects"]) == (0, sum(item.n_objects for item in first.values()))
    used = pseudo.pseudo_maps(store, project.id)
    assert used == made(store, project)
    # Training cases are named by the content of their labels: they are prepared, and trained on, already.
    assert {key: item.sha256 for key, item in used.items()} == {key: item.sha256 for key, item in first.items()}
    assert pseudo.run_all(store, project.id, silent)["made"] == 0
    assert pseudo.pseudo_maps(store, project.id) == used


def test_earlier_labels_whose_file_is_damaged_are_made_anew(store, project):
    for diameter in (14, 20):
        pseudo.decide(store, project.id, "log_watershed", {"diameter": diameter})
        pseudo.run_all(store, project.id, silent)
    first = labels.of_images(store, project.id, LabelKind.PSEUDO)[0]
    store.files.resolve(first.path).write_bytes(b"")
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 14})
    assert pseudo.run_all(store, project.id, silent)["made"] == 1
    assert {item.params["diameter"] for item in pseudo.pseudo_maps(store, project.id).values()} == {14}


def test_auto_says_what_it_chose(store, project):
    pseudo.decide(store, project.id, pseudo.AUTO)
    done = pseudo.run_all(store, project.id, silent)
    assert done["method"] in {"nested_regions", "micro_sam", "cellsam"}
    assert done["reason"].endswith(".")
    made = labels.latest_by_image(store, project.id, LabelKind.PSEUDO)
    assert {item.params["reason"] for item in made.values()} == {done["reason"]}


def test_switched_off_makes_none(store, project):
    pseudo.decide(store, project.id, pseudo.NONE)
    assert pseudo.run_all(store, project.id, silent)["made"] == 0
    assert pseudo.pseudo_maps(store, project.id) == {}


@pytest.mark.parametrize(("params", "words"), [({"diameter": -5}, "between"), ({"colour": 1}, "no parameter")])
def test_impossible_parameters_are_refused(store, project, params, words):
    with pytest.raises(InputError, match=words):
        pseudo.decide(store, project.id, "log_watershed", params)
    assert catalogue.project(store, project.id).pseudo_method is None


def test_preview_shows_the_same_patches_for_the_same_draw(store, project):
    first = pseudo.run_preview(store, project.id, silent, "log_watershed", {})
    again = pseudo.run_preview(store, project.id, silent, "log_watershed", {})
    other = pseudo.run_preview(store, project.id, silent, "log_watershed", {}, draw=1)
    assert first["patches"] == again["patches"] != other["patches"]
    assert len(first["patches"]) == len(first["label_maps"]) == 10


def test_half_of_a_preview_is_where_objects_are(store, project, monkeypatch):
    monkeypatch.setattr(pseudo, "PREVIEW_PATCHES", 4)
    every = catalogue.patches(store, project.id)
    full = sorted(every, key=lambda patch: measures.contrast(catalogue.read_patch(store, patch)))[-2:]
    for draw in range(5):
        shown = {patch.id for patch in pseudo.preview_patches(store, project.id, draw)}
        assert len(shown) == 4 < len(every)
        assert {patch.id for patch in full} <= shown


@pytest.mark.parametrize("whole", [True, False])
def test_a_preview_shows_patches_as_parts_of_their_images(store, project, monkeypatch, whole):
    """Of large images only the surroundings of a patch are seen, of which it is cut out too."""
    looked = []

    def label(self, image, params, report=silent):
        looked.append(image.shape[:2])
        return (image[..., 0] > image.mean()).astype(np.int32) * (1 + np.arange(image.shape[1], dtype=np.int32))

    monkeypatch.setattr(LogWatershed, "label", label)
    if not whole:
        monkeypatch.setattr(pseudo, "WHOLE_VOXELS", 10)
    preview = pseudo.run_preview(store, project.id, silent, "log_watershed", {})
    patches = [catalogue.patch(store, each) for each in preview["patches"]]
    images = {patch.image_id: store.files.read_array(patch.image_path) for patch in patches}
    if whole:
        assert looked == [images[each].shape[1:3] for each in dict.fromkeys(patch.image_id for patch in patches)]
    else:
        assert len(looked) == len(patches)
    for patch, item in zip(patches, labels.of_ids(store, preview["label_maps"]), strict=True):
        stack = images[patch.image_id]
        seen = Box(0, 0, 0, *stack.shape[:3]) if whole else patch.box.widened(stack.shape)
        bright = catalogue.read_patch(store, patch)[..., 0] > stack[seen.slices].mean()
        np.testing.assert_array_equal(labels.read(store, item) > 0, bright)


def made(store, project):
    return labels.latest_by_image(store, project.id, LabelKind.PSEUDO)


def test_every_label_map_says_how_it_was_made(store, project, weighty):
    pseudo.decide(store, project.id, "micro_sam", {"model": "large"})
    pseudo.run_all(store, project.id, silent)
    (item, *_) = made(store, project).values()
    told = {name: item.params[name] for name in ("method", "mode", "model", "weights", "package", "reason")}
    assert told == {
        "method": "micro_sam",
        "mode": "AIS",
        "model": "large",
        "weights": "a" * 64,
        "package": "weighty 1.0",
        "reason": "You chose it.",
    }
    assert provenance.sentence(item.backend, item.params) == (
        "Made by Weighty with the model large (AIS), weights aaaaaaaa…, weighty 1.0. You chose it."
    )
    pseudo.decide(store, project.id, "log_watershed")
    pseudo.run_all(store, project.id, silent)
    (item, *_) = made(store, project).values()
    assert provenance.sentence(item.backend, item.params).startswith("Made by Blobs and watershed, alapp ")


def test_other_weights_make_the_labels_anew(store, project, weighty, monkeypatch):
    pseudo.decide(store, project.id, "micro_sam")
    assert pseudo.run_all(store, project.id, silent)["made"] == 3
    assert pseudo.run_all(store, project.id, silent)["made"] == 0
    monkeypatch.setattr(Weighty, "weights", "b" * 64)
    assert pseudo.run_all(store, project.id, silent)["made"] == 3


def test_a_method_that_was_revised_makes_the_labels_anew(store, project, monkeypatch):
    pseudo.decide(store, project.id, "log_watershed")
    assert pseudo.run_all(store, project.id, silent)["made"] == 3
    monkeypatch.setattr(LogWatershed, "revision", LogWatershed.revision + 1)
    assert pseudo.run_all(store, project.id, silent)["made"] == 3
    assert pseudo.run_all(store, project.id, silent)["made"] == 0


def test_a_parameter_that_the_method_no_longer_has_is_left_out(store, project):
    catalogue.update_project(
        store, project.id, pseudo_method="em_dark_blobs", pseudo_params={"darkness": 0.3, "diameter": 20.0}
    )
    pseudo.run_all(store, project.id, silent)
    (item, *_) = made(store, project).values()
    assert "darkness" not in item.params
    assert item.params["diameter"] == 20


@pytest.mark.parametrize("error", [BackendError("It broke."), OutOfMemoryError("Memory ran out.")])
def test_auto_falls_back_for_all_images_alike_and_says_so(store, project, weighty, monkeypatch, error):
    monkeypatch.setattr(Weighty, "fails_on", 2)
    monkeypatch.setattr(Weighty, "error", error)
    pseudo.decide(store, project.id, pseudo.AUTO)
    done = pseudo.run_all(store, project.id, silent)
    assert (done["method"], done["made"]) == ("nested_regions", 3)
    assert done["reason"] == f"{error} So Nested thresholds is used for all images alike."
    assert {item.backend for item in made(store, project).values()} == {"nested_regions"}
    preview = pseudo.run_preview(store, project.id, silent, pseudo.AUTO, {})
    assert {item.backend for item in labels.of_ids(store, preview["label_maps"])} == {"nested_regions"}


@pytest.fixture
def odd(store, project, weighty, monkeypatch):
    """Numbers of the images that the method above fails on: the second, until that is taken out."""
    images = [catalogue.read_image(store, image) for image in catalogue.images(store, project.id)]
    failing = {1}

    def label(self, image, params, report=silent):
        number = next((n for n, each in enumerate(images) if np.array_equal(image, each)), len(images))
        self.asked.append(number)
        if number in failing:
            raise BackendError("Weighty failed on this image: odd.")
        return np.ones(image.shape[:-1], np.int32)

    monkeypatch.setattr(Weighty, "label", label)
    pseudo.decide(store, project.id, pseudo.AUTO)
    assert pseudo.run_all(store, project.id, silent)["made"] == 3
    assert Weighty.asked == [0, 1]
    Weighty.asked.clear()
    return failing


def test_a_method_that_failed_is_tried_again_where_it_has_no_labels(store, project, odd):
    before = labels.of_images(store, project.id, LabelKind.PSEUDO)
    for _ in range(2):
        done = pseudo.run_all(store, project.id, silent)
        assert (done["method"], done["made"], Weighty.asked) == ("nested_regions", 0, [1])
        Weighty.asked.clear()
    assert labels.of_images(store, project.id, LabelKind.PSEUDO) == before
    odd.clear()
    done = pseudo.run_all(store, project.id, silent)
    assert (done["method"], done["made"], Weighty.asked) == ("micro_sam", 2, [1, 2])
    assert pseudo.pseudo_maps(store, project.id) == made(store, project)
    assert {item.backend for item in made(store, project).values()} == {"micro_sam"}


def test_a_method_that_failed_is_not_tried_again_unasked(store, project, odd, monkeypatch):
    first = pseudo.pseudo_maps(store, project.id)
    done = pseudo.run_all(store, project.id, silent, retry=False)
    assert (done["method"], done["made"], Weighty.asked) == ("nested_regions", 0, [])
    importing.add_array(store, project.id, "new", discs(9)[0])
    done = pseudo.run_all(store, project.id, silent, retry=False)
    assert (done["method"], done["made"], Weighty.asked) == ("nested_regions", 1, [])
    used = pseudo.pseudo_maps(store, project.id).values()
    assert len(used) == 4
    assert {item.params["reason"] for item in used} == {item.params["reason"] for item in first.values()}
    monkeypatch.setattr(Weighty, "weights", "b" * 64)
    pseudo.run_all(store, project.id, silent, retry=False)
    assert Weighty.asked == [0, 1]


def test_a_chosen_method_that_fails_shows_its_error(store, project, weighty, monkeypatch):
    monkeypatch.setattr(Weighty, "fails_on", 2)
    pseudo.decide(store, project.id, "micro_sam")
    with pytest.raises(BackendError, match="Weighty failed on this image"):
        pseudo.run_all(store, project.id, silent)
    assert {item.backend for item in made(store, project).values()} == {"micro_sam"}


def test_training_never_gets_labels_of_two_methods(store, project, weighty, monkeypatch):
    pseudo.decide(store, project.id, "log_watershed")
    pseudo.run_all(store, project.id, silent)
    monkeypatch.setattr(Weighty, "fails_on", 2)
    monkeypatch.setattr(Weighty, "error", Cancelled())
    pseudo.decide(store, project.id, "micro_sam")
    with pytest.raises(Cancelled):
        pseudo.run_all(store, project.id, silent)
    assert [item.backend for item in made(store, project).values()].count("micro_sam") == 1
    assert {item.backend for item in pseudo.pseudo_maps(store, project.id).values()} == {"log_watershed"}
    assert len(pseudo.pseudo_maps(store, project.id)) == 3
    monkeypatch.setattr(Weighty, "fails_on", None)
    pseudo.run_all(store, project.id, silent)
    assert {item.backend for item in pseudo.pseudo_maps(store, project.id).values()} == {"micro_sam"}


def test_maps_of_before_recipes_were_kept_are_alike(store, project, monkeypatch):
    monkeypatch.setattr(LogWatershed, "revision", 1)  # since then it makes other labels
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 14})
    pseudo.run_all(store, project.id, silent)
    item = pseudo.pseudo_maps(store, project.id).popitem()[1]
    before = {"diameter": 14.0, "reason": "You chose it."}
    store.execute("UPDATE label_map SET params = ? WHERE id = ?", (to_json(before), item.id))
    assert len(pseudo.pseudo_maps(store, project.id)) == 3
    assert pseudo.run_all(store, project.id, silent)["made"] == 0


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("micro_sam", {"model": "huge"}, "'huge' is not on this computer. Choose one of: small, large"),
        ("log_watershed", {"model": "small"}, "no parameter called 'model'"),
    ],
)
def test_a_model_that_is_not_here_is_refused(store, project, weighty, method, params, words):
    with pytest.raises(InputError, match=words):
        pseudo.decide(store, project.id, method, params)


def test_what_a_method_tells_is_told_with_the_image(store, project, weighty):
    told = []
    pseudo.decide(store, project.id, "micro_sam")
    pseudo.run_all(store, project.id, lambda done, total, message: told.append((done, total, message)))
    assert (0.5, 3, "Pseudo-labels of image_0: half way") in told
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
