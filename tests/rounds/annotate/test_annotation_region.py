"""Partial annotation: from the mark to training, scores and exports."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import pytest
import tifffile

from alapp.domain import LabelKind, PatchRole, silent
from alapp.errors import ConflictError, InputError, NotReadyError
from alapp.rounds.annotate import annotation, annotation_region, annotation_view
from alapp.rounds.export import export
from alapp.rounds.predict import evaluation
from alapp.rounds.train import training, training_cases
from alapp.stages.annotate import journal, masks
from alapp.storage import annotations, catalogue, labels, models
from alapp.storage import rounds as round_rows

ME = "me"
SIZE = 64


def rectangle(y0, x0, y1, x1):
    pixels = np.zeros((SIZE, SIZE), bool)
    pixels[y0:y1, x0:x1] = True
    return pixels


def mask(*corners):
    return masks.from_array(rectangle(*corners))


def marked(store, patch):
    pixels = np.zeros((1, SIZE, SIZE), bool)
    found = journal.not_annotated(annotation.state(store, patch.id))
    if found:
        found.paint(pixels, True)
    return pixels[0]


def human(store, patch):
    return labels.latest_of_patch(store, patch.id, LabelKind.HUMAN)


@pytest.fixture
def batch(store, project):
    """Four patches of a round, the last for validation."""
    patches = catalogue.patches(store, project.id)[:4]
    roles = [PatchRole.TRAIN] * 3 + [PatchRole.VALIDATION]
    picks = [(patch.id, role, {}) for patch, role in zip(patches, roles, strict=True)]
    round_rows.add(store, project.id, "random", 4, 0, picks)
    return patches


def test_marking_is_an_act_like_any_other(store, batch):
    patch = batch[0]
    annotation.accept(store, patch.id, ME, mask(0, 0, 10, 10))
    change = annotation_region.mark(store, patch.id, ME, mask(0, 0, 20, 64), revision=1, token="a")
    assert np.array_equal(marked(store, patch), rectangle(0, 0, 20, 64) & ~rectangle(0, 0, 10, 10))
    shown = annotation_view.changes(change)
    assert shown["region"]["box"] == [0, 0, 0, 1, 20, 64]
    assert shown["not_annotated"] == 20 * 64 - 100
    assert shown["items"] == []
    assert annotation.repeated(store, patch.id, session=ME, revision=1, token="a").after == change.after
    with pytest.raises(ConflictError):
        annotation_region.mark(store, patch.id, "other", mask(30, 0, 40, 64), revision=1)
    # Only what changed is sent: an object on the region changes its share, not its outline.
    shown = annotation_view.changes(annotation.accept(store, patch.id, ME, mask(12, 0, 18, 10)))
    assert "region" not in shown
    assert shown["not_annotated"] == 20 * 64 - 160
    shown = annotation_view.changes(annotation_region.mark(store, patch.id, ME, mask(0, 0, 20, 40), add=False))
    assert shown["region"]["box"] == [0, 0, 40, 1, 20, 64]
    assert annotation_view.changes(annotation_region.clear(store, patch.id, ME))["region"] is None
    assert annotation_view.changes(annotation.undo(store, patch.id, ME))["region"]["box"] == [0, 0, 40, 1, 20, 64]
    opened = annotation_view.open_patch(store, patch.id, ME)
    assert (opened["region"]["box"], opened["not_annotated"]) == ([0, 0, 40, 1, 20, 64], 20 * 24)
    assert annotation.patch_states(store, [patch.id]) == {patch.id: "started"}


def test_acts_that_would_change_nothing(store, batch):
    patch = batch[0]
    annotation.begin(store, patch.id, ME, "nothing")
    for act, sentence in [
        (annotation_region.clear, "No region"),
        (annotation_region.mark_rest, "Nothing is annotated"),
        (annotation_region.mark_suggestions, "no suggestion"),
        (lambda *by: annotation_region.mark(*by, mask(0, 0, 5, 5), add=False), "No region"),
        (lambda *by: annotation_region.mark(*by, masks.Mask((0, 0, 0, 1, 5, 65), b"")), "beyond the patch"),
    ]:
        with pytest.raises(InputError, match=sentence):
            act(store, patch.id, ME)
    annotation.accept(store, patch.id, ME, mask(0, 0, 10, 10))
    with pytest.raises(InputError, match="lies on objects"):
        annotation_region.mark(store, patch.id, ME, mask(2, 2, 5, 5))
    annotation_region.mark(store, patch.id, ME, mask(20, 20, 30, 30))
    with pytest.raises(InputError, match="already"):
        annotation_region.mark(store, patch.id, ME, mask(22, 22, 28, 28))
    with pytest.raises(InputError, match="Nothing of this"):
        annotation_region.mark(store, patch.id, ME, mask(40, 40, 50, 50), add=False)
    assert [row.kind for row in annotations.events(store, patch.id)] == ["open", "accept", "ignore"]


def test_what_is_left_of_the_suggestions_is_marked_with_a_margin(store, project, batch):
    patch = batch[0]
    found = np.zeros((128, 128), np.int32)
    found[10:20, 10:20] = 1
    found[40:50, 60:64] = 2
    labels.add(
        store, LabelKind.PSEUDO, found, project_id=project.id, image_id=patch.image_id, backend="x", input_hash="x"
    )
    annotation.begin(store, patch.id, ME)
    annotation.accept_suggestions(store, patch.id, ME, [1])
    annotation_region.mark_suggestions(store, patch.id, ME)
    pixels = marked(store, patch)
    assert pixels[40:50, 57:64].all()
    assert pixels[37, 62]
    assert not pixels[36].any()
    assert not pixels[:, :57].any()
    assert sorted(annotation.state(store, patch.id).suggestions) == [2]


def test_the_rest_keeps_a_margin_around_objects(store, batch):
    patch = batch[0]
    annotation.accept(store, patch.id, ME, mask(20, 20, 30, 30))
    annotation_region.mark_rest(store, patch.id, ME)
    pixels = marked(store, patch)
    assert not pixels[17:33, 20:30].any()
    assert pixels[:17].all()
    assert pixels[17, 17]  # the margin is a disc
    assert pixels.mean() == pytest.approx(annotation_region.share(annotation.state(store, patch.id), patch))


def test_done_writes_the_region_beside_the_labels_and_forgets_it_when_it_is_gone(store, batch):
    patch = batch[0]
    annotation.accept(store, patch.id, ME, mask(0, 0, 10, 10))
    annotation_region.mark(store, patch.id, ME, mask(0, 0, 32, 64))
    annotation.mark_done(store, patch.id, ME)
    first = human(store, patch)
    region = annotation_region.map_of(store, first)
    assert (region.kind, region.patch_id, region.round_id) == (LabelKind.IGNORED, patch.id, first.round_id)
    assert np.array_equal(labels.read(store, region), rectangle(0, 0, 32, 64) & ~rectangle(0, 0, 10, 10))
    assert first.params["empty"] is False
    item = annotation.batch(store, 1)[0]
    assert (item.n_objects, item.empty, item.not_annotated) == (1, False, pytest.approx((32 * 64 - 100) / 64**2))
    annotation.reopen(store, patch.id, ME)
    annotation_region.clear(store, patch.id, ME)
    annotation.mark_done(store, patch.id, ME)
    again = human(store, patch)
    assert annotation_region.map_of(store, again) is None
    assert annotation_region.pixels_of(store, again) is None
    assert again.input_hash != first.input_hash
    assert annotation.batch(store, 1)[0].not_annotated == 0.0


def test_a_patch_that_is_marked_whole_is_not_done(store, batch):
    annotation_region.mark(store, batch[0].id, ME, mask(0, 0, SIZE, SIZE))
    with pytest.raises(NotReadyError, match="Skip it"):
        annotation.mark_done(store, batch[0].id, ME)
    assert human(store, batch[0]) is None


def test_a_human_map_whose_region_is_gone_is_not_taken_for_whole(store, batch):
    annotation_region.mark(store, batch[0].id, ME, mask(0, 0, 5, 5))
    annotation.mark_done(store, batch[0].id, ME)
    store.execute("DELETE FROM label_map WHERE kind = 'ignored'")
    with pytest.raises(NotReadyError, match="Reopen"):
        annotation_region.pixels_of(store, human(store, batch[0]))


def test_an_empty_patch_is_checked_and_trained_on_beside_others(store, project, batch):
    for patch in batch[:2]:
        annotation.begin(store, patch.id, ME, "nothing")
    annotation.mark_done(store, batch[0].id, ME)
    assert human(store, batch[0]).params["empty"] is True
    assert [item.empty for item in annotation.batch(store, 1)] == [True, False, False, False]
    assert [item["empty"] for item in annotation_view.batch(store, project.id)["patches"]][:2] == [True, False]
    assert training_cases.human_cases(store, project) == ()
    annotation.accept(store, batch[1].id, ME, mask(0, 0, 10, 10))
    annotation.mark_done(store, batch[1].id, ME)
    cases = training_cases.human_cases(store, project)
    assert [case.key for case in cases] == [f"gt_{patch.id}" for patch in batch[:2]]
    assert not cases[0].load()[1].any()
    assert cases[0].ignored is None


def test_a_case_carries_its_region(store, project, batch):
    patch = batch[0]
    annotation.accept(store, patch.id, ME, mask(0, 0, 10, 10))
    annotation.mark_done(store, patch.id, ME)
    (whole,) = training_cases.human_cases(store, project)
    annotation.reopen(store, patch.id, ME)
    annotation_region.mark(store, patch.id, ME, mask(20, 0, 64, 64))
    annotation.mark_done(store, patch.id, ME)
    (partly,) = training_cases.human_cases(store, project)
    assert partly.hash != whole.hash
    assert np.array_equal(partly.load()[1], whole.load()[1])
    assert np.array_equal(partly.ignored(), rectangle(20, 0, 64, 64))


def test_ignored_regions_are_not_scored(store, project, batch, fast):
    training_patch, validation = batch[0], batch[3]
    annotation.accept(store, training_patch.id, ME, mask(0, 0, 10, 10))
    annotation.mark_done(store, training_patch.id, ME)
    made = training.run_round(store, project.id, silent)
    checkpoint = models.checkpoint(store, made["checkpoint"])
    predicted = labels.of_checkpoint(store, checkpoint.id)[validation.image_id]
    whole = np.zeros(labels.read(store, predicted).shape, np.int32)
    box = validation.box
    here = whole[box.y : box.y + SIZE, box.x : box.x + SIZE]
    here[5:15, 5:15] = 1  # found
    here[40:50, 5:15] = 2  # in the region
    here[25:37, 40:50] = 3  # mostly outside of it: its rest counts
    row = store.files.write_labels(store.files.resolve(predicted.path), whole)
    assert row.path == predicted.path
    annotation.accept(store, validation.id, ME, mask(5, 5, 15, 15))
    annotation.accept(store, validation.id, ME, mask(25, 40, 32, 50))
    annotation.mark_done(store, validation.id, ME)
    evaluation.rescore(store, project.id)
    before = models.scores(store, checkpoint.id, "validation")[-1].scores
    assert (before.n_true, before.n_pred, before.fp_50) == (2, 3, 1)
    annotation.reopen(store, validation.id, ME)
    annotation_region.mark(store, validation.id, ME, mask(32, 0, 64, 64))
    annotation.mark_done(store, validation.id, ME)
    evaluation.rescore(store, project.id)
    (after,) = [row.scores for row in models.scores(store, checkpoint.id, "validation")]
    assert (after.n_true, after.n_pred, after.tp_50) == (2, 2, 2)
    assert after.dice == 1.0


@pytest.fixture
def finished(store, project, batch):
    """One patch with a region and an object, one that is empty."""
    annotation.accept(store, batch[0].id, ME, mask(0, 0, 10, 10))
    annotation_region.mark(store, batch[0].id, ME, mask(5, 5, 40, 64))
    annotation.mark_done(store, batch[0].id, ME)
    annotation.mark_done(store, batch[1].id, ME)
    return batch


def archive(store, project, what):
    made = export.run_export(store, project.id, silent, what)
    return zipfile.ZipFile(store.files.resolve(made["path"]))


def test_label_maps_are_exported_with_their_regions(store, project, finished):
    expected = rectangle(5, 5, 40, 64) & ~rectangle(0, 0, 10, 10)
    with archive(store, project, "labels") as files:
        names = [name for name in files.namelist() if name.startswith("ignored/")]
        assert names == ["ignored/image_0_y0_x0_ignored.tif"]
        assert np.array_equal(tifffile.imread(io.BytesIO(files.read(names[0]))), expected)
        rows = list(csv.DictReader(io.StringIO(files.read("patches.csv").decode("utf-8-sig"))))
    assert [row["file"] for row in rows] == ["image_0_y0_x0.tif", f"image_0_y0_x{finished[1].box.x}.tif"]
    assert [row["state"] for row in rows] == ["annotated", "empty, checked"]
    assert [float(row["not_annotated"]) for row in rows] == [pytest.approx(expected.mean(), abs=1e-4), 0.0]


def test_coco_has_the_region_as_a_crowd(store, project, finished):
    with archive(store, project, "coco") as files:
        content = json.loads(files.read("human_train.json"))
    assert [image["state"] for image in content["images"]] == ["annotated", "empty, checked"]
    plain, crowd = content["annotations"]
    assert (plain["iscrowd"], plain["area"], "attributes" in plain) == (0, 100, False)
    assert (crowd["iscrowd"], crowd["attributes"], crowd["area"]) == (1, {"not_annotated": True}, 35 * 59 - 25)
    values = np.arange(len(crowd["segmentation"]["counts"])) % 2
    pixels = np.repeat(values, crowd["segmentation"]["counts"]).reshape(SIZE, SIZE).T.astype(bool)
    assert np.array_equal(pixels, rectangle(5, 5, 40, 64) & ~rectangle(0, 0, 10, 10))
