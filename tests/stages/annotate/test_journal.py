from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alapp.errors import InputError
from alapp.stages.annotate import journal, masks
from alapp.stages.annotate.journal import Event

SHAPE = (1, 16, 16)


def square(y: int, x: int, size: int = 4) -> np.ndarray:
    pixels = np.zeros(SHAPE, bool)
    pixels[0, y : y + size, x : x + size] = True
    return pixels


class Book:
    """Writes events with counted revisions."""

    def __init__(self):
        self.events: list[Event] = []

    def add(self, kind: str, payload: dict | None = None, blob: bytes | None = None) -> Book:
        self.events.append(Event(len(self.events) + 1, kind, payload or {}, blob))
        return self

    def accept(self, identity: int, pixels: np.ndarray, **options) -> Book:
        mask = masks.from_array(pixels)
        payload = {"object": identity, "box": list(mask.box), "source": "watershed", "overlap": "keep"}
        return self.add("accept", {**payload, "new": True, "corrected": False, **options}, mask.blob)

    def ignore(self, pixels: np.ndarray, add: bool = True) -> Book:
        mask = masks.from_array(pixels)
        return self.add("ignore", {"add": add, "box": list(mask.box)}, mask.blob)

    def open(self, labels: np.ndarray, start: str = "pseudo") -> Book:
        return self.add("open", {"start": start, "shape": list(SHAPE)}, masks.pack_labels(labels))

    @property
    def state(self) -> journal.State:
        return journal.fold(self.events)

    @property
    def labels(self) -> np.ndarray:
        return journal.to_labels(self.state, SHAPE)

    @property
    def not_annotated(self) -> np.ndarray:
        return painted(journal.not_annotated(self.state))


def painted(mask: masks.Mask | None) -> np.ndarray:
    pixels = np.zeros(SHAPE, bool)
    if mask:
        mask.paint(pixels, True)
    return pixels


def suggested() -> Book:
    labels = np.zeros(SHAPE, np.int32)
    labels[square(0, 0)] = 1
    labels[square(8, 8)] = 2
    return Book().open(labels)


def test_an_older_object_keeps_its_pixels():
    book = Book().accept(1, square(0, 0)).accept(2, square(2, 2))
    assert np.array_equal(book.labels == 1, square(0, 0))
    assert np.array_equal(book.labels == 2, square(2, 2) & ~square(0, 0))


def test_a_newer_object_can_win():
    book = Book().accept(1, square(0, 0)).accept(2, square(2, 2), overlap="replace")
    assert np.array_equal(book.labels == 2, square(2, 2))
    assert np.array_equal(book.labels == 1, square(0, 0) & ~square(2, 2))


def test_a_covered_object_disappears_and_undo_brings_it_back():
    book = Book().accept(1, square(4, 4, 2)).accept(2, square(2, 2, 8), overlap="replace")
    assert list(book.state.objects) == [2]
    book.add("undo")
    assert np.array_equal(book.labels == 1, square(4, 4, 2))


def test_suggestions_are_no_labels_until_they_are_accepted():
    book = suggested()
    assert sorted(book.state.suggestions) == [1, 2]
    assert not book.labels.any()
    assert book.state.status == journal.OPEN
    book.add("take", {"objects": [2]})
    assert np.array_equal(book.labels == 2, square(8, 8))
    assert sorted(book.state.suggestions) == [1]
    assert book.state.objects[2].source == "pseudo"


def test_a_clicked_object_withdraws_the_suggestion_under_it():
    book = suggested().accept(3, square(0, 0, 3))
    assert sorted(book.state.suggestions) == [2]
    book = suggested().accept(3, square(3, 3, 3))
    assert sorted(book.state.suggestions) == [1, 2]


def test_a_corrected_suggestion_becomes_an_object_under_its_own_id():
    book = suggested().accept(1, square(0, 0, 6), new=False, corrected=True)
    assert np.array_equal(book.labels == 1, square(0, 0, 6))
    assert book.state.objects[1].corrected
    assert 1 not in book.state.suggestions


def test_starting_again_keeps_objects_and_never_reuses_an_id():
    book = suggested().accept(3, square(0, 8))
    labels = np.zeros(SHAPE, np.int32)
    labels[square(12, 0)] = 1
    book.open(labels, "model")
    assert list(book.state.objects) == [3]
    assert list(book.state.suggestions) == [4]


def test_the_unfinished_object_survives_in_the_journal():
    click = {"positive": [[3, 4]], "negative": [], "z": 0, "object": None}
    book = Book().add("click", click)
    assert book.state.draft.positive == ((3, 4),)
    assert book.state.status == journal.STARTED
    assert book.accept(1, square(0, 0)).state.draft is None
    book.add("click", click).add("click", {"positive": [], "negative": [], "z": 0, "object": None})
    assert book.state.draft is None


def test_a_correction_on_one_slice_leaves_the_others():
    shape = (3, 8, 8)
    whole = np.zeros(shape, bool)
    whole[:, 1:4, 1:4] = True
    slice_only = np.zeros(shape, bool)
    slice_only[1, 4:6, 4:6] = True
    book = Book().accept(1, whole).accept(1, slice_only, new=False, corrected=True)
    expected = whole.copy()
    expected[1] = slice_only[1]
    assert np.array_equal(journal.to_labels(book.state, shape) == 1, expected)


