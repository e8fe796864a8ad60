from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from alapp.domain import LabelKind, PatchRole
from alapp.errors import BackendError, ConflictError, InputError, NotReadyError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_journal, annotation_pictures, annotation_view, clicks, ledger
from alapp.rounds.pseudolabel import pseudo
from alapp.stages.annotate import masks
from alapp.stages.annotate.base import CLICK_SEGMENTERS
from alapp.stages.annotate.watershed import SeededWatershed
from alapp.storage import annotations, catalogue, labels
from alapp.storage import rounds as round_rows
from tests.rounds.conftest import discs

ME = "session-1"


@pytest.fixture
def reference():
    return discs(0, n=6, radius=9)


@pytest.fixture
def patch(store, reference):
    """A patch of 64 x 64, the first of a batch of four, whose image has pseudo-labels."""
    pixels, found = reference
    made = catalogue.create_project(store, "clicks", patch_size=64)
    image = importing.add_array(store, made.id, "cells", pixels)
    add_map(store, made, image, found, LabelKind.PSEUDO)
    patches = catalogue.patches(store, made.id)
    roles = [PatchRole.TRAIN] * 3 + [PatchRole.VALIDATION]
    picks = [(item.id, role, {"sentence": "far away"}) for item, role in zip(patches, roles, strict=True)]
    round_rows.add(store, made.id, "coreset", 4, 0, picks)
    return patches[0]


def add_map(store, project, image, pixels, kind):
    return labels.add(
        store, kind, pixels, project_id=project.id, image_id=image.id, backend="test", input_hash=str(kind)
    )


def square(y, x, size=6):
    pixels = np.zeros((64, 64), bool)
    pixels[y : y + size, x : x + size] = True
    return masks.from_array(pixels)


def human(store, patch):
    return labels.read(store, labels.latest_of_patch(store, patch.id, LabelKind.HUMAN))


def test_click_accept_done_writes_the_label_map(store, patch, reference):
    truth = catalogue.crop(reference[1], patch)
    target = truth == np.bincount(truth[truth > 0]).argmax()
    y, x = np.argwhere(target).mean(axis=0).round().tolist()
    annotation.begin(store, patch.id, ME, "nothing")
    mask, _ = annotation.click(store, patch.id, ME, positive=[(y, x)])
    annotation.accept(store, patch.id, ME, mask)
    change = annotation.mark_done(store, patch.id, ME)
    assert change.after.status == annotation.DONE
    stored = human(store, patch)
    assert np.count_nonzero((stored == 1) & target) / np.count_nonzero((stored == 1) | target) > 0.8
    row = labels.latest_of_patch(store, patch.id, LabelKind.HUMAN)
    assert (row.backend, row.n_objects, row.round_id) == ("human", 1, 1)


def test_every_act_is_a_row_and_undo_survives_a_new_process(store, patch):
    annotation.accept(store, patch.id, ME, square(0, 0))
    annotation.accept(store, patch.id, ME, square(20, 20))
    annotation_journal._states.clear()
    annotation.undo(store, patch.id, ME)
    assert list(annotation.state(store, patch.id).objects) == [1]
    annotation_journal._states.clear()
    annotation.redo(store, patch.id, ME)
    assert list(annotation.state(store, patch.id).objects) == [1, 2]
    assert [row.kind for row in annotations.events(store, patch.id)] == ["accept", "accept", "undo", "redo"]


def test_a_stale_page_cannot_overwrite(store, patch):
    annotation.accept(store, patch.id, ME, square(0, 0), revision=0)
    with pytest.raises(ConflictError, match="another tab"):
        annotation.accept(store, patch.id, "other", square(20, 20), revision=0)
    with pytest.raises(ConflictError, match="another tab"):
        annotation.mark_done(store, patch.id, "other", revision=0)
    assert list(annotation.state(store, patch.id).objects) == [1]
    assert labels.latest_of_patch(store, patch.id, LabelKind.HUMAN) is None
    with pytest.raises(ConflictError, match="ahead"):
        annotation.undo(store, patch.id, ME, revision=9)


