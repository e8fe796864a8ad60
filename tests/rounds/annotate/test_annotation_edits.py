from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alapp.domain import PatchRole
from alapp.errors import ConflictError, InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_edits, annotation_journal
from alapp.stages.annotate import edits, journal, masks
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.ui.annotate import canvas

ME = "session-1"
SIZE = 32


def rectangle(y, x, height=8, width=8):
    pixels = np.zeros((SIZE, SIZE), bool)
    pixels[y : y + height, x : x + width] = True
    return masks.from_array(pixels)


def add_patch(store):
    made = catalogue.create_project(store, "hand", patch_size=SIZE)
    importing.add_array(store, made.id, "gray", np.zeros((SIZE, SIZE, 1), np.uint8))
    patch = catalogue.patches(store, made.id)[0]
    round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    return patch


@pytest.fixture
def patch(store):
    return add_patch(store)


def labels(store, patch):
    return journal.to_labels(annotation.state(store, patch.id), (1, SIZE, SIZE))[0]


def last(store, patch):
    return annotations.events(store, patch.id)[-1]


def test_strokes_make_an_object_and_take_it_away_again(store, patch):
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    change = annotation_edits.paint(store, patch.id, ME, rectangle(4, 4), object_id=1)
    assert np.count_nonzero(labels(store, patch) == 1) == 64 + 64 - 16
    assert (change.after.objects[1].source, change.after.objects[1].corrected) == ("hand", False)
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0), erase=True, object_id=1)
    assert np.count_nonzero(labels(store, patch)) == 48
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0, 20, 20), erase=True, object_id=1)
    assert not annotation.state(store, patch.id).objects
    annotation.undo(store, patch.id, ME)
    assert np.count_nonzero(labels(store, patch)) == 48
    effort = annotation.effort(store, 1)
    assert (effort.drawn, effort.corrected) == (1, 0)


def test_who_wins_where_a_stroke_meets_another_object(store, patch):
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    annotation_edits.paint(store, patch.id, ME, rectangle(4, 0))
    assert np.count_nonzero(labels(store, patch) == 1) == 64
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0, 4, 8), object_id=2, overlap="replace")
    assert np.count_nonzero(labels(store, patch) == 1) == 32
    with pytest.raises(InputError, match="keep their pixels"):
        annotation_edits.paint(store, patch.id, ME, rectangle(5, 0, 2, 2))
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0, 20, 20), overlap="replace")
    assert list(annotation.state(store, patch.id).objects) == [3]


def test_merge_and_split_are_one_step_each(store, patch):
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    annotation_edits.paint(store, patch.id, ME, rectangle(20, 20))
    before = labels(store, patch)
    annotation_edits.merge(store, patch.id, ME, [2, 1])
    assert np.array_equal(labels(store, patch), np.where(before > 0, 2, 0))
    annotation.undo(store, patch.id, ME)
    assert np.array_equal(labels(store, patch), before)
    change = annotation_edits.split(store, patch.id, ME, 1, ((3, -2), (3, 12)))
    assert sorted(change.after.objects) == [1, 2, 3]
    assert change.after.last_id == 3
    assert np.array_equal(labels(store, patch) > 0, before > 0)
    annotation.undo(store, patch.id, ME)
    assert np.array_equal(labels(store, patch), before)
    # The id of the part that was undone is not given away again.
    annotation_edits.paint(store, patch.id, ME, rectangle(12, 0, 2, 2))
    assert sorted(annotation.state(store, patch.id).objects) == [1, 2, 4]
    assert [row.kind for row in annotations.events(store, patch.id)].count("edit") == 5


def test_two_halves_never_have_the_same_colour(store, patch):
    palette = (Path(canvas.__file__).parent / "masks.js").read_text(encoding="utf-8").split("const PALETTE = [")[1]
    assert palette.split("]")[0].count("#") == annotation_edits.COLOURS
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0, 16, 16))
    for column in range(1, 15):
        annotation_edits.split(store, patch.id, ME, 1, ((-1, column), (17, column)))
        now = annotation.state(store, patch.id)
        assert now.last_id % annotation_edits.COLOURS != 1 % annotation_edits.COLOURS
        annotation.undo(store, patch.id, ME)


def test_a_suggestion_becomes_an_object_by_any_tool(store, patch):
    blob = np.zeros((1, SIZE, SIZE), np.int32)
    blob[0, :8, :8], blob[0, 20:, 20:] = 1, 2
    opened = {"start": "pseudo", "shape": [1, SIZE, SIZE]}
    annotations.append(store, patch.id, 0, "open", opened, masks.pack_labels(blob), ME)
    change = annotation_edits.reshape(store, patch.id, ME, 1, "grow")
    assert list(change.after.objects) == [1]
    assert list(change.after.suggestions) == [2]
    assert (change.after.objects[1].source, change.after.objects[1].corrected) == ("pseudo", True)
    change = annotation_edits.merge(store, patch.id, ME, [1, 2])
    assert (list(change.after.objects), list(change.after.suggestions)) == ([1], [])
    assert annotation.effort(store, 1).corrected == 1