def test_closing_and_reopening():
    book = Book().accept(1, square(0, 0)).add("done", {"label_map": 1})
    assert book.state.status == journal.DONE
    assert book.add("reopen").state.status == journal.STARTED
    assert book.add("skip").state.status == journal.SKIPPED
    assert list(book.state.objects) == [1]


def test_a_submitted_label_map_replaces_everything_and_can_be_undone():
    labels = np.zeros(SHAPE, np.int32)
    labels[square(5, 5)] = 9
    book = suggested().accept(3, square(0, 8))
    book.add("submit", {"backend": "oracle", "shape": list(SHAPE)}, masks.pack_labels(labels))
    assert np.array_equal(book.labels, labels)
    assert not book.state.suggestions
    assert np.array_equal(book.add("undo").labels == 3, square(0, 8))


def test_objects_lie_on_top_of_what_is_not_annotated():
    book = Book().accept(1, square(0, 0)).ignore(square(0, 0, 8))
    assert np.array_equal(book.not_annotated, square(0, 0, 8) & ~square(0, 0))
    book.accept(2, square(4, 4, 6))
    assert np.array_equal(book.labels == 2, square(4, 4, 6))
    assert not (book.not_annotated & (book.labels > 0)).any()
    # What an object leaves behind is not annotated again, and never becomes background by itself.
    book.add("delete", {"objects": [1, 2]})
    assert np.array_equal(book.not_annotated, square(0, 0, 8))


def test_a_region_grows_shrinks_and_is_undone():
    book = Book().ignore(square(0, 0)).ignore(square(8, 8))
    assert np.array_equal(book.not_annotated, square(0, 0) | square(8, 8))
    assert book.state.status == journal.STARTED
    book.ignore(square(0, 0), add=False)
    assert np.array_equal(book.not_annotated, square(8, 8))
    book.ignore(square(6, 6, 8), add=False)
    assert book.state.content.ignored is None
    book.add("undo").add("undo")
    assert np.array_equal(book.not_annotated, square(0, 0) | square(8, 8))


def test_a_region_survives_every_other_event_but_a_whole_label_map():
    labels = np.zeros(SHAPE, np.int32)
    labels[square(12, 0)] = 1
    book = suggested().ignore(square(8, 0)).accept(3, square(0, 12)).add("take", {"objects": [1]}).open(labels, "model")
    book.add("edit", {"tool": "brush", "object": 3, "new": False, "set": [], "gone": [3]})
    assert np.array_equal(book.not_annotated, square(8, 0))
    book.add("submit", {"backend": "oracle", "shape": list(SHAPE)}, masks.pack_labels(labels))
    assert not book.not_annotated.any()


def test_a_journal_without_regions_has_none():
    assert suggested().accept(3, square(0, 0)).state.content.ignored is None


def test_an_unknown_event_is_refused():
    with pytest.raises(InputError, match="Update the app"):
        Book().add("paint").state  # noqa: B018


acts = st.lists(st.sampled_from(["accept", "delete", "ignore", "unignore", "undo", "redo", "click"]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(acts, st.randoms(use_true_random=False), st.integers(0, 40))
def test_undo_and_redo_against_a_model_with_snapshots(kinds, random, split):
    """The model keeps whole label maps, and the region that is not annotated, on two stacks; the journal is folded,
    in one or in two parts."""
    book, past, future, next_id = Book(), [], [], 1
    now, marked = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, bool)
    for kind in kinds:
        before = now, marked
        pixels = square(random.randrange(13), random.randrange(13))
        if kind == "accept":
            book.accept(next_id, pixels)
            now = np.where(pixels & (now == 0), next_id, now)
            next_id += 1
        elif kind == "delete":
            present = [int(each) for each in np.unique(now) if each]
            if not present:
                continue
            gone = random.choice(present)
            book.add("delete", {"objects": [gone]})
            now = np.where(now == gone, 0, now)
        elif kind in ("ignore", "unignore"):
            book.ignore(pixels, add=kind == "ignore")
            marked = marked | pixels if kind == "ignore" else marked & ~pixels
        elif kind == "undo":
            book.add("undo")
            if past:
                past, future, (now, marked) = past[:-1], [*future, before], past[-1]
        elif kind == "redo":
            book.add("redo")
            if future:
                past, future, (now, marked) = [*past, before], future[:-1], future[-1]
        else:
            book.add("click", {"positive": [[1, 1]], "negative": [], "z": 0, "object": None})
        if kind in ("accept", "delete", "ignore", "unignore"):
            past, future = [*past, before], []
    assert np.array_equal(book.labels, now)
    assert np.array_equal(book.not_annotated, marked & (now == 0))
    assert (len(book.state.past), len(book.state.future)) == (len(past), len(future))
    half = journal.fold(book.events[:split])
    again = journal.fold(book.events[split:], half)
    assert np.array_equal(journal.to_labels(again, SHAPE), now)
    assert np.array_equal(painted(journal.not_annotated(again)), marked & (now == 0))