def test_a_patch_that_is_opened_twice_at_once_is_opened(store, patch, monkeypatch):
    append = annotations.append

    def after(*earlier):
        """The next event is written after another one that `begin` wrote with these arguments."""

        def late(*arguments):
            monkeypatch.setattr(annotations, "append", append)
            annotation.begin(store, patch.id, *earlier)
            return append(*arguments)

        monkeypatch.setattr(annotations, "append", late)

    after(ME)
    opened = annotation.begin(store, patch.id, ME)
    assert (opened.revision, opened.start) == (1, "pseudo")
    after("session-2", "nothing")
    with pytest.raises(ConflictError):  # what a person chose must not be lost without a word
        annotation.begin(store, patch.id, ME, "pseudo")


def test_a_request_that_was_written_but_not_answered_is_recognised(store, patch):
    annotation.accept(store, patch.id, ME, square(0, 0), revision=0, token="a")
    again = annotation.repeated(store, patch.id, session=ME, revision=0, token="a")
    assert list(again.before.objects) == []
    assert list(again.after.objects) == [1]
    assert annotation.repeated(store, patch.id, session=ME, revision=0, token="b") is None
    assert annotation.repeated(store, patch.id, session="other", revision=0, token="a") is None
    assert annotation.repeated(store, patch.id, session=ME, revision=1, token="a") is None


def test_suggestions_come_from_the_pseudo_labels_and_stay_as_they_were(store, patch, reference):
    opened = annotation_view.open_patch(store, patch.id, ME)
    assert opened["start"] == "pseudo"
    expected = np.unique(catalogue.crop(reference[1], patch))
    assert len(opened["items"]) == np.count_nonzero(expected)
    assert all(item["suggestion"] for item in opened["items"])
    project, image = catalogue.project(store, patch.project_id), catalogue.image(store, patch.image_id)
    add_map(store, project, image, np.zeros((128, 128), np.int32), LabelKind.PSEUDO)
    annotation_journal._states.clear()
    assert annotation_view.open_patch(store, patch.id, ME)["items"] == opened["items"]
    assert annotation.patch_states(store, [patch.id]) == {patch.id: "open"}


def test_what_is_to_be_accepted_is_read_once_however_many_there_are(store, patch, reference):
    class Read(list):
        times = 0

        def __iter__(self):
            self.times += 1
            return super().__iter__()

    suggested = list(annotation.begin(store, patch.id, ME).suggestions)
    wanted = Read(suggested[1:])
    assert len(wanted) > 1
    annotation.accept_suggestions(store, patch.id, ME, wanted)
    assert list(annotation.state(store, patch.id).objects) == suggested[1:]
    assert wanted.times == 1


def test_accepting_all_suggestions_gives_the_pseudo_labels(store, patch, reference):
    annotation.begin(store, patch.id, ME)
    annotation.accept_suggestions(store, patch.id, ME)
    annotation.mark_done(store, patch.id, ME)
    assert np.array_equal(human(store, patch) > 0, catalogue.crop(reference[1], patch) > 0)
    with pytest.raises(InputError, match="marked done"):
        annotation.accept(store, patch.id, ME, square(56, 56))


def test_the_model_comes_before_the_pseudo_labels_but_not_on_validation_patches(store, patch):
    project, image = catalogue.project(store, patch.project_id), catalogue.image(store, patch.image_id)
    with pytest.raises(NotReadyError, match="no prediction"):
        annotation.begin(store, patch.id, ME, "model")
    add_map(store, project, image, np.ones((128, 128), np.int32), LabelKind.PREDICTED)
    assert annotation.begin(store, patch.id, ME).start == "model"
    validation = catalogue.patches(store, patch.project_id)[3]
    assert annotation.begin(store, validation.id, ME).start == "nothing"
    assert annotation.begin(store, validation.id, ME, "pseudo").start == "pseudo"


def test_delete_takes_objects_and_suggestions(store, patch):
    first = annotation.begin(store, patch.id, ME)
    gone = next(iter(first.suggestions))
    change = annotation.delete_object(store, patch.id, ME, [gone])
    assert annotation_view.changes(change)["removed"] == [gone]
    with pytest.raises(InputError, match="gone"):
        annotation.delete_object(store, patch.id, ME, [gone])