def test_growing_stops_at_other_objects(store, patch):
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 8))
    annotation_edits.reshape(store, patch.id, ME, 1, "grow")
    assert np.count_nonzero(labels(store, patch) == 1) == 72
    assert np.count_nonzero(labels(store, patch) == 2) == 64


def test_what_cannot_be(store, patch):
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0, 2, 2))
    revision = annotation.state(store, patch.id).revision
    for act, arguments, words in [
        (annotation_edits.paint, {"stroke": rectangle(9, 9), "erase": True}, "Select one"),
        (annotation_edits.paint, {"stroke": rectangle(9, 9), "object_id": 7}, "gone"),
        (annotation_edits.paint, {"stroke": rectangle(9, 9), "object_id": 1, "erase": True}, "changes nothing"),
        (annotation_edits.paint, {"stroke": rectangle(9, 9), "tool": "spray"}, "no tool"),
        (annotation_edits.paint, {"stroke": masks.Mask((0, 30, 30, 1, 40, 40), b"")}, "beyond the patch"),
        (annotation_edits.merge, {"object_ids": [1, 1]}, "two objects"),
        (annotation_edits.reshape, {"object_id": 1, "how": "shrink"}, "Delete"),
        (annotation_edits.reshape, {"object_id": 1, "how": "fill"}, "no holes"),
    ]:
        if words == "Delete":
            annotation_edits.paint(store, patch.id, ME, rectangle(20, 20, 1, 1))
            arguments = {**arguments, "object_id": 2}
        with pytest.raises(InputError, match=words):
            act(store, patch.id, ME, **arguments)
    with pytest.raises(ConflictError, match="another tab"):
        annotation_edits.reshape(store, patch.id, "other", 1, "grow", revision=revision - 1)
    assert annotation.state(store, patch.id).revision == revision + 1


acts = st.lists(st.sampled_from(["brush", "erase", "replace", "merge", "split", "grow", "undo", "redo"]), max_size=25)


@settings(max_examples=25, deadline=None)
@given(acts, st.randoms(use_true_random=False))
def test_edits_against_a_model_of_label_maps(tmp_path_factory, kinds, random):
    """The model is a label map with two stacks; the journal is read anew from disk at the end."""
    store = Store(tmp_path_factory.mktemp("state"))
    patch = add_patch(store)
    now, past, future = np.zeros((SIZE, SIZE), np.int32), [], []

    def pick():
        return random.choice([int(each) for each in np.unique(now) if each])

    for kind in kinds:
        stroke = rectangle(random.randrange(28), random.randrange(28), random.randrange(1, 12), random.randrange(1, 12))
        area = np.zeros((1, SIZE, SIZE), bool)
        stroke.paint(area, True)
        area = area[0]
        fresh = annotation.state(store, patch.id).last_id + 1
        target = pick() if now.any() and random.random() < 0.6 else None
        before = now
        try:
            if kind in ("brush", "replace"):
                overlap = "keep" if kind == "brush" else "replace"
                annotation_edits.paint(store, patch.id, ME, stroke, object_id=target, overlap=overlap)
                now = np.where(area & ((now == 0) | (kind == "replace")), target or fresh, now)
            elif kind == "erase":
                annotation_edits.paint(store, patch.id, ME, stroke, erase=True, object_id=target)
                now = np.where(area & (now == target), 0, now)
            elif kind == "merge":
                other = pick() if now.any() else 1
                annotation_edits.merge(store, patch.id, ME, [target or 1, other])
                now = np.where(now == other, target or 1, now)
            elif kind == "split":
                if not (now == (target or 1)).any():
                    continue
                line = ((stroke.box[1], stroke.box[2]), (stroke.box[4] + 3, stroke.box[5]))
                part = edits.split(masks.from_array(now == (target or 1)), line, 0)[1]
                annotation_edits.split(store, patch.id, ME, target or 1, line)
                cut = np.zeros((1, SIZE, SIZE), bool)
                part.paint(cut, True)
                now = np.where(cut[0], fresh, now)
            elif kind == "grow":
                annotation_edits.reshape(store, patch.id, ME, target or 1, "grow")
                room = np.pad(now == (target or 1), 1)
                near = room[2:, 1:-1] | room[:-2, 1:-1] | room[1:-1, 2:] | room[1:-1, :-2]
                now = np.where(near & (now == 0), target or 1, now)
            elif kind == "undo":
                annotation.undo(store, patch.id, ME)
                future, past, now = [*future, now], past[:-1], past[-1]
            else:
                annotation.redo(store, patch.id, ME)
                past, future, now = [*past, now], future[:-1], future[-1]
        except InputError:
            assert np.array_equal(labels(store, patch), before)
            continue
        if kind not in ("undo", "redo"):
            past, future = [*past, before], []
        assert np.array_equal(labels(store, patch), now)
    annotation_journal._states.clear()
    assert np.array_equal(labels(store, patch), now)
