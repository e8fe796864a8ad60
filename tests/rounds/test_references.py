"""Masks of images to test on: given by their names, scored against, taken away and brought back."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from alapp import jobs
from alapp.domain import ImageRole, LabelKind, silent
from alapp.errors import InputError, NotReadyError
from alapp.rounds import importing, references
from alapp.rounds.annotate import annotation
from alapp.rounds.predict import evaluation
from alapp.rounds.select import selection
from alapp.rounds.train import training
from alapp.running import run_inline
from alapp.storage import catalogue, labels, models
from alapp.storage import jobs as rows
from tests.rounds.conftest import discs


@pytest.fixture
def folders(tmp_path):
    """(images, masks): two of discs, to test on."""
    made = tmp_path / "images", tmp_path / "masks"
    for folder, part in zip(made, (0, 1), strict=True):
        folder.mkdir()
        for name, seed in (("one", 8), ("two", 9)):
            array = discs(seed)[part]
            tifffile.imwrite(folder / f"{name}.tif", (array if part else array[..., 0]).astype(np.uint8))
    return made


def files(folder, *names):
    return [{"path": str(folder / f"{name}.tif")} for name in names]


def imported(store, project, folders, **more):
    return importing.run_import(store, project.id, silent, files(folders[0], "one", "two"), "test", **more)


def trained(store, project):
    truth = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    for patch_id in selection.run_select(store, project.id, silent, budget=4)["patches"]:
        patch = catalogue.patch(store, patch_id)
        whole = labels.read(store, truth[patch.image_id])
        annotation.submit_labels(store, patch_id, catalogue.crop(whole, patch), "oracle")
    training.run_round(store, project.id, silent)
    return models.latest_checkpoint(store, project.id)


def tests_of(store, project):
    return {image.name: image for image in catalogue.images(store, project.id, ImageRole.TEST)}


def test_masks_that_are_imported_with_their_images_are_scored_by_the_next_training(store, project, folders, fast):
    done = imported(store, project, folders, masks=files(folders[1], "one", "two"))
    assert done["imported"] == ["one", "two"]
    assert [(item["image"], item["objects"], item["remark"]) for item in done["masks"]] == [
        ("one", 12, ""),
        ("two", 12, ""),
    ]
    one = tests_of(store, project)["one"]
    assert (labels.read(store, labels.latest_of_image(store, one.id, LabelKind.REFERENCE)) == discs(8)[1]).all()
    assert "scored by the first training" in references.states(store, project.id)[one.id].sentence
    assert jobs.active(store, project.id) == []
    checkpoint = trained(store, project)
    assert evaluation.summary(store, checkpoint.id, "test").n == 2
    assert references.states(store, project.id)[one.id].sentence == "Masks of 12 objects."


def test_masks_that_come_after_the_training_are_scored_at_once_if_the_image_was_predicted(
    store, project, folders, fast
):
    imported(store, project, folders)
    one, two = tests_of(store, project).values()
    assert references.states(store, project.id)[one.id].missing
    checkpoint = trained(store, project)
    assert evaluation.summary(store, checkpoint.id, "test") is None
    importing.run_import(store, project.id, silent, [], masks=files(folders[1], "one"))
    (job,) = jobs.active(store, project.id)
    run_inline(store, job)
    found = evaluation.summary(store, checkpoint.id, "test")
    assert (found.n, found.scores.n_true) == (1, 12)
    assert not references.states(store, project.id)[one.id].missing
    assert "No masks yet: it is not scored" in references.states(store, project.id)[two.id].sentence


def test_it_is_said_when_the_model_in_use_has_not_seen_the_image(store, project, folders, fast):
    checkpoint = trained(store, project)
    imported(store, project, folders, masks=files(folders[1], "one", "two"))
    run_inline(store, jobs.active(store, project.id)[0])
    assert evaluation.summary(store, checkpoint.id, "test") is None
    one = tests_of(store, project)["one"]
    assert "The model in use has not seen it yet" in references.states(store, project.id)[one.id].sentence
    evaluation.run_predict(store, project.id, silent)
    assert evaluation.summary(store, checkpoint.id, "test").n == 2


def test_removed_masks_take_their_scores_along_and_both_come_back(store, project, folders, fast):
    imported(store, project, folders, masks=files(folders[1], "one", "two"))
    checkpoint = trained(store, project)
    before = {row.image_id: row.scores for row in models.scores(store, checkpoint.id, "test")}
    one = tests_of(store, project)["one"]
    references.remove(store, project.id, one.id)
    assert references.states(store, project.id)[one.id].missing
    assert {row.image_id for row in models.scores(store, checkpoint.id, "test")} == set(before) - {one.id}
    assert evaluation.rescore(store, project.id) == 0
    with pytest.raises(InputError, match="one has no masks"):
        references.remove(store, project.id, one.id)
    references.bring_back(store, project.id, one.id)
    run_inline(store, jobs.active(store, project.id)[0])
    assert {row.image_id: row.scores for row in models.scores(store, checkpoint.id, "test")} == before
    with pytest.raises(InputError, match="No masks of one were removed"):
        references.bring_back(store, project.id, one.id)


def test_masks_are_not_removed_while_they_are_scored_against(store, project, folders):
    imported(store, project, folders, masks=files(folders[1], "one"))
    one = tests_of(store, project)["one"]
    job = jobs.enqueue(store, "rescore", project.id)
    rows.claim(store, "elsewhere:1:t", job.id)
    with pytest.raises(NotReadyError, match="cannot be removed now"):
        references.remove(store, project.id, one.id)
    assert not references.states(store, project.id)[one.id].missing


def test_new_masks_replace_those_that_were_there(store, project, folders, fast):
    imported(store, project, folders, masks=files(folders[1], "one"))
    checkpoint = trained(store, project)
    tifffile.imwrite(folders[1] / "one.tif", np.where(discs(8)[1] > 6, discs(8)[1], 0).astype(np.uint8))
    importing.run_import(store, project.id, silent, [], masks=files(folders[1], "one"))
    run_inline(store, jobs.active(store, project.id)[0])
    assert evaluation.summary(store, checkpoint.id, "test").scores.n_true == 6


def test_a_chosen_image_takes_a_file_of_any_name(store, project, folders):
    imported(store, project, folders)
    two = tests_of(store, project)["two"]
    (folders[1] / "two.tif").rename(folders[1] / "two_cp_masks.tif")
    given = [{"path": str(folders[1] / "two_cp_masks.tif"), "image": two.id}]
    done = references.add_files(store, project.id, given, silent)
    assert [item["image"] for item in done["masks"]] == ["two"]


def test_what_cannot_be_used_is_told_and_leaves_nothing_behind(store, project, folders):
    imported(store, project, folders)
    masks = folders[1]
    (masks / "two.tif").rename(masks / "other.tif")
    tifffile.imwrite(masks / "two.tif", np.zeros((20, 20), np.uint8))
    tifffile.imwrite(masks / "image_0.tif", np.zeros((128, 128), np.uint8))
    given = [*files(masks, "two", "other", "image_0"), *files(folders[0], "one"), {"path": str(masks / "one.png")}]
    before = sorted(store.files.project(project.id).rglob("*"))
    done = references.add_files(store, project.id, given, silent)
    assert done["masks"] == []
    words = [
        "two.tif is 20 × 20 pixels, but its image is 128 × 128",
        "other.tif is called like no image to test on. Rename it like its image, for example one.tif",
        "image_0.tif is called like an image to train on",
        "one.tif is the image itself",
        "There is no file",
    ]
    for problem, said in zip(done["problems"], words, strict=True):
        assert said in problem["problem"]
    assert sorted(store.files.project(project.id).rglob("*")) == before


def test_two_files_for_one_image_are_not_mixed_up(store, project, folders, tmp_path):
    imported(store, project, folders)
    (tmp_path / "more").mkdir()
    tifffile.imwrite(tmp_path / "more" / "one.tif", np.zeros((128, 128), np.uint8))
    done = references.add_files(
        store, project.id, [*files(folders[1], "one"), *files(tmp_path / "more", "one")], silent
    )
    assert [item["objects"] for item in done["masks"]] == [12]
    assert "Another file with masks of one" in done["problems"][0]["problem"]