def test_changes_hold_only_what_differs(store, patch):
    annotation.accept(store, patch.id, ME, square(0, 0))
    change = annotation.accept(store, patch.id, ME, square(3, 3), overlap="replace")
    found = annotation_view.changes(change)
    assert sorted(item["id"] for item in found["items"]) == [1, 2]
    change = annotation.accept(store, patch.id, ME, square(30, 30))
    found = annotation_view.changes(change)
    assert [item["id"] for item in found["items"]] == [3]
    assert found["items"][0]["box"] == [0, 30, 30, 1, 36, 36]
    assert found["items"][0]["size"] == 36
    assert (found["n_objects"], found["can_undo"], found["can_redo"]) == (3, True, False)


def test_what_cannot_be(store, patch):
    annotation.accept(store, patch.id, ME, square(0, 0, 10))
    with pytest.raises(InputError, match="keep their pixels"):
        annotation.accept(store, patch.id, ME, square(2, 2, 3))
    with pytest.raises(InputError, match="beyond the patch"):
        annotation.accept(store, patch.id, ME, masks.Mask((0, 60, 60, 1, 70, 70), b""))
    with pytest.raises(InputError, match="gone"):
        annotation.accept(store, patch.id, ME, square(2, 2), object_id=99)
    with pytest.raises(InputError, match="outside"):
        annotation.click(store, patch.id, ME, positive=[(64, 1)])
    with pytest.raises(InputError, match="Slice 2"):
        annotation.click(store, patch.id, ME, positive=[(1, 1)], z=1)
    with pytest.raises(InputError, match="nothing to redo"):
        annotation.redo(store, patch.id, ME)
    with pytest.raises(InputError, match="open already"):
        annotation.reopen(store, patch.id, ME)


def test_the_unfinished_object_is_there_after_a_restart(store, patch):
    annotation.begin(store, patch.id, ME, "nothing")
    mask, _ = annotation.click(store, patch.id, ME, positive=[(30, 30)], negative=[(2, 2)])
    annotation_journal._states.clear()
    draft = annotation_view.open_patch(store, patch.id, ME)["draft"]
    assert (draft["positive"], draft["negative"]) == (((30, 30),), ((2, 2),))
    assert draft["mask"]["box"] == list(mask.box)
    annotation.click(store, patch.id, ME, positive=[])
    assert annotation_view.open_patch(store, patch.id, ME)["draft"] is None


def test_states_batch_and_next(store, patch):
    ids = [item.id for item in catalogue.patches(store, patch.project_id)]
    assert annotation.next_patch(store, patch.project_id) == ids[0]
    annotation.accept(store, ids[0], ME, square(0, 0))
    annotation.skip(store, ids[1], ME, "out of focus")
    annotation.mark_done(store, ids[2], ME)
    states = annotation.patch_states(store, [*ids, 999])
    assert [states[key] for key in ids] == ["started", "skipped", "done", "open"]
    assert states[999] == "open"
    assert [item.n_objects for item in annotation.batch(store, 1)] == [1, 0, 0, 0]
    assert annotation.next_patch(store, patch.project_id, after=ids[0]) == ids[3]
    assert annotation.next_patch(store, patch.project_id, after=ids[3]) == ids[0]
    annotation.reopen(store, ids[1], ME)
    assert annotation.patch_states(store, ids)[ids[1]] == "started"
    assert annotation.next_patch(store, patch.project_id, after=ids[0]) == ids[1]


def test_without_a_round_there_is_no_next_patch(store):
    made = catalogue.create_project(store, "empty")
    assert annotation.next_patch(store, made.id) is None
    assert annotation_view.batch(store, made.id) == {"title": "", "patches": [], "next": None}


def test_submitted_labels_are_done_and_can_be_submitted_again(store, patch):
    truth = np.zeros((64, 64), np.int32)
    truth[5:9, 5:9] = 70_000
    made = annotation.submit_labels(store, patch.id, truth, "oracle")
    assert made.backend == "oracle"
    assert np.array_equal(labels.read(store, made), truth)
    truth[20:30, 20:30] = 2
    again = annotation.submit_labels(store, patch.id, truth, "oracle")
    assert again.id != made.id
    assert np.array_equal(human(store, patch), truth)
    with pytest.raises(InputError, match="shape"):
        annotation.submit_labels(store, patch.id, truth[:5], "oracle")


