"""Propagation in the journal: which slices are a person's own, before and after corrections, undo and replay."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alapp.errors import Cancelled, ConflictError, InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_edits, annotation_stack, annotation_view, clicks
from alapp.stages.annotate import journal, masks
from alapp.stages.annotate.journal import Event
from alapp.storage import annotations, catalogue
from alapp.storage.db import Store

ME = "me"
RADII = (0, 8, 10, 11, 11, 10, 8, 0)
YX = np.mgrid[:64, :64]


def disc(radius, y=30, x=30):
    return np.hypot(YX[0] - y, YX[1] - x) < radius


@pytest.fixture(scope="module")
def patch_of(tmp_path_factory):
    """Makes a patch of 8 slices with a bright ball, in a store of its own."""
    names = itertools.count()
    store = Store(tmp_path_factory.mktemp("stack") / "state")
    ball = np.stack([disc(r) for r in RADII])
    pixels = (np.where(ball, 180, 50) + np.random.default_rng(0).normal(0, 5, ball.shape)).astype(np.uint8)[..., None]

    def make():
        made = catalogue.create_project(store, f"stack {next(names)}", patch_size=64, patch_depth=8)
        importing.add_array(store, made.id, "ball", pixels)
        return store, catalogue.patches(store, made.id)[0]

    return make


def accept(store, patch, pixels, z, object_id=None):
    return annotation.accept(store, patch.id, ME, masks.from_array(pixels, (z, 0, 0)), object_id=object_id)


def whole(item):
    found = np.zeros((8, 64, 64), bool)
    item.mask.paint(found, True)
    return found


def replayed(store, patch):
    rows = annotations.events(store, patch.id)
    return journal.fold(Event(row.revision, row.kind, row.payload, row.mask) for row in rows)


def test_a_correction_is_carried_on_up_to_the_next_anchor(patch_of):
    store, patch = patch_of()
    accept(store, patch, disc(10), 3)
    first = annotation_stack.propagate(store, patch.id, ME, 1, 3).after.objects[1]
    assert first.propagated == (1, 2, 4, 5, 6)
    assert not first.corrected
    accept(store, patch, disc(5), 5, object_id=1)
    assert annotation.state(store, patch.id).objects[1].propagated == (1, 2, 4, 6)
    change = annotation_stack.propagate(store, patch.id, ME, 1, 5)
    before, after = whole(change.before.objects[1]), whole(change.after.objects[1])
    assert np.array_equal(after[[1, 2, 3, 5]], before[[1, 2, 3, 5]])
    # Between two slices of the person the shape is their mean.
    assert np.count_nonzero(after[4]) == pytest.approx(np.pi * 7.5**2, rel=0.2)
    assert np.count_nonzero(after[4]) < np.count_nonzero(before[4])
    assert change.after.objects[1].corrected
    undone = annotation.undo(store, patch.id, ME).after
    assert undone.objects == change.before.objects
    assert annotation.redo(store, patch.id, ME).after.objects == change.after.objects == replayed(store, patch).objects


def test_the_hand_makes_anchors_and_making_way_does_not(patch_of):
    store, patch = patch_of()
    accept(store, patch, disc(10), 3)
    annotation_stack.propagate(store, patch.id, ME, 1, 3)
    dot = masks.from_array(disc(2, 30, 42), (4, 0, 0))
    change = annotation_edits.paint(store, patch.id, ME, dot, object_id=1)
    assert change.after.objects[1].propagated == (1, 2, 5, 6)
    # Another object that takes pixels from this one does not make its slice the person's own.
    other = masks.from_array(disc(3, 30, 30), (5, 0, 0))
    change = annotation_edits.paint(store, patch.id, ME, other, overlap="replace")
    assert change.after.objects[1].propagated == (1, 2, 5, 6)
    assert not whole(change.after.objects[1])[5, 30, 30]
    change = annotation_edits.reshape(store, patch.id, ME, 1, "grow")
    assert change.after.objects[1].propagated == ()
    assert replayed(store, patch).objects == change.after.objects


def erase(store, patch, *slices, object_id=1):
    pixels = np.zeros((8, 64, 64), bool)
    pixels[list(slices)] = True
    stroke = masks.from_array(pixels)
    return annotation_edits.paint(store, patch.id, ME, stroke, erase=True, object_id=object_id)


def spanned(change):
    return masks.filled(change.after.objects[1].mask)


def test_a_slice_that_was_erased_does_not_come_back(patch_of):
    store, patch = patch_of()
    accept(store, patch, disc(10), 3)
    annotation_stack.propagate(store, patch.id, ME, 1, 3)
    assert erase(store, patch, 5).after.objects[1].emptied == (5,)
    erase(store, patch, 4)
    # Who draws there again says that the object is there, and it is carried on.
    change = accept(store, patch, disc(8), 4, object_id=1)
    assert (spanned(change), change.after.objects[1].emptied) == ([1, 2, 3, 4, 6], (5,))
    with pytest.raises(InputError, match="or you erased it there"):
        annotation_stack.propagate(store, patch.id, ME, 1, 4)
    accept(store, patch, disc(8), 1, object_id=1)
    change = annotation_stack.propagate(store, patch.id, ME, 1, 3)
    assert spanned(change) == [1, 2, 3, 4, 6]
    # What lies beyond is as it was.
    assert np.array_equal(whole(change.after.objects[1])[6], whole(change.before.objects[1])[6])
    assert replayed(store, patch) == change.after
    change = accept(store, patch, disc(8), 5, object_id=1)
    assert change.after.objects[1].emptied == ()
    erase(store, patch, 5)
    annotation.undo(store, patch.id, ME)
    annotation.undo(store, patch.id, ME)
    assert annotation.state(store, patch.id).objects == change.before.objects


def test_an_erased_slice_ends_an_object_before_the_next_anchor(patch_of):
    store, patch = patch_of()
    accept(store, patch, disc(10), 3)
    for z in (5, 6):
        accept(store, patch, disc(8), z, object_id=1)
    erase(store, patch, 5)
    change = annotation_stack.propagate(store, patch.id, ME, 1, 3)
    assert spanned(change) == [1, 2, 3, 4, 6]
    assert change.after.objects[1].propagated == (1, 2, 4)


def test_an_object_between_erased_slices_says_why_it_is_not_carried(patch_of):
    store, patch = patch_of()
    accept(store, patch, disc(10), 3)
    annotation_stack.propagate(store, patch.id, ME, 1, 3)
    erase(store, patch, 1, 2, 4, 5, 6)
    with pytest.raises(InputError, match="or you erased it there"):
        annotation_stack.propagate(store, patch.id, ME, 1, 3)


def test_only_what_a_person_takes_away_empties_a_slice(patch_of):
    store, patch = patch_of()
    accept(store, patch, np.stack([disc(10), disc(10), disc(1)]), 3)
    assert annotation_edits.reshape(store, patch.id, ME, 1, "shrink").after.objects[1].emptied == (5,)
    annotation.undo(store, patch.id, ME)
    # Another object that takes the slice only makes this one give way.
    other = masks.from_array(disc(3), (5, 0, 0))
    change = annotation_edits.paint(store, patch.id, ME, other, overlap="replace")
    assert (spanned(change), change.after.objects[1].emptied) == ([3, 4], ())
    annotation.undo(store, patch.id, ME)
    # The slices of one part of an object that is cut are those of the other part.
    tilted = np.stack([disc(6, 24), disc(6, 24) | disc(6, 34), disc(6, 34)])
    key = accept(store, patch, tilted, 0).after.last_id
    change = annotation_edits.split(store, patch.id, ME, key, ((29, 0), (29, 63)), 1)
    parts = [change.after.objects[part].mask for part in (key, change.after.last_id)]
    assert sorted(map(masks.filled, parts)) == [[0, 1], [1, 2]]
    assert not any(item.emptied for item in change.after.objects.values())


def test_objects_that_are_merged_stay_erased_where_none_of_them_is(patch_of):
    store, patch = patch_of()
    for y in (10, 30, 50):
        accept(store, patch, np.stack([disc(6, y)] * 3), 2)
    erase(store, patch, 2, object_id=2)
    erase(store, patch, 4, object_id=3)
    assert annotation_edits.merge(store, patch.id, ME, [2, 3]).after.objects[2].emptied == ()
    annotation.undo(store, patch.id, ME)
    erase(store, patch, 4, object_id=1)
    assert annotation_edits.merge(store, patch.id, ME, [1, 3]).after.objects[1].emptied == (4,)


def test_one_way_only(patch_of):
    store, patch = patch_of()
    accept(store, patch, disc(10), 3)
    up = annotation_stack.propagate(store, patch.id, ME, 1, 3, direction="up").after.objects[1]
    assert up.propagated == (4, 5, 6)
    both = annotation_stack.propagate(store, patch.id, ME, 1, 3, direction="down").after.objects[1]
    assert both.propagated == (1, 2, 4, 5, 6)
    assert np.array_equal(whole(both)[3:], whole(up)[3:])


def test_what_cannot_be_carried_is_a_sentence(patch_of):
    store, patch = patch_of()
    accept(store, patch, disc(10), 3)
    with pytest.raises(InputError, match="Choose an object"):
        annotation_stack.propagate(store, patch.id, ME, 1, 4)
    with pytest.raises(InputError, match="does not exist"):
        annotation_stack.propagate(store, patch.id, ME, 1, 8)
    with pytest.raises(InputError, match="sideways"):
        annotation_stack.propagate(store, patch.id, ME, 1, 3, direction="sideways")
    annotation_stack.propagate(store, patch.id, ME, 1, 3)
    with pytest.raises(InputError, match="Nothing changes"):
        annotation_stack.propagate(store, patch.id, ME, 1, 3)
    with pytest.raises(ConflictError):
        annotation_stack.propagate(store, patch.id, ME, 1, 3, revision=1)
    annotation.mark_done(store, patch.id, ME)
    with pytest.raises(InputError, match="Reopen"):
        annotation_stack.propagate(store, patch.id, ME, 1, 3)


def test_a_journal_from_before_folds_and_its_slices_are_anchors(patch_of):
    store, patch = patch_of()
    mask = masks.from_array(np.stack([disc(8), disc(9)]), (2, 0, 0))
    payload = {"object": 1, "box": mask.box, "new": True, "source": "watershed", "corrected": False}
    state = journal.fold([Event(1, "accept", payload, mask.blob)])
    assert state.objects[1].propagated == ()
    accept(store, patch, np.stack([disc(8), disc(9)]), 2)
    change = annotation_stack.propagate(store, patch.id, ME, 1, 2)
    assert np.array_equal(whole(change.after.objects[1])[2:4], whole(change.before.objects[1])[2:4])
    assert change.after.objects[1].propagated == (1, 4, 5, 6)


def test_the_page_is_told_which_slices_were_carried(patch_of):
    store, patch = patch_of()
    accept(store, patch, disc(10), 3)
    change = annotation_stack.propagate(store, patch.id, ME, 1, 3)
    assert list(annotation_view.changes(change)["items"][0]["propagated"]) == [1, 2, 4, 5, 6]


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "propagate", "up", "down", "paint", "erase", "undo", "redo"]),
        st.integers(1, 6),
        st.integers(3, 12),
    ),
    max_size=10,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTS)
def test_no_propagation_changes_an_anchor(patch_of, acts):
    store, patch = patch_of()
    accept(store, patch, disc(9), 3)
    for name, z, radius in acts:
        before = annotation.state(store, patch.id)
        item = before.objects.get(1)
        try:
            if name == "accept" and item:
                accept(store, patch, disc(radius), z, object_id=1)
            elif name in ("propagate", "up", "down"):
                direction = "both" if name == "propagate" else name
                after = annotation_stack.propagate(store, patch.id, ME, 1, z, direction=direction).after.objects[1]
                anchors = masks.filled(item.mask, item.propagated)
                assert np.array_equal(whole(after)[anchors], whole(item)[anchors])
                assert not set(anchors) & set(after.propagated)
                assert not whole(after)[list(item.emptied)].any()
            elif name in ("paint", "erase") and item:
                stroke = masks.from_array(disc(4, 30, 30 + radius), (z, 0, 0))
                annotation_edits.paint(store, patch.id, ME, stroke, object_id=1, erase=name == "erase")
            elif name in ("undo", "redo"):
                getattr(annotation, name)(store, patch.id, ME)
        except InputError:
            assert annotation.state(store, patch.id) == before
    assert replayed(store, patch) == annotation.state(store, patch.id)


def test_carrying_can_be_stopped_and_changes_nothing(patch_of, monkeypatch):
    store, patch = patch_of()
    accept(store, patch, disc(11), 3, None)
    before = annotations.events(store, patch.id)
    carry = clicks.propagate

    def slowly(store, patch, *arguments):
        assert annotation_stack.stop(store, patch.id)  # by another request of the page
        return carry(store, patch, *arguments)

    monkeypatch.setattr(clicks, "propagate", slowly)
    with pytest.raises(Cancelled, match="as it was before"):
        annotation_stack.propagate(store, patch.id, ME, 1, 3)
    assert annotations.events(store, patch.id) == before
    assert not annotation_stack.stop(store, patch.id)
    monkeypatch.setattr(clicks, "propagate", carry)
    assert annotation_stack.propagate(store, patch.id, ME, 1, 3).after.objects[1].propagated