def test_effort_counts_work_but_not_breaks(store, patch, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(annotations, "time", lambda: clock[0])

    def after(seconds, act, *args, **kwargs):
        clock[0] += seconds
        return act(store, patch.id, ME, *args, **kwargs)

    first = after(0, annotation.begin)
    one, two = list(first.suggestions)[:2]
    after(5, annotation.click, positive=[(62, 62)])
    after(4, annotation.click, positive=[(62, 62)], negative=[(50, 50)])
    after(1, annotation.click, positive=[])
    after(600, annotation.accept, square(56, 0))
    after(10, annotation.accept_suggestions, [one])
    after(2, annotation.accept, square(30, 56), object_id=two)
    found = annotation.effort(store, 1)
    assert found.seconds == pytest.approx(22)
    assert (found.clicks, found.drawn, found.accepted, found.corrected) == (2, 1, 1, 1)


def test_a_reused_patch_id_does_not_bring_old_objects_back(store, patch):
    annotation.accept(store, patch.id, ME, square(0, 0))
    assert annotation.state(store, patch.id).objects
    store.execute("DELETE FROM annotation_event")
    assert not annotation.state(store, patch.id).objects


class Failing(SeededWatershed):
    """A foundation model with its weights here, which then fails."""

    title = "Failing"

    def prepare(self, key, image, prior=None):
        raise BackendError("Failing failed.")


class TestMethods:
    @pytest.fixture
    def failing(self, monkeypatch):
        monkeypatch.setitem(CLICK_SEGMENTERS._targets, "micro_sam", "tests.rounds.annotate.test_annotation:Failing")
        monkeypatch.setattr(clicks, "_segmenters", {})
        monkeypatch.setattr(clicks, "_failures", {})

    def test_what_auto_chose_gives_way_and_says_so(self, store, patch, failing):
        assert clicks.click_method(store, patch.project_id) == "micro_sam"
        mask, _ = annotation.click(store, patch.id, ME, positive=[(30, 30)])
        assert mask is not None
        assert clicks.click_method(store, patch.project_id) == "watershed"
        title, note = clicks.prepare(store, patch.id)
        assert title == SeededWatershed.title
        assert note == "Failing failed. The built-in click method is used instead."

    def test_what_the_user_chose_shows_its_error(self, store, patch, failing):
        catalogue.update_project(store, patch.project_id, click_method="micro_sam")
        with pytest.raises(BackendError, match="Failing failed"):
            annotation.click(store, patch.id, ME, positive=[(30, 30)])
        assert annotations.events(store, patch.id) == []
        catalogue.update_project(store, patch.project_id, click_method="watershed")
        assert annotation.click(store, patch.id, ME, positive=[(30, 30)])[0] is not None
        assert clicks.prepare(store, patch.id)[1] == ""


class Remembering(SeededWatershed):
    """Keeps the priors that it was given."""

    priors: list = []  # noqa: RUF012

    def prepare(self, key, image, prior=None):
        self.priors.append(prior)
        super().prepare(key, image, prior)


class TestPrior:
    """The newest model's probabilities help clicks, except where the labels judge the model."""

    @pytest.fixture
    def priors(self, monkeypatch):
        monkeypatch.setattr(Remembering, "priors", [])
        monkeypatch.setitem(CLICK_SEGMENTERS._targets, "watershed", "tests.rounds.annotate.test_annotation:Remembering")
        monkeypatch.setattr(clicks, "_segmenters", {})
        return Remembering.priors

    def predict(self, store, patch, foreground):
        project = catalogue.project(store, patch.project_id)
        image = catalogue.image(store, patch.image_id)
        made = add_map(store, project, image, (foreground > 0.5).astype(np.int32), LabelKind.PREDICTED)
        labels.add_probability(store, made, foreground)

    def test_it_is_the_patch_of_the_newest_prediction(self, store, patch, priors, reference):
        annotation.click(store, patch.id, ME, positive=[(30, 30)])
        older, newer = np.random.default_rng(0).random((2, 128, 128))
        self.predict(store, patch, older)
        annotation.click(store, patch.id, ME, positive=[(30, 30)])
        self.predict(store, patch, newer)
        annotation.click(store, patch.id, ME, positive=[(30, 30)])
        annotation.click(store, patch.id, ME, positive=[(30, 31)])
        assert priors[0] is None
        assert len(priors) == 3
        for found, whole in zip(priors[1:], (older, newer), strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, catalogue.crop(whole, patch), atol=0.5 / 255 + 1e-6)

    def test_validation_patches_do_not_see_it(self, store, patch, priors):
        self.predict(store, patch, np.ones((128, 128)))
        validation = catalogue.patches(store, patch.project_id)[3]
        annotation.click(store, validation.id, ME, positive=[(30, 30)])
        assert priors == [None]


class TestVolume:
    @pytest.fixture
    def stack(self, store):
        yy, xx = np.mgrid[:64, :64]
        ball = np.stack([np.hypot(yy - 30, xx - 30) < r for r in (0, 8, 10, 8, 0)])
        rng = np.random.default_rng(0)
        pixels = (np.where(ball, 180, 50) + rng.normal(0, 5, ball.shape)).astype(np.uint8)[..., None]
        made = catalogue.create_project(store, "stack", patch_size=64, patch_depth=5)
        importing.add_array(store, made.id, "ball", pixels)
        return catalogue.patches(store, made.id)[0], ball

    def test_propagation_fills_the_ball(self, store, stack):
        patch, ball = stack
        mask, _ = annotation.click(store, patch.id, ME, positive=[(30, 30)], z=2)
        change = annotation.accept(store, patch.id, ME, mask)
        change = annotation.propagate(store, patch.id, ME, 1, 2)
        annotation.mark_done(store, patch.id, ME)
        stored = human(store, patch)
        assert stored.shape == (5, 64, 64)
        assert np.count_nonzero((stored == 1) & ball) / np.count_nonzero((stored == 1) | ball) > 0.8
        assert not change.after.objects[1].corrected
        annotation.reopen(store, patch.id, ME)
        annotation.undo(store, patch.id, ME)
        item = annotation.state(store, patch.id).objects[1]
        assert (item.mask.box[0], item.mask.box[3]) == (2, 3)

    def test_an_object_goes_on_in_another_slice(self, store, stack):
        patch, _ = stack
        for z in (1, 2):
            mask, _ = annotation.click(store, patch.id, ME, positive=[(30, 30)], z=z)
            change = annotation.accept(store, patch.id, ME, mask, object_id=1 if z == 2 else None)
        item = change.after.objects[1]
        assert (item.mask.box[0], item.mask.box[3]) == (1, 3)
        assert not item.corrected
        assert ledger.patches(store, patch.project_id)[patch.id].count(ledger.DRAWN) == 1

    def test_only_an_object_on_the_slice_can_be_carried(self, store, stack):
        patch, _ = stack
        with pytest.raises(InputError, match="Choose an object"):
            annotation.propagate(store, patch.id, ME, 1, 2)


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1), (np.float32, 2)])
def test_slices_are_pictures_of_every_kind_of_image(store, dtype, channels):
    rng = np.random.default_rng(0)
    pixels = (rng.random((64, 128, channels)) * (255 if dtype == np.uint8 else 4000)).astype(dtype)
    pixels[:, 64:] //= 4
    made = catalogue.create_project(store, "kinds", patch_size=64)
    importing.add_array(store, made.id, "image", pixels)
    bright, dark = [
        np.array(
            Image.open(io.BytesIO(base64.b64decode(annotation_pictures.slice_png(store, patch.id, 0)))).convert("RGB")
        )
        for patch in catalogue.patches(store, made.id)
    ]
    assert bright.shape == dark.shape == (64, 64, 3)
    # One window for the whole image: a dark patch is not stretched to white.
    assert bright.max() > 245
    assert dark.max() < 80
    if channels == 3:
        assert np.array_equal(bright, pixels[:, :64])


def test_suggestions_are_of_the_method_that_got_through_all_images(store, patch, reference):
    project = catalogue.project(store, patch.project_id)
    other = importing.add_array(store, project.id, "other", discs(7)[0])
    for image_id in (patch.image_id, other.id):
        labels.add(
            store, LabelKind.PSEUDO, np.ones((128, 128), np.int32), project_id=project.id, image_id=image_id,
            backend="finished", input_hash="a",
        )  # fmt: skip
    labels.add(
        store, LabelKind.PSEUDO, np.zeros((128, 128), np.int32), project_id=project.id, image_id=patch.image_id,
        backend="stopped", input_hash="b",
    )  # fmt: skip
    assert annotation_journal._start_map(store, patch, "pseudo").backend == "finished"
    pseudo.decide(store, project.id, pseudo.NONE)
    assert annotation.begin(store, patch.id, ME).start == "nothing"
